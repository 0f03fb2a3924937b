"""Rewriting rules, each a small object: ``RULES["log of a product"]``."""

from __future__ import annotations

from probflow.losses.rules import bounds, cancellation, densities, divergences, expectations, logarithms, sums
from probflow.losses.rules.rule import RULES, Rule

__all__ = ["RULES", "Rule", "bounds", "cancellation", "densities", "divergences", "expectations", "logarithms", "sums"]
