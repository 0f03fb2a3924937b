"""loss.terms: every printed term with its value, from one evaluation, adding up to the loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, E, Entropy, Loss, Parameter, log
from probflow.inference.evaluate import plan, value_and_terms

q = pf.Normal("q(z | x)", loc="x", scale=0.5)
p = pf.Normal("p(x | z)", loc="z", scale=1.0)
prior = pf.Normal("p(z)", loc=0.0, scale=1.0)
X = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
beta = Parameter("beta")

# the loss, and how its terms are signed
LOSSES: dict[str, tuple[Loss, tuple[int, ...]]] = {
    "rows": (KL(q, prior) - E(q)[log(p)], (1, -1)),
    "mean": ((KL(q, prior) - E(q)[log(p)]).mean(), (1, -1)),
    "sum": ((KL(q, prior) - E(q)[log(p)]).sum(), (1, -1)),
    "minus a mean": (-(E(q)[log(p)] - KL(q, prior)).mean(), (-1, 1)),
    "a number": ((KL(q, prior) + 2).sum(), (1, 1)),
    "a number, averaged": ((KL(q, prior) + 2).mean(), (1, 1)),
    "a weight": ((beta * KL(q, prior) - 2 * E(q)[log(p)]).mean(), (1, -1)),
    "sum inside mean": ((KL(q, prior).sum() + KL(q, prior)).mean(), (1, 1)),
    "means apart": (KL(q, prior).mean() - E(q)[log(p)].mean(), (1, -1)),
    "one term": (KL(q, prior), (1,)),
    "nested": (KL(q, prior) - (E(q)[log(p)] - Entropy(q)), (1, -1, 1)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_they_add_up(name: str) -> None:
    loss, signs = LOSSES[name]
    values: dict[str, Tensor | float] = {"x": X, "beta": 0.25}
    torch.manual_seed(1)
    value = loss.eval(values)
    torch.manual_seed(1)
    terms = loss.terms(values)
    assert len(terms) == len(signs)
    assert_close(sum(sign * term for sign, term in zip(signs, terms.values(), strict=True)), value)
    torch.manual_seed(1)
    again, detached = value_and_terms(loss, values)
    assert_close(again, value)
    assert all(not term.requires_grad for term in detached.values())


def test_names_are_the_printed_terms_in_order() -> None:
    assert list(LOSSES["mean"][0].terms({"x": X})) == ["KL[q(z|x) || p(z)]", "E_q(z|x)[log p(x|z)]"]
    elbo = ELBO(p * prior, q).terms({"x": X})
    assert list(elbo) == ["E_q(z|x)[log p(x|z)]", "KL[q(z|x) || p(z)]"]


def test_a_divergence_without_a_closed_form_keeps_its_name() -> None:
    heavy = pf.StudentT("p(z)", df=3.0, loc=0.0, scale=1.0)
    loss = (KL(q, heavy) - E(q)[log(p)]).mean()
    assert not any(step.kind == "kl" for step in plan(loss).steps)
    torch.manual_seed(0)
    terms = loss.terms({"x": X})
    assert list(terms) == ["KL[q(z|x) || p(z)]", "E_q(z|x)[log p(x|z)]"]
    torch.manual_seed(0)
    assert_close(terms["KL[q(z|x) || p(z)]"] - terms["E_q(z|x)[log p(x|z)]"], loss.eval({"x": X}))


WEIGHTED = {
    "4 * KL[q(z|x) || p(z)]": lambda d: 4 * d,
    "beta * KL[q(z|x) || p(z)]": lambda d: beta * d,
    "KL[q(z|x) || p(z)] / 2": lambda d: d / 2,
    "max(0.5, KL[q(z|x) || p(z)])": lambda d: pf.Max(0.5, d),
    "abs(KL[q(z|x) || p(z)] - 1)": lambda d: (d - 1).abs(),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_so_does_a_weighted_one(name: str) -> None:
    for to in (prior, pf.StudentT("p(z)", df=3.0, loc=0.0, scale=1.0)):
        loss = (WEIGHTED[name](KL(q, to)) - E(q)[log(p)]).mean()
        torch.manual_seed(0)
        terms = loss.terms({"x": X, "beta": 0.25})
        assert list(terms) == [name, "E_q(z|x)[log p(x|z)]"]
        torch.manual_seed(0)
        assert_close(terms[name] - terms["E_q(z|x)[log p(x|z)]"], loss.eval({"x": X, "beta": 0.25}))


def test_a_weighted_bound_is_its_parts() -> None:
    assert list((4 * ELBO(p * prior, q)).terms({"x": X})) == ["4 * (E_q(z|x)[log p(x|z)] - KL[q(z|x) || p(z)])"]


def test_values_are_those_of_the_terms() -> None:
    terms = (beta * KL(q, prior) - E(q)[log(p)]).terms({"x": X, "beta": 0.25})
    assert_close(terms["beta * KL[q(z|x) || p(z)]"], 0.25 * KL(q, prior).eval({"x": X}))
    assert terms["E_q(z|x)[log p(x|z)]"].shape == (3,)


def test_the_same_term_twice_is_there_twice() -> None:
    assert len((KL(q, prior) + KL(q, prior)).terms({"x": X})) == 2


def test_two_networks_of_one_name_have_a_term_each() -> None:
    other = pf.Normal("p(x | z)", loc="z", scale=2.0)
    assert list((log(p) + log(other)).terms({"x": X, "z": X})) == ["log p#1(x|z)", "log p#2(x|z)"]


def test_nothing_is_computed_twice() -> None:
    class Encoder(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            self.calls += 1
            return {"loc": x, "scale": torch.ones_like(x)}

    net = Encoder()
    encoder = pf.Normal("q(z | x)", net)
    (KL(encoder, prior) - E(encoder)[log(p)] + Entropy(encoder)).mean().terms({"x": X})
    assert net.calls == 1


def test_terms_have_gradients() -> None:
    w = nn.Parameter(torch.tensor(1.0))
    (w * KL(q, prior)).mean().terms({"x": X}).popitem()[1].backward()
    assert w.grad is not None
    assert_close(w.grad.double(), KL(q, prior).mean().eval({"x": X}))
