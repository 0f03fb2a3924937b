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
    count = math.prod(x.shape[x.dim() - dims :])
    distance = x if isinstance(loc, float) and loc == 0 else x - loc
    if isinstance(scale, float):
        score = distance if scale == 1 else distance / scale
        squares = sum_event(score * score, dims)
        return torch.rsub(
            squares, count * (math.log(scale) + _HALF_LOG_TWO_PI), alpha=-0.5
        )  # one operation, constant + squares / 2
    # the scale's logarithm, not its square's: a negative scale must give NaN, not a plausible number
    if scale.numel() < distance.numel() and scale.shape[scale.dim() - dims :] == distance.shape[distance.dim() - dims :]:
        score = distance / scale  # one scale for many values: what is constant of it is summed before it meets them
        return torch.add(sum_event(scale.log(), dims) + count * _HALF_LOG_TWO_PI, sum_event(score * score, dims), alpha=0.5)
    terms = torch.add(scale.log(), (distance / scale).square(), alpha=0.5)
    return sum_event(terms, dims) + count * _HALF_LOG_TWO_PI


def _rsample(p: Params, shape: Shape) -> Tensor:
    loc, scale = p["loc"], p["scale"]
    a, b = plain_number(loc), plain_number(scale)
    if isinstance(a, float) and isinstance(b, float) and a == 0 and b == 1:
        return torch.randn(shape, dtype=loc.dtype, device=loc.device)
    return torch.addcmul(loc, scale, torch.randn(shape, dtype=loc.dtype, device=loc.device))


class Normal(
    Parametric,
    family=Family(
        td.Normal,
        params={"loc": real, "scale": positive},
        support=real,
        event_nll=_event_nll,
        rsample=_rsample,
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
