"""Twenty and more mistakes that newcomers make, and the message each gets: in their notation, with what to write instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import probflow as pf
from probflow import KL, E, errors, log


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8 + 3, 4)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        loc, scale = self.net(torch.cat([x, y], dim=1)).chunk(2, dim=1)
        return {"loc": loc, "scale": F.softplus(scale)}


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2 + 3, 8)

    def forward(self, z: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(torch.cat([z, y], dim=1))}


class Partial(Encoder):
    def forward(self, y: Tensor, h: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return super().forward(h, y)


class WrongNames(Encoder):
    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        out = super().forward(x, y)
        return {"mean": out["loc"], "std": out["scale"]}


Q, P = pf.Normal("q(z | x, y)", Encoder()), pf.Bernoulli("p(x | z, y)", Decoder())
PRIOR = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
PER_ROW = KL(Q, PRIOR) - E(Q)[log(P)]
LOSS = PER_ROW.mean()
CLASSES = pf.Categorical("p(y | x)", lambda x: {"logits": x[:, :3]})
X = torch.ones(5, 8, dtype=torch.float32)
Y = torch.eye(3, dtype=torch.float32)[[0, 1, 2, 0, 1]]


def negative_scale() -> Tensor:
    p = pf.Normal("p(x | z)", lambda z: {"loc": z, "scale": -torch.ones_like(z)})
    return log(p).eval({"x": X, "z": X})


NAN = X.clone()
NAN[2, 3] = float("nan")

MISTAKES = {
    "missing variable": (
        lambda: LOSS.eval({"x": X}),
        errors.MissingVariable,
        ["needs a value for 'y'", "loss.eval({'y': ...})"],
    ),
    "wrong name": (lambda: LOSS.eval({"x": X, "Y": Y}), errors.MissingVariable, ["is 'Y' meant to be 'y'?"]),
    "wrong width": (
        lambda: LOSS.eval({"x": X[:, :7], "y": Y}),
        errors.NetworkError,
        ["q(z|x,y)", "takes 11 features", "x 7 + y 3"],
    ),
    "swapped network arguments": (
        lambda: pf.Normal("q(z | x, y)", Partial()),
        errors.ArgumentError,
        ["Partial(y, h) names 'y'", "gets 'x'"],
    ),
    "swapped ELBO arguments": (lambda: pf.ELBO(Q, P * PRIOR), errors.LossError, ["swapped", "ELBO(p, q)"]),
    "no batch dimension": (lambda: LOSS.eval({"x": X[0], "y": Y[0]}), errors.ShapeError, ["Dimension 0", "x[None]"]),
    "labels as floats": (
        lambda: log(CLASSES).eval({"x": X, "y": torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0])}),
        errors.ShapeError,
        ["one-hot", "labels.long()"],
    ),
    "soft labels": (
        lambda: log(CLASSES).eval({"x": X, "y": Y * 0.5 + 0.1}),
        errors.SupportError,
        ["'y'", "one-hot", "[0.6, 0.1, 0.1]"],
    ),
    "class indices into a network": (
        lambda: LOSS.eval({"x": X, "y": Y.argmax(1)}),
        errors.NetworkError,
        ["torch.int64", "F.one_hot(y, K)"],
    ),
    "grey pixels in a Bernoulli": (
        lambda: LOSS.eval({"x": X * 0.5, "y": Y}),
        errors.SupportError,
        ["'x'", "{0, 1}", "0.5 at [0, 0]"],
    ),
    "a cycle": (
        lambda: pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z | x)", loc="x", scale=1.0),
        errors.CycleError,
        ["x -> z -> x"],
    ),
    "a duplicate variable": (
        lambda: PRIOR * pf.Normal("r(z)", loc=0.0, scale=1.0),
        errors.DuplicateVariable,
        ["'z'", "p(z) and r(z)"],
    ),
    "a negative scale": (negative_scale, errors.ParameterError, ["p(x|z)", "scale", "-1 at [0, 0]", "softplus"]),
    "a negative constant scale": (
        lambda: pf.Normal("p(z)", loc=0.0, scale=-1.0),
        errors.ParameterError,
        ["scale must be positive", "-1"],
    ),
    "NaN data": (lambda: LOSS.eval({"x": NAN, "y": Y}), errors.ValuesError, ["nan in 'x'", "[2, 3]"]),
    "unknown keyword": (lambda: PRIOR.sample(batchn=7), TypeError, ["batchn"]),  # type: ignore[call-arg]
    "unknown parameter": (lambda: pf.Normal("p(z)", loc=0.0, sigma=1.0), errors.ParameterError, ["'sigma'", "loc, scale"]),
    "KL of different variables": (lambda: KL(Q, P), errors.LossError, ["first:  z", "second: x"]),
    "missing .mean()": (lambda: pf.Model(PER_ROW), errors.ModelError, ["one number per batch element", ".mean()"]),
    "a string for a list": (lambda: pf.Model(LOSS, distributions="p"), errors.ProbflowError, ["distributions"]),  # type: ignore[arg-type]
    "numpy arrays": (lambda: LOSS.eval({"x": np.ones((5, 8)), "y": Y}), errors.ValuesError, ["ndarray", "torch.from_numpy"]),  # type: ignore[dict-item]
    "tensor instead of dict": (lambda: LOSS.eval(X), errors.ValuesError, ["dict", "{'x': ..., 'y': ...}"]),  # type: ignore[arg-type]
    "wrong device": (
        lambda: LOSS.eval({"x": X.to("meta"), "y": Y.to("meta")}),
        errors.NetworkError,
        ["weights are on cpu", "x is on meta"],
    ),
    "wrong dtype": (lambda: LOSS.eval({"x": X.double(), "y": Y.double()}), errors.NetworkError, ["x.to(torch.float32)"]),
    "wrong output names": (
        lambda: pf.Normal("q(z | x, y)", WrongNames()).sample({"x": X, "y": Y}),
        errors.NetworkError,
        ["'mean'", "loc, scale"],
    ),
    "a class for a network": (lambda: pf.Normal("q(z | x, y)", Encoder), errors.ArgumentError, ["pass an instance"]),
    "an unclosed statement": (lambda: pf.Normal("q(z | x, y", Encoder()), errors.StatementError, ["^"]),
    "different batch sizes": (lambda: LOSS.eval({"x": X, "y": Y[:3]}), errors.ShapeError, ["x: (5, 8)", "y: (3, 3)"]),
    "torch function of a loss": (lambda: torch.exp(LOSS), errors.LossError, [".exp()"]),  # type: ignore[arg-type]
    "a distribution for a loss": (lambda: LOSS + P, errors.LossError, ["log(p)"]),  # type: ignore[operator]
    "a parameter for the statement": (lambda: pf.Normal(torch.tensor(0.0)), errors.ArgumentError, ["statement"]),  # type: ignore[arg-type]
}


@pytest.fixture(autouse=True)
def single_precision() -> object:
    torch.set_default_dtype(torch.float32)
    return None


@pytest.mark.parametrize("name", MISTAKES)
def test_the_message_says_what_and_where_and_what_to_write(name: str) -> None:
    mistake, kind, words = MISTAKES[name]
    with pytest.raises(kind) as caught:
        mistake()
    for word in words:
        assert word in str(caught.value)


def test_the_same_program_without_mistakes_runs() -> None:
    assert LOSS.eval({"x": X, "y": Y}).isfinite()


def test_a_string_serves_where_one_name_is_meant() -> None:
    a = pf.Normal(var="z", cond_var="x", name="q", loc="x", scale=1.0)
    b = pf.Normal(var=["z"], cond_var=("x",), name="q", loc="x", scale=1.0)
    assert str(a.statement) == str(b.statement) == "q(z|x)"


def test_a_backward_of_the_expression() -> None:
    loss = (-pf.log(pf.Normal("p(x)", loc=0.0, scale=1.0))).mean()
    with pytest.raises(pf.errors.LossError, match=r"loss\.eval\(values\)\.backward\(\)"):
        loss.backward()


def test_an_expectation_in_round_brackets() -> None:
    q, p = pf.Normal("q(z)", loc=0.0, scale=1.0), pf.Normal("p(z)", loc=0.0, scale=1.0)
    with pytest.raises(pf.errors.LossError, match=r"square brackets: E\(q\)\[log p\(z\)\]"):
        pf.E(q)(pf.log(p))
    with pytest.raises(pf.errors.LossError, match=r"round brackets; write E\(q\)\[log p\(z\)\]"):
        pf.E(q, pf.log(p))


def test_a_misspelled_family() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'Normal'"):
        pf.normal  # noqa: B018
