"""Distributions: families, products, marginals, mixtures, and everything else that can be sampled or evaluated."""

from __future__ import annotations

# Type checkers read no computed __all__: to them a name is public by "as", or by "import *".
from typing import TYPE_CHECKING

from probflow.distributions import families
from probflow.distributions.base import Distribution as Distribution
from probflow.distributions.base import Factor as Factor
from probflow.distributions.bound import Bound as Bound
from probflow.distributions.deterministic import Deterministic as Deterministic
from probflow.distributions.empirical import Data as Data
from probflow.distributions.empirical import EmpiricalDistribution as EmpiricalDistribution
from probflow.distributions.energy import CustomProb as CustomProb
from probflow.distributions.experts import MixtureOfNormal as MixtureOfNormal
from probflow.distributions.experts import ProductOfNormal as ProductOfNormal
from probflow.distributions.families import *  # noqa: F403
from probflow.distributions.family import Family as Family
from probflow.distributions.flow import Flow as Flow
from probflow.distributions.given import Given as Given
from probflow.distributions.joint import Joint as Joint
from probflow.distributions.marginal import Marginal as Marginal
from probflow.distributions.mixture import MixtureModel as MixtureModel
from probflow.distributions.parametric import Parametric as Parametric
from probflow.distributions.posterior import Posterior as Posterior
from probflow.distributions.renamed import Renamed as Renamed
from probflow.distributions.values import Samples as Samples

if not TYPE_CHECKING:
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
        *families.__all__,
    ]
