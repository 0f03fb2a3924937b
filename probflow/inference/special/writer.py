"""Writes a specialised program: one rule per op that says what it does, a call for every other op."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.checks import LENIENT
from probflow.distributions.binders import Constants, FromNetwork, Layers
from probflow.distributions.family import FamilyBound, sum_event
from probflow.distributions.flow_bound import FlowBound
from probflow.domains import Domain, positive
from probflow.inference.closed_forms import ClosedForm
from probflow.inference.ops import WIDE, Density, Draw, Item, MeanDensity, NoiseDensity, NoisyDraw, spread
from probflow.inference.special.seen import Parameters, maker
from probflow.inference.steps import Read, Step
from probflow.transforms import Transform
from probflow.transforms.transform import sum_event as sum_rows


@dataclass
class Specialised:
    """A specialised program: its function, and for every guard which locals it hands over, and how they are put in slots."""

    run: Callable[[Mapping[str, Any]], Any]
    handed: dict[int, list[tuple[int, Callable[[Any], Any] | None]]]
    rows: Mapping[int, int]
    alone: int | None
    """The slot of the one result, if there is one only and it is a tensor: that is what the function returns, else a list of all."""
    misses: int = 0


class Writer:
    """Writes the function: one rule per op that says what it does, a call for every other op."""

    def __init__(
        self,
        reads: Sequence[Read],
        steps: Sequence[Step],
        kept: frozenset[int],
        size: int,
        seen: Mapping[int, Any],
        rows: Mapping[int, int],
    ) -> None:
        self.reads, self.steps, self.kept, self.size, self.seen, self.rows = reads, steps, kept, size, seen, rows
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"Tensor": Tensor}
        self.code: dict[int, str] = {}  # slot -> the local that holds it: a tensor, a tuple, the parameters of a distribution
        self.sources: dict[int, Parameters | FamilyBound] = {}  # slots whose local holds parameters only
        self.flows: dict[int, FlowBound] = {}  # slots of flows on constant noise
        self.fixed: dict[int, Shape] = {}  # slots whose shape is known
        self.handed: dict[int, list[tuple[int, Callable[[Any], Any] | None]]] = {}
        self.last = {slot: place for place, step in enumerate(steps) for slot in step.args}
        self.place = 0
        self.direct = 0

    def program(self) -> Specialised | None:
        """The whole; None where it would not differ from the general program."""
        if not all(self._read(read) for read in self.reads):
            return None
        self.code |= {slot: str(size) for slot, size in self.rows.items()}
        for place, step in enumerate(self.steps):
            self.place = place
            if not self._rule(step):
                self._call(step)
            dead = [
                s for s in dict.fromkeys(step.args) if self.last[s] == self.place and s not in self.kept and s not in self.rows
            ]
            gone = dict.fromkeys(self.code[s] for s in dead if self.code[s].isidentifier() and self.code[s] not in self.names)
            alive = {self.code[s] for s in self.code if s not in dead and self._needed(s)}
            self._line(*(f"del {name}" for name in gone if name not in alive))
        if not self.direct:
            return None
        self.names["LENIENT"] = LENIENT  # for networks too: what they evaluate themselves is the same in every run
        body = ["    with LENIENT:", *(f"        {line}" for line in self.lines)]
        kept = sorted(slot for slot in self.kept if slot in self.code)
        results = [slot for slot in kept if slot not in self.rows]
        alone = results[0] if len(results) == 1 and self._is_tensor(results[0]) else None
        if alone is not None:
            body.append(f"    return {self._whole(alone)}")
        else:
            body += [
                f"    s = [None] * {self.size}",
                *(f"    s[{slot}] = {self._whole(slot)}" for slot in kept),
                "    return s",
            ]
        head = f"def run(values, {', '.join(f'{name}={name}' for name in self.names)}):"
        names = dict(self.names)
        exec(compile("\n".join([head, *body]), "<specialised plan>", "exec"), names)
        return Specialised(names["run"], self.handed, self.rows, alone)

    # ------------------------------------------------------------------ helpers

    def _line(self, *lines: str) -> None:
        self.lines += lines

    def _name(self, prefix: str, value: Any) -> str:
        """A name for an object that the function needs."""
        name = f"{prefix}_{len(self.names)}"
        self.names[name] = value
        return name

    def _needed(self, slot: int) -> bool:
        return slot in self.kept or self.last.get(slot, -1) > self.place

    def _is_tensor(self, slot: int) -> bool:
        seen = self.seen.get(slot)
        return isinstance(seen, tuple) and seen[0] is Tensor

    def _whole(self, slot: int) -> str:
        """A slot's value as any op takes it."""
        source = self.sources.get(slot)
        make = _make(source)
        return self.code[slot] if make is None else f"{self._name('make', make)}({self.code[slot]})"

    def _miss(self, outputs: str = "") -> str:
        """Hand over to the general program before this step, or after its network has returned `outputs`."""
        alive = [s for s in self.code if s not in self.rows and (s in self.kept or self.last.get(s, -1) >= self.place)]
        self.handed[self.place] = [(slot, _make(self.sources.get(slot))) for slot in alive]
        return f"return {self.place}, ({outputs and outputs + ','}), ({''.join(self.code[s] + ', ' for s in alive)})"

    def _tensor_guard(self, code: str, shape: Shape, dtype: torch.dtype) -> str:
        shape_name, dtype_name = self._name("shape", torch.Size(shape)), self._name("dtype", dtype)
        return f"{code}.__class__ is not Tensor or {code}.shape != {shape_name} or {code}.dtype is not {dtype_name}"

    def _shaped(self, slot: int) -> bool:
        """Make sure that a tensor has the shape that was seen; False where it is none."""
        if slot in self.fixed:
            return True
        seen = self.seen.get(slot)
        if not isinstance(seen, tuple) or seen[0] is not Tensor or not seen[3]:
            return False
        self._line(f"if {self._tensor_guard(self.code[slot], seen[1], seen[2])}: {self._miss()}")
        self.fixed[slot] = seen[1]
        return True

    # ------------------------------------------------------------------ inputs

    def _read(self, read: Read) -> bool:
        seen, local = self.seen[read.slot], f"v{read.slot}"
        self.code[read.slot] = local
        self._line(f"{local} = values.get({read.name!r})")
        if isinstance(seen, type):  # a number
            self._line(f"if {local}.__class__ is not {self._name('type', seen)}: return None")
            return True
        if not isinstance(seen, tuple) or seen[0] is not Tensor or not seen[3]:
            return False
        self._line(f"if {self._tensor_guard(local, seen[1], seen[2])} or not {local}.is_cpu: return None")
        self.fixed[read.slot] = seen[1]
        return True

    # ------------------------------------------------------------------ ops

    def _rule(self, step: Step) -> bool:
        """Write an op that says what it does; False where it needs the general call."""
        op = getattr(step.run, "__self__", step.run)
        if isinstance(op, FromNetwork):
            return self._from_network(step, op)
        if isinstance(op, Constants):
            return self._constants(step, op)
        if isinstance(op, Layers):
            return self._layers(step, op)
        if isinstance(op, Draw):
            return self._draw(step, op)
        if isinstance(op, Item):
            return self._item(step)
        if isinstance(op, MeanDensity):
            return self._mean_density(step, op)
        if isinstance(op, NoiseDensity):
            return self._noise_density(step, total=op is not step.run)
        if isinstance(op, Density):
            return self._density(step, op, total=op is not step.run)
        return isinstance(op, ClosedForm) and self._closed_form(step, op)

    def _call(self, step: Step) -> None:
        arguments = [self._whole(slot) for slot in step.args]
        local = self.code[step.out] = f"v{step.out}"
        self._line(f"{local} = {self._name('f', step.run)}({', '.join(arguments)})")

    def _from_network(self, step: Step, op: FromNetwork) -> bool:
        seen, origin = self.seen[step.out], op.origin
        if not isinstance(seen, Parameters) or seen.dtype not in WIDE or math.prod(seen.shape) == 0:
            return False
        if seen.form not in (dict, tuple, Tensor) or seen.family.one_rank is None:
            return False
        if seen.shape[: len(seen.front)] != seen.front or not all(self._shaped(slot) for slot in step.args):
            return False
        inputs = [self.code[slot] for slot in step.args]
        if len(op.leads) == 1 and op.leads[0]:
            inputs = [f"{inputs[0]}.flatten(0, {op.leads[0]})"]
        elif any(op.leads):
            inputs = [f"*{self._name('folded', op.folded)}(({', '.join(inputs)}))[0]"]
        out, parts = f"v{step.out}", [f"v{step.out}_{place}" for place in range(len(seen.names))]
        miss = self._miss(out)
        flat = (math.prod(seen.front), *seen.shape[len(seen.front) :])
        wrong = " or ".join(self._tensor_guard(part, flat, seen.dtype) for part in parts)
        self._line(f"{out} = {self._name('network', op.network)}({', '.join(inputs)})")
        if seen.form is dict:
            names = self._name("names", seen.names)
            self._line(f"if {out}.__class__ is not dict or tuple({out}) != {names}: {miss}")
            self._line(f"{', '.join(parts)}, = {out}.values()")
        elif seen.form is tuple:
            self._line(f"if {out}.__class__ is not tuple or len({out}) != {len(parts)}: {miss}")
            self._line(f"{', '.join(parts)}, = {out}")
        else:
            self._line(f"{parts[0]} = {out}")
        self._line(f"if {wrong}: {miss}")
        if not op.unchecked:
            self._check_parameters(step, op, seen, parts, miss)
        if len(seen.front) > 1:
            sizes = ", ".join(map(str, seen.shape))  # as numbers: a tuple takes several times as long to read
            self._line(*(f"{part} = {part}.view({sizes})" for part in parts))
        if seen.form is not dict or len(seen.front) > 1:
            entries = ", ".join(f"{name!r}: {part}" for name, part in zip(seen.names, parts, strict=True))
            self._line(f"{out} = {{{entries}}}")
        if seen.family.check is not None and not op.unchecked:
            self._line(f"{self._name('check', seen.family.check)}({out}, {str(origin.statement)!r})")
        self._line(f"del {', '.join(parts)}")
        self.code[step.out], self.sources[step.out] = out, seen
        self.direct += 1
        return True

    def _check_parameters(self, step: Step, op: FromNetwork, seen: Parameters, parts: Sequence[str], miss: str) -> None:
        """Those whose faults need not show in the result."""
        for name, domain in seen.family.fragile:
            if name in seen.names:
                part = parts[seen.names.index(name)]
                if domain is positive:
                    self._line(f"if not ({part}.detach() if {part}.requires_grad else {part}).min().item() > 0: {miss}")
                else:
                    self._line(f"{self._name('check', op.origin._check_domain)}({name!r}, {part})")

    def _constants(self, step: Step, op: Constants) -> bool:
        bound = self.seen[step.out]
        if not isinstance(bound, FamilyBound) or not self._unchanged(op, bound):
            return False
        params = self._name("params", bound.params)
        if bound.family.check is not None:  # a buffer may have been written to
            self._line(f"{self._name('check', bound.family.check)}({params}, {str(op.origin.statement)!r})")
        self.code[step.out], self.sources[step.out] = params, bound
        return True

    def _unchanged(self, op: Constants, bound: FamilyBound, *conditions: str) -> bool:
        """Make sure that constants are the tensors that were seen; False where they are none."""
        buffers = op.origin._buffers
        if any(buffers.get(name) is not t for name, t in bound.params.items()):
            return False
        held = self._name("buffers", buffers)
        other = [f"{held}.get({name!r}) is not {self._name('constant', t)}" for name, t in bound.params.items()]
        self._line(f"if {' or '.join((*conditions, *other))}: {self._miss()}")
        return True

    def _layers(self, step: Step, op: Layers) -> bool:
        flow = self.seen[step.out]
        if not isinstance(flow, FlowBound) or not isinstance(flow.base, FamilyBound) or not isinstance(op.base, Constants):
            return False
        family = flow.base.family
        if family.bounded or family.check is not None or family.event_nll is None or flow.base.front != (1,):
            return False
        parts, layers = self._name("parts", op.parts), self._name("layers", flow.transform)
        below = self._name("below", op.below)
        replaced = f"{parts}.get('transform') is not {layers}", f"{parts}.get('base') is not {below}"
        if op.parts.get("base") is not op.below or not self._unchanged(op.base, flow.base, *replaced):
            return False
        self.code[step.out], self.flows[step.out] = f"{self._name('flow', op)}()", flow
        return True

    def _draw(self, step: Step, op: Draw) -> bool:
        source = self.sources.get(step.args[0])
        formula = (
            None if source is None else source.family.noisy_rsample if isinstance(op, NoisyDraw) else source.family.rsample
        )
        if source is None or formula is None:
            return False
        shape = (*op.shape, *source.front[:-1], self.rows[step.args[1]], *source.event)
        local = self.code[step.out] = f"v{step.out}"
        drawn = f"{self._name('rsample', formula)}({self.code[step.args[0]]}, {shape})"
        self._line(f"{local} = {drawn}" if isinstance(op, NoisyDraw) else f"{local} = {drawn},")
        return True

    def _item(self, step: Step) -> bool:
        drawn = next((s for s in self.steps if s.out == step.args[0]), None)
        local = self.code[step.out] = f"v{step.out}"
        self._line(f"{local} = {self.code[step.args[0]]}[{step.run.place}]")  # type: ignore[attr-defined]
        if drawn is not None and isinstance(drawn.run, Draw) and drawn.args[0] in self.sources:
            self.fixed[step.out] = self.seen[step.out][1]  # drawn in the shape that was written down
        return True

    def _density(self, step: Step, op: Density, total: bool) -> bool:
        if len(op.leads) != 1:  # a likelihood has its observed values in itself
            return False
        if step.args[0] in self.flows:
            return self._change_of_variables(step, op, self.flows[step.args[0]], total)
        source, value = self.sources.get(step.args[0]), step.args[1]
        if source is None or not self._inside(source, op, value):
            return False
        formula = source.family.event_nll if op.negated else source.family.log_prob
        wide = source.dtype in WIDE if isinstance(source, Parameters) else all(t.dtype in WIDE for t in source.params.values())
        if formula is None or (total and (self.fixed[value][0] != self.rows[step.args[-1]] or not wide)):
            return False
        self._check_value(source, op, value)
        called = f"{self._name('formula', formula)}({self.code[step.args[0]]}, {self.code[value]}"
        local = self.code[step.out] = f"v{step.out}"
        if op.negated:
            self._line(f"{local} = {called}, {source.extra + total})")
        else:
            self._line(f"{local} = {self._name('sum_event', sum_event)}({called}), {source.extra})")
        return True

    def _noise_density(self, step: Step, total: bool) -> bool:
        source, drawn = self.sources.get(step.args[0]), next(s for s in self.steps if s.out == step.args[1])
        if (
            source is None
            or source.family.noise_nll is None
            or not isinstance(drawn.run, Draw)
            or drawn.args[0] != step.args[0]
        ):
            return False
        if total and (drawn.run.shape or len(source.front) > 1 or self.rows[drawn.args[1]] != self.rows[step.args[-1]]):
            return False
        if total and isinstance(source, FamilyBound) and any(t.dtype not in WIDE for t in source.params.values()):
            return False
        formula, noise = self._name("formula", source.family.noise_nll), f"{self.code[step.args[1]]}[1]"
        local = self.code[step.out] = f"v{step.out}"
        self._line(f"{local} = {formula}({self.code[step.args[0]]}, {noise}, {source.extra + total})")
        return True

    def _change_of_variables(self, step: Step, op: Density, flow: FlowBound, total: bool) -> bool:
        value, base = step.args[1], flow.base
        if op.leads != (0,) or not op.negated or not isinstance(base, FamilyBound) or not self._shaped(value):
            return False
        rows, wide = self.fixed[value][0], self.seen[value][2] in WIDE and all(t.dtype in WIDE for t in base.params.values())
        if total and (rows != self.rows[step.args[-1]] or not wide):
            return False
        if op.check:
            self._check_support(flow.transform.codomain, value)
        local = self.code[step.out] = f"v{step.out}"
        z, terms = f"{local}_z", f"{local}_terms"
        if type(flow.transform).inverse_and_terms is Transform.inverse_and_terms:  # which looks at the shape, and that is known
            inverse = flow.transform._inverse_and_logdet
        else:
            inverse = flow.transform.inverse_and_terms
        self._line(f"{z}, {terms} = {self._name('inverse', inverse)}({self.code[value]}, None)")
        rows_of = f"{self._name('sum_rows', sum_rows)}({terms})"
        noise = (
            f"{self._name('formula', base.family.event_nll)}({self._name('params', base.params)}, {z}, {base.extra + total})"
        )
        self._line(f"{local} = {noise} - {f'{terms}.sum()' if total else rows_of}", f"del {z}, {terms}")
        self.direct += 1
        return True

    def _mean_density(self, step: Step, op: MeanDensity) -> bool:
        source, value = self.sources.get(step.args[0]), step.args[1]
        if source is None or not self._inside(source, op.density, value) or source.family.mean_log_prob is None:
            return False
        if max(op.density.leads[0], len(source.front) - 1) != op.dims:
            return False
        self._check_value(source, op.density, value)
        local, formula = f"v{step.out}", self._name("formula", source.family.mean_log_prob)
        called = f"{formula}({self.code[step.args[0]]}, {self.code[value]}, {op.dims}, {source.extra})"
        self._line(f"{local} = {'-' if op.negated else ''}{called}")
        self.code[step.out] = local
        return True

    def _inside(self, source: Parameters | FamilyBound, op: Density, value: int) -> bool:
        """Whether a log-density can be had from the family's formula, at a value whose shape is known."""
        plain = source.family.prepare is None and len(op.leads) == 1
        return plain and (not op.check or isinstance(source.family.support, Domain)) and self._shaped(value)

    def _check_value(self, source: Parameters | FamilyBound, op: Density, value: int) -> None:
        """Look whether a value from outside is in the support."""
        if op.check and isinstance(source.family.support, Domain):
            self._check_support(source.family.support, value)

    def _check_support(self, support: Domain, value: int) -> None:
        code = self.code[value]
        if support.contagious or math.prod(self.fixed[value]) == 0:
            return
        if support.glance is not None:
            self._line(f"if not {self._name('inside', support.glance)}({code}): {self._miss()}")
        else:
            accept, reduce = self._name("accept", support.accept), self._name("reduce", support.reduce)
            self._line(f"if not {accept}({reduce}({code}.detach()).item()): {self._miss()}")

    def _closed_form(self, step: Step, op: ClosedForm) -> bool:
        q, p = self.sources.get(step.args[0]), self.sources.get(step.args[1])
        if q is None or p is None or q.event != p.event or not isinstance(q, Parameters):
            return False
        batch = self.rows[step.args[2]] if len(step.args) > 2 else 0
        whole = batch > 0 and q.shape[0] == batch and q.dtype in WIDE
        if q.front == (1,) and not whole:
            return False
        formula, local = self._name("formula", op.formula), f"v{step.out}"
        rows = f"{formula}({self.code[step.args[0]]}, {self.code[step.args[1]]}, {q.extra + whole})"
        self._line(f"{local} = {self._name('spread', spread)}({rows}, {batch})" if batch and not whole else f"{local} = {rows}")
        self.code[step.out] = local
        return True


def _make(source: Parameters | FamilyBound | None) -> Callable[[Any], Any] | None:
    """From parameters to their distribution; a new one in every run, as it remembers what it has computed of them."""
    return source.make if isinstance(source, Parameters) else None if source is None else maker(source)
