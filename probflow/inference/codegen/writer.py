"""``plan.to_python()``: a program as the plain PyTorch function that a reader would have written, one line per op.

The function runs on its own: it takes the values and the networks, draws the same random numbers, and returns the same number.
Every step of the program says what it is about (`Info`); here each kind of step has a rule that writes it.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from probflow.inference.axes import Axes
from probflow.inference.codegen.families import atom
from probflow.inference.codegen.forms import Drawn, Form, Unreadable
from probflow.inference.codegen.values import Code, Front, spread
from probflow.inference.dry_run import Seen
from probflow.inference.steps import BATCH

if TYPE_CHECKING:
    from probflow.inference.program import Program, Step

Entry = Code | Drawn | Form
"""What a slot holds in generated code."""

_RESERVED = frozenset(keyword.kwlist) | frozenset(dir(builtins)) | {"torch", "F", "td", "math", "values", "batch", "loss"}

_HELPERS = {
    "event_sum": '''
def event_sum(t, front):
    """The sum over the event: everything behind the first `front` dimensions (samples and batch)."""
    return t.flatten(front).sum(-1) if t.dim() > front else t
''',
    "one_hot": '''
def one_hot(y, logits, front):
    """Class indices as one-hot vectors; what has a dimension for the classes already, as it is."""
    return (F.one_hot(y.long(), logits.shape[-1]) if y.dim() == front else y).to(logits.dtype)
''',
    "score_function": '''
def score_function(f, cost, log_q, samples):
    """f, with (cost - b) ∇log q added to its gradient.

    The baseline b is the mean over the other samples, or over the other rows where there is one sample.
    """
    if not log_q.requires_grad:
        return f
    cost = cost.detach()
    if log_q.dim() > cost.dim():
        cost = cost.expand(log_q.shape)
    dims = tuple(d - cost.dim() for d in samples)
    count = math.prod(cost.shape[d] for d in dims)
    if count == 1:
        dims, count = (-1,), cost.shape[-1]
    if count > 1:
        cost = (cost - cost.mean(dims, keepdim=True)) * (count / (count - 1))
    return f + cost * (log_q - log_q.detach())
''',
}


class NoRule(Exception):
    """This step is called, not written."""


class Writer:
    """Lines, names, and what the function is passed besides the values."""

    def __init__(self, program: Program, opaque: frozenset[int]) -> None:
        self.program, self.opaque = program, opaque
        self.example: Mapping[int, Seen] = program.example or {}
        self.lines: list[str] = []
        self.passed: dict[str, Any] = {}
        self.helpers: dict[str, None] = {}
        self.slots: dict[int, Entry] = {}
        self.drawn_from = {step.args[0] for step in program.steps if step.kind == "draw"}
        self.along = {
            step.args[0] for step in program.steps if step.kind == "log_prob" and step.info and _is_along(step.info.key)
        }
        self._taken: set[str] = set(_RESERVED) | set(_HELPERS)
        self._by_id: dict[int, str] = {}
        self._sizes: dict[Any, str] = {}
        self._rows: dict[str, str] = {}
        self.given: dict[str, Seen | None] = {}
        self.batch = "batch"
        """What the batch size of the current step is called."""
        self.batches: dict[int, str] = {}
        """Slot of a batch size -> what it is called."""

    # ------------------------------------------------------------------ lines

    def comment(self, text: str) -> None:
        """A comment of its own."""
        self.lines.append(f"# {text}")

    def section(self, text: str) -> None:
        """A comment behind an empty line."""
        self.lines += ["", f"# {text}"]

    def assign(self, hint: str, code: str) -> str:
        """``name = code``; a name that is there already is returned as it is."""
        if code.isidentifier() and code in self._taken and (hint == "noise" or not code.startswith("noise")):
            return code
        name = self.fresh(hint)
        self.lines.append(f"{name} = {code}")
        return name

    def assign_pair(self, first: str, second: str, code: str) -> tuple[str, str]:
        """``a, b = code``."""
        a, b = self.fresh(first), self.fresh(second)
        self.lines.append(f"{a}, {b} = {code}")
        return a, b

    def fresh(self, hint: str) -> str:
        """A name that is not taken."""
        name = identifier(hint)
        count = 2
        while name in self._taken:
            name, count = f"{identifier(hint)}_{count}", count + 1
        self._taken.add(name)
        return name

    def give(self, hint: str, thing: Any) -> str:
        """The parameter of the function through which `thing` comes in."""
        name = self._by_id.get(id(thing))
        if name is None:
            name = self._by_id[id(thing)] = self.fresh(hint)
            self.passed[name] = thing
        return name

    # ------------------------------------------------------------------ pieces

    def event_sum(self, code: str, front: Front, dims: int | None) -> str:
        """The sum over the last `dims` dimensions; over all behind the front where their number is not known."""
        if dims == 0:
            return code
        if dims is None:
            self.helpers.setdefault("event_sum")
            return f"event_sum({code}, {len(front)})"
        where = "-1" if dims == 1 else f"{tuple(range(-dims, 0))}"
        return f"{atom(code)}.sum({where})"

    def folded(self, value: Code, front: Front) -> str:
        """The value with all of `front` as one batch dimension: networks see exactly one."""
        wide = spread(value, front)
        if len(front) == 1:
            return wide.code
        code = f"{atom(wide.code)}.flatten(0, {len(front) - 1})"
        if wide.code == value.code:
            return code
        if code not in self._rows:  # spread over samples once, for all networks that see it
            self._rows[code] = self.assign(f"{value.code}_rows", code)
        return self._rows[code]

    def unfolded(self, code: str, front: Front) -> str:
        """The batch dimension as samples and batch again."""
        return f"{atom(code)}.unflatten(0, ({', '.join(front)}))" if len(front) > 1 else code

    def sizes(self, axes: Axes) -> Front:
        """Sizes of sample dimensions, outermost first."""
        return tuple(self._sizes.get(axis) or str(axis.size or 1) for axis in axes)

    def size_is(self, axis: Any, code: str) -> None:
        """The size of an axis that only the run knows."""
        self._sizes.setdefault(axis, code)

    def code(self, slot: int) -> Code:
        """A slot that holds a tensor or a number."""
        entry = self.slots[slot]
        if not isinstance(entry, Code):
            raise Unreadable(slot)
        return entry

    def form(self, slot: int) -> Form:
        """A slot that holds a distribution."""
        entry = self.slots[slot]
        if not isinstance(entry, Form):
            raise Unreadable(slot)
        return entry


def _is_along(key: Any) -> bool:
    return key == "along" or (isinstance(key, tuple) and key[:1] == ("along",))


def identifier(text: str) -> str:
    """A Python name: ``p_{prior}`` is ``p_prior``, ``z'`` is ``z_prime``."""
    plain = re.sub(r"_+", "_", re.sub(r"\W", "_", text.replace("'", "_prime"))).strip("_") or "x"
    return f"v_{plain}" if plain[0].isdigit() else plain


