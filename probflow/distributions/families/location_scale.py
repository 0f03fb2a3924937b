"""Real variables with a location and a scale: StudentT, Laplace, Cauchy, Logistic, Gumbel."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions.utils import broadcast_all
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.distributions.families.noise import logistic
from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric
from probflow.domains import positive, real
from probflow.errors import NoClosedForm


class StudentT(
    Parametric,
    family=Family(
        td.StudentT, params={"df": positive, "loc": real, "scale": positive}, defaults={"loc": 0.0, "scale": 1.0}, support=real
    ),
):
    r"""Student's t-distribution with ``df`` :math:`\nu` degrees of freedom, elementwise; ``loc`` 0 and ``scale`` 1 if left out.

    .. math:: p(x) = \frac{\Gamma(\frac{\nu+1}{2})}{\Gamma(\frac\nu2)\sqrt{\pi\nu}\,\sigma}
              \left(1 + \frac{(x-\mu)^2}{\nu\sigma^2}\right)^{-(\nu+1)/2}

    The mean is NaN for df <= 1, the variance infinite for df <= 2.

    >>> p = StudentT("p(x)", df=1.0)              # df = 1 is the Cauchy distribution
    >>> p.log_prob({"x": torch.zeros(1)}).exp() * torch.pi
    tensor([1.0000])
    """


class Laplace(Parametric, family=Family(td.Laplace, params={"loc": real, "scale": positive}, support=real)):
    r"""Laplace distribution :math:`p(x) = \frac{1}{2b} e^{-|x-\mu|/b}`, elementwise, with loc :math:`\mu` and scale :math:`b`.

    >>> Laplace("p(x)", loc=0.0, scale=0.5).log_prob({"x": torch.tensor([0.5, 1.0])})
    tensor([-1., -2.])
    """


class _Cauchy(td.Cauchy):
    """torch's, without the NaN that it calls a mean."""

    @property
    def mean(self) -> Tensor:
        raise NoClosedForm("the integral diverges")

    @property
    def variance(self) -> Tensor:
        raise NoClosedForm("the integral diverges")


class Cauchy(Parametric, family=Family(_Cauchy, params={"loc": real, "scale": positive}, support=real)):
    r"""Cauchy distribution :math:`p(x) = \frac{1}{\pi\gamma} \frac{1}{1 + z^2}`, :math:`z = (x - x_0)/\gamma`, elementwise.

    Parameters: ``loc`` :math:`x_0` and ``scale`` :math:`\gamma`.  It has neither mean nor variance (NoClosedForm).

    >>> Cauchy("p(x)", loc=0.0, scale=1.0).log_prob({"x": torch.tensor([0.0])}).exp() * torch.pi
    tensor([1.0000])
    """


class TorchLogistic(td.Distribution):
    """The logistic distribution as a ``torch.distributions`` class, which torch lacks."""

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": td.constraints.real, "scale": td.constraints.positive}
    support = td.constraints.real
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TorchLogistic:
        return TorchLogistic(self.loc.expand(batch_shape), self.scale.expand(batch_shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (math.pi**2 / 3)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc + self.scale * logistic(tuple(self._extended_shape(torch.Size(sample_shape))), self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        return F.logsigmoid(z) + F.logsigmoid(-z) - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        return torch.sigmoid((value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * torch.logit(value)

    def entropy(self) -> Tensor:
        return self.scale.log() + 2


def _logistic_log_prob(p: Params, x: Tensor) -> Tensor:
    z = (x - p["loc"]) / p["scale"]
    return F.logsigmoid(z) + F.logsigmoid(-z) - p["scale"].log()


def _logistic_rsample(p: Params, shape: Shape) -> Tensor:
    return p["loc"] + p["scale"] * logistic(shape, p["loc"])


class Logistic(
    Parametric,
    family=Family(
        TorchLogistic,
        params={"loc": real, "scale": positive},
        support=real,
        log_prob=_logistic_log_prob,
        rsample=_logistic_rsample,
        reparameterised=True,
    ),
):
    r"""Logistic distribution, elementwise: its distribution function is the sigmoid :math:`\sigma\left(\frac{x-\mu}{s}\right)`.

    .. math:: \log p(x) = \log\sigma(z) + \log\sigma(-z) - \log s, \qquad z = \frac{x - \mu}{s}

    Parameters: ``loc`` :math:`\mu` and ``scale`` :math:`s`.  The base of NICE (arXiv:1410.8516, sec. 3.4).

    >>> Logistic("p(x)", loc=0.0, scale=1.0).log_prob({"x": torch.tensor([0.0, 1000.0])})
    tensor([   -1.3863, -1000.0000])
    """


class Gumbel(Parametric, family=Family(td.Gumbel, params={"loc": real, "scale": positive}, support=real)):
    r"""Gumbel distribution :math:`\log p(x) = -z - e^{-z} - \log\beta`, :math:`z = (x - \mu)/\beta`, elementwise.

    Parameters: ``loc`` :math:`\mu` (the mode) and ``scale`` :math:`\beta`.

    >>> Gumbel("p(x)", loc=0.0, scale=1.0).log_prob({"x": torch.tensor([0.0])})
    tensor([-1.])
    """
