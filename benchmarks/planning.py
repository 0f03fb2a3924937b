"""Building and planning an ELBO, cold: from distributions to a program that is ready to run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.networks import LARGE_LABELLED, Parts
from benchmarks.timing import Contestant, Disagreement, Workload
from probflow.distributions import Bernoulli, Normal
from probflow.losses import ELBO, Loss


class _Distributions:
    """p(x|z,y), p(z) and q(z|x,y) of the CVAE, as new objects: nothing about them is left from an earlier plan."""

    def __init__(self, parts: Parts) -> None:
        self.q = Normal("q(z | x, y)", parts.encoder)
        self.p = Bernoulli("p(x | z, y)", parts.decoder)
        self.prior = Normal("p(z)", loc=0.0, scale=1.0, features_shape=parts.size.latent)

    def loss(self) -> Loss:
        """The negative evidence lower bound."""
        return -ELBO(self.p * self.prior, self.q).mean()


class _Cold:
    """The distributions of the next step are made untimed; the loss and its program are what is timed."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.prepare()

    def prepare(self) -> None:
        self.ready = _Distributions(self.parts)

    def step(self) -> Tensor:
        self.ready.loss().plan()
        return torch.zeros(())


def contestants() -> list[Contestant]:
    """probflow alone: a hand-written program has no plan."""
    cold = _Cold(Parts.make(LARGE_LABELLED))
    return [Contestant("probflow", cold.step, prepare=cold.prepare)]


def has_a_program(found: Sequence[Contestant]) -> None:
    """The plan is the one meant: each network once, one draw, the divergence in closed form."""
    del found
    plan = str(_Distributions(Parts.make(LARGE_LABELLED)).loss().plan())
    if plan.count(" params ") != 3 or plan.count(" draw ") != 1 or plan.count(" kl ") != 1:
        raise Disagreement(f"planning: not the expected program:\n{plan}")


WORKLOADS = (
    Workload(
        "planning",
        "building and planning an ELBO, cold",
        contestants,
        has_a_program,
        steps=300,
        limit={"probflow": 1000.0},
    ),
)
