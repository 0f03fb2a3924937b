"""A mixture with its conditioning variables filled in: weights and components as tensors, all of them evaluated at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.checks import compiling
from probflow.distributions.bound import Bound, inserted_front
from probflow.distributions.family import FamilyBound
from probflow.distributions.finite import FiniteBound
from probflow.distributions.flow_bound import FlowBound
from probflow.distributions.index import draw_index
from probflow.distributions.shapes import broadcast
from probflow.distributions.stacking import choose, deepened, stack
from probflow.domains import Domain
from probflow.errors import NoClosedForm, SupportError
from probflow.graph import Statement

_NARROW = 16
"""Events up to this width are summed faster when they are the outermost axis in memory (3 times for width 2)."""


class MixtureBound(Bound):
    r""":math:`\sum_k w_k\, p_k(x)`: log-weights ``(K, *lead, batch or 1)`` and one bound per component.

    Components of one family are stacked along a new outermost axis, evaluated in one pass, and sampled by gathering the chosen
    component's parameters.  Components of several families are evaluated one after the other, then gathered.
    """

    def __init__(
        self, statement: Statement, log_weights: Tensor, components: Sequence[Bound] = (), stacked: FamilyBound | None = None
    ) -> None:
        self.statement, self.log_weights, self.components = statement, log_weights, tuple(components)
        fronts = [tuple(log_weights.shape[1:]), *(component.front for component in components)]
        if stacked is not None:
            fronts.append(stacked.front[1:])
        self.front = broadcast(*fronts)
        self._stack = stack(statement, self.components, self.lead) if stacked is None else deepened(stacked, self.lead)

    # ------------------------------------------------------------------ density

    @property
    def bounded(self) -> bool:  # type: ignore[override]
        return self._stack.bounded if self._stack is not None else any(component.bounded for component in self.components)

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        return self.log_joint(values, leads, check).logsumexp(0)

    def log_joint(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        """log w_k + log p_k(value), of shape ``(K, *lead, batch)``."""
        lead = max((*leads, self.lead))
        weights, stacked = _padded(self.log_weights, lead + 1), self._stack
        if stacked is not None and stacked.family.event_nll is not None and isinstance(stacked.family.support, Domain):
            value = _narrow_first(values[0], leads[0], stacked)
            return weights - deepened(stacked, lead).neg_log_prob((value,), leads, check)
        return self._log_probs(values, leads, lead, check) + weights

    def _log_probs(self, values: tuple[Tensor, ...], leads: tuple[int, ...], lead: int, check: bool) -> Tensor:
        bounds: Sequence[Bound] = self.components
        if self._stack is not None:
            stacked = deepened(self._stack, lead)  # samples of the value run between the components and the batch
            bounds, values = [stacked], (_narrow_first(values[0], leads[0], stacked),)
        supports = {id(support): support for support in map(_support, bounds) if support is not None}
        if len(supports) <= 1 and all(isinstance(support, Domain) for support in supports.values()) and not _reach(bounds):
            terms = [bound.log_prob(values, leads, check) for bound in bounds]
        else:
            terms = self._within_supports(bounds, values, leads, check)
        if self._stack is not None:
            return terms[0]
        terms = list(torch.broadcast_tensors(*terms))
        return _padded(torch.stack(terms), lead + 1)

    def _within_supports(
        self, bounds: Sequence[Bound], values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool
    ) -> list[Tensor]:
        """Components with supports of their own: outside of one its density is 0; outside of all of them is an error."""
        terms, somewhere = [], []
        for bound in bounds:
            if isinstance(bound, FamilyBound):
                density, inside = _where_supported(bound, values[0], leads[0])
            elif isinstance(bound, FlowBound):
                density = bound.log_prob(values, leads, False)  # -inf where the flow cannot reach
                inside = bound.inside(values[0], leads[0])
                inside = inside & (density > -torch.inf) if bound.base.bounded else inside
            else:
                density = bound.log_prob(values, leads, check)
                inside = torch.ones_like(density, dtype=torch.bool)
            terms.append(density)
            somewhere.append(inside)
        if check and not compiling():
            covered = torch.stack(torch.broadcast_tensors(*somewhere)).any(0)
            covered = covered.any(0) if self._stack is not None else covered
            if not bool(covered.all()):
                place = (~covered).nonzero()[0].tolist()
                families = ", ".join(dict.fromkeys(b.family.name if isinstance(b, FamilyBound) else "flow" for b in bounds))
                raise SupportError(
                    f"{self.statement}: the value of {self.statement.var[0]!r} in row {place[-1]} is outside the support of "
                    f"every component ({families})."
                )
        return terms

    # ------------------------------------------------------------------ sampling

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        with torch.no_grad():  # a choice among components has no pathwise gradient
            index = self._index(sample_shape, batch)
            if self._stack is not None:
                params = {name: choose(tensor, index, len(self.front)) for name, tensor in self._stack.params.items()}
                chosen = FamilyBound(self._stack.family, self.statement, params, tuple(index.shape), self._stack.extra)
                return chosen.draw((), batch, False)
            draws = [self._draw_alone(component, sample_shape, batch) for component in self.components]
            return tuple(choose(torch.stack(column), index, index.dim()) for column in zip(*draws, strict=True))

    def _index(self, sample_shape: Shape, batch: int) -> Tensor:
        count, lead = self.log_weights.shape[0], self.front[:-1]
        if self.log_weights.numel() == count:
            return draw_index(self.log_weights.reshape(count, 1), sample_shape + lead, batch)
        weights = _padded(self.log_weights, len(self.front))
        return draw_index(weights.expand(count, *lead, weights.shape[-1]), sample_shape, batch)

    def _draw_alone(self, component: Bound, sample_shape: Shape, batch: int) -> tuple[Tensor, ...]:
        """One component's draws with all sample dimensions of the mixture; those it does not have are drawn, not repeated."""
        wanted, n = self.front[:-1], len(sample_shape)
        absent = len(wanted) - component.lead
        fresh = [i for i in range(len(wanted)) if i < absent or component.front[i - absent] != wanted[i]]
        drawn = component.draw(sample_shape + tuple(wanted[i] for i in fresh), batch, False)
        at = n + len(fresh) - absent  # where its own sample dimensions begin
        lead = [n + fresh.index(i) if i in fresh else at + i for i in range(len(wanted))]
        replaced = [at + i for i in fresh if i >= absent]  # its singletons, for which the fresh ones stand in
        result = []
        for value in drawn:
            order = [*range(n), *lead, *replaced, *range(n + len(fresh) + component.lead, value.dim())]
            event = value.shape[n + len(fresh) + component.lead :]
            result.append(value.permute(order).reshape(*sample_shape, *wanted, *event))
        return tuple(result)

    def insert(self, depth: int) -> Bound:
        if self.lead <= depth:
            return self
        weights = _padded(self.log_weights, len(self.front))
        weights = weights.reshape(weights.shape[0], *inserted_front(tuple(weights.shape[1:]), depth))
        if self._stack is not None:
            return MixtureBound(self.statement, weights, stacked=self._stack.insert(depth))
        return MixtureBound(self.statement, weights, [component.insert(depth) for component in self.components])

    # ------------------------------------------------------------------ moments and responsibilities

    def mean(self) -> tuple[Tensor, ...]:
        return tuple(self._average(means, i) for i, means in enumerate(self._moments("mean")))

    def variance(self) -> tuple[Tensor, ...]:
        result = []
        for i, (means, variances) in enumerate(zip(self._moments("mean"), self._moments("variance"), strict=True)):
            between = (means - self._average(means, i)).square()  # within the components, and between them
            result.append(self._average(variances + between, i))
        return tuple(result)

    def _moments(self, which: str) -> list[Tensor]:
        """The components' moments ``(K, *lead, batch or 1, *event)``, one tensor per variable."""
        if self._stack is not None:
            return list(getattr(self._stack, which)())
        columns = zip(*(getattr(component, which)() for component in self.components), strict=True)
        return [torch.stack(torch.broadcast_tensors(*column)) for column in columns]

    def _average(self, moments: Tensor, which: int) -> Tensor:
        if self._stack is not None:
            event = len(self._stack.event)
        else:
            component = self.components[0]
            event = component.mean()[which].dim() - 1 - component.lead
        weights = _padded(self.log_weights.exp(), moments.dim() - 1 - event)
        return (weights.reshape(*weights.shape, *[1] * event) * moments).sum(0)

    def responsibilities(
        self, statement: Statement, states: Tensor, values: tuple[Tensor, ...], leads: tuple[int, ...]
    ) -> FiniteBound:
        r"""p(z = k | x), the normalised :math:`w_k\,p_k(x)`, over the given states ``(K, *event)`` of z."""
        log_joint = self.log_joint(values, leads, check=False)
        return FiniteBound(statement, [states.to(log_joint.dtype)], log_joint.log_softmax(0))


