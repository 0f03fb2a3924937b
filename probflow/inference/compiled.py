"""A loss under ``torch.compile``: the plan as one graph, with every check of its data in front of it and behind it.

Inside a graph nothing can be decided, so what eager evaluation checks on the way is checked here at the boundary: names, shapes
and supports before the graph runs, the result after it.  Where something is wrong the program runs once more, eagerly.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn
from torch import distributions as td

from probflow._typing import Shape, Values
from probflow.checks import LENIENT, deferred
from probflow.distributions.family import Family, FamilyBound
from probflow.distributions.flow_bound import FlowBound
from probflow.distributions.mixture_bound import MixtureBound
from probflow.distributions.values import check_mapping
from probflow.domains import Domain
from probflow.errors import ArgumentError, MissingDependency, ProbflowError
from probflow.inference.dry_run import _unchanged
from probflow.inference.estimators import TooManyStates
from probflow.inference.evaluate import _plan_anew, program_for
from probflow.inference.guards import can_change
from probflow.inference.program import Program
from probflow.inference.steps import PartOfPlan
from probflow.losses import Loss, evaluation
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
    """Whether nothing but densities of this kind reads the variable, so that it can be prepared before the graph."""


class Boundary(PartOfPlan):
    """The program of a loss for values of one kind, between checks: `inputs`, then `trace` in a graph, then `settle`."""

    def __init__(self, program: Program, watched: Sequence[Watched]) -> None:
        self.program, self.watched = program, tuple(watched)
        self.names = tuple(name for name in program.outputs if name)

    def inputs(self, values: Values, mark: bool = True) -> dict[str, Tensor]:
        """What the graph is given: `values` checked, the batch dimension marked as one that changes, numbers as tensors."""
        program = self.program
        try:
            slots = program.inputs.load(values)
            given: dict[str, Any] = {read.name: slots[read.slot] for read in program.reads}
            if self.watched:
                if program._on_cpu(slots):
                    with LENIENT:
                        self._check(given, values)
                else:
                    with deferred():
                        self._check(given, values)
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

    def _check(self, given: dict[str, Any], values: Values) -> None:
        for entry in self.watched:
            value = given[entry.name]
            if entry.prepare is not None:
                value = entry.prepare(value, entry.lead, entry.event, entry.label)
                if entry.alone:
                    given[entry.name] = value
            if entry.domain is not None:
                entry.domain.require(value, lambda offender: self._complain(values, offender))

    def _complain(self, values: Values, offender: str) -> Exception:
        self.program._look_closer(values)
        return ProbflowError(f"{self.program.formula}: a value is outside the support: {offender}.")

    def trace(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The value and its terms, for the compiler to look at."""
        slots = self.program.trace(inputs)
        return tuple(self.program.value(slots, name) for name in ("", *self.names))

    def settle(self, result: Tensor, values: Values) -> None:
        """The explanation, where the result is not finite."""
        total = result.detach()
        total = total.sum() if total.dim() else total
        if not math.isfinite(total.item()):
            self.explain(values)

    def explain(self, values: Values) -> None:
        """Run eagerly with every check on: raises what is wrong, if anything is."""
        try:
            self.program._look_closer(values)
        except ProbflowError as error:
            raise self.program.inputs.explain(error, values) from error.__cause__

    def blame(self, values: Values) -> None:
        """As `explain`, with the random state put back where nothing is wrong with the values."""
        with torch.random.fork_rng([value.device for value in values.values() if isinstance(value, Tensor) and value.is_cuda]):
            self.explain(values)


def boundary(loss: Loss, values: Values, with_terms: bool = False) -> Boundary:
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


def _watched(program: Program, values: Values, parts: Sequence[nn.Module]) -> list[Watched]:
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


# ---------------------------------------------------------------------- torch.compile


class unvalidated:
    """torch.distributions without argument checks, which no graph can hold; afterwards as the user had it.

    ``torch.compile`` itself turns them off for the whole process and leaves them off.
    """

    def __enter__(self) -> None:
        self._before = td.Distribution._validate_args
        td.Distribution._validate_args = False

    def __exit__(self, *_: object) -> None:
        td.Distribution._validate_args = self._before


