"""Distributions: families, products, marginals, mixtures, and everything else that can be sampled or evaluated."""

from __future__ import annotations

from probflow.distributions.base import Distribution, Factor
from probflow.distributions.families import Bernoulli, Categorical, Normal
from probflow.distributions.joint import Joint
from probflow.distributions.parametric import Family, Parametric
from probflow.distributions.values import Samples

__all__ = ["Bernoulli", "Categorical", "Distribution", "Factor", "Family", "Joint", "Normal", "Parametric", "Samples"]
