"""`check_distribution` passes what is right, and catches each fault by its name."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from distributions.families_registry import FAMILIES, Case
from torch import Tensor, nn
from torch import distributions as td

import probflow as pf
from probflow import domains, testing
from probflow.distributions import Family, Parametric
from probflow.errors import ArgumentError, BrokenLaw, NoSampler


def family(**row: Any) -> type[Parametric]:
    """A location-scale family of one's own: the hyperbolic secant; `row` breaks it."""
    right = dict(
        torch_class=td.Normal,
        params={"loc": domains.real, "scale": domains.positive},
        support=domains.real,
        log_prob=log_prob,
        rsample=rsample,
        reparameterised=True,
        entropy=False,
    )

    class Sech(Parametric, family=Family(**{**right, **row})):
        """log p(x) = -log cosh(π (x - μ) / 2σ) - log 2σ."""

    return Sech


def log_prob(p: dict[str, Tensor], x: Tensor) -> Tensor:
    u = math.pi / 2 * (x - p["loc"]) / p["scale"]
    return -(u.abs() + torch.log1p((-2 * u.abs()).exp()) - math.log(2)) - p["scale"].log() - math.log(2)


def rsample(p: dict[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    u = torch.rand(shape, dtype=p["loc"].dtype) * (1 - 2e-7) + 1e-7
    return p["loc"] + p["scale"] * 2 / math.pi * (math.pi / 2 * u).tan().log()


def detached(p: dict[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    return rsample({"loc": p["loc"], "scale": p["scale"].detach()}, shape)


def shared(p: dict[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    return rsample(p, (*shape[:-2], 1, shape[-1])).expand(shape)


def weights() -> dict[str, Any]:
    return {"loc": nn.Parameter(torch.tensor([0.3])), "scale": nn.Parameter(torch.tensor([0.8]))}


WITHOUT = ("moments", "copies")  # td.Normal stands in for the moments; a class inside a function cannot be pickled


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a constant": (
        {"log_prob": lambda p, x: log_prob(p, x) + 0.5},
        r"'total probability'.*integrates to 1.64[\s\S]*subtract 0.5",
    ),
    "the scale": ({"log_prob": lambda p, x: log_prob(p, x) + p["scale"].log()}, "'total probability'"),
    "another sampler": ({"rsample": lambda p, s: p["loc"] + p["scale"] * torch.randn(s)}, "'samples'"),
    "a shifted sampler": ({"rsample": lambda p, s: rsample(p, s) + 0.1}, "'samples'"),
    "a detached draw": ({"rsample": detached}, r"'pathwise gradient', at scale"),
    "a detached density": (
        {"log_prob": lambda p, x: log_prob({n: t.detach() for n, t in p.items()}, x)},
        "'(gradients|pathwise)",
    ),
    "a batch summed": ({"log_prob": lambda p, x: log_prob(p, x).sum(0, keepdim=True)}, "'(shapes|sample dimensions|rows)"),
    "rows that share a draw": ({"rsample": shared}, "'rows'"),
    "its type": ({"log_prob": lambda p, x: log_prob(p, x).double()}, "'dtype'"),
    "moments of another": ({"torch_class": td.Laplace}, "'moments'"),
}


def test_a_right_one_passes_and_is_left_alone() -> None:
    p = family()("p(x)", **weights())
    before = torch.get_rng_state()
    report = testing.check_distribution(p, without=WITHOUT)
    assert all(outcome.checked for name, outcome in report.outcomes.items() if name not in WITHOUT)
    assert torch.equal(before, torch.get_rng_state()) and p.get_parameter("loc").tolist() == [0.3]


@pytest.mark.parametrize(("row", "says"), BROKEN.values(), ids=BROKEN)
def test_each_fault_is_named(row: dict[str, Any], says: str) -> None:
    p = family(**row)("p(x)", **weights())
    with pytest.raises(BrokenLaw, match=says):
        testing.check_distribution(p, without=[law for law in WITHOUT if "torch_class" not in row or law != "moments"])


def test_a_plain_tensor_is_no_part_of_a_copy() -> None:
    with pytest.raises(BrokenLaw, match="'copies'"):
        testing.check_distribution(pf.Normal("p(x | c)", lambda c: {"loc": c, "scale": 1.0 + 0 * c}), {"c": torch.randn(3, 1)})


def test_conditions_are_asked_for() -> None:
    p = pf.Normal("p(x | c)", loc="c", scale=1.0)
    with pytest.raises(ArgumentError, match="conditioned on c"):
        testing.check_distribution(p)
    with pytest.raises(ArgumentError, match="two rows"):
        testing.check_distribution(p, {"c": torch.zeros(1, 2)})
    assert testing.check_distribution(p, {"c": torch.randn(3, 2)})["samples"].checked


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(NoSampler):
        testing.check_distribution(pf.CustomProb("p(x)", lambda x: -x.square().sum(1)))


def test_wide_events_and_products_say_what_was_not_checked() -> None:
    wide = testing.check_distribution(pf.Normal("p(x)", loc=0.0, scale=1.0, features_shape=5))
    assert not wide["samples"].checked and "5 numbers" in wide["samples"].note
    two = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=1)
    assert not testing.check_distribution(two)["total probability"].checked


@pytest.mark.parametrize("case", FAMILIES.values(), ids=FAMILIES)
def test_the_families_pass(case: Case) -> None:
    params: dict[str, Any] = {n: nn.Parameter(t) if torch.is_floating_point(t) else t for n, t in case.tensors().items()}
    circle = ("total probability", "samples") if case.make is pf.VonMises else ()
    testing.check_distribution(case.make("p(x)", **params), draws=4000, exempt=tuple(params), without=circle)


def test_a_flow_passes() -> None:
    flow = pf.flows.RealNVP("p(x | y)", features=2, layers=2, hidden=(8,), context=3)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    report = testing.check_distribution(flow, {"y": torch.randn(3, 3)})
    assert report["samples"].checked and report["pathwise gradient"].checked
