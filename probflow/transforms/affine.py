"""Affine and additive maps: x = z e^s + t, and x = z + t."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.transforms.elementwise import Elementwise
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.transform import Pair


class AffineMap(ScalarMap):
    r""":math:`x = z\,e^{s} + t` with h = (s̃, t) (RealNVP, Dinh et al., arXiv:1605.08803, eq. 7-8).

    bound: the log-scale is softly clamped, :math:`s = c \tanh(\tilde s / c)` with c = `bound`, so that inputs far from the training
    data neither overflow nor vanish; None leaves it free, :math:`s = \tilde s`.

    >>> import torch
    >>> x, logdet = AffineMap().forward_and_logdet(torch.ones(1, 3), torch.zeros(1, 2, 3))
    >>> x, logdet
    (tensor([[1., 1., 1.]]), tensor([[0., 0., 0.]]))
    """

    width = 2
    flat = True

    def __init__(self, bound: float | None = 2.0) -> None:
        super().__init__()
        if bound is not None and not bound > 0:
            raise ArgumentError(f"AffineMap: bound must be positive, or None for a free scale, got {bound!r}.")
        self.bound = bound

    def _scale_and_shift(self, z: Tensor, h: Tensor, sign: int) -> tuple[Tensor, Tensor]:
        """±s and t; c tanh(a / c) = 2c σ(2a / c) - c, for c = 2 one operation less than by tanh."""
        s, t = h.chunk(2, 1) if h.dim() == z.dim() else h.unbind(1)
        c = self.bound
        if c is None:
            return (s if sign > 0 else -s), t
        s = (s if c == 2 else s * (2 / c)).sigmoid()
        return torch.rsub(s, -sign * c, alpha=-2 * sign * c), t

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        s, t = self._scale_and_shift(z, h, 1)
        return torch.addcmul(t, z, s.exp()), (s if s.shape == z.shape else s.expand_as(z))

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        s, t = self._scale_and_shift(x, h, -1)
        return (x - t) * s.exp(), (s if s.shape == x.shape else s.expand_as(x))

    def extra_repr(self) -> str:
        return f"bound={self.bound}"


class AdditiveMap(ScalarMap):
    """x = z + t with h = (t,): a shift, which keeps volumes (NICE, Dinh et al., arXiv:1410.8516, eq. 8).

    >>> import torch
    >>> import probflow as pf
    >>> pf.transforms.AdditiveMap().forward_and_logdet(torch.zeros(1, 2), torch.ones(1, 1, 2))
    (tensor([[1., 1.]]), tensor([[0., 0.]]))
    """

    width = 1

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        return z + h[:, 0], torch.zeros_like(z)

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        return x - h[:, 0], torch.zeros_like(x)


class Affine(Elementwise):
    r"""Elementwise :math:`x = z \odot e^{s} + t` with trained s and t, or with s and t computed from a context.

    Without a context the log-scale is free; with one it is softly clamped to ±2 (see :class:`AffineMap`).

    >>> import torch
    >>> x, logdet = Affine(3).forward_and_logdet(torch.ones(2, 3))
    >>> x.shape, logdet.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """

    def __init__(self, shape: int | Shape, context: int | Shape | None = None) -> None:
        super().__init__(AffineMap(bound=None if context is None else 2.0), shape, context=context)
