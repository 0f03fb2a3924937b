"""The normal distribution: the family that is evaluated most, with its formulas written out."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch import distributions as td

from probflow._typing import Shape
from probflow.distributions.family import Family, Params, plain_number, sum_event
from probflow.distributions.parametric import Parametric
from probflow.domains import positive, real

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def _event_nll(p: Params, x: Tensor, dims: int) -> Tensor:
    loc, scale = plain_number(p["loc"]), plain_number(p["scale"])
    distance = x if isinstance(loc, float) and loc == 0 else x - loc
    return _score_nll(scale, distance if isinstance(scale, float) and scale == 1 else distance / scale, dims)


def _noise_nll(p: Params, noise: Tensor, dims: int) -> Tensor:
    """With x = μ + σ ε the distance in units of σ is ε, exactly."""
    return _score_nll(plain_number(p["scale"]), noise, dims)


def _score_nll(scale: Tensor | float, score: Tensor, dims: int) -> Tensor:
    """From the score (x - μ) / σ."""
    count = math.prod(score.shape[score.dim() - dims :])
    if isinstance(scale, float):
        squares = sum_event(score * score, dims)
        return torch.rsub(
            squares, count * (math.log(scale) + _HALF_LOG_TWO_PI), alpha=-0.5
        )  # one operation, constant + squares / 2
    # the scale's logarithm, not its square's: a negative scale must give NaN, not a plausible number
    if scale.numel() < score.numel() and scale.shape[scale.dim() - dims :] == score.shape[score.dim() - dims :]:
        # one scale for many values: what is constant of it is summed before it meets them
        return torch.add(sum_event(scale.log(), dims) + count * _HALF_LOG_TWO_PI, sum_event(score * score, dims), alpha=0.5)
    terms = torch.add(scale.log(), score.square(), alpha=0.5)
    return sum_event(terms, dims) + count * _HALF_LOG_TWO_PI


def _is_number(parameter: Tensor, number: float) -> bool:
    found = plain_number(parameter)
    return isinstance(found, float) and found == number


def _noisy_rsample(p: Params, shape: Shape) -> tuple[Tensor, Tensor]:
    loc, scale = p["loc"], p["scale"]
    noise = torch.randn(shape, dtype=loc.dtype, device=loc.device)
    if not (loc.dim() or scale.dim()) and _is_number(loc, 0) and _is_number(scale, 1):
        return noise, noise
    return torch.addcmul(loc, scale, noise), noise


def _rsample(p: Params, shape: Shape) -> Tensor:
    return _noisy_rsample(p, shape)[0]


class Normal(
    Parametric,
    family=Family(
        td.Normal,
        params={"loc": real, "scale": positive},
        support=real,
        event_nll=_event_nll,
        rsample=_rsample,
        noisy_rsample=_noisy_rsample,
        noise_nll=_noise_nll,
        reparameterised=True,
        contagious=True,  # log of a negative scale
    ),
):
    r"""Normal distribution :math:`\mathcal N(x; \mu, \sigma^2)`, elementwise; ``loc`` :math:`\mu`, ``scale`` :math:`\sigma`.

    .. math:: \log p(x) = -\tfrac12 \left(\tfrac{x - \mu}{\sigma}\right)^2 - \log\sigma - \tfrac12 \log 2\pi

    >>> p = Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    >>> p.log_prob({"z": torch.zeros(1, 2)})
    tensor([-1.8379])
    """
