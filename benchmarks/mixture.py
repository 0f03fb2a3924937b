"""A mixture of 10 normal distributions in the plane: density of 10,000 points, 10,000 samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.timing import Contestant, Disagreement, Workload, argument_checks, same_losses
from probflow.distributions import Categorical, MixtureModel, Normal

COMPONENTS, DIMENSIONS, POINTS = 10, 2, 10_000
Programs = tuple[Contestant, Contestant]
"""The density, the sampler."""


class _Truth:
    """The parameters, always the same."""

    def __init__(self) -> None:
        made = torch.Generator().manual_seed(0)
        self.loc = 3 * torch.randn(COMPONENTS, DIMENSIONS, generator=made)
        self.scale = 0.5 + torch.rand(COMPONENTS, DIMENSIONS, generator=made)
        self.probs = torch.rand(COMPONENTS, generator=made).softmax(0)
        self.points = 3 * torch.randn(POINTS, DIMENSIONS, generator=made)

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each dimension."""
        mean = self.probs @ self.loc
        return mean, self.probs @ (self.scale.square() + self.loc.square()) - mean.square()


def by_hand(truth: _Truth) -> Programs:
    """Broadcasting over an axis of components; samples by gathering the chosen component's parameters."""
    loc, scale, probs, x = truth.loc, truth.scale, truth.probs, truth.points

    @torch.no_grad()
    def density() -> Tensor:
        distance = ((x - loc[:, None]) / scale[:, None]).square()
        constant = probs.log() - scale.log().sum(-1) - 0.5 * DIMENSIONS * math.log(2 * math.pi)
        return (constant[:, None] - 0.5 * distance.sum(-1)).logsumexp(0)

    @torch.no_grad()
    def draw() -> Tensor:
        index = torch.multinomial(probs, POINTS, replacement=True)
        return loc[index] + scale[index] * torch.randn(POINTS, DIMENSIONS)

    return Contestant("hand", density), Contestant("hand", draw)


def by_probflow(truth: _Truth) -> Programs:
    """`MixtureModel`."""
    components = [Normal("p(x)", loc=m, scale=s) for m, s in zip(truth.loc, truth.scale, strict=True)]
    p = MixtureModel(components, Categorical("p(z)", probs=truth.probs))
    values = {"x": truth.points}

    @torch.no_grad()
    def density() -> Tensor:
        return p.log_prob(values)

    @torch.no_grad()
    def draw() -> Tensor:
        return p.sample(batch_n=POINTS)["x"]

    return Contestant("probflow", density), Contestant("probflow", draw)


def by_pixyz(truth: _Truth) -> Programs | None:
    """Pixyz's MixtureModel."""
    pixyz = peers.pixyz()
    if pixyz is None:
        return None
    dist = pixyz.distributions
    components = [
        dist.Normal(loc=m, scale=s, var=["x"], name=f"p_{i}")
        for i, (m, s) in enumerate(zip(truth.loc, truth.scale, strict=True))
    ]
    p = dist.MixtureModel(components, dist.Categorical(probs=truth.probs, var=["z"], name="p"))
    loss, values = p.log_prob(), {"x": truth.points}

    @torch.no_grad()
    def density() -> Tensor:
        return loss.eval(values)

    @torch.no_grad()
    def draw() -> Tensor:
        return p.sample(batch_n=POINTS)["x"]

    def new_object() -> None:  # see Parts.new_objects
        values["x"] = truth.points.detach()

    return Contestant("Pixyz", density, pixyz.checked, new_object), Contestant("Pixyz", draw, pixyz.checked)


def by_pyro(truth: _Truth) -> Programs | None:
    """Pyro's mixture of one family, which is torch's."""
    modules = peers.pyro()
    if modules is None:
        return None
    dist, x = modules.distributions, truth.points
    with argument_checks(modules.checked):
        p = dist.MixtureSameFamily(dist.Categorical(probs=truth.probs), dist.Normal(truth.loc, truth.scale).to_event(1))

    @torch.no_grad()
    def density() -> Tensor:
        return p.log_prob(x)

    @torch.no_grad()
    def draw() -> Tensor:
        return p.sample((POINTS,))

    return Contestant("Pyro", density, modules.checked), Contestant("Pyro", draw, modules.checked)


PROGRAMS = (by_hand, by_probflow, by_pixyz, by_pyro)


def contestants(which: int) -> list[Contestant]:
    """The densities (0) or the samplers (1) that are installed."""
    truth = _Truth()
    made = [program(truth) for program in PROGRAMS]
    return [programs[which] for programs in made if programs is not None]


def same_moments(found: Sequence[Contestant]) -> None:
    """Mean and variance of each dimension, within 5 standard errors of the exact ones."""
    mean, variance = _Truth().moments
    for contestant in found:
        torch.manual_seed(0)
        with argument_checks(contestant.checked):
            drawn = contestant.once().reshape(POINTS, DIMENSIONS)
        squares = (drawn - mean).square()
        for what, sample, exact in (("mean", drawn, mean), ("variance", squares, variance)):
            error = sample.std(0) / math.sqrt(POINTS)
            if not bool(((sample.mean(0) - exact).abs() < 5 * error).all()):
                raise Disagreement(f"{contestant.name}: the {what} of its samples is {sample.mean(0)}, not {exact}")


def same_densities(found: Sequence[Contestant]) -> None:
    """Every point's density, not only their average."""
    same_losses(found, steps=1)
    expected = found[0].once()
    for contestant in found[1:]:
        with argument_checks(contestant.checked):
            torch.testing.assert_close(contestant.once(), expected, rtol=1e-4, atol=1e-4)


WORKLOADS = (
    Workload(
        "mixture",
        "mixture, 10 in 2-D: density of 10,000 points",
        partial(contestants, 0),
        same_densities,
        steps=300,
        targets={"probflow": 1.0},
    ),
    Workload(
        "mixture-samples",
        "mixture, 10 in 2-D: 10,000 samples",
        partial(contestants, 1),
        same_moments,
        steps=300,
        targets={"probflow": 1.5},
    ),
)
