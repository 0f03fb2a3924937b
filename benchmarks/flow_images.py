"""Glow in plain PyTorch (Kingma & Dhariwal, arXiv:1807.03039), written out like the flows of `flow_networks`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.flow_networks import HALF_LOG_2PI, plus, scaled


@dataclass(frozen=True)
class ImageSize:
    """A flow of images: their shape, the levels, the steps of each, the channels of the networks; and the batch."""

    event: tuple[int, int, int]
    levels: int
    steps: int
    hidden: int
    batch: int


def convolutions(channels: int, hidden: int, outputs: int) -> nn.Sequential:
    """3×3, 1×1 and 3×3 convolutions with ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, outputs, 3, padding=1),
    )


class Mix(nn.Module):
    """The weight of a 1×1 convolution, W = P L U; one matrix holds L below the diagonal, U above, and log U's diagonal on it."""

    permutation: Tensor
    eye: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(torch.linalg.qr(torch.randn(channels, channels))[0])
        sign = upper.diagonal().sign()
        self.entries = nn.Parameter(lower.tril(-1) + (upper * sign).triu(1) + upper.diagonal().abs().log().diag())
        self.register_buffer("permutation", permutation.argmax(1))
        self.register_buffer("eye", torch.eye(channels))

    def forward(self) -> tuple[Tensor, Tensor]:
        """W and log|det W|."""
        s = self.entries.diagonal()
        lower, upper = self.entries.tril(-1) + self.eye, self.entries.triu(1) + s.exp().diag()
        return (lower @ upper).index_select(0, self.permutation), s.sum()


class Normalisation(nn.Module):
    """An affine map per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale, self.shift = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Mean 0 and variance 1 per channel for this batch."""
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        self.shift.copy_(mean)
        self.log_scale.copy_(0.5 * variance.log())

    def forward(self, x: Tensor) -> Tensor:
        """x to z."""
        return (x - self.shift[:, None, None]) * (-self.log_scale).exp()[:, None, None]


class Step(nn.Module):
    """Activation normalisation, an invertible 1×1 convolution, and an affine coupling of the channels, from x to z."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        half = channels // 2
        self.net, self.mix, self.norm = convolutions(half, hidden, 2 * half), Mix(channels), Normalisation(channels)

    def to_noise(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, the log-determinant of one pixel that is the same for all, and that of the coupling elementwise."""
        x = self.norm(x)
        weight, logdet = self.mix()
        # a batched product: on CPU several times as fast as a convolution with such a small kernel
        x = torch.bmm(weight.expand(x.shape[0], -1, -1), x.flatten(2)).view(x.shape)
        kept, changed = x.chunk(2, 1)
        raw, shift = self.net(kept).chunk(2, 1)
        s = scaled(raw)
        return torch.cat([kept, (changed - shift) * s.exp()], 1), logdet - self.norm.log_scale.sum(), s


class Level(nn.Module):
    """Steps at one scale; where channels are sliced off, a Gaussian of them given the others, its log-scale within ±4."""

    def __init__(self, channels: int, steps: int, hidden: int, last: bool) -> None:
        super().__init__()
        self.prior = None if last else nn.Conv2d(channels // 2, channels, 3, padding=1)
        self.steps = nn.ModuleList(Step(channels, hidden) for _ in range(steps))

    def to_noise(self, x: Tensor, initialise: bool) -> tuple[Tensor, Tensor]:
        """What goes on to the next level, and the log-density and log-determinants, ``(batch,)``."""
        same: Any = None
        elements: Any = None
        step: Any
        for step in reversed(self.steps):
            if initialise:
                step.norm.initialise(x)
            x, logdet, s = step.to_noise(x)
            same, elements = plus(same, logdet), plus(elements, s)
        pixels = x.shape[2] * x.shape[3]
        total = elements.flatten(1).sum(1) + pixels * same
        if self.prior is None:
            return x, total
        kept, sliced = x.chunk(2, 1)
        raw, shift = self.prior(kept).chunk(2, 1)
        s = torch.tanh(raw / 4) * -4
        noise = (sliced - shift) * s.exp()
        return kept, total + torch.addcmul(s, noise, noise, value=-0.5).flatten(1).sum(1)


class Glow(nn.Module):
    """Levels of squeezing and steps."""

    def __init__(self, size: ImageSize) -> None:
        super().__init__()
        channels = size.event[0]
        levels = []
        for i in range(size.levels):
            levels.append(Level(4 * channels, size.steps, size.hidden, i == size.levels - 1))
            channels *= 2
        # from noise to data, as all flows here
        self.levels = nn.ModuleList(reversed(levels))
        self.constant = math.prod(size.event) * HALF_LOG_2PI

    def log_prob(self, x: Tensor, initialise: bool = False) -> Tensor:
        """log p(x), ``(batch,)``."""
        total: Any = None
        level: Any
        for level in reversed(self.levels):
            x, own = level.to_noise(F.pixel_unshuffle(x, 2), initialise)
            total = plus(total, own)
        return total - 0.5 * x.square().flatten(1).sum(1) - self.constant
