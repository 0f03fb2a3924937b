"""The invertible 1×1 convolution: one trained linear map of the channels, the same at every pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.errors import ArgumentError, ShapeError
from probflow.printing import shape_text
from probflow.transforms.linear import LUWeight, precise, solver_dtype
from probflow.transforms.transform import Pair, Transform, as_shape

STARTS = ("rotation", "identity")


class Conv1x1(Transform):
    r"""Glow's invertible 1×1 convolution (Kingma & Dhariwal, arXiv:1807.03039, section 3.2, eq. 9-11):

    .. math:: z_{\cdot ij} = W x_{\cdot ij}, \qquad W = P L\,(U + \mathrm{diag}(s)), \qquad
              \log\left|\det \frac{\partial z}{\partial x}\right| = h\,w \sum_i \log|s_i|.

    P is a fixed permutation, L and U are triangular, s > 0, so that W is invertible for all weights (see :class:`LUWeight`).
    As in the paper W maps data to noise; the generative direction multiplies with W⁻¹, found by two triangular solves of
    ``channels × channels`` matrices.  Both are one pass.

    shape: ``(channels, height, width)``, or ``(channels,)`` for vectors.
    start: "rotation", a random orthogonal W as in the paper, or "identity".

    Errors: ArgumentError for an unknown start, ShapeError where the shape is neither.

    >>> x = torch.randn(5, 6, 4, 4)
    >>> layer = Conv1x1((6, 4, 4))
    >>> z, logdet = layer.inverse_and_logdet(x)
    >>> torch.allclose(layer.forward(z), x, atol=1e-4), bool(logdet.abs().max() < 1e-3)
    (True, True)
    """

    def __init__(self, shape: int | Shape, start: str = "rotation") -> None:
        super().__init__()
        self.shape = as_shape(shape, "Conv1x1")
        if len(self.shape) not in (1, 3):
            raise ShapeError(
                f"Conv1x1 takes images, (channels, height, width), or vectors, got events of shape {shape_text(self.shape)}."
            )
        if start not in STARTS:
            raise ArgumentError(f"Conv1x1: start must be {' or '.join(map(repr, STARTS))}, got {start!r}.")
        self.event_rank = len(self.shape)
        self.pixels = torch.Size(self.shape[1:]).numel()
        self.lu = LUWeight(self.shape[0]) if start == "identity" else _orthogonal(self.shape[0])

    def weight(self) -> Tensor:
        """W, of shape ``(channels, channels)``: z = W x at every pixel."""
        weight: Tensor = self.lu()[0]
        return weight

    def inverse_weight(self) -> Tensor:
        """W⁻¹ = (U + diag(s))⁻¹ L⁻¹ Pᵀ."""
        entries = self.lu.entries
        rows = torch.eye(entries.shape[0], dtype=solver_dtype(entries.dtype), device=entries.device)
        return self.lu.solve(rows).mT

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return self.mix(self.inverse_weight(), z), self._logdet(z, -self.pixels)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return self.mix(self.weight(), x), self._logdet(x, self.pixels)

    def _logdet(self, value: Tensor, times: int) -> Tensor:
        return (times * self.lu.logabsdet).to(value.dtype).expand(value.shape[0])

    def mix(self, weight: Tensor, value: Tensor) -> Tensor:
        """A matrix times the channels of every pixel."""
        # a matrix product, not a convolution: faster for 1×1, and on CUDA convolutions round to 10 bits by default (TF32),
        # after which the inverse is off in the third digit
        weight = weight.to(value.dtype).expand(value.shape[0], -1, -1)
        return precise(torch.bmm, weight, value.reshape(*value.shape[:2], self.pixels)).view(value.shape)


def _orthogonal(channels: int) -> LUWeight:
    """A random orthogonal W, its columns' signs chosen so that s > 0."""
    permutation, lower, upper = torch.linalg.lu(torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0])
    s = upper.diagonal()
    weight = LUWeight(channels, permutation.argmax(1))
    with torch.no_grad():
        weight.entries.copy_(lower.tril(-1) + (upper * s.sign()).triu(1) + s.abs().log().diag())
    return weight
