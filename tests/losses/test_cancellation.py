"""What cancels and what must not: equal terms and equal factors, by identity; draws that are independent stay apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import probflow as pf
from probflow import KL, E, Entropy, Prob, exp, log
from probflow.losses import Loss

Q = pf.Normal("q(z | x)", loc="x", scale=0.5)
P = pf.Normal("p(x | z)", loc="z", scale=1.0)
PRIOR = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
TWIN = pf.Normal("p(x | z)", loc="z", scale=2.0)
A, B = log(P), log(PRIOR)
F, G = E(Q)[A], E(Q)[B]
BETA, GAMMA = pf.Parameter("beta"), pf.Parameter("gamma")

CANCELS = {
    "a term and itself": (A - A, "0"),
    "a - b + b": (A - B + B, "log p(x|z)"),
    "2 a - a - a": (2 * A - A - A, "0"),
    "2 a - a": (2 * A - A + B, "log p(x|z) + log p(z)"),
    "a number behind": (A * 2 - A - A, "0"),
    "halves": (A / 2 + A / 2 - A + B, "log p(z)"),
    "tenths": (0.1 * A + 0.2 * A - 0.3 * A + B, "log p(z)"),
    "coefficients commute": (BETA * GAMMA * A - GAMMA * BETA * A + B, "log p(z)"),
    "nested": (A + 1 - (A + 1), "0"),
    "a joint and its factor": (log(P * PRIOR) - B, "log p(x|z)"),
    "inside an expectation": (E(Q)[log(P * PRIOR) - B], "E_q(z|x)[log p(x|z)]"),
    "an expectation and itself": (F - F + G, "E_q(z|x)[log p(z)]"),
    "one product of draws, twice": (F * F - F * F + F, "E_q(z|x)[log p(x|z)]"),
    "a KL and what becomes one": (KL(Q, PRIOR) + F - E(Q)[log(Q) - B], "E_q(z|x)[log p(x|z)]"),
    "a mean": ((A - A).mean(), "0"),
    "a sum": ((A - A).sum(), "0"),
    "a negative mean": (-(A - A).mean(), "0"),
    "densities": (A * Prob(P) / Prob(P), "log p(x|z)"),
    "a joint density and its factor": (Prob(P * PRIOR) / Prob(PRIOR), "p(x|z)"),
    "divided and multiplied": (A / Prob(P) * Prob(P), "log p(x|z)"),
    "exponentials": (exp(B) * A / exp(B), "log p(x|z)"),
}

STAYS = {
    "two networks of one name": A - log(TWIN),
    "independent draws, as a quotient": F * G / F,
    "independent draws, inside an exponential": exp(F) / exp(F),
    "independent draws, by place": F * G - G * F,
    "independent draws, nested": F * F * F - F * (F * F),
    "draws of other numbers": E(Q, sample_shape=[3])[A] - F,
    "what may be zero": A * B / A,
    "a straight-through pair": A - A.detach() + B,
    "a score-function factor": Prob(P) / Prob(P).detach() * A,
    "one sign": A + A,
    "zeros": 0 * A / (0 * B),
    "other coefficients": BETA * A - GAMMA * A,
    "as many numbers as rows": (A - A + 3).sum(),
}


def data(loss: Loss) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    values = {"x": torch.randn(4, 2), "z": torch.randn(4, 2), "beta": torch.tensor(0.3), "gamma": torch.tensor(0.7)}
    return {name: values[name] for name in loss.input_var}


@pytest.mark.parametrize("name", CANCELS)
def test_cancels_and_the_value_is_the_same(name: str) -> None:
    loss, expected = CANCELS[name]
    assert str(loss.simplify()) == expected
    assert str(loss.derive().result) == expected and "cancellation" in str(loss.derive())
    if "KL" not in str(loss.simplify()):  # a closed form has another value than its draws
        torch.manual_seed(1)
        a = loss.eval(data(loss))
        torch.manual_seed(1)
        b = loss.simplify().eval(data(loss))
        assert_close(b.expand_as(a), a, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", STAYS)
def test_does_not_cancel(name: str) -> None:
    loss = STAYS[name]
    assert str(loss.simplify()) == str(loss) or name == "independent draws, as a quotient"
    assert "cancellation" not in str(loss.derive())


def test_independent_draws_differ() -> None:
    torch.manual_seed(0)
    ratio = (F / F).eval(data(F))
    assert (ratio != 1).all()


def test_a_term_per_row_keeps_its_rows() -> None:
    values = data(A)
    assert_close((A - A).eval(values), torch.zeros(4))
    assert_close((A - A + 3).eval(values), torch.full((4,), 3.0))
    assert_close((A - A + 3).sum().eval(values), torch.tensor(12.0))
    assert_close((Prob(P) / Prob(P)).sum().eval(values), torch.tensor(4.0))


def test_rows_are_counted_where_nothing_of_the_data_is_left() -> None:
    h = 1 + math.log(2 * math.pi)  # of two unit normals
    for loss in (A - A + Entropy(PRIOR), E(Q)[Entropy(PRIOR)], BETA * (A - A + Entropy(PRIOR)) / BETA):
        assert loss.eval(data(loss)).tolist() == pytest.approx([h] * 4)
        assert loss.sum().eval(data(loss)).item() == pytest.approx(4 * h)


def test_what_cancels_is_not_computed() -> None:
    calls = []
    net = nn.Linear(2, 2)

    def counted(z: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"loc": net(z), "scale": torch.ones_like(z)}

    p = pf.Normal("p(x | z)", counted)
    loss = B - log(p) + log(p)
    loss.eval({"x": torch.randn(4, 2), "z": torch.randn(4, 2)})
    assert not calls
