"""A straight-line program: what a loss becomes when it is planned.  It prints itself, and runs without interpreting anything."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from probflow.checks import LENIENT, compiling, deferred, require, strict
from probflow.distributions import Samples
from probflow.errors import ProbflowError
from probflow.inference.batch_groups import BatchGroup
from probflow.inference.dry_run import Example, dry_run
from probflow.inference.estimators import TooManyStates
from probflow.inference.inputs import Inputs
from probflow.inference.own_noise import with_noise
from probflow.inference.special import Specialised, Specialist
from probflow.inference.steps import BATCH, Info, PartOfPlan, Read, Step, needed
from probflow.inference.totals import with_means, with_totals

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["BATCH", "Info", "Program", "Read", "Step", "needed"]


class Program(PartOfPlan):
    """Steps in order, with the slots that they no longer need.

    >>> import probflow as pf
    >>> print(pf.log(pf.Normal("p(x | z)", loc="z", scale=1.0)).mean().plan())
    plan of mean(log p(x|z))
       1  read      z, x
       2  params    p(x|z)             Normal scale=1, loc=z
       3  log_prob  log p(x|z)
       4  reduce    -mean(log p(x|z))  over the batch
       5  combine   times -1
    """

    def __init__(
        self,
        formula: str,
        reads: Sequence[Read],
        steps: Sequence[Step],
        size: int,
        outputs: Mapping[str, int],
        draws: Mapping[str, tuple[int, int, int]],
        batched: frozenset[str],
        groups: Sequence[BatchGroup],
        batch_of: Mapping[int, int],
    ) -> None:
        self.formula, self.reads, self.batched = formula, tuple(reads), batched
        # `batched` names the outputs that have one number per batch element
        self.groups = tuple(groups)  # of variables with one batch size; nearly always one group
        self.batch_of = dict(batch_of)  # slot -> slot of its batch size, of all that is not in the first group
        self.fixed = {statement: (group.slot, size) for group in self.groups for statement, size in group.fixed.items()}
        self.outputs = dict(outputs)  # "" is the loss itself, the others are its terms
        self.draws = dict(draws)  # name -> (slot, place in the slot's tuple, sample dimensions)
        self.steps = tuple(steps)
        self.inputs = Inputs(formula, reads, self.groups, self.steps, size)
        self.example: Example | None = None  # what the slots held with example values, if there were any
        sizes = tuple(group.slot for group in self.groups)
        self._kept = frozenset({*self.outputs.values(), *(slot for slot, _, _ in self.draws.values()), *sizes})
        self._straight = with_totals(with_means(with_noise(self.steps), self._kept), self._kept, self.batch_of)
        self._special = Specialist(self.reads, self._straight, self._kept, size, sizes)
        self._alone, self._batched = self.outputs[""], "" in self.batched
        self._batch = self.batch_of.get(self._alone, BATCH)
        self._empty = (None,) * size  # as a number, it would be one that changes from loss to loss in a compiler's eyes
        self._function: Callable[[list[Any]], None] | None = None
        self._runs = 0

    def ready(self) -> Program:
        """Written as one Python function, which ``torch.compile`` can trace."""
        if self._function is None:
            self._function = self._written()
        return self

    def _dead(self) -> list[list[int]]:
        """The slots that nobody reads after each step: memory peaks where hand-written code would."""
        last = {slot: place for place, step in enumerate(self._straight) for slot in step.args}
        return [
            sorted({slot for slot in step.args if last[slot] == place and slot not in self._kept})
            for place, step in enumerate(self._straight)
        ]

    def _written(self) -> Callable[[list[Any]], None]:
        """The steps as one Python function: reads its inputs from the slots, leaves its outputs there."""
        steps = self._straight
        made = {step.out for step in steps}
        given = sorted({slot for step in steps for slot in step.args if slot not in made})
        lines = [f"v{slot} = s[{slot}]" for slot in given]
        for place, (step, dead) in enumerate(zip(steps, self._dead(), strict=True)):
            lines.append(f"v{step.out} = f{place}({', '.join(f'v{slot}' for slot in step.args)})")
            lines += [f"del {', '.join(f'v{slot}' for slot in dead)}"] if dead else []
        lines += [f"s[{slot}] = v{slot}" for slot in sorted(self._kept & made)]
        functions = {f"f{place}": step.run for place, step in enumerate(steps)}
        source = f"def execute(s{''.join(f', {name}={name}' for name in functions)}):\n" + "".join(
            f"    {line}\n" for line in lines or ["pass"]
        )
        exec(compile(source, f"<plan of {self.formula}>", "exec"), functions)
        return functions["execute"]

    # ------------------------------------------------------------------ running

    def quick(self, values: dict[str, Any]) -> Tensor | None:
        """The value of the loss; None where it must be planned anew.

        Every step of a training loop comes here, so little is called on the way to its specialised program.
        """
        known, done = self._special.known, None
        if known and known[0].alone == self._alone and not compiling():
            program = known[0]
            try:
                found = program.run(values)
                if found.__class__ is Tensor and not _all_finite(found):
                    self._look_closer(values)
            except TooManyStates:
                return None
            except (ProbflowError, RuntimeError, TypeError, ValueError) as error:
                self._fail(error, values)
            if found.__class__ is Tensor:
                program.misses = 0
                if self._batched and not (found.dim() and found.shape[-1] == program.rows[self._batch]):
                    return found.expand(*found.shape[:-1], program.rows[self._batch])
                return found
            done = None if found is None else (program, found)
        try:
            return self.value(self.run(values, done))
        except TooManyStates:
            return None

    def run(self, values: Mapping[str, Any], done: tuple[Specialised, Any] | None = None) -> list[Any]:
        """All slots after running; those not needed for an output are empty.  `done` is a specialised program that has run, and
        what it returned: its result, or what it handed over where a guard failed."""
        try:
            slots = self._special(values) if done is None else self._special.slots_of(*done)
            if slots is not None:
                if not _finite(slots[self.outputs[""]]):
                    self._look_closer(values)
                return slots
        except (ProbflowError, RuntimeError, TypeError, ValueError) as error:  # the layers of a flow may raise any of these
            self._fail(error, values)
        slots = self.inputs.load(values)
        try:
            self._run(slots, values)
        except (ProbflowError, RuntimeError, TypeError) as error:
            self._fail(error, values)
        return slots

    def _run(self, slots: list[Any], values: Mapping[str, Any]) -> None:
        """The general program, its checks decided at once on the CPU, together at the end on an accelerator."""
        if self._on_cpu(slots):
            with LENIENT:
                if not self.fixed and self._special.due():
                    self._special.watch(slots)
                else:
                    self._execute(slots)
            if not _finite(slots[self.outputs[""]]):
                self._look_closer(values)
            return
        with deferred():
            with LENIENT:
                self._execute(slots)
            result = slots[self.outputs[""]]
            if isinstance(result, Tensor) and result.numel():
                require(result.detach().sum(), math.isfinite, lambda: self._look_closer(values))

    def _execute(self, slots: list[Any]) -> None:
        """Step by step at first; from the second run on as a function, which takes longer to write than to run."""
        if self._function is None and self._runs:
            self.ready()
        if self._function is not None:
            self._function(slots)
            return
        self._runs += 1
        for step, dead in zip(self._straight, self._dead(), strict=True):
            slots[step.out] = step.run(*[slots[slot] for slot in step.args])
            for slot in dead:
                slots[slot] = None

    def _fail(self, error: Exception, values: Mapping[str, Any]) -> NoReturn:
        """What went wrong, in the best words that can be found."""
        if isinstance(error, ProbflowError):
            raise self.inputs.explain(error, values) from error.__cause__
        if not isinstance(error, torch.OutOfMemoryError):
            found = None if compiling() else self.inputs.unfit(values, error)
            if found is not None:
                raise found from error
            self._look_closer(values)  # torch's words, where the checks that were left out have better ones
        raise error

    def _look_closer(self, values: Mapping[str, Any]) -> None:
        """The result is not finite: run again with every check on, so that a NaN parameter is named where it arises; also inside
        a network of another loss, whose result need not show it."""
        slots = self.inputs.load(values)
        with torch.no_grad(), strict():
            self._execute(slots)
        result = slots[self.outputs[""]]
        found = self.inputs.unfit(values, result.dtype) if isinstance(result, Tensor) and result.is_complex() else None
        if found is not None:
            raise found

    def trace(self, values: Mapping[str, Any]) -> list[Any]:
        """The bare program, for ``torch.compile``."""
        slots: list[Any] = list(self._empty)
        slots[BATCH] = 1
        for place, size in self.fixed.values():
            slots[place] = size
        for read in self.reads:
            slots[read.slot] = values[read.name]
            if not read.number:
                slots[self.batch_of.get(read.slot, BATCH)] = values[read.name].shape[read.lead]
        if self._function is not None:  # always so: see `ready`
            self._function(slots)
        return slots

    def _on_cpu(self, slots: list[Any]) -> bool:
        """Whether checks are decided at once: data on the CPU, or no data and no accelerator."""
        for read in self.reads:
            if not read.number:
                return bool(slots[read.slot].is_cpu)
        return not torch.cuda.is_available()

    # ------------------------------------------------------------------ results

    def value(self, slots: list[Any], name: str = "") -> Tensor:
        """One output; a batched one has the whole batch."""
        result = slots[self.outputs[name]]
        if not isinstance(result, Tensor):
            result = torch.as_tensor(result)
        if name in self.batched:
            batch = slots[self.batch_of.get(self.outputs[name], BATCH)]
            if result.dim() == 0 or result.shape[-1] != batch:
                result = result.expand(*result.shape[:-1], batch)
        return result

    def samples(self, slots: list[Any]) -> Samples:
        """What was drawn."""
        drawn = {name: slots[slot][place] for name, (slot, place, _) in self.draws.items()}
        return Samples(drawn, {name: lead for name, (_, _, lead) in self.draws.items()})

    # ------------------------------------------------------------------ readings

    def with_example(self, values: Mapping[str, Any], parts: Sequence[nn.Module]) -> Program:
        """The same program, with the shape of every result for `values`: one run without gradient, random state put back."""
        shown = copy.copy(self)
        shown.example = dry_run(self, values, parts)
        return shown

    def to_python(self) -> str:
        r'''The plain PyTorch function that computes the same, as text: imports, and ``def loss(values, networks...)``.

        Networks are its parameters, named after the distribution: ``q_z_given_x``; :attr:`networks` has them all.  With the same
        seed it uses up the same random numbers and gives the same number, to rounding.  What has no short form is the
        library's own object, and a comment says so.

        A plan with example values, ``loss.plan(values).to_python()``, knows shapes, and what networks return: the text is
        shorter, and holds for values of these shapes.  Without them networks are taken to return dicts, and a finite variable
        to be one per row.

        >>> from probflow import E, Normal, log
        >>> q = Normal("q(z | x)", lambda x: {"loc": x, "scale": x.exp()})
        >>> plan = E(q)[log(Normal("p(z)", loc=0.0, scale=1.0))].plan({"x": torch.zeros(5)})
        >>> print(plan.to_python())
        """E_q(z|x)[log p(z)], as plain PyTorch."""
        <BLANKLINE>
        import math
        <BLANKLINE>
        import torch
        <BLANKLINE>
        <BLANKLINE>
        def loss(values, q_z_given_x):
            x = values["x"]
        <BLANKLINE>
            # q(z|x): Normal from <lambda>
            out = q_z_given_x(x)
            q_z_loc, q_z_scale = out["loc"], out["scale"]
        <BLANKLINE>
            # z ~ q(z|x):  z = μ + σ ε, ε ~ N(0, 1)
            noise = torch.randn(q_z_loc.shape, dtype=q_z_loc.dtype, device=q_z_loc.device)
            z = q_z_loc + q_z_scale * noise
        <BLANKLINE>
            # log p(z) = Σ -½ ((x - μ) / σ)² - log σ - ½ log 2π, here its negative
            nll_p_z = 0.5 * z**2 + 0.5 * math.log(2 * math.pi)
        <BLANKLINE>
            # times -1
            return -nll_p_z
        <BLANKLINE>
        '''
        from probflow.inference.codegen import written_program

        return written_program(self)[0]

    @property
    def networks(self) -> dict[str, Any]:
        """What the function of :meth:`to_python` is called with besides the values: ``loss(values, **plan.networks)``."""
        from probflow.inference.codegen import written_program

        return written_program(self)[1]

    @property
    def graph(self) -> nx.DiGraph[str | int]:
        """The data flow: variables (by name) and ops (by their number in the printed plan) with kind, text, note and shape."""
        from probflow.inference.drawing import data_flow

        return data_flow(self)

    def draw(self) -> str:
        """The data flow as text: ``print(plan.draw())``."""
        from probflow.inference.drawing import drawn

        return drawn(self)

    def __str__(self) -> str:
        from probflow.inference.drawing import listed

        return listed(self)

    __repr__ = __str__


def _finite(result: Any) -> bool:
    """Whether all numbers of a result on the CPU are finite, as far as they can be looked at."""
    return not isinstance(result, Tensor) or compiling() or _all_finite(result)


_FEW = 64
"""So few numbers are looked at faster in Python than by a kernel."""


def _all_finite(result: Tensor) -> bool:
    if not result.dim():
        return math.isfinite(result.item())
    if result.dim() == 1 and result.shape[0] <= _FEW and not torch._C._are_functorch_transforms_active():
        return math.isfinite(sum(result.tolist()))
    return math.isfinite((result.detach() if result.requires_grad else result).sum().item())
