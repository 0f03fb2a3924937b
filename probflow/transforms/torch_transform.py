"""A transform of ``torch.distributions`` in this library's contract."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import Transform as TorchTransform_

from probflow import domains
from probflow._typing import Shape
from probflow.domains import Domain
from probflow.errors import ArgumentError
from probflow.transforms.transform import Pair, Transform, sum_event

_DOMAINS: tuple[tuple[object, Domain], ...] = (
    (constraints.real, domains.real),
    (constraints.positive, domains.positive),
    (constraints.nonnegative, domains.nonnegative),
    (constraints.unit_interval, domains.open_unit_interval),
)

OWN = "\nFor one of your own derive from Transform: _forward_and_logdet and _inverse_and_logdet take the place of forward."


class TorchTransform(Transform):
    """Any ``torch.distributions.transforms.Transform``, where a transform is expected.

    Tensors inside it are constants: they do not move with ``.to`` and are not trained.

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
        if not wrapped.bijective:
            raise ArgumentError(f"TorchTransform: {type(wrapped).__name__} is not a bijection.")
        self.wrapped = wrapped.with_cache(0)  # a cache would keep a batch, and its graph, alive on the object
        self.event_rank = max(wrapped.domain.event_dim, wrapped.codomain.event_dim)
        self.domain, self.codomain = _domain(wrapped.domain), _domain(wrapped.codomain)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        x = self.wrapped(z)
        return x, sum_event(self.wrapped.log_abs_det_jacobian(z, x))

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        inside = self.codomain.holds(x) if self.codomain.rank == 0 else None
        if inside is not None:  # a value without a preimage: any inner point stands in for it
            with torch.no_grad():
                inner = self.wrapped(torch.zeros_like(x))
            x = torch.where(inside, x, inner)
        z = self.wrapped.inv(x)
        logdet = -sum_event(self.wrapped.log_abs_det_jacobian(z, x))
        if inside is not None:
            logdet = torch.where(inside.flatten(1).all(1), logdet, -torch.inf)
        return z, logdet

    def forward_shape(self, shape: Shape) -> Shape:
        return tuple(self.wrapped.forward_shape(torch.Size(shape)))

    def inverse_shape(self, shape: Shape) -> Shape:
        return tuple(self.wrapped.inverse_shape(torch.Size(shape)))

    def _title(self) -> str:
        return type(self.wrapped).__name__


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


def _domain(constraint: constraints.Constraint) -> Domain:
    if constraint.event_dim:
        return domains.real_vector
    for known, domain in _DOMAINS:
        if constraint is known:
            return domain
    low, high = getattr(constraint, "lower_bound", None), getattr(constraint, "upper_bound", None)
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return domains.interval(low, high)
    return domains.real
