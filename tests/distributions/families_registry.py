"""Every family and parameterisation, one line each; tests/distributions/test_families.py tests all laws over this table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import scipy.stats as st
import torch
from torch import Tensor
from torch import distributions as td

from probflow import domains as d
from probflow.distributions import families as f
from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric

Grid = Callable[[Params], tuple[Tensor, Tensor]]


def line(center: float = 0.0, width: float = 1.0) -> Grid:
    """Points and weights of an integral over the real numbers: midpoints in the angle, x = center + width tan(angle)."""

    def grid(_: Params) -> tuple[Tensor, Tensor]:
        angle = torch.pi * (_middle(20_000) - 0.5)
        return center + width * angle.tan(), width * torch.pi / angle.cos().square() / len(angle)

    return grid


def half_line(width: float = 1.0) -> Grid:
    def grid(_: Params) -> tuple[Tensor, Tensor]:
        u = _middle(20_000)
        return width * u / (1 - u), width / (1 - u).square() / len(u)

    return grid


def segment(low: str | float, high: str | float) -> Grid:
    """An interval; its ends may be parameters, so that the integral can be differentiated."""

    def grid(p: Params) -> tuple[Tensor, Tensor]:
        a, b = (p[end] if isinstance(end, str) else torch.tensor(end) for end in (low, high))
        u, weights = _smooth()
        return a + (b - a) * u, (b - a) * weights

    return grid


def plane(center: tuple[float, float]) -> Grid:
    def grid(p: Params) -> tuple[Tensor, Tensor]:
        (x, a), (y, b) = ((points[::100], weights[::100] * 100) for points, weights in (line(c)(p) for c in center))
        return torch.cartesian_prod(x, y), torch.outer(a, b).flatten()

    return grid


def edge(_: Params) -> tuple[Tensor, Tensor]:
    """The simplex of two classes, measured by its first element."""
    u, weights = _smooth()
    return torch.stack([u, 1 - u], -1), weights


def listed(points: Callable[[], Tensor]) -> Grid:
    """All values of a discrete family (as many as have mass)."""
    return lambda _: (points(), torch.ones(len(points())))


def compositions(total: int, classes: int) -> Tensor:
    counts = [c for c in itertools.product(range(total + 1), repeat=classes) if sum(c) == total]
    return torch.tensor(counts, dtype=torch.get_default_dtype())


def _middle(n: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def _smooth() -> tuple[Tensor, Tensor]:
    """The unit interval, with points so close together at its ends that a density may go to infinity there."""
    t = _middle(20_000)
    return t.square() * (3 - 2 * t), 6 * t * (1 - t) / len(t)


def _direction(x: Tensor) -> Tensor:
    return torch.atan2(x.sin().mean(0), x.cos().mean(0))


@dataclass(frozen=True)
class Case:
    """make: the family.  params: the parameters of one event.  grid: how to integrate (or sum) over one event.

    scipy: the same distribution in scipy.stats, or a string that says why there is none.
    outside: values that do not belong to the support.  without: what has no closed form.  pmf: whether values are discrete.
    """

    make: type[Parametric]
    params: dict[str, Any]
    grid: Grid
    scipy: Callable[..., Any] | str
    outside: tuple[Any, ...]
    without: tuple[str, ...] = ()
    pmf: bool = False
    average: Callable[[Tensor], Tensor] = lambda x: x.mean(0)

    def tensors(self) -> dict[str, Any]:
        return {name: torch.tensor(value, dtype=torch.get_default_dtype()) for name, value in self.params.items()}

    def rows(self, batch: int, extra: tuple[int, ...] = ()) -> dict[str, Any]:
        """Different parameters for each element: ``(batch, *extra, ...)``."""
        rows = {}
        for name, value in self.tensors().items():
            domain = self.make.family.params[name]
            other = STEP_ASIDE[domain](value) if domain in STEP_ASIDE else value + 0.05 * (value < 1)
            second = torch.arange(batch * math.prod(extra)) % 3 == 1
            pick = second.reshape(batch, *extra, *[1] * value.dim())
            rows[name] = torch.where(pick, other, value)
        return rows

    def constant(self, **features: Any) -> Parametric:
        return self.make("p(x)", **self.tensors(), **features)

    def network(self, params: Params) -> Parametric:
        return self.make("p(x | c)", lambda c: dict(params))


STEP_ASIDE: dict[d.Domain, Callable[[Tensor], Tensor]] = {
    d.real: lambda t: t + 0.1,
    d.real_vector: lambda t: t + 0.1,
    d.real_matrix: lambda t: t + 0.1,
    d.positive: lambda t: t * 1.2,
    d.positive_vector: lambda t: t * 1.2,
    d.nonnegative: lambda t: t * 1.2,
    d.natural: lambda t: t + 1,
    d.unit_interval: lambda t: 1 - t,
    d.simplex: lambda t: t.flip(-1),
    d.logit_vector: lambda t: t.flip(-1),
    d.lower_cholesky: lambda t: t * 1.2,
    d.positive_definite: lambda t: t * 1.2,
}


def _rayleigh_log_prob(p: Params, x: Tensor) -> Tensor:
    return x.log() - 2 * p["scale"].log() - 0.5 * (x / p["scale"]).square()


def _rayleigh(scale: Tensor, validate_args: bool) -> td.Distribution:
    return td.Weibull(scale * math.sqrt(2), torch.full_like(scale, 2.0), validate_args=validate_args)


class Rayleigh(
    Parametric,
    family=Family(
        _rayleigh,
        params={"scale": d.positive},
        support=d.positive,
        log_prob=_rayleigh_log_prob,
        reparameterised=True,
        entropy=True,
    ),
):
    """A user's own family: a torch distribution, the domain of its parameter, its support, and here its formula."""


