"""Derivations: every line has the value of the line before, or is a named bound; the last line is what is computed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import probflow as pf
from probflow import ELBO, KL, E, log
from probflow.errors import LossError, NoDensity
from probflow.losses import Loss
from probflow.losses.rules import RULES

N = 40_000


def linear(statement: str, scale: float = 1.0) -> pf.Normal:
    net = nn.Linear(1, 1)
    return pf.Normal(statement, lambda v: {"loc": net(v), "scale": torch.full_like(v, scale)})


@pytest.fixture
def vae() -> tuple[pf.Distribution, pf.Distribution]:
    torch.manual_seed(0)
    return linear("p(x | z)") * pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=1), linear("q(z | x)", 0.8)


def hierarchical() -> tuple[pf.Distribution, pf.Distribution]:
    torch.manual_seed(0)
    p = linear("p(x | z1)") * linear("p(z1 | z2)") * pf.Normal("p(z2)", loc=0.0, scale=1.0, features_shape=1)
    return p, linear("q(z1 | x)") * linear("q(z2 | z1)")


def mean_and_error(loss: Loss, given: dict[str, Tensor], seed: int) -> tuple[float, float]:
    torch.manual_seed(seed)
    with torch.no_grad():
        value = loss.eval(given).double().expand(N)
    return value.mean().item(), value.std().item() / math.sqrt(N)


def check_lines(derivation: pf.inference.Derivation, given: dict[str, Tensor]) -> int:
    """The number of lines that were compared with the one before."""
    compared, before = 0, derivation.start
    for step in derivation.steps:
        try:
            a, a_error = mean_and_error(before, given, 1)
            b, b_error = mean_and_error(step.expression, given, 2)
        except NoDensity:  # log p(x) and the true posterior are symbols
            before = step.expression
            continue
        slack = 5 * math.hypot(a_error, b_error) + 1e-4 * (1 + abs(a))
        assert (abs(a - b) < slack) if step.relation == "=" else (a > b - slack), (step.rule, str(before), str(step.expression))
        compared, before = compared + 1, step.expression
    return compared


def test_the_vae(vae) -> None:
    p, q = vae
    derivation = ELBO(p, q).derive()
    assert str(derivation) == (
        "   E_q(z|x)[log p(x,z) - log q(z|x)]\n"
        " = E_q(z|x)[log p(x|z) + log p(z) - log q(z|x)]   log of a product\n"
        " = E_q(z|x)[log p(x|z)] - KL[q(z|x) || p(z)]      "
        "log-ratio to KL (nothing that p conditions on is drawn below z in q: d-separation)"
    )
    assert derivation.latex().startswith("\\begin{aligned}\n& \\mathbb{E}_{q(z \\mid x)}")
    assert check_lines(derivation, {"x": torch.ones(N, 1)}) == 2


LOSSES = {
    "ELBO": lambda p, q: ELBO(p, q),
    "-ELBO.mean": lambda p, q: -ELBO(p, q).mean(),
    "KL without closed form": lambda p, q: KL(q, pf.StudentT("p(z)", df=4.0, loc=0.0, scale=1.0, features_shape=1)),
    "constants inside": lambda p, q: E(q)[log(p.factors[0]) + 3.0 * pf.Function(lambda x: x.sum(1), ["x"], "g")],
    "nothing to do": lambda p, q: KL(q, p.factors[1]),
}


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_the_last_line_is_what_is_computed(make, vae) -> None:
    loss = make(*vae)
    derivation = loss.derive()
    assert str(derivation.result) == str(loss.simplify())
    assert all(step.rule in RULES for step in derivation.steps)
    if not str(loss).startswith("-mean"):
        assert check_lines(derivation, {"x": torch.ones(N, 1)}) == len(derivation.steps)


def test_what_does_not_depend_on_the_draw(vae) -> None:
    p, q = vae
    g = pf.Function(lambda x: x.sum(1), ["x"], "g")
    reasons = [step.rule for step in E(q)[log(p.factors[0]) + g].derive().steps]
    assert reasons == ["linearity", "expectation of a constant"]


def test_a_hierarchical_model() -> None:
    p, q = hierarchical()
    derivation = ELBO(p, q).derive()
    assert [step.rule for step in derivation.steps] == [
        "log of a product",
        "log-ratio to KL",
        "entropy",
        "linearity",
        "barren variables",
    ]
    assert str(derivation.result) == str(ELBO(p, q).simplify())
    assert check_lines(derivation, {"x": torch.ones(N, 1)}) == 5


def test_parts_of_a_product_are_met_again() -> None:
    """E_q(a)q(b)[f] out of two expectations is one thing: it cancels, and the last line is what is computed."""
    q = [pf.Normal(f"q({name} | x)", loc="x", scale=1.0) for name in "abc"]
    whole = q[0] * q[1] * q[2]
    f = pf.Function(lambda a, b: (a * b).sum(1), ["a", "b"], "f")
    g = pf.Function(lambda c: c.sum(1), ["c"], "g")
    loss = E(whole)[f + g] - E(whole)[f - 2 * g]
    derivation = loss.derive()
    assert str(loss.simplify()) == str(derivation.result) == "E_q(c|x)[g(c)] + 2 * E_q(c|x)[g(c)]"
    assert derivation.steps[-1].rule == "cancellation"
    assert derivation.result is loss.simplify()


def test_no_line_says_what_the_line_before_says() -> None:
    a, b = (pf.Normal(f"q({name} | x)", loc="x", scale=1.0) for name in "ab")
    f, g = (pf.Function(lambda v: v.sum(1), [name], label) for name, label in (("a", "f"), ("b", "g")))
    for loss, rule in ((E(a * b)[f - 2 * g], "linearity"), (E(a * b)[1 * f - (-2) * g], "distributive law")):
        derivation = loss.derive()
        lines = [str(loss), *(str(step.expression) for step in derivation.steps)]
        assert len(set(lines)) == len(lines) > 1
        assert derivation.steps[0].rule == rule


def test_m2_unlabelled() -> None:
    torch.manual_seed(0)
    decoder = nn.Linear(4, 1)
    x_net, y_net, z_net = nn.Linear(4, 1), nn.Linear(1, 3), nn.Linear(4, 1)
    del decoder
    px = pf.Normal("p(x | y, z)", lambda y, z: {"loc": x_net(torch.cat([y, z], 1)), "scale": torch.ones_like(z)})
    prior = pf.Categorical("p(y)", probs=torch.ones(3) / 3) * pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=1)
    qy = pf.Categorical("q(y | x)", lambda x: {"logits": y_net(x)})
    qz = pf.Normal("q(z | x, y)", lambda x, y: {"loc": z_net(torch.cat([x, y], 1)), "scale": torch.ones_like(x)})
    loss = ELBO(px * prior, qz * qy)
    derivation = loss.derive()
    assert str(derivation.result) == str(loss.simplify())
    assert check_lines(derivation, {"x": torch.ones(N, 1)}) == len(derivation.steps) >= 2


def test_the_elbo_from_log_p(vae) -> None:
    p, q = vae
    derivation = pf.derive(log(p.marginalize_var("z")), to="elbo", q=q)
    assert str(derivation).split("\n")[0] == "   log p(x)"
    assert str(derivation.gap) == "KL[q(z|x) || p(z|x)]"
    lines = [str(step.expression) for step in derivation.steps]
    assert lines[:6] == [
        "E_q(z|x)[log p(x)]",
        "E_q(z|x)[log p(x,z) - log p(z|x)]",
        "E_q(z|x)[log p(x,z) - log q(z|x) + log q(z|x) - log p(z|x)]",
        "E_q(z|x)[log p(x,z) - log q(z|x)] + E_q(z|x)[log q(z|x) - log p(z|x)]",
        "E_q(z|x)[log p(x,z) - log q(z|x)] + KL[q(z|x) || p(z|x)]",
        "E_q(z|x)[log p(x,z) - log q(z|x)]",
    ]
    reasons = [line.split("   ")[-1].strip() for line in str(derivation).splitlines()[1:7]]
    assert reasons == [
        "expectation of a constant: log p(x) does not depend on z, and q(z|x) integrates to 1",
        "Bayes' rule: p(x) = p(x,z) / p(z|x)",
        "cancellation: add and subtract log q(z|x)",
        "linearity: the first two terms and the last two",
        "definition of KL",
        "KL is not negative: equal where q(z|x) is the posterior; this is the evidence lower bound",
    ]
    assert all(step.rule in RULES for step in derivation.steps)
    assert [step.relation for step in derivation.steps].count(">=") == 1
    assert str(derivation.result) == str(ELBO(p, q).simplify())
    assert "p^{(1)}" not in derivation.latex() and "#" not in str(derivation)
    assert derivation.gap is not None
    with pytest.raises(NoDensity, match=r"true posterior.*(?s:.*)q of your own"):
        derivation.gap.eval({"x": torch.zeros(2, 1)})


def test_with_a_finite_latent_every_line_can_be_computed() -> None:
    """p(k|x) is exact: log p(x) = ELBO + gap to the last digit, line by line."""
    torch.manual_seed(0)
    table, guess = nn.Linear(3, 1), nn.Linear(1, 3)
    p = pf.Normal("p(x | k)", lambda k: {"loc": table(k), "scale": torch.ones_like(table(k))}) * pf.Categorical(
        "p(k)", logits=torch.randn(3)
    )
    q = pf.Categorical("q(k | x)", lambda x: {"logits": guess(x)})
    start = log(p.marginalize_var("k"))
    given = {"x": torch.randn(1, 1).expand(N, 1)}
    for to in ("elbo", "jensen"):
        derivation = pf.derive(start, to=to, q=q)
        assert check_lines(derivation, given) == len(derivation.steps)
        assert derivation.gap is not None
        total = mean_and_error(derivation.result + derivation.gap, given, 1)[0]
        assert abs(mean_and_error(start, given, 1)[0] - total) < 1e-5


def test_the_importance_weighted_bound(vae) -> None:
    p, q = vae
    derivation = pf.derive(log(p.marginalize_var("z")), to="iwae", q=q, samples=5)
    result: Any = derivation.result
    assert result.operand.sample_shape == (5,)
    lines = str(derivation).splitlines()
    assert "log(E[1/5 sum_k w_k])" in lines[2] and "E[log(1/5 sum_k w_k)]" in lines[3]
    assert r"\frac{1}{5} \sum_{k=1}^{5} w_k" in derivation.latex()
    a, _ = mean_and_error(derivation.result, {"x": torch.ones(N, 1)}, 1)
    b, _ = mean_and_error(ELBO(p, q), {"x": torch.ones(N, 1)}, 1)
    assert a > b


def test_a_flow_posterior(vae) -> None:
    p, _ = vae
    q = pf.flows.IAF("q(z | x)", features=1, context=1, layers=1, hidden=(8,))
    derivation = (-ELBO(p, q).mean()).derive()
    assert [step.rule for step in derivation.steps] == ["log of a product", "change of variables"]
    assert str(derivation.result) == (
        "-mean(E_q(z|x)[log p(x|z) + log p(z) - log q_z_0(f^-1(z; x)) - log|det df^-1(z; x)/dz|])"
    )
    given = {"x": torch.randn(N, 1)}
    torch.manual_seed(0)
    typed = derivation.start.eval(given)
    torch.manual_seed(0)
    assert torch.allclose(derivation.result.eval(given), typed)


ROUNDED = pf.Flow(pf.Normal("p(u)", loc=1.5, scale=0.7, features_shape=1), [pf.transforms.UniformDequantise(4)], "p(v)")
EXACT = pf.Flow(pf.Normal("p(u)", loc=1.5, scale=0.7, features_shape=1), [pf.transforms.Affine(1)], "p(w)")
beta = pf.Parameter("beta")
BOUNDS = {
    "a density": (log(ROUNDED), [">="]),
    "a loss": (-log(ROUNDED).mean(), ["<="]),
    "weighted": ((-2 * log(ROUNDED) / 3).mean(), ["<="]),
    "twice negative": (1 - (-log(ROUNDED)), [">="]),
    "beside one that is exact": ((log(ROUNDED) - log(EXACT)).mean(), ["=", ">="]),
    "a product": (-log(ROUNDED * EXACT), ["=", "=", "<="]),
    "renamed": (log(ROUNDED.replace_var(v="h")), [">="]),
    "a weight of unknown sign": (beta * log(ROUNDED), []),
    "not linear": (log(ROUNDED) ** 2, []),
    "both signs": (log(ROUNDED) - beta * log(ROUNDED) * log(EXACT), ["="]),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_the_density_of_a_flow_whose_inverse_is_drawn_is_a_bound(name: str) -> None:
    loss, relations = BOUNDS[name]
    derivation = loss.derive()
    assert [step.relation for step in derivation.steps] == relations
    for step in derivation.steps:
        assert (step.rule == "variational lower bound") == (step.relation != "=")
    sign = {">=": r"\ge\;", "<=": r"\le\;"}.get((relations or ["="])[-1], "=")
    assert not relations or sign in derivation.latex()


def test_a_bound_is_named() -> None:
    assert str((-log(ROUNDED)).derive()) == (
        "   -log p(v)\n"
        "<= -(log p_u(f^-1(v)) + log|det df^-1(v)/dv|)   "
        "variational lower bound (the flow's inverse draws z from q(z|x), as dequantisation does)"
    )


ERRORS = {
    "unknown": (lambda p, q: pf.derive(log(p.marginalize_var("z")), to="elob", q=q), "'elbo', 'jensen', 'iwae'"),
    "no marginal": (lambda p, q: pf.derive(log(p), to="elbo", q=q), r'log\(p.marginalize_var\("z"\)\)'),
    "a variable that was dropped": (
        lambda p, q: pf.derive(log((p * linear("p(w | z)")).marginalize_var("z", "w")), "elbo", q * linear("q(w | x)")),
        "take a q without w",
    ),
    "no q": (lambda p, q: pf.derive(log(p.marginalize_var("z")), to="elbo"), "needs a q over z"),
    "q without to": (lambda p, q: pf.derive(log(p), q=q), "together with to"),
}


@pytest.mark.parametrize(("make", "match"), ERRORS.values(), ids=ERRORS)
def test_errors(make, match: str, vae) -> None:
    with pytest.raises(LossError, match=match):
        make(*vae)
