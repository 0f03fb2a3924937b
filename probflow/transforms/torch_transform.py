"""A transform of ``torch.distributions`` in this library's contract."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import CatTransform, ReshapeTransform, StackTransform
from torch.distributions.transforms import Transform as TorchTransform_

from probflow import domains
from probflow._typing import Shape
from probflow.domains import Domain
from probflow.errors import ArgumentError
from probflow.transforms.transform import Pair, Transform, no_logdet, sum_event

_DOMAINS: tuple[tuple[object, Domain], ...] = (
    (constraints.real, domains.real),
    (constraints.positive, domains.positive),
    (constraints.nonnegative, domains.nonnegative),
    (constraints.unit_interval, domains.open_unit_interval),
    (constraints.simplex, domains.open_simplex),
    (constraints.lower_cholesky, domains.lower_cholesky),
)

OWN = "\nFor one of your own derive from Transform: _forward_and_logdet and _inverse_and_logdet take the place of forward."


class TorchTransform(Transform):
    """Any ``torch.distributions.transforms.Transform``, where a transform is expected.

    Tensors inside it are constants: they do not move with ``.to`` and are not trained.

    Errors: ArgumentError where it is no bijection, or works along dimension 0, which is the batch.

    >>> import torch
    >>> from torch.distributions.transforms import ExpTransform
    >>> x, logdet = TorchTransform(ExpTransform()).forward_and_logdet(torch.zeros(2, 3))
    >>> logdet
    tensor([0., 0.])
    """

    def __init__(self, wrapped: TorchTransform_) -> None:
        super().__init__()
        if not isinstance(wrapped, TorchTransform_):
            raise ArgumentError(f"TorchTransform wraps a torch.distributions transform, got a {type(wrapped).__name__}.")
        self.wrapped = wrapped.with_cache(0)  # a cache would keep a batch, and its graph, alive on the object
        if isinstance(wrapped, (CatTransform, StackTransform)) and wrapped.dim == 0:
            raise ArgumentError(f"{self._title()}: dimension 0 is the batch. Write dim=1, or dim=-1.")
        if not wrapped.bijective:
            raise ArgumentError(f"TorchTransform: {self._title()} is not a bijection.")
        self.event_rank, self._output_rank = wrapped.domain.event_dim, wrapped.codomain.event_dim
        self.domain, self.codomain = _domain(wrapped.domain), _domain(wrapped.codomain)
        self._into_domain, self._into_codomain = _onto(wrapped.domain), _onto(wrapped.codomain)
        if isinstance(wrapped, ReshapeTransform):
            self.shape = tuple(wrapped.in_shape)
        elif isinstance(wrapped.inv, ReshapeTransform):
            self.shape = tuple(wrapped.inv.out_shape)

    @property
    def output_rank(self) -> int:
        return self._output_rank

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        inside = None
        if self.domain is not domains.real:
            z, inside = _inner(z, self.domain, self._into_domain)
        x = self.wrapped(z)
        return x, _kept(self._logdet(z, x), inside)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        x, inside = _inner(x, self.codomain, self._into_codomain)
        z = self.wrapped.inv(x)
        return z, _kept(-self._logdet(z, x), inside)

    def _logdet(self, z: Tensor, x: Tensor) -> Tensor:
        if z.shape[0] == 0:  # torch cannot sum over the events of no rows
            return no_logdet(z)
        return sum_event(self.wrapped.log_abs_det_jacobian(z, x))

    def forward_shape(self, shape: Shape) -> Shape:
        return tuple(self.wrapped.forward_shape(torch.Size(shape)))

    def inverse_shape(self, shape: Shape) -> Shape:
        return tuple(self.wrapped.inverse_shape(torch.Size(shape)))

    def _title(self) -> str:
        inner = self.wrapped.inv
        turned = type(self.wrapped).__name__.startswith("_")  # torch's own inverse has no public name
        return f"{type(inner).__name__}.inv" if turned else type(self.wrapped).__name__


def as_transform(value: object) -> Transform:
    """A transform as it is, one of ``torch.distributions`` wrapped, anything else an error."""
    if isinstance(value, Transform):
        return value
    if isinstance(value, TorchTransform_):
        return TorchTransform(value)
    hint = f"; pass an instance, {value.__name__}(...)" if isinstance(value, type) else ""
    raise ArgumentError(
        "A transform is a probflow.transforms.Transform or one of torch.distributions.transforms, "
        f"got {value.__name__ if isinstance(value, type) else 'a ' + type(value).__name__}{hint}."
        f"{OWN if isinstance(value, nn.Module) else ''}"
    )


def _inner(value: Tensor, domain: Domain, onto: TorchTransform_ | None) -> tuple[Tensor, Tensor | None]:
    """The value, with an inner point of the domain in every row that is outside; and which rows are inside."""
    if onto is None or value.shape[0] == 0:
        return value, None
    inside = domain.holds(value)
    inside = inside.flatten(1).all(1) if inside.dim() > 1 else inside
    with torch.no_grad():
        point = onto(value.new_zeros(onto.inverse_shape(value.shape)))
    return torch.where(inside.reshape(-1, *(1 for _ in value.shape[1:])), value, point), inside


def _kept(logdet: Tensor, inside: Tensor | None) -> Tensor:
    return logdet if inside is None else torch.where(inside, logdet, -torch.inf)


def _onto(constraint: constraints.Constraint) -> TorchTransform_ | None:
    """A bijection from real numbers, so that zeros lead to an inner point; None where torch has none."""
    try:
        onto: TorchTransform_ = biject_to(constraint)
    except NotImplementedError:
        return None
    return onto.with_cache(0)


def _domain(constraint: constraints.Constraint) -> Domain:
    """The set under its name here: what elements may be, however many of them torch counts as one event."""
    if isinstance(constraint, constraints.independent):
        return _domain(constraint.base_constraint)
    for known, domain in _DOMAINS:
        if constraint is known:
            return domain
    low, high = getattr(constraint, "lower_bound", None), getattr(constraint, "upper_bound", None)
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return domains.interval(low, high, open_low=True, open_high=True)  # an end has no mass, and no preimage
    parts = getattr(constraint, "cseq", None)  # of values side by side
    if parts is not None and all(_domain(part) is domains.real for part in parts):
        return domains.real
    return _unnamed(constraint, max(part.event_dim for part in parts) if parts else constraint.event_dim)


def _unnamed(constraint: constraints.Constraint, rank: int) -> Domain:
    return Domain(
        text=f"values in {constraint}",
        holds=constraint.check,
        reduce=lambda t: (~constraint.check(t)).sum(),
        accept=lambda count: count == 0,
        rank=rank,
        made=(_unnamed, (constraint, rank)),
    )
