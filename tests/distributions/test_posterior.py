"""Exact posteriors, against Bayes' rule by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.distributions import Bernoulli, Categorical, Normal
from probflow.errors import ArgumentError, NoDensity, SupportError, UnknownVariable

WEIGHTS, MEANS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64), torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)


def logits_of(network):
    return lambda *inputs: {"logits": network(*inputs)}


def model():
    emission = Normal("p(x | z)", lambda z: {"loc": z @ MEANS, "scale": torch.ones(len(z), 1)})
    return emission * Categorical("p(z)", probs=WEIGHTS)


def by_hand(x):
    unnormalised = WEIGHTS * torch.exp(-0.5 * (x - MEANS[:, 0]).square())
    return unnormalised / unnormalised.sum(1, keepdim=True)


def test_one_variable():
    posterior = model().posterior("z")
    assert str(posterior.statement) == "p(z|x)"
    x = torch.randn(6, 1)
    expected = by_hand(x)
    for k in range(3):
        one_hot = torch.eye(3)[k].expand(6, 3)
        assert_close(posterior.log_prob({"x": x, "z": one_hot}), expected[:, k].log())
        assert_close(posterior.log_prob({"x": x, "z": torch.full((6,), k)}), expected[:, k].log())
    assert_close(posterior.mean({"x": x}), expected)
    assert_close(posterior.entropy({"x": x}), -(expected * expected.log()).sum(1))


def test_draws_follow_it():
    x = torch.tensor([[0.0], [1.0]])
    n = 40_000
    drawn = model().posterior("z").sample({"x": x}, sample_shape=n)["z"]
    assert drawn.shape == (n, 2, 3)
    expected = by_hand(x)
    assert bool(((drawn.mean(0) - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt()).all())


def test_its_draws_have_its_density():
    posterior = model().posterior("z")
    drawn = posterior.sample({"x": torch.randn(5, 1)}, sample_shape=[2, 3])
    assert posterior.log_prob(drawn).shape == (2, 3, 5)


def test_several_variables_and_chains():
    emission = Normal("p(x | a, b, y)", lambda a, b, y: {"loc": a @ MEANS + b.sum(1, keepdim=True) + y, "scale": 1 + b[:, :1]})
    joint = emission * Bernoulli("p(b | a)", logits_of(nn.Linear(3, 2))) * Categorical("p(a)", probs=WEIGHTS)
    values = {"x": torch.randn(4, 1), "y": torch.randn(4, 1)}
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)))
    table = (
        torch.stack(
            [
                torch.stack([joint.log_prob({**values, "a": a.expand(4, 3), "b": b.expand(4, 2)}) for b in bits])
                for a in torch.eye(3)
            ]
        )
        .flatten(0, 1)
        .softmax(0)
        .reshape(3, 4, 4)
    )
    both = joint.posterior("a", "b")
    assert str(both.statement) == "p(a,b|x,y)"
    for i, a in enumerate(torch.eye(3)):
        for j, b in enumerate(bits):
            assert_close(both.log_prob({**values, "a": a.expand(4, 3), "b": b.expand(4, 2)}).exp(), table[i, j])
    b = bits[1].expand(4, 2)
    alone = joint.posterior("a")  # p(a | b, x, y): everything else is given
    assert alone.cond_var == ("x", "b", "y")
    expected = (table[:, 1] / table[:, 1].sum(0)).T
    assert_close(alone.mean({**values, "b": b}), expected)
    drawn = both.sample(values, sample_shape=7)
    assert drawn["a"].shape == (7, 4, 3) and drawn["b"].shape == (7, 4, 2)


def test_observations_with_sample_dimensions():
    posterior = model().posterior("z")
    x = torch.randn(3, 5, 1)
    result = posterior.log_prob({"x": x, "z": torch.tensor([0, 1, 2, 0, 1])}, sample_dims={"x": 1, "z": 0})
    expected = torch.stack([by_hand(row).log()[torch.arange(5), torch.tensor([0, 1, 2, 0, 1])] for row in x])
    assert_close(result, expected)


def test_the_evidence_is_the_joint_over_the_posterior():
    joint = model()
    values = {"x": torch.randn(4, 1), "z": torch.eye(3)[torch.tensor([0, 1, 2, 1])]}
    evidence = joint.marginalize_var("z").log_prob({"x": values["x"]})
    assert_close(joint.log_prob(values) - joint.posterior("z").log_prob(values), evidence)


def test_after_another_variable_is_summed_out():
    emission = Normal("p(x | a, b)", lambda a, b: {"loc": a @ MEANS + b, "scale": torch.ones(len(a), 1)})
    joint = emission * Bernoulli("p(b)", probs=torch.tensor([0.3])) * Categorical("p(a)", probs=WEIGHTS)
    x = torch.randn(4, 1)
    table = joint.posterior("a", "b")
    expected = sum(
        torch.stack(
            [table.log_prob({"x": x, "a": a.expand(4, 3), "b": torch.full((4, 1), bit)}).exp() for a in torch.eye(3)], 1
        )
        for bit in (0.0, 1.0)
    )
    assert_close(joint.marginalize_var("b").posterior("a").mean({"x": x}), expected)


def test_after_a_parent_of_it_is_summed_out():
    emission = Normal("p(x | a, b)", lambda a, b: {"loc": a @ MEANS + b, "scale": torch.ones(len(a), 1)})
    joint = emission * Categorical("p(a | b)", logits_of(nn.Linear(1, 3))) * Bernoulli("p(b)", probs=torch.tensor([0.3]))
    x = torch.randn(4, 1)
    table = joint.posterior("a", "b")
    expected = sum(
        torch.stack(
            [table.log_prob({"x": x, "a": a.expand(4, 3), "b": torch.full((4, 1), bit)}).exp() for a in torch.eye(3)], 1
        )
        for bit in (0.0, 1.0)
    )
    posterior = joint.marginalize_var("b").posterior("a")
    assert_close(posterior.mean({"x": x}), expected)
    assert posterior.log_prob(posterior.sample({"x": x}, sample_shape=5)).shape == (5, 4)


def test_an_infinite_variable_asks_for_an_approximation():
    joint = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    with pytest.raises(NoDensity, match=r"q\(z\|x\)"):
        joint.posterior("z")


def test_mistakes():
    with pytest.raises(UnknownVariable, match="'w'"):
        model().posterior("w")
    with pytest.raises(ArgumentError, match=r"p\.posterior\('z'\)"):
        model().posterior()
    with pytest.raises(ArgumentError, match="no other variable"):
        Categorical("p(z)", probs=WEIGHTS).posterior("z")
    with pytest.raises(SupportError, match="'z' in row 1"):
        model().posterior("z").log_prob({"x": torch.zeros(2, 1), "z": torch.tensor([[0.0, 1, 0], [0, 0.5, 0.5]])})
    with pytest.raises(SupportError, match="'z' in row 0"):
        model().posterior("z").log_prob({"x": torch.zeros(2, 1), "z": torch.tensor([3, 0])})
