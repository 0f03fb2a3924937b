"""Deterministic variables: functions of others."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.distributions import Deterministic, Normal
from probflow.errors import ArgumentError, NetworkError, NoDensity, ShapeError


class Split(Deterministic):
    """f(a,b|x)"""

    def __init__(self, how):
        super().__init__(var=["a", "b"], cond_var=["x"], name="f")
        self.how = how

    def forward(self, x):
        a, b = x[:, :1], 2 * x[:, 1:]
        return {"dict": {"b": b, "a": a}, "tuple": (a, b), "list": [a, b]}[self.how]


@pytest.mark.parametrize("how", ["dict", "tuple", "list"])
def test_several_variables(how):
    x = torch.randn(4, 3)
    drawn = Split(how).sample({"x": x})
    assert_close(drawn["a"], x[:, :1])
    assert_close(drawn["b"], 2 * x[:, 1:])


def test_samples_are_folded_for_the_network():
    seen = []

    def f(x):
        seen.append(tuple(x.shape))
        return torch.cat([x, x], 1)

    p = Deterministic("f(h | x)", f) * Normal("p(x)", loc=torch.zeros(2), scale=1.0)
    drawn = p.sample(batch_n=5, sample_shape=[3, 2])
    assert drawn["h"].shape == (3, 2, 5, 4) and seen == [(30, 2)]
    assert_close(drawn["h"], torch.cat([drawn["x"], drawn["x"]], -1))


def test_a_fixed_function_is_repeated_not_redrawn():
    p = Deterministic("f(h | x)", lambda x: x)
    x = torch.randn(4, 2)
    assert_close(p.sample({"x": x}, sample_shape=3)["h"], x.expand(3, 4, 2))


def test_gradients_run_through():
    w = nn.Linear(2, 2)
    p = Deterministic("f(h | x)", w) * Normal("p(x)", loc=torch.zeros(2), scale=1.0)
    assert p.sample(reparam=True)["h"].requires_grad
    assert not p.sample()["h"].requires_grad


def test_it_has_moments_and_no_density():
    p = Deterministic("f(h | x)", lambda x: 2 * x)
    x = torch.randn(4, 2)
    assert_close(p.mean({"x": x}), 2 * x)
    assert_close(p.variance({"x": x}), torch.zeros(4, 2))
    with pytest.raises(NoDensity, match=r"marginalize_var\('h'\)"):
        p.log_prob({"x": x, "h": x})


def test_print():
    assert str(Deterministic("f(h | x)", nn.Linear(2, 3))).splitlines()[0] == "f(h|x): Deterministic from Linear"


def bad(output):
    return Deterministic("f(a, b | x)", lambda x: output)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: bad({"a": torch.zeros(2, 1)}), NetworkError, "'b'"),
        (lambda: bad({"a": torch.zeros(2, 1), "bb": torch.zeros(2, 1)}), NetworkError, "'bb'.*'b'"),
        (lambda: bad(torch.zeros(2, 1)), NetworkError, "a, b"),
        (lambda: bad((torch.zeros(2, 1), 3.0)), NetworkError, "b must be a tensor"),
        (lambda: bad((torch.zeros(2, 1), torch.zeros(3, 1))), ShapeError, r"b has shape \(3, 1\)"),
    ],
)
def test_a_wrong_output_names_the_variable(make, error, text):
    with pytest.raises(error, match=text):
        make().sample({"x": torch.zeros(2, 2)})


def test_it_needs_a_network():
    with pytest.raises(ArgumentError, match="needs a network"):
        Deterministic("f(h | x)")
