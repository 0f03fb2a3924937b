"""Continuous relaxations of discrete variables: RelaxedBernoulli, RelaxedCategorical."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions.utils import clamp_probs
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.distributions.families.noise import gumbel, into_open_unit_interval, logistic
from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric
from probflow.domains import (
    logit_vector,
    open_simplex,
    open_unit_interval,
    positive,
    real,
    simplex,
    unit_interval,
)

# ---------------------------------------------------------------------- RelaxedBernoulli


def _logits(p: Params) -> Tensor:
    if "logits" in p:
        return p["logits"]
    probs = clamp_probs(p["probs"])
    return probs.log() - torch.log1p(-probs)


def _bernoulli_log_prob(p: Params, x: Tensor) -> Tensor:
    log_x, log_rest = x.log(), torch.log1p(-x)
    z = _logits(p) - p["temperature"] * (log_x - log_rest)
    return p["temperature"].log() + F.logsigmoid(z) + F.logsigmoid(-z) - log_x - log_rest


def _bernoulli_rsample(p: Params, shape: Shape) -> Tensor:
    logits = _logits(p)
    return into_open_unit_interval(torch.sigmoid((logits + logistic(shape, logits)) / p["temperature"]))


class RelaxedBernoulli(
    Parametric,
    family=Family(
        td.RelaxedBernoulli,
        params={"temperature": positive, "probs": unit_interval, "logits": real},
        either=(("probs", "logits"),),
        support=open_unit_interval,
        log_prob=_bernoulli_log_prob,
        rsample=_bernoulli_rsample,
        reparameterised=True,
        entropy=False,
    ),
):
    r"""Relaxed (binary Concrete) Bernoulli on (0, 1), elementwise; it tends to Bernoulli as the temperature tends to 0.

    .. math:: x = \sigma\left(\frac{l + \epsilon}{\tau}\right), \quad \epsilon \sim \mathrm{Logistic}(0, 1)

    Parameters: ``temperature`` :math:`\tau`, and ``probs`` or ``logits`` :math:`l`.  Source: arXiv:1611.00712, appendix B.

    >>> p = RelaxedBernoulli("p(x)", temperature=1.0, logits=0.0)             # uniform
    >>> p.log_prob({"x": torch.tensor([0.3])}).abs() < 1e-6
    tensor([True])
    """


# ---------------------------------------------------------------------- RelaxedCategorical


def _class_logits(p: Params) -> Tensor:
    return p["logits"] if "logits" in p else clamp_probs(p["probs"]).log()


def _categorical_log_prob(p: Params, x: Tensor) -> Tensor:
    classes, temperature, log_x = x.shape[-1], p["temperature"], x.log()
    z = (_class_logits(p) - temperature[..., None] * log_x).log_softmax(-1)  # eq. 10, normalised in log-space
    return math.lgamma(classes) + (classes - 1) * temperature.log() + (z - log_x).sum(-1)


def _categorical_rsample(p: Params, shape: Shape) -> Tensor:
    logits = _class_logits(p)
    x = ((logits + gumbel(shape, logits)) / p["temperature"][..., None]).softmax(-1)
    return x.clamp_min(torch.finfo(x.dtype).tiny)  # a vertex has no density


class TorchRelaxedCategorical(td.Distribution):
    """The relaxed categorical with a temperature of its own for each vector (torch's divides the vector by it elementwise)."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = td.constraints.simplex
    has_rsample = True

    def __init__(
        self, temperature: Tensor, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        logits = _class_logits({"logits": logits} if probs is None else {"probs": probs})  # type: ignore[dict-item]
        batch = torch.broadcast_shapes(temperature.shape, logits.shape[:-1])
        self.params: Params = {"temperature": temperature, "logits": logits}
        super().__init__(batch, logits.shape[-1:], validate_args=validate_args)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return _categorical_rsample(self.params, tuple(self._extended_shape(torch.Size(sample_shape))))

    def log_prob(self, value: Tensor) -> Tensor:
        return _categorical_log_prob(self.params, value)


class RelaxedCategorical(
    Parametric,
    family=Family(
        TorchRelaxedCategorical,
        params={"temperature": positive, "probs": simplex, "logits": logit_vector},
        either=(("probs", "logits"),),
        support=open_simplex,
        event_rank=1,
        log_prob=_categorical_log_prob,
        rsample=_categorical_rsample,
        reparameterised=True,
        entropy=False,
    ),
):
    r"""Relaxed (Concrete, Gumbel-softmax) categorical on the simplex of K classes; Categorical as the temperature tends to 0.

    .. math:: x = \mathrm{softmax}\left(\frac{l + g}{\tau}\right), \quad g_k \sim \mathrm{Gumbel}(0, 1)

    .. math:: \log p(x) = \log (K-1)! + (K-1)\log\tau + \sum_k \left[\log \mathrm{softmax}(l - \tau\log x)_k - \log x_k\right]

    Parameters: ``temperature`` :math:`\tau` (a number, or one per vector), and ``probs`` or ``logits`` :math:`l` (batch, K).
    Source: arXiv:1611.00712, eq. 10; arXiv:1611.01144.

    >>> p = RelaxedCategorical("p(y)", temperature=1.0, logits=torch.zeros(3))    # at temperature 1 the uniform density is 2
    >>> p.log_prob({"y": torch.tensor([[1 / 3, 1 / 3, 1 / 3]])}).exp()
    tensor([2.])
    """
