"""The value of every construct: against hand-written torch, against exact integrals, and by the laws of the algebra."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from distributions.families_registry import FAMILIES
from torch import Tensor, nn
from torch import distributions as td
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, CrossEntropy, E, Entropy, Function, Loss, Max, Min, Parameter, Prob, exp, log
from probflow.errors import LossError
from probflow.inference.closed_forms import has_entropy, kl_formula

q = pf.Normal("q(z | x)", loc="x", scale=0.5)
p = pf.Normal("p(x | z)", loc="z", scale=1.5)
prior = pf.Normal("p(z)", loc=0.2, scale=1.2)
alone = pf.Normal("p(x)", loc=0.0, scale=1.0)
X = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
Z = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)


def close(a: Tensor, b: Tensor, dim: int = -1) -> None:
    """Two independent Monte Carlo estimates (or one and an exact value) agree within 5 standard errors."""
    var = sum((t.var(dim) / t.shape[dim] for t in (a, b) if t.dim() and t.shape[dim] > 1), torch.tensor(0.0))
    gap = ((a.mean(dim) if a.dim() else a) - (b.mean(dim) if b.dim() else b)).abs()
    assert (gap <= 5 * var.sqrt() + 1e-12).all(), (gap / var.sqrt()).max()


def many(loss: Loss, values: dict[str, float], n: int = 40_000) -> Tensor:
    """n independent estimates: one per batch element."""
    return loss.eval({name: torch.full((n,), value) for name, value in values.items()} or {"_": torch.zeros(n)}).detach()


# ---------------------------------------------------------------------- hand-written torch


def log_p(z: Tensor) -> Tensor:
    return td.Normal(z, 1.5).log_prob(X)


def log_q(z: Tensor) -> Tensor:
    return td.Normal(X, 0.5).log_prob(z)


def drawn(*shape: int) -> Tensor:
    torch.manual_seed(5)
    return X + 0.5 * torch.randn(*shape, 3)


HAND: dict[str, tuple[Loss, Callable[[], Tensor]]] = {
    "log": (log(p), lambda: log_p(Z)),
    "prob": (Prob(p), lambda: log_p(Z).exp()),
    "joint": (log(p * prior), lambda: log_p(Z) + td.Normal(0.2, 1.2).log_prob(Z)),
    "KL": (KL(q, prior), lambda: td.kl_divergence(td.Normal(X, 0.5), td.Normal(0.2, 1.2))),
    "entropy": (Entropy(q), lambda: td.Normal(X, 0.5).entropy()),
    "cross entropy": (
        CrossEntropy(q, prior),
        lambda: td.Normal(X, 0.5).entropy() + td.kl_divergence(td.Normal(X, 0.5), td.Normal(0.2, 1.2)),
    ),
    "E": (E(q)[log(p)], lambda: log_p(drawn())),
    "E of 4": (E(q, [4])[log(p)], lambda: log_p(drawn(4)).mean(0)),
    "E of 2 x 3": (E(q, [2, 3])[log(p)], lambda: log_p(drawn(2, 3)).mean((0, 1))),
    "E of 5, not linear": (E(q, [5])[Prob(p)], lambda: log_p(drawn(5)).exp().mean(0)),
    "KL by Monte Carlo": (
        KL(q, prior, sample_shape=[4]),
        lambda: (lambda z: (log_q(z) - td.Normal(0.2, 1.2).log_prob(z)).mean(0))(drawn(4)),
    ),
    "entropy by Monte Carlo": (Entropy(q, sample_shape=[4]), lambda: -log_q(drawn(4)).mean(0)),
    "importance-weighted": (log(E(q, [6])[exp(log(p))]), lambda: log_p(drawn(6)).logsumexp(0) - math.log(6)),
    "importance-weighted, Prob": (log(E(q, [6])[Prob(p)]), lambda: log_p(drawn(6)).logsumexp(0) - math.log(6)),
    "importance-weighted, a ratio": (
        log(E(q, [6])[Prob(p) / Prob(q) / 2]),
        lambda: (lambda z: (log_p(z) - log_q(z)).logsumexp(0) - math.log(12))(drawn(6)),
    ),
    "log of a sum": (log(Prob(p) / 2 + 3 * exp(log(q)) + 1), lambda: (log_p(Z).exp() / 2 + 3 * log_q(Z).exp() + 1).log()),
    "log of a power": (log((Prob(p) / Prob(q)) ** 0.5), lambda: (log_p(Z) - log_q(Z)) / 2),
    "log of a difference": (log(Prob(p) + 2 - Prob(q)), lambda: (log_p(Z).exp() + 2 - log_q(Z).exp()).log()),
    "log of what may be negative": (log(log(p) * log(q)), lambda: (log_p(Z) * log_q(Z)).log()),
    "arithmetic": (2 * log(p) - log(q) / 4 + 1 - (log(p) - 3), lambda: 2 * log_p(Z) - log_q(Z) / 4 + 1 - (log_p(Z) - 3)),
    "minus": (-(log(p) + log(q)), lambda: -(log_p(Z) + log_q(Z))),
    "minus, all": (-log(p) - log(q), lambda: -log_p(Z) - log_q(Z)),
    "product": (log(p) * log(q) * 2, lambda: log_p(Z) * log_q(Z) * 2),
    "product of negatives": ((-log(p)) * (-log(q)), lambda: log_p(Z) * log_q(Z)),
    "quotient": (log(p) / log(q), lambda: log_p(Z) / log_q(Z)),
    "power": (log(p) ** 2, lambda: log_p(Z) ** 2),
    "power of a negative": ((-log(p)) ** 0.5, lambda: (-log_p(Z)) ** 0.5),
    "exponent": (2 ** log(p), lambda: 2 ** log_p(Z)),
    "abs": (log(p).abs(), lambda: log_p(Z).abs()),
    "exp": (log(p).exp(), lambda: log_p(Z).exp()),
    "exp of a minus": ((-log(p)).exp(), lambda: (-log_p(Z)).exp()),
    "log of a minus": ((-log(p)).log(), lambda: (-log_p(Z)).log()),
    "log of a density": (log(Prob(p)), lambda: log_p(Z)),
    "clamp": (log(p).clamp(-1.5, -1.4), lambda: log_p(Z).clamp(-1.5, -1.4)),
    "clamp of a minus": ((-log(p)).clamp(min=1.45), lambda: (-log_p(Z)).clamp(min=1.45)),
    "min": (Min(log(p), log(q), -1.4), lambda: torch.minimum(log_p(Z), log_q(Z)).clamp(max=-1.4)),
    "max": (Max(-log(p), log(q)), lambda: torch.maximum(-log_p(Z), log_q(Z))),
    "detach": (-log(p).detach(), lambda: -log_p(Z)),
    "mean": ((-log(p)).mean(), lambda: -log_p(Z).mean()),
    "sum": (-log(p).sum(), lambda: -log_p(Z).sum()),
    "sum of a number": ((log(p) + 2).sum(), lambda: (log_p(Z) + 2).sum()),
    "mean of a sum": ((log(p).sum() + log(q)).mean(), lambda: log_p(Z).sum() + log_q(Z).mean()),
    "function": (Function(lambda x, z: x * z, ["x", "z"], "f"), lambda: X * Z),
    "parameter": (Parameter("beta") * log(p), lambda: 0.25 * log_p(Z)),
    "E of a mean": (E(q, [4])[log(p).mean()], lambda: log_p(drawn(4)).mean()),
    "E of a mean times": ((E(q, [4])[log(p).mean()]) * log(p), lambda: log_p(drawn(4)).mean() * log_p(Z)),
}


@pytest.mark.parametrize("name", HAND)
def test_by_hand(name: str) -> None:
    loss, by_hand = HAND[name]
    torch.manual_seed(5)
    assert_close(loss.eval({"x": X, "z": Z, "beta": 0.25}), by_hand())


# ---------------------------------------------------------------------- two spellings, one quantity (the same draws)

SAME: dict[str, tuple[Loss, Loss]] = {
    "log of a product": (log(p * prior), log(p) + log(prior)),
    "the ELBO, two ways": (ELBO(p * prior, q), E(q)[log(p)] - KL(q, prior)),
    "the ELBO, three ways": (ELBO(p * prior, q), E(q)[log(p)] - CrossEntropy(q, prior) + Entropy(q)),
    "the ELBO, typed": (ELBO(p * prior, q), E(q)[log(p * prior) - log(q)]),
    "the ELBO, the other way round": (ELBO(p * prior, q), -E(q)[log(q) - log(p * prior)]),
    "linearity": (E(q)[2 * log(p) - 3 * log(prior) + 1], 2 * E(q)[log(p)] - 3 * E(q)[log(prior)] + 1),
    "a parameter goes out": (E(q)[Parameter("beta") * log(p)], Parameter("beta") * E(q)[log(p)]),
    "what is not drawn goes out": (E(q)[log(p) + log(alone)], E(q)[log(p)] + log(alone)),
    "cross entropy": (CrossEntropy(q, prior), Entropy(q) + KL(q, prior)),
    "entropy": (Entropy(q), E(q)[-log(q)]),
    "KL": (KL(q, prior), E(q)[log(q) - log(prior)]),
    "KL with weights": (E(q)[0.5 * log(q) - 0.5 * log(prior)], 0.5 * KL(q, prior)),
    "KL of products": (
        KL(q * pf.Normal("q(w | x)", loc="x", scale=1.0), prior * pf.Normal("p(w)", loc=0.0, scale=1.0)),
        KL(q, prior) + KL(pf.Normal("q(w | x)", loc="x", scale=1.0), pf.Normal("p(w)", loc=0.0, scale=1.0)),
    ),
    "mean is linear": ((2 * log(p) - log(q)).mean(), 2 * log(p).mean() - log(q).mean()),
    "barren": (E(q * pf.Normal("q(w | z)", loc="z", scale=1.0))[log(p)], E(q)[log(p)]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_two_spellings(name: str) -> None:
    values: dict[str, Tensor | float] = {"x": X, "z": Z, "beta": 0.25}
    results = []
    for loss in SAME[name]:
        torch.manual_seed(3)
        results.append(loss.eval(values))
    assert_close(*results)


# ---------------------------------------------------------------------- closed forms against integrals


@pytest.mark.parametrize("first", FAMILIES)
def test_kl_and_entropy_of_every_pair(first: str) -> None:
    """Where there is a closed form, it is the integral over a grid (or the sum over all values); no pair returns inf."""
    case = FAMILIES[first]
    one = case.constant()
    points, weights = case.grid(case.tensors())
    log_one = one.log_prob({"x": points})
    here = log_one > -700
    mass = (log_one.exp() * weights)[here]
    if has_entropy(one.factors[0]):
        assert_close(Entropy(one).eval({})[0], -(mass * log_one[here]).sum(), rtol=2e-3, atol=1e-4)
    found = 0
    for second, other in FAMILIES.items():
        rows = other.rows(3)
        two = other.make("p(x)", **{name: row[1] for name, row in rows.items()})
        try:
            formula = kl_formula(one.factors[0], two.factors[0])
        except LossError as error:
            assert "infinite" in str(error)
            for divergence in (KL(one, two), KL(one, two, sample_shape=[2]), CrossEntropy(one, two)):
                with pytest.raises(LossError, match="infinite"):
                    divergence.eval({})
            continue
        if formula is None:
            continue
        if first.startswith("Binomial"):
            with pytest.raises(LossError, match="total_count"):  # another number of coins
                KL(one, two).eval({})
            two = other.make(
                "p(x)", **{**{name: row[1] for name, row in rows.items()}, "total_count": case.tensors()["total_count"]}
            )
        value = KL(one, two).eval({})[0]
        if first == "Uniform" and second not in ("Normal", "Gumbel"):
            assert value == math.inf  # by its numbers: it has mass where the other has none
            continue
        exact = (mass * (log_one - two.log_prob({"x": points}))[here]).sum()
        assert_close(value, exact, rtol=2e-3, atol=1e-4, msg=f"KL({first} || {second}) = {value}, integral {exact}")
        found += 1
    assert found or first not in ("Normal", "Gamma", "Beta", "Bernoulli, probs", "Categorical, logits", "Poisson", "Laplace")


def test_binomials_of_different_counts_by_summing() -> None:
    one, two = pf.Binomial("q(z)", total_count=3.0, probs=0.4), pf.Binomial("p(z)", total_count=5.0, probs=0.3)
    states = torch.arange(4.0)
    a, b = td.Binomial(3, torch.tensor(0.4)).log_prob(states), td.Binomial(5, torch.tensor(0.3)).log_prob(states)
    assert_close(KL(one, two, analytical=False).eval({})[0], (a.exp() * (a - b)).sum())


@pytest.mark.parametrize("name", ["Normal", "Gamma", "Beta", "Bernoulli, logits", "Laplace", "Exponential", "Dirichlet"])
def test_monte_carlo_agrees_with_the_closed_form(name: str) -> None:
    case = FAMILIES[name]
    one = case.constant()
    rows = case.rows(3)
    two = case.make("p(x)", **{key: row[1] for key, row in rows.items()})
    n = {"c": torch.zeros(20_000)}
    ones = (log(pf.Normal("p(c)", loc=0.0, scale=1.0)) * 0).detach()  # gives the batch its size
    close((KL(one, two, sample_shape=[2]) + ones).eval(n), KL(one, two).eval({})[0])
    close((Entropy(one, sample_shape=[2]) + ones).eval(n), Entropy(one).eval({})[0])


# ---------------------------------------------------------------------- simplify never changes the value


class Affine(nn.Module):
    """Random linear maps: loc and scale from any inputs."""

    def __init__(self, inputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = 0.6 * torch.randn(inputs, generator=generator, dtype=torch.float64)
        self.scale = 0.5 + torch.rand((), generator=generator, dtype=torch.float64)
        self.bias = 0.3 * torch.randn((), generator=generator, dtype=torch.float64)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        loc = self.bias + sum(w * x for w, x in zip(self.weights, inputs, strict=True))
        return {"loc": loc, "scale": self.scale.expand_as(loc)}


class Logit(Affine):
    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(*inputs)["loc"]}


def normal(statement: str, seed: int) -> pf.Distribution:
    inside = statement[statement.index("(") + 1 : -1]
    given = inside.split("|")[1].split(",") if "|" in inside else []
    if not given:
        return pf.Normal(statement, loc=0.1 * seed, scale=1.0 + 0.05 * seed)
    return pf.Normal(statement, Affine(len(given), seed))


def coin(statement: str, seed: int) -> pf.Distribution:
    inside = statement[statement.index("(") + 1 : -1]
    given = inside.split("|")[1].split(",") if "|" in inside else []
    return pf.Bernoulli(statement, Logit(len(given), seed)) if given else pf.Bernoulli(statement, probs=0.3 + 0.01 * seed)


def product(*factors: pf.Distribution) -> pf.Distribution:
    total = factors[0]
    for factor in factors[1:]:
        total = total * factor
    return total


N, B = normal, coin
MODELS: dict[str, tuple[pf.Distribution, pf.Distribution]] = {
    "VAE": (product(N("p(x|z)", 1), N("p(z)", 2)), N("q(z|x)", 3)),
    "chain, the same direction": (
        product(N("p(x|z1)", 1), N("p(z2|z1)", 2), N("p(z1)", 3)),
        product(N("q(z1|x)", 4), N("q(z2|z1)", 5)),
    ),
    "hierarchical, bottom-up": (
        product(N("p(x|z1)", 1), N("p(z1|z2)", 2), N("p(z2)", 3)),
        product(N("q(z1|x)", 4), N("q(z2|z1)", 5)),
    ),
    "hierarchical, top-down": (
        product(N("p(x|z1,z2)", 1), N("p(z1|z2)", 2), N("p(z2)", 3)),
        product(N("q(z2|x)", 4), N("q(z1|z2,x)", 5)),
    ),
    "mean field": (
        product(N("p(x|z1,z2)", 1), N("p(z1|z2)", 2), N("p(z2)", 3)),
        product(N("q(z1|x)", 4), N("q(z2|x)", 5)),
    ),
    "three levels": (
        product(N("p(x|z1)", 1), N("p(z1|z2)", 2), N("p(z2|z3)", 3), N("p(z3)", 4)),
        product(N("q(z1|x)", 5), N("q(z2|z1)", 6), N("q(z3|z2,x)", 7)),
    ),
    "a coin below": (
        product(N("p(x|y,z)", 1), N("p(z|y)", 2), B("p(y)", 3)),
        product(B("q(y|x)", 4), N("q(z|x,y)", 5)),
    ),
    "a coin above": (
        product(N("p(x|y,z)", 1), B("p(y|z)", 2), N("p(z)", 3)),
        product(N("q(z|x)", 4), B("q(y|z,x)", 5)),
    ),
    "a coin, turned": (
        product(N("p(x|y,z)", 1), B("p(y|z)", 2), N("p(z)", 3)),
        product(B("q(y|x)", 4), N("q(z|x,y)", 5)),
    ),
    "a coin between": (
        product(N("p(x|y,z)", 1), N("p(z|y)", 2), B("p(y|w)", 3), N("p(w)", 4)),
        product(N("q(w|x)", 5), B("q(y|w)", 6), N("q(z|y,w)", 7)),
    ),
    "two coins": (
        product(N("p(x|a,b)", 1), B("p(a|b)", 2), B("p(b)", 3)),
        product(B("q(a|x)", 4), B("q(b|a,x)", 5)),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_simplified_and_sampled_agree(name: str) -> None:
    """The ELBO as planned (closed forms, sums over coins, fewer draws) against plain Monte Carlo of what was typed."""
    joint, posterior = MODELS[name]
    simplified = many(ELBO(joint, posterior), {"x": 0.7})
    sampled = many(E(posterior, [1])[(log(joint) - log(posterior)) * Parameter("one")], {"x": 0.7, "one": 1.0})
    raw = _by_ancestral_sampling(joint, posterior, 0.7)
    close(simplified, raw)
    close(sampled, raw)
    close(many(KL(posterior, _latent(joint)), {"x": 0.7}), _kl_by_sampling(joint, posterior, 0.7))


def _latent(joint: pf.Distribution) -> pf.Distribution:
    return product(*(factor for factor in joint.factors if "x" not in factor.var))


def _by_ancestral_sampling(joint: pf.Distribution, posterior: pf.Distribution, x: float, n: int = 40_000) -> Tensor:
    """Without the planner: draw, then look up densities."""
    values = posterior.sample({"x": torch.full((n,), x)})
    return (joint.log_prob(values) - posterior.log_prob(values)).detach()


def _kl_by_sampling(joint: pf.Distribution, posterior: pf.Distribution, x: float, n: int = 40_000) -> Tensor:
    values = posterior.sample({"x": torch.full((n,), x)})
    latent = {name: values[name] for name in posterior.var}
    return (posterior.log_prob(values) - _latent(joint).log_prob(latent)).detach()


def test_a_log_ratio_below_its_condition_is_not_a_kl() -> None:
    """q(z1) q(z2|z1) against p(z2) p(z1|z2): E[log q(z1) - log p(z1|z2)] is not a KL, as z2 is drawn below z1."""
    q1, q2 = (
        pf.Normal("q(z1)", loc=0.4, scale=0.8),
        pf.Normal("q(z2|z1)", lambda z1: {"loc": 0.9 * z1, "scale": torch.full_like(z1, 0.5)}),
    )
    p2, p1 = (
        pf.Normal("p(z2)", loc=0.0, scale=1.0),
        pf.Normal("p(z1|z2)", lambda z2: {"loc": 0.7 * z2, "scale": torch.full_like(z2, 0.6)}),
    )
    # both are Gaussians of (z1, z2): the exact divergence
    mean_q = torch.tensor([0.4, 0.36])
    cov_q = torch.tensor([[0.64, 0.9 * 0.64], [0.9 * 0.64, 0.81 * 0.64 + 0.25]])
    cov_p = torch.tensor([[0.49 + 0.36, 0.7], [0.7, 1.0]])
    exact = td.kl_divergence(td.MultivariateNormal(mean_q, cov_q), td.MultivariateNormal(torch.zeros(2), cov_p))
    batch = (log(pf.Normal("p(c)", loc=0.0, scale=1.0)) * 0).detach()
    n = {"c": torch.zeros(100_000)}
    for loss in (KL(q1 * q2, p2 * p1), -E(q1 * q2)[log(p2 * p1) - log(q1 * q2)], -ELBO(p2 * p1, q1 * q2)):
        close((loss + batch).eval(n).detach(), exact)
    term = E(q1 * q2)[log(q1) - log(p1)]
    assert "KL" not in "".join(term.terms({}))
    # E[log q(z1)] - E[log p(z1|z2)], from the moments of z1 - 0.7 z2
    a = torch.tensor([1.0, -0.7])
    second_moment = a @ cov_q @ a + (a @ mean_q) ** 2
    truth = -td.Normal(0.4, 0.8).entropy() + 0.5 * math.log(2 * math.pi * 0.36) + second_moment / 0.72
    close((term + batch).eval(n).detach(), truth)


def test_linear_gaussian_evidence() -> None:
    """With the exact posterior, the ELBO of every draw is log p(x)."""
    posterior = pf.Normal("q(z|x)", lambda x: {"loc": x / 2, "scale": torch.full_like(x, math.sqrt(0.5))})
    model = pf.Normal("p(x|z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
    evidence = td.Normal(0.0, math.sqrt(2)).log_prob(X)
    assert_close(E(posterior, [1])[(log(model) - log(posterior)) * Parameter("one")].eval({"x": X, "one": 1.0}), evidence)
    assert_close(log(E(posterior, [3])[exp(log(model) - log(posterior))]).eval({"x": X}), evidence)


def test_an_observed_factor_is_not_dropped_from_an_expectation() -> None:
    """p(z) p(x = 1|z) is not normalised: its expectation is not the prior's."""
    observed = pf.Normal("p(x|z)", loc="z", scale=1.0).given(x=torch.ones(3)) * prior
    with pytest.raises(pf.errors.NoSampler, match="observed"):
        E(observed)[Function(lambda z: z, ["z"], "f")].eval({})


def test_values_fixed_in_a_distribution_give_the_batch() -> None:
    fixed = q.given(x=X)
    assert_close(KL(fixed, prior).eval({}), KL(q, prior).eval({"x": X}))
    assert_close(KL(fixed, prior).mean().eval({}), KL(q, prior).mean().eval({"x": X}))
    torch.manual_seed(0)
    a = E(fixed)[log(p.given(x=X))].eval({})
    torch.manual_seed(0)
    assert_close(a, E(q)[log(p)].eval({"x": X}))
    with pytest.raises(pf.errors.ShapeError, match="3 rows"):
        (KL(fixed, prior) + log(prior)).eval({"z": torch.zeros(4)})


def test_values_of_arguments_are_not_changed() -> None:
    values: dict[str, Any] = {"x": X.clone(), "beta": 0.5, "unused": "extra names are fine"}
    (Parameter("beta") * KL(q, prior)).eval(values)
    assert list(values) == ["x", "beta", "unused"] and torch.equal(values["x"], X)
