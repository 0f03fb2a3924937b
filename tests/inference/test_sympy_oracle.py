"""Closed-form divergences against sympy: exact integrals where it finds them, 30-digit quadrature where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import sympy as sp
import torch
from torch import Tensor
from torch import distributions as td
from torch.testing import assert_close

import probflow as pf
from probflow import KL, Entropy

R, oo = sp.Rational, sp.oo
t, x = sp.Symbol("t", real=True), sp.Symbol("x", positive=True)
n = sp.Symbol("n", integer=True, nonnegative=True)
Density = Callable[..., sp.Expr]


def close(value: Tensor, exact: Any) -> None:
    assert_close(value.squeeze(), torch.tensor(float(exact)), rtol=1e-10, atol=1e-12)


def divergence(family: str, q: dict[str, Any], p: dict[str, Any]) -> Tensor:
    cls = getattr(pf, family)
    numbers = [{name: float(value) for name, value in params.items()} for params in (q, p)]
    return KL(cls("q(z)", **numbers[0]), cls("p(z)", **numbers[1])).eval()


# ---------------------------------------------------------------------- exact, for all parameters


def test_two_normals() -> None:
    """E_q[log q - log p] with z = m1 + s1 t: sympy integrates over t for symbolic parameters."""
    m1, m2 = sp.symbols("m1 m2", real=True)
    s1, s2 = sp.symbols("s1 s2", positive=True)
    noise = sp.exp(-(t**2) / 2) / sp.sqrt(2 * sp.pi)
    ratio = -(t**2) / 2 - sp.log(s1) + (m1 + s1 * t - m2) ** 2 / (2 * s2**2) + sp.log(s2)
    exact = sp.integrate(sp.expand(noise * sp.expand(ratio)), (t, -oo, oo))
    for point in [(0, 1, 0, 1), (R(1, 2), R(1, 3), 0, 1), (-1, 2, R(7, 4), R(1, 5)), (R(9, 2), R(1, 50), 1, 3)]:
        a, b, c, d = point
        close(divergence("Normal", {"loc": a, "scale": b}, {"loc": c, "scale": d}), exact.subs({m1: a, s1: b, m2: c, s2: d}))


def test_two_exponentials() -> None:
    a, b = sp.symbols("a b", positive=True)
    exact = sp.integrate(sp.expand(a * sp.exp(-a * x) * (sp.log(a) - sp.log(b) - (a - b) * x)), (x, 0, oo))
    assert sp.simplify(exact - (sp.log(a) - sp.log(b) + b / a - 1)) == 0
    for q, p in [(1, 1), (R(1, 3), 2), (5, R(1, 10))]:
        close(divergence("Exponential", {"rate": q}, {"rate": p}), exact.subs({a: q, b: p}))


def test_two_poissons() -> None:
    with mpmath.workdps(30):
        two, ratio = mpmath.mpf(2), mpmath.log(mpmath.mpf(2) / 3)
        exact = mpmath.nsum(lambda k: mpmath.exp(-two) * two**k / mpmath.factorial(k) * (k * ratio + 1), [0, mpmath.inf])
    close(divergence("Poisson", {"rate": 2}, {"rate": 3}), exact)


def test_two_betas() -> None:
    """Integer parameters make polynomials times logarithms."""
    q, p = (lambda v: 12 * v**2 * (1 - v)), (lambda v: 20 * v * (1 - v) ** 3)
    ratio = sp.log(R(12, 20)) + sp.log(x) - 2 * sp.log(1 - x)
    exact = sp.integrate(sp.expand(q(x)) * ratio, (x, 0, 1))
    assert sp.simplify(sp.integrate(p(x), (x, 0, 1)) - 1) == 0
    close(divergence("Beta", {"concentration1": 3, "concentration0": 2}, {"concentration1": 2, "concentration0": 4}), exact)


# ---------------------------------------------------------------------- finite sums


def finite(q: list[sp.Expr], p: list[sp.Expr]) -> sp.Expr:
    """Σ q log(q / p), with 0 log 0 = 0."""
    return sum(a * sp.log(a / b) for a, b in zip(q, p, strict=True) if a != 0)


@pytest.mark.parametrize(("a", "b"), [(R(1, 3), R(1, 2)), (R(99, 100), R(1, 100)), (R(0), R(1, 4)), (R(1), R(1, 4))])
def test_two_coins(a: sp.Rational, b: sp.Rational) -> None:
    exact = finite([a, 1 - a], [b, 1 - b])
    close(divergence("Bernoulli", {"probs": a}, {"probs": b}), exact)
    q, p = {"total_count": 7, "probs": a}, {"total_count": 7, "probs": b}
    if 0 < a < 1:
        close(divergence("Binomial", q, p), 7 * exact)


def test_two_categoricals() -> None:
    q, p = [R(1, 2), R(1, 2), R(0)], [R(1, 4), R(1, 4), R(1, 2)]
    a, b = (pf.Categorical(f"{s}(y)", probs=torch.tensor([float(v) for v in w])) for s, w in (("q", q), ("p", p)))
    close(KL(a, b).eval(), finite(q, p))
    close(Entropy(a).eval(), sp.log(2))


def test_two_geometrics() -> None:
    """E_q[n] = (1 - a) / a, which sympy sums; log q - log p is linear in n."""
    a, b = R(1, 3), R(1, 2)
    mean = sp.simplify(sp.summation(a * (1 - a) ** n * n, (n, 0, oo)))
    exact = sp.log(a / b) + mean * sp.log((1 - a) / (1 - b))
    close(divergence("Geometric", {"probs": a}, {"probs": b}), exact)


# ---------------------------------------------------------------------- quadrature


def normal(v: sp.Expr, loc: Any, scale: Any) -> sp.Expr:
    return sp.exp(-((v - loc) ** 2) / (2 * scale**2)) / (scale * sp.sqrt(2 * sp.pi))


def continuous_bernoulli(v: sp.Expr, logits: Any) -> sp.Expr:
    return logits * sp.exp(logits * v) / (sp.exp(logits) - 1)


def gumbel(v: sp.Expr, loc: Any, scale: Any) -> sp.Expr:
    return sp.exp(-(v - loc) / scale - sp.exp(-(v - loc) / scale)) / scale


DENSITIES: dict[str, tuple[Density, dict[str, Any], dict[str, Any], list[Any]]] = {
    "Normal": (normal, {"loc": R(1, 2), "scale": R(1, 2)}, {"loc": R(-1), "scale": R(2)}, [-6, -2, 0, R(1, 2), 1, 3, 7]),
    "LogNormal": (
        lambda v, loc, scale: normal(sp.log(v), loc, scale) / v,
        {"loc": R(1, 2), "scale": R(1, 2)}, {"loc": R(-1), "scale": R(1)}, [R(1, 100), R(1, 2), 1, 2, 5, 20, 100],
    ),
    "Laplace": (
        lambda v, loc, scale: sp.exp(-sp.Abs(v - loc) / scale) / (2 * scale),
        {"loc": R(1, 2), "scale": R(1)}, {"loc": R(-1), "scale": R(2)}, [-60, -20, -5, -1, R(1, 2), 5, 20, 60],
    ),
    "Gamma": (
        lambda v, concentration, rate: rate**concentration * v ** (concentration - 1) * sp.exp(-rate * v) / sp.gamma(concentration),
        {"concentration": R(5, 2), "rate": R(2)}, {"concentration": R(3, 2), "rate": R(1, 2)}, [0, R(1, 2), 1, 3, 10, 40],
    ),
    "Beta": (
        lambda v, concentration1, concentration0: (
            v ** (concentration1 - 1) * (1 - v) ** (concentration0 - 1) * sp.gamma(concentration1 + concentration0)
            / (sp.gamma(concentration1) * sp.gamma(concentration0))
        ),
        {"concentration1": R(5, 2), "concentration0": R(7, 2)}, {"concentration1": R(2), "concentration0": R(4)}, [0, R(1, 2), 1],
    ),
    "ContinuousBernoulli": (continuous_bernoulli, {"logits": R(3, 2)}, {"logits": R(-2)}, [0, 1]),
    "Gumbel": (gumbel, {"loc": R(1, 2), "scale": R(1)}, {"loc": R(-1), "scale": R(2)}, [-4, -2, 0, 2, 10, 30, 80]),
    "Uniform": (lambda v, low, high: 1 / (high - low) + 0 * v, {"low": R(0), "high": R(1)}, {"low": R(-1), "high": R(3)}, [0, 1]),
    "HalfNormal": (lambda v, scale: 2 * normal(v, 0, scale), {"scale": R(1, 2)}, {"scale": R(2)}, [0, R(1, 2), 1, 2, 5]),
}  # fmt: skip


@pytest.mark.parametrize("family", DENSITIES)
def test_quadrature(family: str) -> None:
    density, q, p, points = DENSITIES[family]
    variable = t if min(points) < 0 else x
    one, other = (sp.lambdify(variable, density(variable, **params), "mpmath") for params in (q, p))
    with mpmath.workdps(30):
        ends = [mpmath.mpf(sp.Rational(point).p) / sp.Rational(point).q for point in points]
        mass = mpmath.quad(one, ends)
        exact = mpmath.quad(lambda v: one(v) * mpmath.log(one(v) / other(v)), ends)
    assert abs(mass - 1) < 1e-12  # the interval holds all of q
    close(divergence(family, q, p), exact)


# ---------------------------------------------------------------------- shapes


def test_parameters_of_unequal_shapes() -> None:
    """One location for several scales: every element counts."""
    loc, scale = torch.randn(5, 1), torch.rand(5, 3) + 0.1
    q = pf.Normal("q(z | x)", lambda x: {"loc": loc, "scale": scale})
    prior = pf.Normal("p(z)", loc=0.3, scale=2.0, features_shape=3)
    expected = td.kl_divergence(td.Normal(loc, scale), td.Normal(0.3, 2.0)).sum(-1)
    assert_close(KL(q, prior).eval({"x": torch.zeros(5)}), expected)
