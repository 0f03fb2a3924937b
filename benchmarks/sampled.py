"""An expectation over 64 samples, its value only: E_q(z|x)[log p(x|z)] without gradients."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import peers
from benchmarks.networks import LARGE, SMALL, Parts, Size
from benchmarks.timing import Contestant, Workload, same_losses
from probflow.distributions import Bernoulli, Normal
from probflow.losses import E, log

SAMPLES = 64


def by_hand(parts: Parts) -> Contestant:
    """All samples in one pass of the decoder."""
    encoder, decoder, x, size = parts.encoder, parts.decoder, parts.x, parts.size

    @torch.no_grad()
    def step() -> Tensor:
        q = encoder(x)
        z = q["loc"] + q["scale"] * torch.randn(SAMPLES, size.batch, size.latent)
        logits = decoder(z)["logits"]  # linear layers take any number of leading dimensions
        target = x.expand_as(logits)
        return -F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1).mean(0)

    return Contestant("hand", step)


def by_loss(parts: Parts) -> Contestant:
    """probflow's expectation."""
    q, p = Normal("q(z | x)", parts.encoder), Bernoulli("p(x | z)", parts.decoder)
    loss, values = E(q, sample_shape=[SAMPLES])[log(p)], parts.values

    @torch.no_grad()
    def step() -> Tensor:
        return loss.eval(values)

    return Contestant("probflow", step)


def by_pixyz(parts: Parts) -> Contestant | None:
    """Pixyz's expectation."""
    pixyz = peers.pixyz()
    if pixyz is None:
        return None

    class Inference(pixyz.distributions.Normal):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__(var=["z"], cond_var=["x"], name="q")
            self.net = parts.encoder

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return self.net(x)

    class Generator(pixyz.distributions.Bernoulli):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__(var=["x"], cond_var=["z"], name="p")
            self.net = parts.decoder

        def forward(self, z: Tensor) -> dict[str, Tensor]:
            return {"probs": self.net(z)["logits"].sigmoid()}  # it has no logits

    loss, values = Generator().log_prob().expectation(Inference(), sample_shape=[SAMPLES]), parts.values

    @torch.no_grad()
    def step() -> Tensor:
        return loss.eval(values)

    return Contestant("Pixyz", step, pixyz.checked, partial(parts.new_objects, values))


PROGRAMS = (by_hand, by_loss, by_pixyz)


def contestants(size: Size) -> list[Contestant]:
    """All that are installed."""
    parts = Parts.make(size)
    made = [program(parts.copy()) for program in PROGRAMS]
    return [contestant for contestant in made if contestant is not None]


WORKLOADS = (
    Workload(
        "samples",
        "E_q, 64 samples, VAE 784-512-512-64, value",
        partial(contestants, LARGE),
        same_losses,
        steps=30,
        targets={"probflow": 1.05},
    ),
    Workload(
        "samples-small",
        "E_q, 64 samples, VAE 16-32-4, value",
        partial(contestants, SMALL),
        same_losses,
        steps=1000,
        targets={"probflow": 1.05},
    ),
)
