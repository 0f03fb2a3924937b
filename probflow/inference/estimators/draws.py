"""How a factor is drawn for each estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from probflow._typing import Shape
from probflow.distributions.bound import Bound
from probflow.errors import LossError
from probflow.inference.estimators.rebar import rebar_draw
from probflow.inference.estimators.relaxed import gumbel_softmax_draw, straight_through_draw
from probflow.losses.estimators import (
    ESTIMATORS,
    STL,
    VIMCO,
    DReG,
    Estimator,
    GumbelSoftmax,
    Pathwise,
    Rebar,
    Score,
    StraightThrough,
)

Run = Callable[[Bound, Shape, int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Sampler:
    """How values are drawn.  Estimators with the same `key` share their draws; `relaxed`: values may lie between the states."""

    key: object
    run: Run
    note: str
    pathwise: bool = False
    relaxed: bool = False


def _pathwise(bound: Bound, shape: Shape, batch: int) -> tuple[Tensor, ...]:
    return bound.draw(shape, batch, True)


def _detached(bound: Bound, shape: Shape, batch: int) -> tuple[Tensor, ...]:
    return tuple(value.detach() for value in bound.draw(shape, batch, False))


PATHWISE = Sampler(True, _pathwise, "pathwise", pathwise=True)
SCORE = Sampler(False, _detached, "score function with leave-one-out baseline")


def sampler_for(how: Estimator) -> Sampler:
    """How a factor with this estimator is drawn."""
    if isinstance(how, Pathwise):
        return PATHWISE
    if isinstance(how, Score) and how.baseline == "leave-one-out":
        return SCORE
    if isinstance(how, STL):
        return Sampler(True, _pathwise, "pathwise, sticking the landing", pathwise=True)
    if isinstance(how, DReG):
        return Sampler(True, _pathwise, "pathwise, doubly reparameterised", pathwise=True)
    if isinstance(how, Rebar):
        return Sampler(("rebar", how), lambda bound, shape, batch: rebar_draw(bound, shape, batch, how), f"{how}: unbiased")
    if isinstance(how, StraightThrough):
        return Sampler("straight-through", straight_through_draw, "straight-through: biased", relaxed=True)
    if isinstance(how, GumbelSoftmax):
        return Sampler(
            ("gumbel-softmax", how),
            lambda bound, shape, batch: gumbel_softmax_draw(bound, shape, batch, how),
            f"{how}: biased",
            relaxed=True,
        )
    if not isinstance(how, (Score, VIMCO)):
        raise LossError(
            f"{type(how).__name__} is no estimator that the plan knows; it knows {', '.join(ESTIMATORS)}.\n"
            "A baseline of your own is Score(baseline=Function(...)); a draw of your own is a Distribution of your own."
        )
    name = f"score function with baseline {how.baseline}" if isinstance(how, Score) else f"score function, {how}"
    return Sampler(False, _detached, name)