def compiled_function(function: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    """``torch.compile(function)`` in one graph, with a code object of its own: the compiler counts its graphs per code."""
    f = cast(types.FunctionType, function)
    own = types.FunctionType(f.__code__.replace(), f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    # a copy: torch.compile takes guard_filter_fn out of the dict that it is given
    chosen = (
        {**options, "options": {"guard_filter_fn": can_change, **(options.get("options") or {})}}
        if "mode" not in options
        else options
    )
    with unvalidated():
        return torch.compile(own, **chosen)


LEAST_CHUNK = 8192
"""The fewest elements worth a CPU thread: a quarter of what eager kernels take, for fused ones do more with each.  By inductor's own
512, a small network's kernels are shared out for less time than the threads take to meet again, and that is a multiple of it where
other programs want the same cores."""
_CHUNK = "cpp.min_chunk_size"


def checked_options(options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Options of ``torch.compile``, with the random numbers of eager mode and threads for large kernels unless others are asked for."""
    known = ("backend", "mode", "options", "dynamic", "fullgraph")
    for name in options:
        if name not in known:
            raise ArgumentError(f"{what} has no option {name!r}; its options are those of torch.compile: {', '.join(known)}.")
    made = {"fullgraph": True, **options}
    if made.get("backend", "inductor") == "inductor":
        if made.get("mode") is not None and made.get("options") is not None:
            raise ArgumentError(f"{what}: torch.compile takes either mode or options, not both.")
        chosen = torch._inductor.list_mode_options(made.pop("mode")) if made.get("mode") not in (None, "default") else {}
        made.pop("mode", None)
        made["options"] = {"fallback_random": True, _CHUNK: LEAST_CHUNK, **chosen, **(made.get("options") or {})}
    return made


def require_compiler(options: Mapping[str, Any], what: str, on_cpu: bool) -> None:
    """MissingDependency where inductor finds no C++ compiler."""
    if options.get("backend", "inductor") != "inductor" or not on_cpu:
        return
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise MissingDependency(
            f"{what} needs a C++ compiler (g++ or clang++), which is not found on this machine.\n"
            'Install one (such as the package "g++"), name it in the environment variable CXX, or leave compilation out: '
            "the numbers are the same."
        ) from error


class CompiledLoss:
    """A loss as one compiled graph: ``compiled(values)`` is ``loss.eval(values)``, faster after the first call.

    >>> import torch
    >>> import probflow as pf
    >>> compiled = pf.log(pf.Normal("p(x)", loc=0.0, scale=1.0)).mean().compile(backend="eager")
    >>> type(compiled).__name__, compiled({"x": torch.zeros(3)})
    ('CompiledLoss', tensor(-0.9189))
    """

    def __init__(self, loss: Loss, options: Mapping[str, Any]) -> None:
        self.loss, self.options = loss, checked_options(options, "loss.compile")
        self._mark = "dynamic" not in self.options
        self._made: dict[Program, tuple[Boundary, Callable[..., Any]]] = {}

    def __call__(self, values: Values | None = None) -> Tensor:
        """The value of the loss."""
        return self._run({} if values is None else values, False)[0][0]

    def value_and_terms(self, values: Values) -> tuple[Tensor, dict[str, Tensor]]:
        """The value with its gradient, and every printed term detached, from one evaluation."""
        (value, *rest), edge = self._run(values, True)
        return value, {name: term.detach() for name, term in zip(edge.names, rest, strict=True)}

    def _run(self, values: Values, with_terms: bool) -> tuple[tuple[Tensor, ...], Boundary]:
        if values.__class__ is not dict and not isinstance(values, Mapping):
            check_mapping(values, str(self.loss), self.loss.input_var)
        made = self._made.get(program_for(self.loss, values, with_terms))
        edge, run = self._make(values, with_terms) if made is None else made
        inputs = edge.inputs(values, self._mark)
        try:
            with unvalidated():
                result = run(inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            failed(edge, values, error)
        edge.settle(result[0], values)
        return result, edge

    def _make(self, values: Values, with_terms: bool) -> tuple[Boundary, Callable[..., Any]]:
        edge = boundary(self.loss, values, with_terms)
        require_compiler(self.options, "loss.compile", _on_cpu(values, self.loss))
        run = compiled_function(lambda inputs: edge.trace(inputs), self.options)
        self._made[edge.program] = edge, run
        return edge, run

    def __repr__(self) -> str:
        return f"{self.loss}, compiled"


def failed(edge: Boundary, values: Values, error: RuntimeError) -> NoReturn:
    """The error that eager evaluation gives for these values, else the compiler's own."""
    edge.blame(values)
    raise error


def _on_cpu(values: Values, loss: Loss) -> bool:
    tensors = [v for v in values.values() if isinstance(v, Tensor) and v.dim()] or list(loss.parameters())[:1]
    return all(tensor.is_cpu for tensor in tensors)


@evaluation.compiled.register
def compiled(loss: Loss, options: Mapping[str, Any]) -> CompiledLoss:
    """`loss` as a compiled function of its values."""
    return CompiledLoss(loss, options)
