"""The program of a loss between checks, for a graph in which nothing can be decided.

What eager evaluation checks on the way is checked before the graph runs (names, shapes, what data are made into), or becomes one
more answer of the graph: whether the result is finite and the data are in their supports.  Where something is wrong the program
runs once more, eagerly, and says what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from probflow._typing import Inputs, Shape
from probflow.checks import LENIENT, deferred
from probflow.distributions.family import Family, FamilyBound
from probflow.distributions.flow_bound import FlowBound
from probflow.distributions.mixture_bound import MixtureBound
from probflow.distributions.values import check_mapping
from probflow.domains import Domain
from probflow.errors import ProbflowError, ValuesError
from probflow.inference.dry_run import _unchanged
from probflow.inference.estimators import TooManyStates
from probflow.inference.evaluate import _plan_anew, program_for
from probflow.inference.program import Program
from probflow.inference.steps import PartOfPlan
from probflow.losses import Loss
from probflow.losses.free import modules

Prepare = Callable[[Tensor, int, Shape, str], Tensor]


@dataclass(frozen=True)
class Watched:
    """A variable from outside that enters a density: where its values must live."""

    name: str
    lead: int
    domain: Domain | None
    prepare: Prepare | None = None
    event: Shape = ()
    label: str = ""
    alone: bool = False
    """Whether nothing but densities of this kind reads the variable, so that the graph can be given what it is made into."""


class Boundary(PartOfPlan):
    """The program of a loss for values of one kind, between checks: `inputs`, then `trace` in a graph, then `settle`."""

    def __init__(self, program: Program, watched: Sequence[Watched]) -> None:
        self.program = program
        self.made = tuple(entry for entry in watched if entry.prepare is not None)
        self.inside = tuple((w.name, w.domain.holds) for w in watched if w.prepare is None and w.domain is not None)
        """Data that the graph itself looks at."""
        self.names = tuple(name for name in program.outputs if name)
        groups = program.groups
        plain = not (self.made or program.inputs.numbers or len(groups) > 1 or groups[0].fixed or len(groups[0].reads) != 1)
        self._only = groups[0].reads[0] if plain else None
        """The one value of a loss of one."""

    def inputs(self, values: Inputs, mark: bool = True) -> dict[str, Tensor]:
        """What the graph is given: `values` checked, the batch dimension marked as one that changes, numbers as tensors."""
        program, only = self.program, self._only
        if only is not None:
            value = values.get(only.name)
            if value.__class__ is Tensor and value.dim() > only.lead:
                if mark and not hasattr(value, "_dynamo_weak_dynamic_indices"):
                    torch._dynamo.maybe_mark_dynamic(value, only.lead)
                return {only.name: value}
        try:
            slots = program.inputs.load(values)
            given: dict[str, Any] = {read.name: slots[read.slot] for read in program.reads}
            if self.made:
                if program._on_cpu(slots):
                    with LENIENT:
                        self._prepare(given, values)
                else:
                    with deferred():
                        self._prepare(given, values)
        except ProbflowError as error:
            raise program.inputs.explain(error, values) from error.__cause__
        if program.inputs.numbers:
            dtype = next((t.dtype for t in given.values() if isinstance(t, Tensor) and t.is_floating_point()), None)
            for read in program.inputs.numbers:  # as a Python number, each new value would be a new graph
                if not isinstance(given[read.name], Tensor):
                    given[read.name] = torch.tensor(float(given[read.name]), dtype=dtype or torch.get_default_dtype())
        for group in program.groups if mark else ():
            for read in group.reads:
                if not group.fixed and not read.number and not hasattr(given[read.name], "_dynamo_weak_dynamic_indices"):
                    torch._dynamo.maybe_mark_dynamic(given[read.name], read.lead)
        return given

    def _prepare(self, given: dict[str, Any], values: Inputs) -> None:
        for entry in self.made:
            value = cast(Prepare, entry.prepare)(given[entry.name], entry.lead, entry.event, entry.label)
            if entry.alone:
                given[entry.name] = value
            if entry.domain is not None:
                entry.domain.require(value, lambda offender: self._complain(values, offender))

    def _complain(self, values: Inputs, offender: str) -> Exception:
        self.program._look_closer(values)
        return ProbflowError(f"{self.program.formula}: a value is outside the support: {offender}.")

    def trace(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The value and its terms, for the compiler to look at, and last whether all is well with them and with the data."""
        slots = self.program.trace(inputs)
        results = [self.program.value(slots, name) for name in ("", *self.names)]
        fine = results[0].detach().isfinite().all()
        if results[0].is_complex():
            fine = torch.zeros_like(fine)
        for name, holds in self.inside:
            fine = fine & holds(inputs[name].detach()).all()
        return *results, fine

    def settle(self, fine: Tensor, values: Inputs) -> None:
        """The explanation, where the last of the graph's answers is no."""
        if not fine.item():
            self.explain(values)

    def explain(self, values: Inputs) -> None:
        """Run eagerly with every check on: raises what is wrong, if anything is."""
        try:
            self.program._look_closer(values)
        except ProbflowError as error:
            raise self.program.inputs.explain(error, values) from error.__cause__
        except (RuntimeError, TypeError, ValueError) as error:
            _of_a_kind(self.program.inputs.unfit(values, error), error)
            raise

    def blame(self, values: Inputs) -> None:
        """As `explain`, with the random state put back where nothing is wrong with the values."""
        with torch.random.fork_rng([value.device for value in values.values() if isinstance(value, Tensor) and value.is_cuda]):
            self.explain(values)
        _of_a_kind(self.program.inputs.unfit(values, "", graph=True), None)


