"""Maps that reshape skewness and tails: powers, and the sinh-arcsinh family."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from probflow import domains
from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.transforms.elementwise import Elementwise
from probflow.transforms.mixture_cdf import soft_clamp
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.transform import Pair, Transform, sum_event


class Power(Transform):
    r""":math:`x = z^p` from the positive numbers onto themselves, for a fixed p ≠ 0, as in ``torch.distributions``.

    Errors: ArgumentError where p is 0 or not finite.

    >>> import torch
    >>> x, logdet = Power(2.0).forward_and_logdet(torch.tensor([[3.0]]))
    >>> x, logdet                                                             # log 6
    (tensor([[9.]]), tensor([1.7918]))
    """

    domain = domains.positive
    codomain = domains.positive

    def __init__(self, exponent: float) -> None:
        super().__init__()
        if not math.isfinite(exponent) or exponent == 0:
            raise ArgumentError(f"Power: the exponent must be a finite number other than 0, got {exponent!r}.")
        self.exponent = exponent

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return _power(z, self.exponent)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return _power(x, 1 / self.exponent)

    def extra_repr(self) -> str:
        return f"{self.exponent:g}"


def _power(value: Tensor, exponent: float) -> Pair:
    inside = (value > 0) & (value < torch.inf)
    value = torch.where(inside, value, 1)
    logdet = math.log(abs(exponent)) + (exponent - 1) * value.log()
    return value**exponent, sum_event(torch.where(inside, logdet, -torch.inf))


class SinhArcsinhMap(ScalarMap):
    r""":math:`x = \sinh\big(e^{\tau}(\operatorname{arsinh} z + \epsilon)\big)` with h = (ε̃, τ̃): skewness and tail weight.

    The family of Jones & Pewsey, *Sinh-arcsinh distributions* (Biometrika 96, 2009), with their δ = e^{-τ}.  For normal z:
    ε > 0 skews to the right; τ > 0 makes tails heavier than the normal's, τ < 0 lighter.  Both directions are closed forms.
    ε is softly clamped to ±2 and τ to ±1.

    >>> import torch
    >>> h = torch.tensor([0.0, 0.5]).view(1, 2, 1)
    >>> SinhArcsinhMap().forward_and_logdet(torch.tensor([[3.0]]), h)[0]
    tensor([[8.9388]])
    """

    width = 2

    def _skewness_and_tail(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return soft_clamp(h[:, 0], 2.0), soft_clamp(h[:, 1], 1.0)

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        skewness, tail = self._skewness_and_tail(h)
        inner = z.asinh()
        outer = tail.exp() * (inner + skewness)
        return outer.sinh(), _log_cosh(outer) + tail - _log_cosh(inner)

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        skewness, tail = self._skewness_and_tail(h)
        outer = x.asinh()
        inner = (-tail).exp() * outer - skewness
        return inner.sinh(), _log_cosh(inner) - tail - _log_cosh(outer)


class SinhArcsinh(Elementwise):
    r"""Elementwise skewness and tail weight, trained or computed from a context (see :class:`SinhArcsinhMap`).

    >>> import torch
    >>> x, logdet = SinhArcsinh(3).forward_and_logdet(torch.zeros(2, 3))
    >>> x.shape, logdet.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """

    def __init__(self, shape: int | Shape, context: int | Shape | None = None) -> None:
        super().__init__(SinhArcsinhMap(), shape, context=context)


def _log_cosh(u: Tensor) -> Tensor:
    return torch.logaddexp(u, -u) - math.log(2)