def _padded(tensor: Tensor, dims: int) -> Tensor:
    """``(K, *front)`` with singletons after K until the front has `dims` dimensions."""
    absent = dims + 1 - tensor.dim()
    return tensor.reshape(tensor.shape[0], *[1] * absent, *tensor.shape[1:]) if absent > 0 else tensor


def _narrow_first(value: Tensor, lead: int, stacked: FamilyBound) -> Tensor:
    """The same value with a narrow event outermost in memory: the sum over the event then runs along the batch."""
    event = value.shape[lead + 1 :]
    if stacked.family.event_rank or len(event) != 1 or not 1 < event[0] <= _NARROW:
        return value
    return value.movedim(-1, 0).contiguous().movedim(0, -1)


def _support(bound: Bound) -> Any:
    """The set that a component's values live in, or the function that gives it; None where it is not said."""
    if isinstance(bound, FamilyBound):
        return bound.family.support
    return bound.transform.codomain if isinstance(bound, FlowBound) else None


def _reach(bounds: Sequence[Bound]) -> bool:
    """Whether what some flow reaches is decided by its base."""
    return any(isinstance(bound, FlowBound) and bound.base.bounded for bound in bounds)


def _where_supported(bound: FamilyBound, value: Tensor, lead: int) -> tuple[Tensor, Tensor]:
    """The log-density, -inf outside the support, and where the value is inside."""
    family = bound.family
    value = bound.prepared(value, lead)
    domain = family.support if isinstance(family.support, Domain) else family.support(bound.params)
    inside = domain.holds(value)
    try:  # the mean is inside: the formula, and its gradient, stay finite where the result is thrown away
        mean = bound.mean()[0].detach().to(value.dtype)
        value = torch.where(inside.reshape(*inside.shape, *[1] * domain.rank) | ~mean.isfinite(), value, mean)
    except NoClosedForm:
        pass
    density = bound.log_prob((value,), (value.dim() - 1 - len(bound.event),), False)
    if bound.extra:
        inside = inside.flatten(-bound.extra).all(-1)
    return torch.where(inside, density, -torch.inf), inside
