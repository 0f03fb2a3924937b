"""Angles: VonMises."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch import distributions as td

from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric
from probflow.domains import Domain, positive, real
from probflow.errors import NoClosedForm

angle = Domain("angles in radians (real numbers, taken modulo 2π)", real.holds, real.reduce, real.accept)


def _log_prob(p: Params, x: Tensor) -> Tensor:
    # i0e(k) = I0(k) e^{-k}: neither overflows for large k, nor is it the 1e-7 polynomial that torch has
    k = p["concentration"]
    return k * (torch.cos(x - p["loc"]) - 1) - math.log(2 * math.pi) - torch.special.i0e(k).log()


class _VonMises(td.VonMises):
    """torch's, with its entropy; its circular variance 1 - I1/I0 is not the variance of a number."""

    @property
    def variance(self) -> Tensor:
        raise NoClosedForm("an angle has a circular variance only")

    def entropy(self) -> Tensor:
        k = self.concentration
        ratio = torch.special.i1e(k) / torch.special.i0e(k)
        return k * (1 - ratio) + math.log(2 * math.pi) + torch.special.i0e(k).log()


class VonMises(
    Parametric,
    family=Family(_VonMises, params={"loc": real, "concentration": positive}, support=angle, log_prob=_log_prob),
):
    r"""Von Mises distribution of an angle in radians, elementwise: the normal distribution of the circle.

    .. math:: \log p(x) = \kappa \cos(x - \mu) - \log(2\pi I_0(\kappa))

    Parameters: ``loc`` :math:`\mu` and ``concentration`` :math:`\kappa`.  Draws lie in [-π, π); the density has period 2π and
    integrates to 1 over one period.  ``mean`` is the mean direction; draws are not reparameterised.

    >>> VonMises("p(a)", loc=0.0, concentration=1e6).log_prob({"a": torch.tensor([0.0, 2 * torch.pi])}).round(decimals=2)
    tensor([5.9900, 5.9900])
    """
