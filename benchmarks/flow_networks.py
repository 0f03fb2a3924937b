"""Normalizing flows in plain PyTorch, for one network each: the programs that the ratios of the flow workloads refer to.

Each is `probflow.flows`' flow of the same name written out: the same layers, the same splits, the same functions of the same
weights, in the same order (`parameters()` of both can be zipped).  What a library needs and one network does not is left out:
halves are never joined between couplings, log-determinants are added up elementwise and summed once, nothing is checked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
BOUND, LEAST = 5.0, 1e-3
"""A spline's box is [-BOUND, BOUND]; LEAST is the least share of it that a bin has, and the least slope."""


@dataclass(frozen=True)
class Size:
    """A flow of vectors: how many features, how many layers, how wide their networks; and the batch."""

    features: int
    layers: int
    hidden: tuple[int, ...] = (128, 128)
    bins: int = 8
    batch: int = 128

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of one data point."""
        return (self.features,)


def dense(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise((inputs, *hidden)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))


def scaled(raw: Tensor) -> Tensor:
    """-s of an affine layer, s = 2 tanh(raw / 2) = 4 σ(raw) - 2: one operation less."""
    return torch.rsub(raw.sigmoid(), 2, alpha=4)


def plus(total: Tensor | None, term: Tensor) -> Tensor:
    """A sum that starts with its first term."""
    return term if total is None else total + term


class Halves(nn.Module):
    """Couplings that take turns with the halves of an even number of features: the even ones change the second half."""

    width: int

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.features, half = size.features, size.features // 2
        self.nets = nn.ModuleList(dense(half, size.hidden, self.width * half) for _ in range(size.layers))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), ``(batch,)``."""
        halves = list(x.chunk(2, 1))
        total: Any = None
        for i in reversed(range(len(self.nets))):
            kept, changed = i % 2, 1 - i % 2
            halves[changed], logdet = self.to_noise(halves[changed], self.nets[i](halves[kept]))
            total = plus(total, logdet)
        for z in halves:
            total = torch.addcmul(total, z, z, value=-0.5)
        return total.sum(1) - self.features * HALF_LOG_2PI

    def to_noise(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, elementwise."""
        raise NotImplementedError


class RealNVP(Halves):
    """Affine couplings."""

    width = 2

    def to_noise(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = h.chunk(2, 1)
        s = scaled(raw)
        return (x - shift) * s.exp(), s

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """x, ``(count, features)``."""
        halves = list(torch.randn(count, self.features).chunk(2, 1))
        for i, net in enumerate(self.nets):
            raw, shift = net(halves[i % 2]).chunk(2, 1)
            halves[1 - i % 2] = torch.addcmul(shift, halves[1 - i % 2], torch.rsub(raw.sigmoid(), -2, alpha=-4).exp())
        return torch.cat(halves, 1)


class NSF(Halves):
    """Rational-quadratic splines in couplings (Durkan et al., arXiv:1906.04032); x to z is eq. 4."""

    def __init__(self, size: Size) -> None:
        self.width = 3 * size.bins - 1
        super().__init__(size)

    def to_noise(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        # bins first: what happens bin by bin is then contiguous
        return spline_to_noise(x, h.unflatten(1, (self.width, -1)).transpose(0, 1).contiguous())


def spline_to_noise(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """A rational-quadratic spline (eq. 4) and its log-derivative (eq. 5); h is ``(3 bins - 1, batch, features)``."""
    bins = (h.shape[0] + 1) // 3
    inside = x.abs() <= BOUND
    clipped = torch.where(inside, x, 0)
    logits, raw = h.split((2 * bins, bins - 1))
    sizes = torch.rsub(logits.view(2, bins, *x.shape).softmax(1), 2 * BOUND * LEAST, alpha=-2 * BOUND * (1 - bins * LEAST))
    with torch.no_grad():
        below = sizes[0, :-1].cumsum(0) <= clipped + BOUND
        index = below.sum(0, keepdim=True)
        mask = F.pad(below.to(x.dtype), (0, 0, 0, 0, 0, 1))
    x0, z0 = ((sizes * mask).sum(1) - BOUND).unbind(0)
    width, height = sizes.gather(1, index.expand(2, -1, -1, -1)).squeeze(1).unbind(0)
    ends = F.pad(raw, (0, 0, 0, 0, 1, 1)).gather(0, torch.cat([index, index + 1]))
    d0, d1 = (F.softplus(ends + math.log(math.expm1(1 - LEAST))) + LEAST).unbind(0)

    xi, s = (clipped - x0) / width, height / width
    both, bend, less = xi - xi * xi, torch.sub(d0 + d1, s, alpha=2), s - d0  # both = ξ (1 - ξ)
    below_line = torch.addcmul(s, bend, both)
    z = torch.addcmul(z0, height, torch.addcmul(s * xi, less, both, value=-1) / below_line)
    slope = torch.addcmul(d0, xi, torch.addcmul(2 * less, bend, xi)) * (s / below_line).square()
    return torch.where(inside, z, x), torch.where(inside, slope.log(), 0)


class Masked(nn.Linear):
    """A linear layer in which only the connections of the mask exist."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


def made(features: int, hidden: Sequence[int], reverse: bool) -> nn.Sequential:
    """A masked network (Germain et al., arXiv:1502.03509) from x to the raw log-scale and the shift of every feature."""
    place = torch.arange(features)
    place = place.flip(0) if reverse else place
    layers: list[nn.Module] = []
    below = place + 1
    for width in hidden:
        degree = 1 + torch.arange(width) * (features - 1) // width
        layers += [Masked(degree[:, None] >= below), nn.ReLU()]
        below = degree
    return nn.Sequential(*layers, Masked((place[:, None] >= below).repeat(2, 1)))


class MAF(nn.Module):
    """Masked autoregressive flow (Papamakarios et al., arXiv:1705.07057), every other layer in reverse order."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.features = size.features
        self.nets = nn.ModuleList(made(size.features, size.hidden, i % 2 == 1) for i in range(size.layers))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), ``(batch,)``."""
        total: Any = None
        for net in reversed(self.nets):
            raw, shift = net(x).chunk(2, 1)
            s = scaled(raw)
            x = (x - shift) * s.exp()
            total = plus(total, s)
        return torch.addcmul(total, x, x, value=-0.5).sum(1) - self.features * HALF_LOG_2PI

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """x, ``(count, features)``: the plain loop, one pass of the network per feature."""
        x = torch.randn(count, self.features)
        for i, net in enumerate(self.nets):
            z, x = x, torch.zeros_like(x)
            for j in range(self.features) if i % 2 == 0 else reversed(range(self.features)):
                raw, shift = net(x).chunk(2, 1)
                x[:, j] = torch.addcmul(shift[:, j], z[:, j], torch.rsub(raw[:, j].sigmoid(), -2, alpha=-4).exp())
        return x
