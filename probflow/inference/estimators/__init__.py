"""How the gradient of an expectation is found, one estimator per file - never silently zero, never silently biased.

What can be asked for, and its options, is in ``probflow.losses.estimators``.
"""

from __future__ import annotations

from probflow.inference.estimators.choose import choose
from probflow.inference.estimators.draws import Sampler, sampler_for
from probflow.inference.estimators.states import EVERY_STATE, FEW_STATES, MANY_STATES, MOST_STATES, TooManyStates, weighted_sum

__all__ = [
    "EVERY_STATE",
    "FEW_STATES",
    "MANY_STATES",
    "MOST_STATES",
    "Sampler",
    "TooManyStates",
    "choose",
    "sampler_for",
    "weighted_sum",
]