def _gamma_poisson(total_count: Any, probs: Any) -> Any:
    return st.nbinom(total_count, 1 - probs)  # scipy counts the failures before the n-th success


def _sigmoid(logits: Any) -> Any:
    return 1 / (1 + math.exp(-logits))


def _softmax(logits: Any) -> Any:
    weights = [math.exp(entry) for entry in logits]
    return [w / sum(weights) for w in weights]


def _low_rank(loc: Any, cov_factor: Any, cov_diag: Any) -> Any:
    return st.multivariate_normal(loc, cov_factor @ cov_factor.T + torch.diag(torch.as_tensor(cov_diag)).numpy())


NAN, INF = math.nan, math.inf
COV = [[1.5, 0.6], [0.6, 0.8]]
TRIL = [[1.2, 0.0], [-0.4, 0.7]]
SPOTS = listed(lambda: torch.arange(400.0))
LEVELS = listed(lambda: torch.arange(256) / 255)
PAIRS = listed(lambda: torch.cartesian_prod(torch.arange(256), torch.arange(256)).reshape(-1, 2, 1, 1) / 255)
GREYS = listed(lambda: torch.arange(256).reshape(-1, 1, 1, 1) / 255)
NONE = ("mean", "variance", "entropy")
MIX1 = {"logits": [[[0.3, -0.5]]], "loc": [[[[0.2, 0.7]]]], "scale": [[[[0.05, 0.1]]]]}
MIX2 = {"logits": [[[0.3, -0.5]]], "loc": [[[[0.2, 0.7]]], [[[0.4, 0.3]]]], "scale": [[[[0.05, 0.1]]], [[[0.02, 0.2]]]]}

