"""The families, each a row of one table."""

from __future__ import annotations

from probflow.distributions.families.bernoulli import Bernoulli
from probflow.distributions.families.categorical import Categorical
from probflow.distributions.families.normal import Normal

__all__ = ["Bernoulli", "Categorical", "Normal"]
