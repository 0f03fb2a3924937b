"""The terms of log p over the states of its finite variables: each factor at the states that it depends on, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from probflow._typing import Names
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.elimination import Table, added, aligned, eliminate
from probflow.errors import NoDensity

MOST_STATES = 2**20
"""A table with more joint states than this is an error, not a silent out-of-memory."""


class Finite(NamedTuple):
    """A finite factor whose variables are enumerated: their names and their states, ``(S, *event)`` each."""

    names: Names
    points: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """The number of states."""
        return self.points[0].shape[0]


class _Value(NamedTuple):
    """A variable's value: ``(*sizes of axes, *lead, batch, *event)``."""

    tensor: Tensor
    lead: int
    axes: tuple[int, ...] = ()


def summed_log_prob(
    p: Distribution, gone: Names, values: Mapping[str, Tensor], leads: Mapping[str, int], check: bool
) -> Tensor:
    """log p, ``(*lead, batch)``, with the finite `gone` summed out; deterministic ones are substituted.

    Errors: NoDensity where a table would have more than MOST_STATES entries per batch element.
    """
    tables, finite = terms(p, gone, values, leads, check)
    left, _ = eliminate(tables, [each.size for each in finite], (), MOST_STATES, lambda: refusal(p, gone))
    return added(left).values


def terms(
    p: Distribution, names: Names, values: Mapping[str, Tensor], leads: Mapping[str, int], check: bool
) -> tuple[list[Table], list[Finite]]:
    """The log-density of every factor of p, at the states of those of the finite `names` that it depends on."""
    known = {name: _Value(tensor, leads[name]) for name, tensor in values.items()}
    tables: list[Table] = []
    finite: list[Finite] = []
    for index in p.graph.order:
        factor = p.factors[index]
        inputs = [known[n] for n in factor.cond_var]
        hidden = [n for n in factor.var if n in names]
        involved = inputs if hidden else [*inputs, *(known[n] for n in factor.var)]
        axes = tuple(sorted({axis for value in involved for axis in value.axes}, reverse=True))
        count = states_of(finite, axes)
        if count > MOST_STATES:
            raise _too_many(p, names)
        lead = max([0, *(value.lead for value in involved)])
        tensors, dims = _lined(inputs, axes, lead)
        bound = factor.bind(tensors, dims)
        if hidden and not factor.finite:  # a deterministic variable: its value follows
            for name, tensor in zip(factor.var, bound.draw((), bound.batch, True), strict=True):
                missing = len(axes) + lead - bound.lead
                tensor = tensor.reshape(*[1] * missing, *tensor.shape) if axes else tensor
                known[name] = _Value(tensor, lead if axes else bound.lead, axes)
            continue
        if hidden:
            states = bound.states(MOST_STATES // count)
            if states is None:
                raise _too_many(p, names)
            axes = (len(finite), *axes)
            points = tuple(state.reshape(state.shape[0], *state.shape[bound.lead + 2 :]) for state in states)
            finite.append(Finite(factor.var, points))
            for name, point in zip(factor.var, points, strict=True):
                known[name] = _Value(point.unsqueeze(1), 0, axes[:1])
        tensors, dims = _lined([known[n] for n in factor.var], axes, lead)
        term = bound.log_prob(tuple(tensors), tuple(dims), check)
        full = len(axes) + lead + 1
        if axes and term.dim() < full:  # a factor that ignores its conditions
            term = term.reshape(*[1] * (full - term.dim()), *term.shape)
        tables.append(Table(axes, term.dim() - 1 - len(axes), term))
    if not tables:
        raise NoDensity(f"{p.statement} has no factor with a density.")
    return tables, finite


def states_of(finite: list[Finite], axes: Iterable[int]) -> int:
    """The number of joint states along these axes; a plain loop, which torch.compile can trace."""
    count = 1
    for axis in axes:
        count *= finite[axis].size
    return count


def summable(factor: Factor) -> bool:
    """Whether the variables of `factor` can be summed out or substituted exactly."""
    from probflow.distributions.deterministic import Deterministic

    return factor.finite or isinstance(factor.origin, Deterministic)


def _lined(values: list[_Value], axes: tuple[int, ...], lead: int) -> tuple[list[Tensor], list[int]]:
    """Tensors and their numbers of leading dimensions, those over finite axes lined up with `axes`; others broadcast."""
    tensors, dims = [], []
    for value in values:
        over = bool(value.axes)
        tensors.append(aligned(value.tensor, value.axes, value.lead, axes, lead) if over else value.tensor)
        dims.append(len(axes) + lead if over else value.lead)
    return tensors, dims


def refusal(p: Distribution, names: Names) -> str:
    return f"{p.statement} cannot be summed over {', '.join(names)}"


def _too_many(p: Distribution, names: Names) -> NoDensity:
    return NoDensity(
        f"{refusal(p, names)}: more than {MOST_STATES} joint states in one table.\nUse a bound instead: ELBO(p, q)."
    )
