"""Data that no density takes: complex, boolean, sparse, without numbers.  Eager and compiled losses say so in the same words."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import Loss, log
from probflow.errors import ValuesError
from probflow.models import Model

X = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "complex": lambda x: x + 1j,
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "bool": lambda x: x.bool(),
}


def of(kind: str) -> Tensor:
    return KINDS[kind](X)


def normal() -> Loss:
    return -log(pf.Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0))


WORDS = {
    "complex": r"'x' is complex \(torch.complex64\)",
    "meta": r"'x' is on the meta device",
    "sparse": r"'x' is sparse \(torch.sparse_coo\)",
    "bool": r"'x' is boolean \(torch.bool\), .*\nWrite x.float\(\)",
}


@pytest.mark.parametrize("seen", [False, True], ids=["first", "after dense floats"])
@pytest.mark.parametrize("finish", [lambda loss: loss, lambda loss: loss.mean()], ids=["rows", "mean"])
@pytest.mark.parametrize("kind", WORDS)
def test_such_data_are_an_error_that_names_the_variable(kind: str, finish: Callable[[Loss], Loss], seen: bool) -> None:
    loss = finish(normal())
    compiled = loss.compile(backend="eager")
    for run in (loss.eval, loss.terms, compiled, compiled.terms):
        for _ in range(5 if seen else 0):
            run({"x": X})
        with pytest.raises(ValuesError, match=WORDS[kind]):
            run({"x": of(kind)})


LIKELIHOODS: dict[str, Callable[[], pf.Distribution]] = {
    "Bernoulli": lambda: pf.Bernoulli("p(x)", logits=torch.tensor([0.5, -2.0])),
    "Bernoulli by probs": lambda: pf.Bernoulli("p(x)", probs=torch.tensor([0.25, 0.5])),
    "Poisson": lambda: pf.Poisson("p(x)", rate=torch.tensor([1.0, 2.0])),
    "Categorical": lambda: pf.Categorical("p(x)", probs=torch.tensor([[0.25, 0.75], [0.5, 0.5]])),
    "Geometric": lambda: pf.Geometric("p(x)", probs=torch.tensor([0.25, 0.5])),
}


@pytest.mark.parametrize("make", LIKELIHOODS.values(), ids=LIKELIHOODS)
def test_what_takes_truth_values_takes_them_everywhere(make: Callable[[], pf.Distribution]) -> None:
    p = make()
    wanted = -p.log_prob({"x": of("bool").long()}).mean()
    assert_close(-p.log_prob({"x": of("bool")}).mean(), wanted)
    loss = -log(p).mean()
    for run in (loss.eval, loss.compile(backend="eager")):
        for _ in range(5):
            assert_close(run({"x": of("bool")}), wanted)


def test_compiled_training_says_the_same() -> None:
    for kind in WORDS:
        model = Model(normal().mean(), compile={"backend": "eager"})
        for _ in range(3):
            model.train({"x": X})
        with pytest.raises(ValuesError, match=WORDS[kind]):
            model.train({"x": of(kind)})


class Modulus(nn.Module):
    """A network that takes complex numbers, or sparse ones."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = x.to_dense() if x.is_sparse else x
        return {"loc": x.abs(), "scale": torch.ones_like(x.abs())}


@pytest.mark.parametrize("kind", ["complex", "sparse"])
def test_networks_may_take_them(kind: str) -> None:
    loss = -log(pf.Normal("p(y | x)", Modulus())).mean()
    y = X
    wanted = -torch.distributions.Normal(of(kind).to_dense().abs(), 1.0).log_prob(y).sum(1).mean()
    for _ in range(5):
        assert_close(loss.eval({"x": of(kind), "y": y}), wanted)
    infinite = {"x": of(kind), "y": torch.full_like(y, 1e30)}
    assert loss.eval(infinite).item() == math.inf
    compiled = loss.compile(backend="eager")
    if kind == "sparse":
        with pytest.raises(ValuesError, match=r"'x' is sparse \(torch.sparse_coo\), but torch.compile takes dense tensors"):
            compiled({"x": of(kind), "y": y})
    else:
        assert_close(compiled({"x": of(kind), "y": y}), wanted)
        assert compiled(infinite).item() == math.inf
