"""Variables in an interval: Uniform, Beta, Kumaraswamy, ContinuousBernoulli."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions.utils import clamp_probs

from probflow._typing import Shape
from probflow.checks import require
from probflow.distributions.families.dependent import between
from probflow.distributions.families.noise import into_open_unit_interval, uniform
from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric
from probflow.domains import Domain, open_unit_interval, positive, real, unit_interval
from probflow.errors import ParameterError

# ---------------------------------------------------------------------- Uniform


def _check_order(p: Params, label: str) -> None:
    low, high = p["low"].detach(), p["high"].detach()

    def complain() -> Exception | None:
        a, b = torch.broadcast_tensors(low, high)
        wrong = (~(a < b)).nonzero()
        if not len(wrong):
            return None
        place = tuple(wrong[0].tolist())
        return ParameterError(f"{label}: low must be below high, got low={a[place].item():g}, high={b[place].item():g}.")

    require((~(low < high)).sum(), lambda count: count == 0, complain)


def _between(p: Params) -> Domain:
    return between(p["low"], p["high"])


def _uniform_log_prob(p: Params, x: Tensor) -> Tensor:
    return torch.where((x >= p["low"]) & (x <= p["high"]), -(p["high"] - p["low"]).log(), -torch.inf)


def _uniform_rsample(p: Params, shape: Shape) -> Tensor:
    # a convex combination: low + (high - low) u may round to a number above high
    u = uniform(shape, p["low"])
    return torch.minimum(torch.maximum(p["low"] * (1 - u) + p["high"] * u, p["low"]), p["high"])


class Uniform(
    Parametric,
    family=Family(
        td.Uniform,
        params={"low": real, "high": real},
        support=_between,
        log_prob=_uniform_log_prob,
        rsample=_uniform_rsample,
        reparameterised=True,
        check=_check_order,
    ),
):
    r"""Uniform distribution on [low, high], elementwise: :math:`\log p(x) = -\log(\mathrm{high} - \mathrm{low})`.

    Both ends belong to the support.  Errors: ParameterError unless low < high everywhere.

    >>> Uniform("p(x)", low=0.0, high=4.0).log_prob({"x": torch.tensor([1.0])})
    tensor([-1.3863])
    """


# ---------------------------------------------------------------------- Beta and Kumaraswamy


def _beta_log_prob(p: Params, x: Tensor) -> Tensor:
    a, b = p["concentration1"], p["concentration0"]
    normaliser = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    return (a - 1) * x.log() + (b - 1) * torch.log1p(-x) - normaliser


def _beta_rsample(p: Params, shape: Shape) -> Tensor:
    a, b = p["concentration1"].expand(shape), p["concentration0"].expand(shape)
    return into_open_unit_interval(td.Beta(a, b, validate_args=False).rsample())


class Beta(
    Parametric,
    family=Family(
        td.Beta,
        params={"concentration1": positive, "concentration0": positive},
        support=open_unit_interval,
        log_prob=_beta_log_prob,
        rsample=_beta_rsample,
        reparameterised=True,
    ),
):
    r"""Beta distribution :math:`p(x) = \frac{x^{a-1}(1-x)^{b-1}}{B(a, b)}` on (0, 1), elementwise.

    Parameters: ``concentration1`` :math:`a` (weight of 1) and ``concentration0`` :math:`b` (weight of 0).

    >>> Beta("p(x)", concentration1=2.0, concentration0=1.0).log_prob({"x": torch.tensor([0.5])})      # p(x) = 2x
    tensor([0.])
    """


def _kumaraswamy_log_prob(p: Params, x: Tensor) -> Tensor:
    a, b = p["concentration1"], p["concentration0"]
    log_x = x.log()
    # log(1 - x^a) = log(-expm1(a log x)): exact for x near 1, where 1 - x^a cancels
    return a.log() + b.log() + (a - 1) * log_x + (b - 1) * (-torch.expm1(a * log_x)).log()


def _kumaraswamy_rsample(p: Params, shape: Shape) -> Tensor:
    # inverse of F(x) = 1 - (1 - x^a)^b, at 1 - u
    log_power = uniform(shape, p["concentration1"]).log() / p["concentration0"]  # log(1 - x^a)
    return into_open_unit_interval((-torch.expm1(log_power)).pow(1 / p["concentration1"]))


class Kumaraswamy(
    Parametric,
    family=Family(
        td.Kumaraswamy,
        params={"concentration1": positive, "concentration0": positive},
        support=open_unit_interval,
        log_prob=_kumaraswamy_log_prob,
        rsample=_kumaraswamy_rsample,
        reparameterised=True,
        entropy=True,
    ),
):
    r"""Kumaraswamy distribution :math:`p(x) = a b\, x^{a-1} (1 - x^a)^{b-1}` on (0, 1), elementwise: a Beta with simple draws.

    Parameters: ``concentration1`` :math:`a` and ``concentration0`` :math:`b`.  Source: arXiv:1605.06197, sec. 3.3.

    >>> Kumaraswamy("p(x)", concentration1=2.0, concentration0=1.0).log_prob({"x": torch.tensor([0.5])})      # p(x) = 2x
    tensor([0.])
    """


# ---------------------------------------------------------------------- ContinuousBernoulli

_SMALL = 0.1  # |logits| below this: series, exact to rounding in float64


def _cb_logits(p: Params) -> Tensor:
    if "logits" in p:
        return p["logits"]
    probs = clamp_probs(p["probs"])  # a sigmoid may round to 1, where the density is a point mass
    return probs.log() - torch.log1p(-probs)


def _apart(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|logits|, whether it is small, and a copy that is safe to divide by."""
    a = logits.abs()
    small = a < _SMALL
    return a, small, torch.where(small, torch.ones_like(a), a)


