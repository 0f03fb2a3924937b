"""Losses under other variable names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from inference.compiled_registry import LOSSES as COMPILED
from inference.compiled_registry import Z, batch, decoder, encoder, prior, vae
from torch import Tensor
from torch.testing import assert_close

import probflow as pf
from probflow import KL, E, Function, Loss, Parameter, errors, log
from probflow.losses.renaming import every_name


def free_and_drawn() -> Loss:
    q = encoder()
    return E(q)[log(decoder())] + log(q)


def a_function() -> Loss:
    return E(encoder())[Function(lambda z, x: z.sum(1) * x[:, 0], ["z", "x"], "f")] * Parameter("beta")


def learned_baseline() -> Loss:
    how = pf.Score(baseline=Function(lambda x: x[:, 0], ["x"], "b"))
    q = pf.Bernoulli("q(z | x)", logits="x", features_shape=6)
    return E(q, estimator=how)[Function(lambda z, x: (z * x).sum(1), ["z", "x"], "f")].mean()


def the_rest() -> Loss:
    q, p, pz = encoder(), decoder(), prior()
    return pf.Max(KL(q, pz), 0.5).detach() / pf.exp(-pf.CrossEntropy(q, pz)) + pf.Prob(pz) ** 2 - abs(-log(p).clamp(max=1))


LOSSES: dict[str, Callable[[], Loss]] = {
    **COMPILED,
    "an estimator per variable": lambda: E(encoder(), estimator={"z": "score"})[log(decoder())].mean(),
    "a learned baseline": learned_baseline,
    "a function": a_function,
    "a density's parts": lambda: log(pf.flows.RealNVP("p(x)", features=6, layers=2, hidden=(8,))).expand(),
    "free and drawn": free_and_drawn,
    "the rest": the_rest,
    "given": lambda: log(decoder().given(x=torch.ones(1, 6)) * prior()),
}


def value_and_gradient(loss: Loss, values: dict[str, Tensor]) -> list[Tensor]:
    torch.manual_seed(1)
    value = loss.eval(values)
    weights = list(loss.parameters())
    return [value, *torch.autograd.grad(value.sum(), weights, materialize_grads=True)] if value.requires_grad else [value]


@pytest.mark.parametrize("name", LOSSES)
def test_the_value_at_renamed_data_is_the_same(name: str) -> None:
    loss, data = LOSSES[name](), {**batch(4), "z": torch.rand(4, Z)}
    table = {n: f"{n}_u" for n in every_name(loss)}
    renamed = loss.replace_var(table)
    assert renamed.input_var == tuple(table[n] for n in loss.input_var)
    assert set(every_name(renamed)) == set(table.values())
    assert list(map(id, renamed.parameters())) == list(map(id, loss.parameters()))
    for a, b in zip(
        value_and_gradient(renamed, {table[n]: data[n] for n in loss.input_var}), value_and_gradient(loss, data), strict=True
    ):
        assert_close(a, b, rtol=1e-12, atol=1e-12)  # the order of a sum may be another


@pytest.mark.parametrize("name", LOSSES)
def test_back_again_reads_the_same(name: str) -> None:
    loss = LOSSES[name]()
    table = {n: f"{n}_u" for n in every_name(loss)}
    assert str(loss.replace_var(table).replace_var({new: old for old, new in table.items()})) == str(loss)
    simple = loss.simplify()
    assert str(loss.replace_var(table).simplify()) == str(simple.replace_var({n: table[n] for n in every_name(simple)}))


def test_names_that_change_places() -> None:
    p = pf.Normal("p(x | y)", loc="y", scale=0.5)
    loss = log(p) * Function(lambda x: x[:, 0], ["x"], "f")
    x, y = torch.randn(3, 1), torch.randn(3, 1)
    swapped = loss.replace_var(x="y", y="x")
    assert str(swapped) == "log p(y|x) * f(y)"
    assert_close(swapped.eval({"y": x, "x": y}), loss.eval({"x": x, "y": y}))


def test_one_network_runs_once() -> None:
    """What was one object stays one: the encoder of both terms runs once, and equal terms cancel."""
    q, p, pz = encoder(), decoder(), prior()
    renamed = (KL(q, pz) - E(q)[log(p) - log(pz)]).replace_var(z="h", x="u")
    assert str(renamed.plan()).count("params    q(h|u)") == str(renamed.plan()).count("draw      h") == 1
    assert str(E(q)[log(p) - log(p)].replace_var(x="u").simplify()) == "E_q(z|u)[0]"


def test_a_batch_with_labels_beside_one_without() -> None:
    loss = vae()
    both = loss + loss.replace_var(x="x_u")
    a, b = torch.rand(3, 6).round(), torch.rand(5, 6).round()
    assert both.input_var == ("x", "x_u") and both.eval({"x": a, "x_u": b}).isfinite()
    assert len(list(both.parameters())) == len(list(loss.parameters()))


def test_nothing_to_rename() -> None:
    loss = vae()
    assert loss.replace_var() is loss and loss.replace_var(x="x") is loss and loss.replace_var({}) is loss


LOSS = (KL(encoder(), prior()) - Parameter("beta") * E(encoder())[log(decoder())]).mean()


@pytest.mark.parametrize(
    ("table", "kind", "words"),
    [
        ({"w": "u"}, errors.UnknownVariable, ["has no variable 'w'", "its variables: z, x, beta"]),
        ({"betta": "u"}, errors.UnknownVariable, ["Did you mean 'beta'?"]),
        ({"x": "z"}, errors.DuplicateVariable, ["'z' and 'x' would become one variable, 'z'", "swaps are allowed"]),
        ({"x": "beta"}, errors.DuplicateVariable, ["one variable, 'beta'"]),
        ({"x": "u", "z": "u"}, errors.DuplicateVariable, ["one variable, 'u'"]),
        ({"x": "a b"}, errors.StatementError, ["a b"]),
        ({"x": 3}, errors.ArgumentError, ["3"]),
        ("x", errors.ArgumentError, ['loss.replace_var(x="x_u")']),
    ],
)
def test_errors(table: dict[str, str], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        LOSS.replace_var(table)
    for word in words:
        assert word in str(caught.value)


def test_a_name_that_would_be_drawn() -> None:
    """A free variable does not become one that an expectation draws, also where no statement shows the clash."""
    loss = E(pf.Normal("q(z)", loc=0.0, scale=1.0))[log(pf.Normal("p(x)", loc=0.0, scale=1.0))]
    with pytest.raises(errors.DuplicateVariable, match="one variable, 'z'"):
        loss.replace_var(x="z")
