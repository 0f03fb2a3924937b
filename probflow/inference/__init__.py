"""From equations to numbers: planning, closed forms, estimators, evaluation."""

from __future__ import annotations

from probflow.inference.compiled import CompiledLoss
from probflow.inference.derive import Derivation, derive
from probflow.inference.evaluate import value_and_terms
from probflow.inference.gradient_report import GradientReport, gradient_report
from probflow.inference.importance import ImportanceEstimate, importance
from probflow.inference.module import LossModule
from probflow.inference.program import Program

__all__ = [
    "CompiledLoss",
    "Derivation",
    "GradientReport",
    "ImportanceEstimate",
    "LossModule",
    "Program",
    "derive",
    "gradient_report",
    "importance",
    "value_and_terms",
]
