"""Positive variables: LogNormal, Gamma, InverseGamma, Exponential, HalfNormal, Weibull."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch import distributions as td

from probflow._typing import Shape
from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric
from probflow.domains import nonnegative, positive, real

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def _exponential(shape: Shape, like: Tensor) -> Tensor:
    noise = torch.empty(shape, dtype=like.dtype, device=like.device).exponential_()
    return noise.clamp_min(torch.finfo(like.dtype).tiny)


def _log_normal_log_prob(p: Params, x: Tensor) -> Tensor:
    log_x = x.log()
    return -0.5 * ((log_x - p["loc"]) / p["scale"]).square() - p["scale"].log() - log_x - _HALF_LOG_TWO_PI


def _log_normal_rsample(p: Params, shape: Shape) -> Tensor:
    loc, scale = p["loc"], p["scale"]
    return torch.addcmul(loc, scale, torch.randn(shape, dtype=loc.dtype, device=loc.device)).exp()


class LogNormal(
    Parametric,
    family=Family(
        td.LogNormal,
        params={"loc": real, "scale": positive},
        support=positive,
        log_prob=_log_normal_log_prob,
        rsample=_log_normal_rsample,
        reparameterised=True,
        entropy=True,
    ),
):
    r"""Log-normal distribution, elementwise: the logarithm is normal, with ``loc`` :math:`\mu` and ``scale`` :math:`\sigma`.

    .. math:: \log p(x) = \log\mathcal N(\log x; \mu, \sigma^2) - \log x

    >>> LogNormal("p(x)", loc=0.0, scale=1.0).log_prob({"x": torch.tensor([1.0])})
    tensor([-0.9189])
    """


def _gamma_log_prob(p: Params, x: Tensor) -> Tensor:
    a, b = p["concentration"], p["rate"]
    return a * b.log() + (a - 1) * x.log() - b * x - torch.lgamma(a)


class Gamma(
    Parametric,
    family=Family(td.Gamma, params={"concentration": positive, "rate": positive}, support=positive, log_prob=_gamma_log_prob),
):
    r"""Gamma distribution :math:`p(x) = \frac{b^a}{\Gamma(a)} x^{a-1} e^{-bx}`, elementwise.

    Parameters: ``concentration`` :math:`a` and ``rate`` :math:`b`.

    >>> Gamma("p(x)", concentration=1.0, rate=2.0).log_prob({"x": torch.tensor([1.0])})     # log 2 - 2
    tensor([-1.3069])
    """


def _inverse_gamma_log_prob(p: Params, x: Tensor) -> Tensor:
    a, b = p["concentration"], p["rate"]
    return a * b.log() - torch.lgamma(a) - (a + 1) * x.log() - b / x


def _inverse_gamma_rsample(p: Params, shape: Shape) -> Tensor:
    a = p["concentration"].expand(shape)
    return p["rate"] / td.Gamma(a, torch.ones_like(a), validate_args=False).rsample()


class InverseGamma(
    Parametric,
    family=Family(
        td.InverseGamma,
        params={"concentration": positive, "rate": positive},
        support=positive,
        log_prob=_inverse_gamma_log_prob,
        rsample=_inverse_gamma_rsample,
        reparameterised=True,
        entropy=True,
    ),
):
    r"""Inverse gamma distribution :math:`p(x) = \frac{b^a}{\Gamma(a)} x^{-a-1} e^{-b/x}`, elementwise: 1/x is Gamma(a, b).

    Parameters: ``concentration`` :math:`a` and ``rate`` :math:`b` (the scale of x).  The mean is infinite for a <= 1, the
    variance for a <= 2.

    >>> InverseGamma("p(x)", concentration=1.0, rate=2.0).log_prob({"x": torch.tensor([1.0])})
    tensor([-1.3069])
    """


def _exponential_log_prob(p: Params, x: Tensor) -> Tensor:
    return torch.where(x >= 0, p["rate"].log() - p["rate"] * x, -torch.inf)


def _exponential_rsample(p: Params, shape: Shape) -> Tensor:
    return _exponential(shape, p["rate"]) / p["rate"]


class Exponential(
    Parametric,
    family=Family(
        td.Exponential,
        params={"rate": positive},
        support=nonnegative,
        log_prob=_exponential_log_prob,
        rsample=_exponential_rsample,
        reparameterised=True,
    ),
):
    r"""Exponential distribution :math:`p(x) = \lambda e^{-\lambda x}`, :math:`x \ge 0`, ``rate`` :math:`\lambda`; elementwise.

    >>> Exponential("p(x)", rate=2.0).log_prob({"x": torch.tensor([0.0, 1.0])})
    tensor([ 0.6931, -1.3069])
    """


def _half_normal_log_prob(p: Params, x: Tensor) -> Tensor:
    density = math.log(2) - _HALF_LOG_TWO_PI - p["scale"].log() - 0.5 * (x / p["scale"]).square()
    return torch.where(x >= 0, density, -torch.inf)


def _half_normal_rsample(p: Params, shape: Shape) -> Tensor:
    scale = p["scale"]
    return scale * torch.randn(shape, dtype=scale.dtype, device=scale.device).abs()


class HalfNormal(
    Parametric,
    family=Family(
        td.HalfNormal,
        params={"scale": positive},
        support=nonnegative,
        log_prob=_half_normal_log_prob,
        rsample=_half_normal_rsample,
        reparameterised=True,
        entropy=True,
    ),
):
    r"""Half-normal distribution, scale :math:`\sigma`, elementwise: :math:`x = |y|`, :math:`y \sim \mathcal N(0, \sigma^2)`.

    .. math:: \log p(x) = \log 2 + \log\mathcal N(x; 0, \sigma^2), \qquad x \ge 0

    >>> HalfNormal("p(x)", scale=1.0).log_prob({"x": torch.tensor([0.0])})
    tensor([-0.2258])
    """


def _weibull_log_prob(p: Params, x: Tensor) -> Tensor:
    scale, k = p["scale"], p["concentration"]
    log_z = x.log() - scale.log()
    return k.log() - scale.log() + (k - 1) * log_z - (k * log_z).exp()


def _weibull_rsample(p: Params, shape: Shape) -> Tensor:
    x = p["scale"] * _exponential(shape, p["scale"]).pow(1 / p["concentration"])
    return x.clamp_min(torch.finfo(x.dtype).tiny)


class Weibull(
    Parametric,
    family=Family(
        td.Weibull,
        params={"scale": positive, "concentration": positive},
        support=positive,
        log_prob=_weibull_log_prob,
        rsample=_weibull_rsample,
        reparameterised=True,
        entropy=True,
    ),
):
    r"""Weibull distribution :math:`p(x) = \frac k\lambda \left(\frac x\lambda\right)^{k-1} e^{-(x/\lambda)^k}`, elementwise.

    Parameters: ``scale`` :math:`\lambda` and ``concentration`` :math:`k`.

    >>> Weibull("p(x)", scale=1.0, concentration=2.0).log_prob({"x": torch.tensor([1.0])})      # log 2 - 1
    tensor([-0.3069])
    """
