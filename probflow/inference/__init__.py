"""From equations to numbers: planning, closed forms, estimators, evaluation."""

from __future__ import annotations

from probflow.inference.evaluate import LossModule, value_and_terms
from probflow.inference.program import Program

__all__ = ["LossModule", "Program", "value_and_terms"]
