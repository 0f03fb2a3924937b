"""A small VAE to train: 8 binary inputs, 3 latents, dropout, float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probflow.distributions import Bernoulli, Normal
from probflow.losses import KL, E, Loss, log


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Dropout(0.25))
        self.loc, self.scale = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"loc": self.loc(h), "scale": F.softplus(self.scale(h))}


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 8))

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(z)}


@dataclass
class Parts:
    q: Normal
    p: Bernoulli
    prior: Normal
    x: Tensor

    @property
    def loss(self) -> Loss:
        return (KL(self.q, self.prior) - E(self.q)[log(self.p)]).mean()

    @property
    def values(self) -> dict[str, Tensor]:
        return {"x": self.x}


@pytest.fixture
def make() -> Callable[..., Parts]:
    """`make(seed)` builds the same VAE and data each time it is called with the same seed."""

    def build(seed: int = 0) -> Parts:
        torch.manual_seed(seed)
        prior = Normal("p_{prior}(z)", loc=0.0, scale=1.0, features_shape=3)
        q, p = Normal("q(z | x)", Encoder()), Bernoulli("p(x | z)", Decoder())
        return Parts(q, p, prior, torch.bernoulli(torch.full((20, 8), 0.3)))

    return build


@pytest.fixture
def vae(make: Callable[..., Parts]) -> Parts:
    return make()
