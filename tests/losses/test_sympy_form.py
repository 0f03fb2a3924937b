"""Losses in sympy: probabilities are symbols, and sympy does the algebra of their coefficients."""

from __future__ import annotations

import pytest
import sympy as sp
import torch
from torch import nn

import probflow as pf
from probflow import ELBO, KL, CrossEntropy, E, Entropy, Function, Loss, Max, Min, Parameter, Prob, exp, log
from probflow.losses.sympy_form import sympy_form

q, p = pf.Normal("q(z | x)", loc="x", scale=0.5), pf.Normal("p(x | z)", loc="z", scale=1.5)
prior, other = pf.Normal("p(z)", loc=0.0, scale=1.0), pf.Normal("p(z)", loc=1.0, scale=1.0)
beta, w = Parameter("beta"), nn.Parameter(torch.tensor(2.0))
flow = pf.flows.RealNVP("p(v)", features=2, layers=1)
f = Function(lambda x, z: x, ["x", "z"], "f")

FORMS: dict[str, tuple[Loss, str]] = {
    "E - beta KL": (E(q)[log(p)] - beta * KL(q, prior), "-beta*KL(q(z|x), p(z)) + E_q(z|x)(log(p(x|z)))"),
    "ELBO": (ELBO(p * prior, q), "E_q(z|x)(-log(q(z|x)) + log(p(x|z)*p(z)))"),
    "numbers are exact": (0.1 * log(p) + 3 * log(q), "log(p(x|z))/10 + 3*log(q(z|x))"),
    "trained": (w * log(p), "w*log(p(x|z))"),
    "entropies": (Entropy(q) - CrossEntropy(q, prior), "H(q(z|x)) - H(q(z|x), p(z))"),
    "mean": (log(p).mean() - log(p).sum(), "mean(log(p(x|z))) - sum(log(p(x|z)))"),
    "exp undoes log": (exp(log(p)) - Prob(p), "0"),
    "quotients and powers": (log(p) ** 2 / log(q), "log(p(x|z))**2/log(q(z|x))"),
    "function, detach": (f + log(p).detach(), "detach(log(p(x|z))) + f(x, z)"),
    "extrema": (Max(KL(q, prior), 2.0) + Min(log(p), log(q)), "Max(2, KL(q(z|x), p(z))) + Min(log(p(x|z)), log(q(z|x)))"),
    "clamp": (log(p).clamp(min=-1.5, max=0.5), "Min(1/2, Max(-3/2, log(p(x|z))))"),
    "absolute": (-log(p).abs(), "-Abs(log(p(x|z)))"),
    "change of variables": (log(flow).expand(), "log(p_z(f^-1(v))) + log(|det df^-1(v)/dv|)"),
    "two networks of one name": (log(prior) - log(other), "log(p#1(z)) - log(p#2(z))"),
}


@pytest.mark.parametrize("name", FORMS)
def test_form(name: str) -> None:
    loss, shown = FORMS[name]
    assert str(loss.to_sympy()) == shown  # in sympy's own order


def test_the_algebra_of_coefficients() -> None:
    kl = KL(q, prior)
    form = (beta * kl + 0.5 * kl - kl / 4).to_sympy()
    symbol = sp.Symbol("beta", real=True)
    assert sp.expand(form - (symbol + sp.Rational(1, 4)) * kl.to_sympy()) == 0
    assert sp.collect(sp.expand(form), kl.to_sympy()).coeff(kl.to_sympy()) == symbol + sp.Rational(1, 4)
    assert sp.diff(form, symbol) == kl.to_sympy()


def test_two_spellings_of_one_loss() -> None:
    a, b = E(q)[log(p)], KL(q, prior)
    assert sp.expand((-(a - beta * b)).to_sympy() - (beta * b - a).to_sympy()) == 0
    assert sp.expand_log(log(p * prior).to_sympy()) == (log(p) + log(prior)).to_sympy()
    assert ELBO(p * prior, q).expand().to_sympy() == (E(q)[log(p)] + E(q)[log(prior)] - E(q)[log(q)]).to_sympy()


def test_a_node_without_a_form_says_so() -> None:
    with pytest.raises(TypeError, match="no sympy form"):
        sympy_form.__globals__["_form"](3, None)