def _log_mass(logits: Tensor) -> Tensor:
    r"""log :math:`\int_0^1 e^{lx} dx` = max(l, 0) + log((1 - e^{-|l|}) / |l|)."""
    _, small, safe = _apart(logits)
    square = logits.square()
    series = 0.5 * logits + square * (1 / 24 + square * (-1 / 2880 + square * (1 / 181440 - square / 9676800)))
    return torch.where(small, series, logits.clamp_min(0) + (-torch.expm1(-safe)).log() - safe.log())


def _cb_log_prob(p: Params, x: Tensor) -> Tensor:
    logits = _cb_logits(p)
    # l x - max(l, 0) as one term of a single sign: exact however large l is
    a, small, safe = _apart(logits)
    direct = -a * torch.where(logits > 0, 1 - x, x) - ((-torch.expm1(-safe)).log() - safe.log())
    return torch.where(small, logits * x - _log_mass(torch.where(small, logits, 0.0)), direct)


def _cb_rsample(p: Params, shape: Shape) -> Tensor:
    logits = _cb_logits(p)
    u = uniform(shape, logits)
    a, _, _ = _apart(logits)
    small = a < 1e-2
    safe = torch.where(small, torch.ones_like(a), a)
    # density of y = x for l < 0, of y = 1 - x for l > 0, is proportional to e^{-|l| y}
    decaying = -torch.log1p(u * torch.expm1(-safe)) / safe
    exact = torch.where(logits > 0, 1 - decaying, decaying)
    v = torch.where(logits > 0, 1 - u, u)
    series = v + 0.5 * logits * v * (1 - v) + logits.square() * (v / 6 - v.square() / 2 + v.pow(3) / 3)
    return torch.where(small, series, exact).clamp(0, 1)


class _ContinuousBernoulli(td.ContinuousBernoulli):
    """torch's, with moments that are exact at large logits and near logits = 0."""

    @property
    def mean(self) -> Tensor:
        _, small, safe = _apart(self.logits)
        series = 0.5 + self.logits * (1 / 12 + self.logits.square() * (-1 / 720 + self.logits.square() / 30240))
        decaying = 1 / safe - 1 / torch.expm1(safe)
        return torch.where(small, series, torch.where(self.logits > 0, 1 - decaying, decaying))

    @property
    def variance(self) -> Tensor:
        _, small, safe = _apart(self.logits)
        square = self.logits.square()
        series = 1 / 12 + square * (-1 / 240 + square * (1 / 6048 - square / 172800))
        decay = torch.exp(-safe)
        return torch.where(small, series, safe.square().reciprocal() - decay / torch.expm1(-safe).square())

    def entropy(self) -> Tensor:
        # log p is linear in x
        return _log_mass(self.logits) - self.logits * self.mean


class ContinuousBernoulli(
    Parametric,
    family=Family(
        _ContinuousBernoulli,
        params={"probs": unit_interval, "logits": real},
        either=(("probs", "logits"),),
        support=unit_interval,
        log_prob=_cb_log_prob,
        rsample=_cb_rsample,
        reparameterised=True,
    ),
):
    r"""Continuous Bernoulli on [0, 1], elementwise: the density proportional to :math:`\lambda^x (1-\lambda)^{1-x}`.

    .. math:: \log p(x) = l x - \log\int_0^1 e^{lt} dt = l x - \log\frac{e^l-1}{l}, \quad l = \log\tfrac{\lambda}{1-\lambda}

    For grey values such as pixels.  Parameters: ``probs`` :math:`\lambda` (not the mean), or ``logits`` :math:`l` (exact at any
    size; probs are clamped to the numbers next to 0 and 1).  Source: arXiv:1907.06845, eq. 6-8.

    >>> p = ContinuousBernoulli("p(x)", logits=torch.tensor([0.0, 1000.0]))
    >>> p.log_prob({"x": torch.tensor([[0.3, 1.0]])})                         # 0 + log 1000
    tensor([6.9078])
    """
