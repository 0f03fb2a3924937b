"""Convolutional conditioners: from the untouched part of an image, and the context, to parameters for every pixel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.nn.activation import made
from probflow.nn.conditioners import behind, zero_


def resized(images: Tensor, like: Tensor) -> Tensor:
    """`images` at the height and width of `like`: averages where they are larger, repeated pixels where they are smaller."""
    height, width = like.shape[-2:]
    return images if images.shape[-2:] == (height, width) else F.adaptive_avg_pool2d(images, (height, width))


def channels_last(x: Tensor) -> Tensor:
    """The same images with the channels of a pixel side by side in memory, where that makes convolutions faster: on CPU.

    oneDNN computes in such an order; in the usual one every convolution, and the backward pass of every one, converts all that it
    reads and writes.  A compiler chooses the order by itself.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return x
    # not contiguous(memory_format=...), which torch.func.vmap does not know
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


class ContextConv(nn.Module):
    """A 3×3 convolution that sees the context at every pixel.

    A context of images, ``(channels, height, width)``, is resized to the current height and width and becomes more input
    channels; any other context is flattened and adds a bias per channel through a linear map.
    """

    def __init__(self, channels: int, out: int, context: int | Shape | None = None) -> None:
        super().__init__()
        shape = (context,) if isinstance(context, int) else context
        self.has_planes = shape is not None and len(shape) == 3
        extra = shape[0] if shape is not None and self.has_planes else 0
        self.conv = nn.Conv2d(channels + extra, out, 3, padding=1)
        self.bias = None
        if shape is not None and not self.has_planes:
            self.bias = nn.Linear(torch.Size(shape).numel(), out, bias=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if context is None:
            return self.conv(x)
        if self.bias is None:
            return self.conv(torch.cat([x, resized(context, x)], 1))
        return self.conv(x) + self.bias(context.reshape(-1, self.bias.in_features))[:, :, None, None]


class ConvConditioner(nn.Module):
    """Glow's network: 3×3, 1×1 and 3×3 convolutions with an activation between them (Kingma & Dhariwal, arXiv:1807.03039;
    NN() in its table 1, 512 channels wide there).

    From ``(N, channels, H, W)`` to ``(N, out_channels, H, W)``, of any height and width; the output is zero at the start.

    context: its shape.  Images ``(C, H, W)`` are resized (averaged, or repeated) to the current height and width and
    concatenated with the input; any other context, such as a vector ``(C,)``, adds a bias to every channel of the first layer.
    Either way it reaches every pixel of the output.

    Errors: ArgumentError where `hidden` is not one width.

    >>> net = ConvConditioner(3, 16, 6, context=2)
    >>> tuple(net(torch.randn(5, 3, 8, 8), torch.randn(5, 2)).shape)
    (5, 6, 8, 8)
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        out_channels: int,
        context: int | Shape | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        _check_width(hidden, "ConvConditioner")
        self.first = ContextConv(channels, hidden, context)
        self.rest = nn.Sequential(
            behind(activation),
            nn.Conv2d(hidden, hidden, 1),
            behind(activation),
            zero_(nn.Conv2d(hidden, out_channels, 3, padding=1)),
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.rest(self.first(channels_last(x), context)).contiguous()


class ResidualConditioner(nn.Module):
    """A residual convolutional network, as in RealNVP (Dinh et al., arXiv:1605.08803, section 4.1), without normalisation: a
    3×3 convolution, `blocks` pre-activation blocks ``h + conv(σ(conv(σ(h))))`` of 3×3 convolutions, and a 1×1 convolution.

    RealNVP's batch normalisation is left out, so that training and evaluation compute the same function of every row.  Shapes
    and context are those of :class:`ConvConditioner`; the output is zero at the start.

    Errors: ArgumentError where `hidden` is not one width or `blocks` is negative.

    >>> net = ResidualConditioner(3, 16, 2, 6, context=(1, 4, 4))
    >>> tuple(net(torch.randn(5, 3, 8, 8), torch.randn(5, 1, 4, 4)).shape)
    (5, 6, 8, 8)
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        blocks: int,
        out_channels: int,
        context: int | Shape | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        _check_width(hidden, "ResidualConditioner")
        if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 0:
            raise ArgumentError(f"ResidualConditioner: blocks must be a number of residual blocks, 0 or more, got {blocks!r}.")
        self.first = ContextConv(channels, hidden, context)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                made(activation),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                behind(activation),
                nn.Conv2d(hidden, hidden, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.last = nn.Sequential(made(activation), zero_(nn.Conv2d(hidden, out_channels, 1)))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(channels_last(x), context)
        for block in self.blocks:
            h = h + block(h)
        return self.last(h).contiguous()


def _check_width(hidden: int, title: str) -> None:
    if isinstance(hidden, bool) or not isinstance(hidden, int) or hidden < 1:
        raise ArgumentError(
            f"{title}: hidden must be one width, the number of hidden channels, got {hidden!r}. Write: hidden=128"
        )