FAMILIES: dict[str, Case] = {
    "Normal": Case(f.Normal, {"loc": 0.3, "scale": 0.8}, line(), lambda loc, scale: st.norm(loc, scale), (NAN, INF)),
    "LogNormal": Case(
        f.LogNormal,
        {"loc": 0.2, "scale": 0.4},
        half_line(),
        lambda loc, scale: st.lognorm(scale, scale=math.exp(loc)),
        (NAN, -0.1, 0.0),
    ),
    "MultivariateNormal, covariance": Case(
        f.MultivariateNormal,
        {"loc": [0.3, -0.2], "covariance_matrix": COV},
        plane((0.3, -0.2)),
        lambda loc, covariance_matrix: st.multivariate_normal(loc, covariance_matrix),
        ([NAN, 0.0],),
    ),
    "MultivariateNormal, precision": Case(
        f.MultivariateNormal,
        {"loc": [0.3, -0.2], "precision_matrix": COV},
        plane((0.3, -0.2)),
        lambda loc, precision_matrix: st.multivariate_normal(loc, torch.as_tensor(precision_matrix).inverse().numpy()),
        ([NAN, 0.0],),
    ),
    "MultivariateNormal, scale_tril": Case(
        f.MultivariateNormal,
        {"loc": [0.3, -0.2], "scale_tril": TRIL},
        plane((0.3, -0.2)),
        lambda loc, scale_tril: st.multivariate_normal(loc, scale_tril @ scale_tril.T),
        ([NAN, 0.0],),
    ),
    "LowRankMultivariateNormal": Case(
        f.LowRankMultivariateNormal,
        {"loc": [0.3, -0.2], "cov_factor": [[0.7], [-0.5]], "cov_diag": [0.4, 0.9]},
        plane((0.3, -0.2)),
        _low_rank,
        ([NAN, 0.0],),
    ),
    "StudentT": Case(
        f.StudentT, {"df": 7.0, "loc": 0.3, "scale": 0.8}, line(), lambda df, loc, scale: st.t(df, loc, scale), (NAN, INF)
    ),
    "StudentT, df only": Case(f.StudentT, {"df": 7.0}, line(), lambda df: st.t(df), (NAN,)),
    "Laplace": Case(f.Laplace, {"loc": 0.3, "scale": 0.8}, line(0.3), lambda loc, scale: st.laplace(loc, scale), (NAN, INF)),
    "Cauchy": Case(
        f.Cauchy,
        {"loc": 0.3, "scale": 0.8},
        line(),
        lambda loc, scale: st.cauchy(loc, scale),
        (NAN, INF),
        without=("mean", "variance"),
    ),
    "Logistic": Case(f.Logistic, {"loc": 0.3, "scale": 0.8}, line(), lambda loc, scale: st.logistic(loc, scale), (NAN, INF)),
    "Gumbel": Case(
        f.Gumbel, {"loc": 0.3, "scale": 0.8}, segment(-4.0, 30.0), lambda loc, scale: st.gumbel_r(loc, scale), (NAN, INF)
    ),
    "Uniform": Case(
        f.Uniform,
        {"low": -0.5, "high": 1.5},
        segment("low", "high"),
        lambda low, high: st.uniform(low, high - low),
        (NAN, -0.51, 1.8),
    ),
    "Beta": Case(
        f.Beta,
        {"concentration1": 2.0, "concentration0": 3.0},
        segment(0.0, 1.0),
        lambda concentration1, concentration0: st.beta(concentration1, concentration0),
        (NAN, -0.1, 0.0, 1.0, 1.1),
    ),
    "Kumaraswamy": Case(
        f.Kumaraswamy,
        {"concentration1": 2.0, "concentration0": 3.0},
        segment(0.0, 1.0),
        "not in scipy",
        (NAN, -0.1, 0.0, 1.0, 1.1),
    ),
    "ContinuousBernoulli, probs": Case(
        f.ContinuousBernoulli,
        {"probs": 0.8},
        segment(0.0, 1.0),
        lambda probs: (
            st.truncexpon(-math.log(probs / (1 - probs)), scale=-1 / math.log(probs / (1 - probs)))
            if probs < 0.5
            else _mirrored(math.log(probs / (1 - probs)))
        ),
        (NAN, -0.1, 1.1),
    ),
    "ContinuousBernoulli, logits": Case(
        f.ContinuousBernoulli, {"logits": 1.3}, segment(0.0, 1.0), lambda logits: _mirrored(logits), (NAN, -0.1, 1.1)
    ),
    "ContinuousBernoulli, nearly uniform": Case(
        f.ContinuousBernoulli, {"logits": 1e-3}, segment(0.0, 1.0), lambda logits: _mirrored(logits), (NAN, 1.1)
    ),
    "Dirichlet": Case(
        f.Dirichlet,
        {"concentration": [2.0, 3.0]},
        edge,
        lambda concentration: st.dirichlet(concentration),
        ([NAN, 1.0], [1.0, 0.0], [0.5, 0.6]),
    ),
    "Gamma": Case(
        f.Gamma,
        {"concentration": 2.5, "rate": 1.5},
        half_line(),
        lambda concentration, rate: st.gamma(concentration, scale=1 / rate),
        (NAN, -0.1, 0.0),
    ),
    "InverseGamma": Case(
        f.InverseGamma,
        {"concentration": 8.0, "rate": 5.0},
        half_line(),
        lambda concentration, rate: st.invgamma(concentration, scale=rate),
        (NAN, -0.1, 0.0),
    ),
    "Exponential": Case(f.Exponential, {"rate": 1.5}, half_line(), lambda rate: st.expon(scale=1 / rate), (NAN, -0.1)),
    "HalfNormal": Case(f.HalfNormal, {"scale": 0.8}, half_line(), lambda scale: st.halfnorm(scale=scale), (NAN, -0.1)),
    "Weibull": Case(
        f.Weibull,
        {"scale": 0.8, "concentration": 1.7},
        half_line(),
        lambda scale, concentration: st.weibull_min(concentration, scale=scale),
        (NAN, -0.1, 0.0),
    ),
    "VonMises": Case(
        f.VonMises,
        {"loc": 0.3, "concentration": 1.7},
        segment(-math.pi, math.pi),
        lambda loc, concentration: st.vonmises(concentration, loc),
        (NAN, INF),
        without=("variance",),
        average=_direction,
    ),
    "Bernoulli, probs": Case(
        f.Bernoulli,
        {"probs": 0.3},
        listed(lambda: torch.arange(2.0)),
        lambda probs: st.bernoulli(probs),
        (NAN, 0.5, 2.0),
        pmf=True,
    ),
    "Bernoulli, logits": Case(
        f.Bernoulli,
        {"logits": 0.7},
        listed(lambda: torch.arange(2.0)),
        lambda logits: st.bernoulli(_sigmoid(logits)),
        (NAN, 0.5, 2.0),
        pmf=True,
    ),
    "Binomial, probs": Case(
        f.Binomial,
        {"total_count": 6.0, "probs": 0.3},
        listed(lambda: torch.arange(7.0)),
        lambda total_count, probs: st.binom(total_count, probs),
        (NAN, 0.5, 8.0, -1.0),
        pmf=True,
    ),
    "Binomial, logits": Case(
        f.Binomial,
        {"total_count": 6.0, "logits": 0.7},
        listed(lambda: torch.arange(7.0)),
        lambda total_count, logits: st.binom(total_count, _sigmoid(logits)),
        (NAN, 0.5, 8.0),
        pmf=True,
    ),
    "Geometric, probs": Case(
        f.Geometric, {"probs": 0.3}, SPOTS, lambda probs: st.geom(probs, loc=-1), (NAN, 0.5, -1.0), pmf=True
    ),
    "Geometric, logits": Case(
        f.Geometric, {"logits": -0.7}, SPOTS, lambda logits: st.geom(_sigmoid(logits), loc=-1), (NAN, 0.5, -1.0), pmf=True
    ),
    "Categorical, probs": Case(
        f.Categorical,
        {"probs": [0.2, 0.3, 0.5]},
        listed(lambda: torch.eye(3)),
        lambda probs: st.multinomial(1, probs),
        ([NAN, 0.0, 1.0], [0.2, 0.3, 0.5], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]),
        pmf=True,
    ),
    "Categorical, logits": Case(
        f.Categorical,
        {"logits": [0.2, -0.3, 0.5]},
        listed(lambda: torch.eye(3)),
        lambda logits: st.multinomial(1, _softmax(logits)),
        ([NAN, 0.0, 1.0], [0.2, 0.3, 0.5], [0.0, 0.0, 0.0]),
        pmf=True,
    ),
    "Multinomial, probs": Case(
        f.Multinomial,
        {"total_count": 5.0, "probs": [0.2, 0.3, 0.5]},
        listed(lambda: compositions(5, 3)),
        lambda total_count, probs: st.multinomial(total_count, probs),
        ([NAN, 0.0, 5.0], [2.0, 2.0, 0.0], [2.5, 2.5, 0.0], [6.0, -1.0, 0.0]),
        pmf=True,
    ),
    "Multinomial, logits": Case(
        f.Multinomial,
        {"total_count": 5.0, "logits": [0.2, -0.3, 0.5]},
        listed(lambda: compositions(5, 3)),
        lambda total_count, logits: st.multinomial(total_count, _softmax(logits)),
        ([NAN, 0.0, 5.0], [2.0, 2.0, 0.0]),
        pmf=True,
    ),
    "Poisson": Case(
        f.Poisson, {"rate": 2.5}, SPOTS, lambda rate: st.poisson(rate), (NAN, 0.5, -1.0), without=("entropy",), pmf=True
    ),
    "NegativeBinomial, probs": Case(
        f.NegativeBinomial,
        {"total_count": 2.5, "probs": 0.4},
        SPOTS,
        _gamma_poisson,
        (NAN, 0.5, -1.0),
        without=("entropy",),
        pmf=True,
    ),
    "NegativeBinomial, logits": Case(
        f.NegativeBinomial,
        {"total_count": 2.5, "logits": -0.4},
        SPOTS,
        lambda total_count, logits: _gamma_poisson(total_count, _sigmoid(logits)),
        (NAN, 0.5, -1.0),
        without=("entropy",),
        pmf=True,
    ),
    "RelaxedBernoulli, probs": Case(
        f.RelaxedBernoulli,
        {"temperature": 0.8, "probs": 0.3},
        segment(0.0, 1.0),
        "not in scipy",
        (NAN, -0.1, 0.0, 1.0),
        without=NONE,
    ),
    "RelaxedBernoulli, logits": Case(
        f.RelaxedBernoulli,
        {"temperature": 0.8, "logits": 0.7},
        segment(0.0, 1.0),
        "not in scipy",
        (NAN, -0.1, 0.0, 1.0),
        without=NONE,
    ),
    "RelaxedCategorical, probs": Case(
        f.RelaxedCategorical,
        {"temperature": 0.8, "probs": [0.3, 0.7]},
        edge,
        "not in scipy",
        ([NAN, 0.5], [1.0, 0.0], [0.5, 0.6]),
        without=NONE,
    ),
    "RelaxedCategorical, logits": Case(
        f.RelaxedCategorical,
        {"temperature": 0.8, "logits": [0.3, -0.4]},
        edge,
        "not in scipy",
        ([NAN, 0.5], [1.0, 0.0], [0.5, 0.6]),
        without=NONE,
    ),
    "DiscretizedLogistic": Case(
        f.DiscretizedLogistic,
        {"loc": 0.3, "scale": 0.08},
        LEVELS,
        "not in scipy",
        (NAN, 0.5, 1.1, 1 + 1 / 255, -1 / 255),
        without=("entropy",),
        pmf=True,
    ),
    "DiscretizedLogisticMixture, grey": Case(
        f.DiscretizedLogisticMixture,
        MIX1,
        GREYS,
        "not in scipy",
        ([[[NAN]]], [[[0.5]]], [[[1 + 1 / 255]]]),
        without=("entropy",),
        pmf=True,
    ),
    "DiscretizedLogisticMixture, two channels": Case(
        f.DiscretizedLogisticMixture,
        {**MIX2, "coeffs": [[[[0.4, -0.3]]]]},
        PAIRS,
        "not in scipy",
        ([[[NAN]], [[0.0]]], [[[0.5]], [[0.0]]]),
        without=NONE,
        pmf=True,
    ),
    "a user's own family": Case(Rayleigh, {"scale": 0.8}, half_line(), lambda scale: st.rayleigh(scale=scale), (NAN, -0.1)),
}


class _mirrored:
    """The exponential density on [0, 1] that grows with rate `logits` (scipy's truncated exponential, mirrored)."""

    def __init__(self, logits: float) -> None:
        self.falling = st.truncexpon(logits, scale=1 / logits)

    def logpdf(self, x: Any) -> Any:
        return self.falling.logpdf(1 - x)
