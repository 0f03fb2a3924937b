"""Shapes of results, and what happens to values that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, CrossEntropy, E, Entropy, Function, Loss, Max, Parameter, Prob, exp, log
from probflow.checks import is_lenient
from probflow.errors import (
    LossError,
    MissingVariable,
    NetworkError,
    ParameterError,
    ProbflowError,
    ShapeError,
    SupportError,
    ValuesError,
)

B, D = 4, 4  # the same on purpose: a silent (B, B) would be a square


def encoder(scale: float = 1.0) -> pf.Distribution:
    return pf.Normal("q(z | x)", lambda x: {"loc": x * 0.5, "scale": torch.full_like(x, scale)})


q = encoder()
p = pf.Normal("p(x | z)", lambda z: {"loc": z, "scale": torch.ones_like(z)})
prior = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=D)
beta = Parameter("beta")
coin = pf.Bernoulli("q(y | x)", lambda x: {"logits": x[:, 0]})
f = Function(lambda z: z.sum(1), ["z"], "f")
g = Function(lambda z, y: z.sum(1) * y, ["z", "y"], "g")

LOSSES: dict[str, Loss] = {
    "log": log(p.given(z=torch.zeros(B, D))),
    "KL": KL(q, prior),
    "KL, sampled": KL(q, prior, sample_shape=[B]),
    "KL of constants": KL(pf.Normal("q(z)", loc=1.0, scale=1.0, features_shape=D), prior) + 0 * KL(q, prior),
    "E": E(q)[log(p)],
    "E, as many samples as rows": E(q, [B])[log(p)],
    "E, a grid of them": E(q, [B, B])[log(p)],
    "enumerated": E(coin)[KL(q, prior)],
    "enumerated and drawn": E(coin * q)[g],
    "drawn, as many as rows": E(coin * q, [B])[g],
    "iwae": log(E(q, [B])[exp(log(p) + log(prior) - log(q))]),
    "elbo": ELBO(p * prior, q),
    "entropy": Entropy(q),
    "cross entropy": CrossEntropy(q, prior),
    "with numbers": beta * KL(q, prior) + 2,
    "free bits": Max(KL(q, prior), 3.0),
    "scalar and rows": KL(q, prior).mean() + KL(q, prior),
    "product": E(q, [B])[f] * E(q, [B])[f],
    "prob": E(q)[Prob(p)],
    "only a prior": E(prior)[f] + 0 * KL(q, prior),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weight", ["number", "tensor", "rows"])
def test_one_number_per_row(name: str, weight: str) -> None:
    numbers: dict[str, Tensor | float] = {"number": 0.5, "tensor": torch.tensor(0.5), "rows": torch.full((B,), 0.5)}
    values = {"x": torch.randn(B, D), "beta": numbers[weight]}
    loss = LOSSES[name]
    assert loss.eval(values).shape == (B,)
    assert loss.mean().eval(values).shape == loss.sum().eval(values).shape == ()
    assert all(t.shape == () for t in loss.mean().terms(values).values())


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in ("log",)])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_other_batches(name: str, rows: int) -> None:
    values: dict[str, Tensor | float] = {"x": torch.randn(rows, D), "beta": 0.5}
    assert LOSSES[name].eval(values).shape == (rows,)


def test_rows_do_not_mix() -> None:
    """The value of a row does not change when others do."""
    x = torch.randn(B, D)
    other = x.clone()
    other[1:] += 100
    for name in ("KL", "E", "E, as many samples as rows", "enumerated and drawn", "iwae", "elbo", "entropy", "product"):
        torch.manual_seed(0)
        one = LOSSES[name].eval({"x": x, "beta": 1.0})
        torch.manual_seed(0)
        two = LOSSES[name].eval({"x": other, "beta": 1.0})
        assert_close(one[0], two[0], rtol=1e-9, atol=1e-9)


def test_weights_per_row() -> None:
    weights, x = torch.arange(4.0), torch.randn(B, D)
    assert_close((beta * KL(q, prior)).eval({"x": x, "beta": weights}), weights * KL(q, prior).eval({"x": x}))
    sampled = (beta * E(q, [B])[f]).eval({"x": x, "beta": weights})
    assert sampled.shape == (B,) and sampled[0] == 0


def test_a_constant_loss() -> None:
    assert KL(pf.Normal("q(z)", loc=1.0, scale=1.0), pf.Normal("p(z)", loc=0.0, scale=1.0)).eval().shape == (1,)
    assert (beta + 1).eval({"beta": 2}).shape == ()


def narrow() -> pf.Distribution:
    return pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=D + 1)


X = torch.zeros(B, D)
VAE = (KL(q, prior) - E(q)[log(p)]).mean()
linear = nn.Linear(D, D)
wrong = pf.Normal("p(x | z)", lambda z: {"loc": z, "scale": z * 0 - 2})
fifty = pf.Poisson("q(y | x)", lambda x: {"rate": 0 * x[:, 0] + 50})
net = pf.Normal("q(z | x)", lambda x: {"loc": linear(x), "scale": torch.ones_like(linear(x))})
NAN, INF = float("nan"), float("inf")


def with_one(value: float) -> Tensor:
    x = torch.zeros(B, D)
    x[2, 1] = value
    return x


ERRORS: dict[str, tuple[Callable[[], Any], type[ProbflowError], str]] = {
    "nothing": (lambda: VAE.eval(), MissingVariable, "needs a value for 'x'"),
    "a missing variable": (lambda: VAE.eval({"y": X}), MissingVariable, "needs a value for 'x'"),
    "a missing parameter": (lambda: (beta * VAE).eval({"x": X}), MissingVariable, "'beta'"),
    "a near miss": (lambda: (beta * VAE).eval({"x": X, "betta": 1.0}), MissingVariable, "betta"),
    "a tensor": (lambda: VAE.eval(X), ValuesError, "needs a dict"),  # type: ignore[call-overload]
    "a list": (lambda: VAE.eval([X]), ValuesError, "needs a dict"),  # type: ignore[call-overload]
    "an array": (lambda: VAE.eval({"x": np.zeros((B, D))}), ValuesError, "torch.from_numpy"),  # type: ignore[dict-item]
    "a number for a variable": (lambda: VAE.eval({"x": 1.0}), ValuesError, "must be a torch tensor"),
    "None": (lambda: VAE.eval({"x": None}), ValuesError, "must be a torch tensor"),  # type: ignore[dict-item]
    "a string for a parameter": (lambda: (beta * VAE).eval({"x": X, "beta": "1"}), ValuesError, "number or a tensor"),  # type: ignore[dict-item]
    "no batch": (lambda: VAE.eval({"x": torch.tensor(1.0)}), ShapeError, r"x\[None\]"),
    "different batches": (
        lambda: log(p).eval({"x": X, "z": torch.zeros(B + 1, D)}), ShapeError, "batch sizes differ",
    ),
    "one row for many": (lambda: log(p).eval({"x": X, "z": torch.zeros(1, D)}), ShapeError, "batch sizes differ"),
    "a column for a parameter": (lambda: (beta * VAE).eval({"x": X, "beta": torch.ones(B, 1)}), ShapeError, "'beta'"),
    "too many numbers for a parameter": (lambda: (beta * VAE).eval({"x": X, "beta": torch.ones(3)}), ShapeError, "'beta'"),
    "a column against a row": (
        lambda: log(pf.Normal("p(x | z)", loc="z", scale=1.0)).eval({"x": torch.zeros(B, 1), "z": torch.zeros(B)}),
        ShapeError, r"\(4, 1\)",
    ),
    "another width": (lambda: KL(net, prior).eval({"x": torch.zeros(B, D + 1)}), NetworkError, "its network failed"),
    "another dtype": (lambda: KL(net, prior).eval({"x": X.double()}), NetworkError, "network failed"),
    "a prior of another width": (lambda: KL(q, narrow()).eval({"x": X}), ShapeError, r"\(4,\) and \(5,\)"),
    "NaN data": (lambda: VAE.eval({"x": with_one(NAN)}), ValuesError, r"nan in 'x', at \[2, 1\]"),
    "infinite data": (lambda: VAE.eval({"x": with_one(INF)}), ValuesError, r"inf in 'x', at \[2, 1\]"),
    "a network that gives NaN": (lambda: KL(encoder(NAN), prior).mean().eval({"x": X}), ParameterError, "scale .*nan"),
    "a network that gives NaN, drawn": (lambda: E(encoder(NAN))[log(p)].eval({"x": X}), ParameterError, "scale .*nan"),
    "a negative scale": (lambda: KL(encoder(-1.0), prior).eval({"x": X}), ParameterError, "positive .*-1"),
    "a negative scale, drawn": (lambda: E(encoder(-1.0))[log(p)].eval({"x": X}), ParameterError, "positive .*-1"),
    "a negative scale of a decoder": (
        lambda: E(q)[log(wrong)].eval({"x": X}), ParameterError, "positive .*-2",
    ),
    "a scale of zero": (lambda: E(encoder(0.0))[log(p)].eval({"x": X}), ParameterError, "positive"),
    "infinite KL": (
        lambda: KL(q, pf.Gamma("p(z)", concentration=1.0, rate=1.0, features_shape=D)).eval({"x": X}), LossError, "infinite",
    ),
    "infinite KL, sampled": (
        lambda: KL(q, pf.Gamma("p(z)", concentration=1.0, rate=1.0, features_shape=D), sample_shape=[3]).eval({"x": X}),
        LossError, "infinite",
    ),
    "draws outside a support": (
        lambda: E(q, [20])[log(pf.Gamma("p(z)", concentration=2.0, rate=1.0, features_shape=D))].eval({"x": X}),
        SupportError, "'z' is outside the support of Gamma",
    ),
    "counts for a coin": (
        lambda: E(fifty)[log(pf.Bernoulli("p(y)", probs=0.5))].eval({"x": X}),
        ProbflowError, "infinite|outside the support",
    ),
    "a function of another shape": (
        lambda: Function(lambda x: x, ["x"], "f").eval({"x": X}), ShapeError, r"shape \(4,\), got \(4, 4\)",
    ),
    "a function that returns no tensor": (
        lambda: Function(lambda x: 1.0, ["x"], "f").eval({"x": X}), NetworkError, "must return a tensor",
    ),
    "a mean inside a sum of states": (
        lambda: E(coin)[Function(lambda y: y, ["y"], "y").mean()].eval({"x": X}), LossError, "outside the expectation",
    ),
    "a coin in between": (
        lambda: log(pf.Bernoulli("p(x)", probs=0.5)).eval({"x": torch.full((B,), 0.3)}), SupportError, "0.3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    make, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("name", [n for n in ERRORS if "NaN" in n or "negative" in n or "infinite d" in n])
def test_errors_leave_nothing_behind(name: str) -> None:
    with pytest.raises(ProbflowError):
        ERRORS[name][0]()
    assert VAE.eval({"x": X}).isfinite()


def test_extra_names_are_fine() -> None:
    assert VAE.eval({"x": X, "label": "seven", "index": 3}).shape == ()  # type: ignore[dict-item]


def test_an_infinite_value_that_is_right_is_not_an_error() -> None:
    certain = pf.Categorical("p(x)", probs=torch.tensor([0.0, 1.0]))
    assert log(certain).eval({"x": torch.tensor([[1.0, 0.0], [0.0, 1.0]])}).tolist() == [-INF, 0.0]


BROKEN = pf.Normal("r(y | h)", lambda h: {"loc": h + float("nan"), "scale": torch.ones_like(h)})
LOST = nn.Parameter(torch.zeros(D))
FLOW = pf.Flow(pf.Normal("r(e)", loc=LOST, scale=1.0), pf.transforms.Affine(D), "r(y)")
LOST.data.fill_(float("nan"))
IN_A_NETWORK: dict[str, Callable[[Tensor], Tensor]] = {
    "a loss": lambda z: log(BROKEN).mean().eval({"y": z, "h": z}),
    "its terms": lambda z: next(iter(log(BROKEN).terms({"y": z, "h": z}).values())).mean(),
    "its module": lambda z: log(BROKEN).mean().module()({"y": z, "h": z}),
    "a density": lambda z: BROKEN.log_prob({"y": z, "h": z}).mean(),
    "a draw": lambda z: BROKEN.sample({"h": z})["y"].mean(),
    "a flow's draw": lambda z: FLOW.sample_with_log_prob(batch_n=B)[1].mean(),
    "a mean": lambda z: BROKEN.mean({"h": z}).mean(),
}


@pytest.mark.parametrize("name", IN_A_NETWORK)
def test_nan_parameters_of_what_a_network_evaluates_itself(name: str) -> None:
    """An error also where the network's outputs do not show them, and in every run: those of specialised programs too."""
    score = IN_A_NETWORK[name]
    p = pf.Normal("p(x | z)", lambda z: {"loc": z * (score(z) > 0), "scale": torch.ones_like(z)})
    loss, values = log(p).mean(), {"x": torch.zeros(B, D), "z": torch.zeros(B, D)}
    for _ in range(6):
        with pytest.raises(NetworkError, match=r"ParameterError: r\(.*\): loc must be real numbers"):
            loss.eval(values)


def test_the_evaluation_around_stays_as_it_was() -> None:
    """After an inner error that the network itself deals with, the outer loss still looks at its own result alone."""
    seen = []

    def network(z: Tensor) -> dict[str, Tensor]:
        with pytest.raises(ParameterError):
            log(BROKEN).mean().eval({"y": z, "h": z})
        seen.append(is_lenient())
        return {"loc": z, "scale": torch.ones_like(z)}

    log(pf.Normal("p(x | z)", network)).mean().eval({"x": torch.zeros(B, D), "z": torch.zeros(B, D)})
    assert seen == [True] and not is_lenient()
