"""The families of distributions, each a row of one table: a class statement that names its :class:`Family`.

A family of your own is a few lines.  torch's class (or any ``torch.distributions.Distribution``), the domain of each parameter,
and the support; ``log_prob=`` and ``rsample=`` replace torch's formulas, which do not have to exist:

>>> import torch
>>> from torch import distributions as td
>>> from probflow import domains
>>> from probflow.distributions import Family, Parametric
>>> class HalfCauchy(Parametric, family=Family(td.HalfCauchy, params={"scale": domains.positive}, support=domains.nonnegative)):
...     "Half-Cauchy distribution, elementwise."
>>> p = HalfCauchy("p(s)", scale=1.0)
>>> p.log_prob({"s": torch.tensor([0.0])})
tensor([-0.4516])

It then takes networks, constants and names of variables as parameters, checks domains and shapes, and multiplies with others.
"""

from __future__ import annotations

from probflow.distributions.families.bernoulli import Bernoulli
from probflow.distributions.families.bounded import Beta, ContinuousBernoulli, Kumaraswamy, Uniform
from probflow.distributions.families.categorical import Categorical
from probflow.distributions.families.circular import VonMises
from probflow.distributions.families.counts import Binomial, Geometric, Multinomial, NegativeBinomial, Poisson
from probflow.distributions.families.images import DiscretizedLogistic, DiscretizedLogisticMixture
from probflow.distributions.families.location_scale import Cauchy, Gumbel, Laplace, Logistic, StudentT
from probflow.distributions.families.multivariate import LowRankMultivariateNormal, MultivariateNormal
from probflow.distributions.families.normal import Normal
from probflow.distributions.families.positive import Exponential, Gamma, HalfNormal, InverseGamma, LogNormal, Weibull
from probflow.distributions.families.relaxed import RelaxedBernoulli, RelaxedCategorical
from probflow.distributions.families.simplex import Dirichlet

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Cauchy",
    "ContinuousBernoulli",
    "Dirichlet",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Exponential",
    "Gamma",
    "Geometric",
    "Gumbel",
    "HalfNormal",
    "InverseGamma",
    "Kumaraswamy",
    "Laplace",
    "LogNormal",
    "Logistic",
    "LowRankMultivariateNormal",
    "Multinomial",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "RelaxedBernoulli",
    "RelaxedCategorical",
    "StudentT",
    "Uniform",
    "VonMises",
    "Weibull",
]
