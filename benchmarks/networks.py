"""The networks and data that all contestants of a VAE workload share."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Size:
    """Widths of a VAE: data, hidden layers, latent variable, label (0 for none); and the batch."""

    data: int
    hidden: tuple[int, ...]
    latent: int
    label: int = 0
    batch: int = 128


LARGE = Size(784, (512, 512), 64)
LARGE_LABELLED = Size(784, (512, 512), 64, label=10)
SMALL = Size(16, (32,), 4, batch=32)


def _trunk(inputs: int, hidden: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in zip((inputs, *hidden), hidden, strict=False):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return layers


class Encoder(nn.Module):
    """q(z|x) or q(z|x,y): mean and standard deviation."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*_trunk(size.data + size.label, size.hidden))
        self.loc = nn.Linear(size.hidden[-1], size.latent)
        self.log_scale = nn.Linear(size.hidden[-1], size.latent)

    def forward(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        h = self.trunk(x if y is None else torch.cat([x, y], 1))
        return {"loc": self.loc(h), "scale": F.softplus(self.log_scale(h))}


class Decoder(nn.Module):
    """p(x|z) or p(x|z,y): logits."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.net = nn.Sequential(*_trunk(size.latent + size.label, size.hidden), nn.Linear(size.hidden[-1], size.data))

    def forward(self, z: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.net(z if y is None else torch.cat([z, y], 1))}


@dataclass(frozen=True)
class Parts:
    """What a contestant starts from."""

    size: Size
    encoder: Encoder
    decoder: Decoder
    x: Tensor
    y: Tensor | None

    @classmethod
    def make(cls, size: Size) -> Parts:
        """New networks and one binary batch, always the same."""
        torch.manual_seed(0)
        encoder, decoder = Encoder(size), Decoder(size)
        x = torch.rand(size.batch, size.data).round()
        y = torch.eye(size.label)[torch.randint(size.label, (size.batch,))] if size.label else None
        return cls(size, encoder, decoder, x, y)

    def copy(self) -> Parts:
        """The same weights, a contestant's own."""
        return Parts(self.size, copy.deepcopy(self.encoder), copy.deepcopy(self.decoder), self.x, self.y)

    @property
    def values(self) -> dict[str, Tensor]:
        """The batch by name."""
        return {"x": self.x} if self.y is None else {"x": self.x, "y": self.y}

    def new_objects(self, batch: dict[str, Tensor]) -> None:
        """`batch` with the same memory in new tensor objects, as a data loader gives them.

        Pixyz 0.3.3 remembers parameters by the identity of its inputs: a second step on the same objects would use the first
        one's, and fail.
        """
        batch.update({name: value.detach() for name, value in self.values.items()})

    @property
    def given(self) -> tuple[Tensor, ...]:
        """What stands behind the bar besides x or z."""
        return () if self.y is None else (self.y,)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All weights."""
        return [*self.encoder.parameters(), *self.decoder.parameters()]
