"""Weights that only a plain function knows would silently not be trained: Model says so."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import probflow as pf
from probflow import KL, E, log
from probflow.data import Batches
from probflow.errors import ModelError
from probflow.models import Model

net = nn.Linear(2, 3)


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def logits(self, z: Tensor) -> dict[str, Tensor]:
        return {"logits": self.layer(z)}


def call(layer: nn.Module, z: Tensor) -> dict[str, Tensor]:
    return {"logits": layer(z)}


def in_a_closure() -> object:
    inner = nn.Linear(2, 3)
    return lambda z: {"logits": inner(z)}


def a_parameter() -> object:
    weight = nn.Parameter(torch.zeros(2, 3))
    return lambda z: {"logits": z @ weight}


FUNCTIONS = {
    "global": lambda: lambda z: {"logits": net(z)},
    "closure": in_a_closure,
    "parameter": a_parameter,
    "bound method": lambda: Holder().logits,
    "partial": lambda: partial(call, nn.Linear(2, 3)),
}


def loss_of(decoder: Any) -> pf.Loss:
    q = pf.Normal("q(z | x)", pf.nn.MLP([3], [4], {"loc": 2, "scale": 2}, output={"scale": nn.functional.softplus}))
    prior = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    return (KL(q, prior) - E(q)[log(pf.Bernoulli("p(x | z)", decoder))]).mean()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_with_weights_gives_a_warning_that_points_here(name: str) -> None:
    with pytest.warns(UserWarning, match=r"p\(x\|z\): the function .* will not be trained") as caught:
        Model(loss_of(FUNCTIONS[name]()))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_warning_where_they_are_trained_frozen_or_none(name: str) -> None:
    holder = Holder()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Model(loss_of(call_module := nn.Sequential(nn.Linear(2, 3), Named())))
        assert isinstance(call_module, nn.Module)
        holder.requires_grad_(False)
        Model(loss_of(holder.logits))
        Model(loss_of(lambda z: {"logits": torch.cat([z, z[:, :1]], 1)}))


class Named(nn.Module):
    def forward(self, h: Tensor) -> dict[str, Tensor]:
        return {"logits": h}


def test_a_function_that_shares_a_trained_network_is_fine() -> None:
    decoder = nn.Sequential(nn.Linear(2, 3), Named())
    p = pf.Bernoulli("p(x | z)", decoder)
    again = pf.Function(lambda z: decoder(z)["logits"].sum(1), ["z"], "f")
    q = pf.Normal("q(z)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Model((E(q)[log(p) + again]).mean())


def test_a_term_with_weights_of_its_own_gives_a_warning() -> None:
    q = pf.Normal("q(z)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    with pytest.warns(UserWarning, match="net, whose weights will not be trained"):
        Model((E(q)[pf.Function(lambda z: net(z).sum(1), ["z"], "f")]).mean())


def test_a_weight_of_the_loss_comes_with_the_batches() -> None:
    loss = loss_of(nn.Sequential(nn.Linear(2, 3), Named()))
    q, prior = pf.Normal("q(z | x)", loc="x", scale=1.0), pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=3)
    loss = loss + pf.Parameter("beta") * KL(q, prior).mean()
    batches = Batches({"x": torch.rand(8, 3).round(), "beta": 0.0}, 4)
    seen: list[float] = []

    def anneal(model: Model, epoch: int, logs: object) -> None:
        seen.append(float(batches.numbers["beta"]))
        batches.numbers["beta"] = epoch / 2

    Model(loss).fit(batches, 3, callbacks=[anneal], progress=False)
    assert seen == [0.0, 0.5, 1.0]


def test_a_model_moves_and_goes_on() -> None:
    torch.manual_seed(0)
    model = Model(loss_of(nn.Sequential(nn.Linear(2, 3), Named())))
    x = torch.rand(4, 3).round()
    model.train({"x": x})
    assert model.to("cpu") is model
    before = [w.clone() for w in model.loss.parameters()]
    model.train({"x": x})
    assert any(not torch.equal(a, b) for a, b in zip(before, model.loss.parameters(), strict=True))


@pytest.mark.parametrize("optimizer", [None, torch.optim.Adam, torch.optim.SGD], ids=["default", "Adam", "SGD"])
def test_a_model_in_training_goes_on_in_float64(optimizer: type[torch.optim.Optimizer] | None) -> None:
    torch.manual_seed(0)
    scale = nn.Parameter(torch.tensor(1.5))
    options = {"lr": 0.1} | ({"momentum": 0.9} if optimizer is torch.optim.SGD else {})
    model = Model(scale * loss_of(nn.Sequential(nn.Linear(2, 3), Named())), optimizer=optimizer, optimizer_params=options)
    x = torch.rand(4, 3).round()
    model.to(torch.float32).train({"x": x.float()})
    assert model.to(torch.float64) is model
    assert model.train({"x": x.double()}).dtype == torch.float64
    assert scale.dtype == torch.float64 and all(w.dtype == torch.float64 for w in model.loss.parameters())
    moments = [v for state in model.optimizer.state.values() for v in state.values() if torch.is_tensor(v) and v.dim()]
    assert moments and all(v.dtype == torch.float64 for v in moments)
    assert model.to("cpu", torch.float32).train({"x": x.float()}).dtype == torch.float32


def test_weights_are_no_integers() -> None:
    model = Model(loss_of(nn.Sequential(nn.Linear(2, 3), Named())))
    with pytest.raises(ModelError, match="floating-point numbers, such as torch.float64, got torch.int64"):
        model.to(torch.int64)
    assert all(w.is_floating_point() for w in model.loss.parameters())
