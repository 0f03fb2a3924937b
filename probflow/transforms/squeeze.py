"""Squeezing: space into channels, and back."""

from __future__ import annotations

from torch import Tensor

from probflow._typing import Shape
from probflow.errors import ArgumentError, ShapeError
from probflow.printing import shape_text
from probflow.transforms.transform import Pair, Transform, as_shape, no_logdet


class Squeeze(Transform):
    """Every ``factor × factor`` square of pixels of the data becomes ``factor²`` channels of z, and back: a permutation of
    elements (RealNVP, Dinh et al., arXiv:1605.08803, section 3.6; Glow, arXiv:1807.03039, section 3).

    shape: the **data's**, ``(channels, height, width)``.  x → z is space to depth: z has ``factor² · channels`` channels at
    ``height / factor``, ``width / factor``; the generative direction z → x is depth to space.  The pixels of one channel
    stay together: channel ``c · factor² + factor · i + j`` of z holds pixel (i, j) of every square of channel c.

    Errors: ShapeError where height or width is no multiple of the factor.

    >>> import torch
    >>> layer = Squeeze((3, 8, 8))
    >>> z, logdet = layer.inverse_and_logdet(torch.randn(5, 3, 8, 8))
    >>> z.shape, layer.forward(z).shape
    (torch.Size([5, 12, 4, 4]), torch.Size([5, 3, 8, 8]))
    """

    event_rank = 3

    def __init__(self, shape: Shape, factor: int = 2) -> None:
        super().__init__()
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
            raise ArgumentError(f"Squeeze: factor must be a positive integer, got {factor!r}.")
        self.factor = factor
        self.shape = self.inverse_shape(as_shape(shape, "Squeeze"))

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        n, f, (channels, height, width) = z.shape[0], self.factor, self.forward_shape(tuple(z.shape[1:]))
        squares = z.reshape(n, channels, f, f, height // f, width // f)
        return squares.permute(0, 1, 4, 2, 5, 3).reshape(n, channels, height, width), no_logdet(z)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        # written out: torch's pixel_unshuffle returns an empty batch unchanged
        n, f, (channels, height, width) = x.shape[0], self.factor, tuple(x.shape[1:])
        squares = x.reshape(n, channels, height // f, f, width // f, f)
        z = squares.permute(0, 1, 3, 5, 2, 4).reshape(n, channels * f * f, height // f, width // f)
        return z, no_logdet(x)

    def forward_shape(self, shape: Shape) -> Shape:
        channels, height, width = _image(shape)
        if channels % self.factor**2:
            raise ShapeError(
                f"Squeeze: z of shape {shape_text(shape)} has {channels} channels, expected a multiple of {self.factor**2}."
            )
        return channels // self.factor**2, height * self.factor, width * self.factor

    def inverse_shape(self, shape: Shape) -> Shape:
        channels, height, width = _image(shape)
        if height % self.factor or width % self.factor:
            raise ShapeError(
                f"Squeeze: images of shape {shape_text(shape)} cannot be cut into squares of {self.factor}×{self.factor} pixels: "
                f"height and width must be multiples of {self.factor}.\n"
                "Pad or crop the images, or squeeze fewer times."
            )
        return channels * self.factor**2, height // self.factor, width // self.factor

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


def _image(shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ShapeError(f"Squeeze takes images, (channels, height, width), got events of shape {shape_text(shape)}.")
    return shape