def _of_a_kind(found: ValuesError | None, error: Exception | None) -> None:
    if found is not None:
        raise found from error


def boundary(loss: Loss, values: Inputs, with_terms: bool = False) -> Boundary:
    """Plans `loss` for values like these, after one run without gradient that finds out what only networks know."""
    if not isinstance(values, Mapping):
        check_mapping(values, str(loss), loss.input_var)
    while True:
        program = program_for(loss, values, with_terms).ready()
        try:
            return Boundary(program, _watched(program, values, modules(loss)))
        except TooManyStates as found:
            _plan_anew(loss, found)
        except ProbflowError as error:
            raise program.inputs.explain(error, values) from error.__cause__
        except (RuntimeError, TypeError, ValueError) as error:
            _of_a_kind(program.inputs.unfit(values, error), error)
            raise


def _watched(program: Program, values: Inputs, parts: Sequence[nn.Module]) -> list[Watched]:
    """What is checked on the values from outside, seen in a run whose random numbers and statistics are put back."""
    devices = sorted({v.device.index or 0 for v in values.values() if isinstance(v, Tensor) and v.is_cuda})
    names = {read.slot: read.name for read in program.reads}
    users: dict[str, list[str]] = {}
    found: list[Watched] = []
    with torch.no_grad(), torch.random.fork_rng(devices), _unchanged(parts):
        slots = program.inputs.load(values)
        for step in program.steps:
            if step.kind == "align" and step.args[0] in names:
                names[step.out] = names[step.args[0]]
            slots[step.out] = step.run(*(slots[slot] for slot in step.args))
            read = [slot for slot in step.args if slot in names]
            for slot in read:
                users.setdefault(names[slot], []).append(step.kind)
            if step.kind == "log_prob" and step.info is not None and step.info.key is True:
                lead = len(step.info.args[-1].axes)
                found += [_watch(names[slot], lead, slots[step.args[0]]) for slot in read]
    reading = {name: {kind for kind in kinds if kind != "align"} for name, kinds in users.items()}
    prepared = {w.name: sum(other.name == w.name for other in found) for w in found if w.prepare is not None}
    alone = {name for name, count in prepared.items() if count == 1 and reading[name] == {"log_prob"}}
    return [
        Watched(w.name, w.lead, w.domain, w.prepare, w.event, w.label, w.name in alone)
        for w in found
        if w.prepare is not None or w.domain is not None
    ]


def _watch(name: str, lead: int, bound: object) -> Watched:
    if isinstance(bound, MixtureBound) and isinstance(bound._stack, FamilyBound):
        bound = bound._stack
        return Watched(name, lead, _fixed_support(bound.family))
    if isinstance(bound, FlowBound):
        codomain = bound.transform.codomain
        return Watched(name, lead, None if codomain.contagious else codomain)
    if isinstance(bound, FamilyBound):
        return Watched(name, lead, _fixed_support(bound.family), bound.family.prepare, tuple(bound.event), bound._name())
    return Watched(name, lead, None)


def _fixed_support(family: Family) -> Domain | None:
    """The support, where it does not depend on the parameters and a value outside need not show in the result."""
    support = family.support
    return support if isinstance(support, Domain) and not support.contagious else None
