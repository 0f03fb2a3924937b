"""`check_unbiased` finds a bias, and none where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import probflow as pf
from probflow import E, log, testing
from probflow.errors import ArgumentError, BrokenLaw

F = pf.Function(lambda z: (z - 2).square().sum(1), ["z"], "f")


def q() -> pf.Normal:
    return pf.Normal("q(z)", loc=nn.Parameter(torch.zeros(2)), scale=nn.Parameter(torch.ones(2)))


def test_the_score_function_is_unbiased() -> None:
    guide = q()
    report = testing.check_unbiased(E(guide, estimator="score", sample_shape=[8])[F].mean(), E(guide)[F].mean())
    assert report["value"].checked and report["gradient"].checked


def test_a_detached_cost_is_biased() -> None:
    guide = q()
    with pytest.raises(BrokenLaw, match=r"biased, at (loc|scale) of q\(z\)"):
        testing.check_unbiased((E(guide)[F.detach() + log(guide)]).mean(), E(guide)[F + log(guide)].mean())


def test_straight_through_is_biased() -> None:
    bit = pf.Bernoulli("q(b)", logits=nn.Parameter(torch.tensor([0.5, -0.3, 1.0])))
    f = pf.Function(lambda b: (b.sum(1) - 1.7) ** 4, ["b"], "f")
    exact = E(bit, estimator="enumerate")[f].mean()
    testing.check_unbiased(E(bit, estimator="rebar", sample_shape=[64])[f].mean(), exact)
    with pytest.raises(BrokenLaw, match="logits of q"):
        testing.check_unbiased(E(bit, estimator="straight-through", sample_shape=[64])[f].mean(), exact)


def test_a_gradient_that_is_counted_twice() -> None:
    """The library adds the score by itself; one written by hand comes on top."""
    coins = pf.Bernoulli("q(b)", logits=nn.Parameter(torch.linspace(-1, 1, 8)))
    cost = pf.Function(lambda b, t: (b.sum(1) - t[:, 0]) ** 2, ["b", "t"], "f")
    score, values = log(coins) - log(coins).detach(), {"t": 2 * torch.randn(64, 1) + 5}
    exact = E(coins, estimator="enumerate")[cost].mean()
    testing.check_unbiased(E(coins, estimator="score")[cost].mean(), exact, values)
    with pytest.raises(BrokenLaw, match="logits of q"):
        testing.check_unbiased(E(coins, estimator="score")[cost.detach() * score + cost.detach()].mean(), exact, values)


def test_a_value_can_be_compared_alone() -> None:
    guide = q()
    detached, whole = E(guide)[F.detach()].mean(), E(guide)[F].mean()
    assert testing.check_unbiased(detached, whole, gradient=False)["value"].checked
    with pytest.raises(BrokenLaw, match="the value"):
        testing.check_unbiased(2.0 * whole, whole, gradient=False)


def test_misuse() -> None:
    with pytest.raises(ArgumentError, match="two losses"):
        testing.check_unbiased(q(), E(q())[F])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="20 draws"):
        testing.check_unbiased(E(q())[F], E(q())[F], draws=3)
