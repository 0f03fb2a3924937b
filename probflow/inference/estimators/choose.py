"""Which estimator each factor of an expectation gets."""

from __future__ import annotations

from probflow._typing import Shape
from probflow.distributions import Deterministic
from probflow.distributions.base import Factor
from probflow.errors import LossError
from probflow.inference.estimators.relaxed import relaxable
from probflow.inference.estimators.states import FEW_STATES
from probflow.losses.estimators import (
    NAMED,
    STL,
    Canonical,
    DReG,
    Enumerate,
    Estimator,
    GumbelSoftmax,
    Pathwise,
    Rebar,
    StraightThrough,
    asked,
)

_ENUMERATE, _PATHWISE, _SCORE = NAMED["enumerate"], NAMED["pathwise"], NAMED["score"]


def choose(factor: Factor, sample_shape: Shape, estimator: Canonical, too_many: frozenset[int]) -> Estimator:
    """The estimator for one factor of an expectation.  A point mass has nothing to estimate: what is asked for is for the others.

    Errors: LossError where the one asked for does not exist.
    """
    how = None if estimator is None else asked(estimator, factor.var)
    if isinstance(factor.origin, Deterministic):
        return _PATHWISE
    if how is not None:
        _check(factor, how)
        return how
    count = factor.state_count()
    small = count is None or count <= FEW_STATES
    if factor.finite and not sample_shape and small and id(factor.origin) not in too_many:
        return _ENUMERATE
    return _PATHWISE if factor.reparameterised else _SCORE


def _check(factor: Factor, how: Estimator) -> None:
    name = f"estimator={how.name!r}"
    if isinstance(how, Enumerate) and not factor.finite:
        raise LossError(f"{factor.statement} is not finite, so {name} cannot sum over it.")
    if isinstance(how, (Pathwise, STL, DReG)) and not factor.reparameterised:
        raise LossError(
            f"{factor.statement} ({_kind(factor)}) has no reparameterised draw, so {name} has no gradient.\n"
            f"Leave estimator out, or ask for 'score'; in a product for this variable alone: estimator={{{factor.var[0]!r}: 'score'}}."
        )
    if isinstance(how, (StraightThrough, GumbelSoftmax, Rebar)) and not relaxable(factor):
        raise LossError(
            f"{name} relaxes Bernoulli and Categorical variables, but {factor.statement} is {_kind(factor)}.\n"
            "Choose per variable: estimator={'y': " + repr(how.name) + "}, others are left to the library."
        )


def _kind(factor: Factor) -> str:
    """What it is, in one line."""
    return factor.describe().split("\n")[0]