Rule = Callable[[Writer, "Step"], Entry | None]


def written_program(program: Program) -> tuple[str, dict[str, Any]]:
    """The source of the function, and what it is called with besides the values."""
    from probflow.inference.codegen.rules import rule_for

    opaque: frozenset[int] = frozenset()
    while True:  # a distribution that turns out to have no short form is written with its own bind, from the start
        try:
            writer = Writer(program, opaque)
            _read(writer)
            for step in program.steps:
                writer.batch = writer.batches[program.batch_of.get(step.out, BATCH)]
                writer.slots[step.out] = rule_for(writer, step)
            return _assembled(writer), writer.passed
        except Unreadable as found:
            opaque |= {found.slot}


def _read(writer: Writer) -> None:
    program = writer.program
    names = {read.slot: writer.fresh(read.name) for read in program.reads}
    sizes: dict[str, str] = {}
    for group in program.groups:
        first = next((read for read in group.reads if not read.number), None)
        hint = "batch" if group.slot == BATCH else f"batch_{names[first.slot]}" if first is not None else "batch_given"
        batch = writer.batches[group.slot] = hint if hint == "batch" else writer.fresh(hint)
        writer.slots[group.slot] = Code(batch)
        known = str(next(iter(group.fixed.values()), 1))
        sizes[batch] = known if first is None else f"{names[first.slot]}.shape[{first.lead}]"
    for read in program.reads:
        name = names[read.slot]
        writer.lines.append(f'{name} = values["{read.name}"]')
        batch = writer.batches[program.batch_of.get(read.slot, BATCH)]
        lead = tuple(f"{name}.shape[{place}]" for place in range(read.lead))
        front: Front = () if read.number else (*lead, batch)
        writer.slots[read.slot] = Code(name, front)
        writer.given[name] = writer.example.get(read.slot)
        for step in program.steps:
            for place, slot in enumerate(step.args):
                if slot == read.slot and step.info is not None:
                    argument = step.info.args[place]
                    for axis, size in zip(argument.axes, lead, strict=False):
                        writer.size_is(axis, size)
                    if read.number and argument.batched:
                        writer.slots[read.slot] = Code(name, (batch,))
    writer.lines += [f"{batch} = {size}" for batch, size in sizes.items()]


def _assembled(writer: Writer) -> str:
    program = writer.program
    result = writer.code(program.outputs[""])
    last, code = writer.lines[-1] if writer.lines else "", result.code
    batch = writer.batches[program.batch_of.get(program.outputs[""], BATCH)]
    if "" in program.batched and result.front[-1:] != (batch,):
        code = f"torch.as_tensor({code}).expand({batch})" if not result.front else f"{atom(code)}.expand({batch})"
    elif not result.front and not code.isidentifier():
        code = f"torch.as_tensor({code})"
    if code == result.code and last.startswith(f"{code} = "):
        writer.lines.pop()
        code = last.removeprefix(f"{code} = ")
    body = [*writer.lines, f"return {code}"]
    for batch in writer.batches.values():
        made = f"{batch} = "
        if not any(re.search(rf"\b{batch}\b", line) for line in body if not line.startswith((made, "#"))):
            body = [line for line in body if not line.startswith(made)]
    text = "\n".join(f"    {line}" if line else "" for line in body)
    helpers = "".join(f"\n{_HELPERS[name]}" for name in writer.helpers)
    used = text + helpers
    imports = [
        *(["import math", ""] if re.search(r"\bmath\.", used) else []),
        "import torch",
        *(["import torch.nn.functional as F"] if re.search(r"\bF\.", used) else []),
        *(["from torch import distributions as td"] if re.search(r"\btd\.", used) else []),
    ]
    title = program.formula.replace("\\", "\\\\").replace('"""', "'''")
    arguments = ", ".join(["values", *writer.passed])
    head = f'"""{title}, as plain PyTorch."""\n\n' + "\n".join(imports) + "\n"
    return f"{head}{helpers}\n\ndef loss({arguments}):\n{text}\n"
