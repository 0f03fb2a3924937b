"""Distributions: families, products, marginals, mixtures, and everything else that can be sampled or evaluated."""

from __future__ import annotations

from probflow.distributions.base import Distribution, Factor
from probflow.distributions.bound import Bound
from probflow.distributions.deterministic import Deterministic
from probflow.distributions.empirical import Data, EmpiricalDistribution
from probflow.distributions.energy import CustomProb
from probflow.distributions.experts import MixtureOfNormal, ProductOfNormal
from probflow.distributions.families import *  # noqa: F403
from probflow.distributions.families import __all__ as _families
from probflow.distributions.family import Family
from probflow.distributions.flow import Flow
from probflow.distributions.given import Given
from probflow.distributions.joint import Joint
from probflow.distributions.marginal import Marginal
from probflow.distributions.mixture import MixtureModel
from probflow.distributions.parametric import Parametric
from probflow.distributions.posterior import Posterior
from probflow.distributions.renamed import Renamed
from probflow.distributions.values import Samples

__all__ = [
    "Bound",
    "CustomProb",
    "Data",
    "Deterministic",
    "Distribution",
    "EmpiricalDistribution",
    "Factor",
    "Family",
    "Flow",
    "Given",
    "Joint",
    "Marginal",
    "MixtureModel",
    "MixtureOfNormal",
    "Parametric",
    "Posterior",
    "ProductOfNormal",
    "Renamed",
    "Samples",
]
__all__ += _families
