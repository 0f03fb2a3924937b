"""Sample dimensions, tracked by the draw they come from.

Every value of a program has axes in front of its batch dimension: one for each sample dimension or enumerated variable it
depends on.  Two values are combined along their common axes; an axis that one of them lacks becomes a singleton, so that
broadcasting does what the mathematics says.  Later axes stand further outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from probflow._typing import Shape
from probflow.distributions.bound import Bound
from probflow.distributions.values import insert_axis


@dataclass(frozen=True)
class Axis:
    """A sample dimension; `order` says how far outside it stands, `size` is None where only the run knows it."""

    order: int
    label: str
    size: int | None = None
    enumerated: bool = False


Axes = tuple[Axis, ...]
"""Outermost first."""


@dataclass(frozen=True)
class Slot:
    """Where a value of the program is kept, and what is known of it before it is computed."""

    index: int
    axes: Axes = ()
    batched: bool = True
    draws: frozenset[int] = frozenset()
    negated: bool = False
    """Whether it holds the negative of the value: log-densities are often cheaper that way round, and sums do not mind."""


def union(*groups: Axes) -> Axes:
    """All axes, outermost first."""
    return tuple(sorted({axis for group in groups for axis in group}, key=lambda axis: -axis.order))


def missing_depths(have: Axes, want: Axes) -> tuple[int, ...]:
    """Where singletons are inserted so that `have` lines up with `want` from the batch outwards.

    Axes of `want` outside all of `have` need nothing: broadcasting adds them.
    """
    if not have:
        return ()
    outermost = have[0].order
    inner_first = list(reversed(want))
    return tuple(depth for depth, axis in enumerate(inner_first) if axis not in have and axis.order < outermost)


def align(tensor: Tensor, lead: int, depths: tuple[int, ...]) -> Tensor:
    """`tensor` with singleton sample dimensions at `depths` (counted from the batch outwards)."""
    for depth in depths:
        tensor = insert_axis(tensor, lead, depth)
        lead += 1
    return tensor


def align_bound(bound: Bound, depths: tuple[int, ...]) -> Bound:
    """The same for a bound distribution."""
    for depth in depths:
        bound = bound.insert(depth)
    return bound


def widen(bound: Bound, depths: tuple[int, ...], sizes: Shape) -> Bound:
    """Insert sample dimensions of the given sizes: draws will fill them."""
    for depth, size in zip(depths, sizes, strict=True):
        bound = bound.insert(depth)
        place = len(bound.front) - 1 - depth
        bound.front = (*bound.front[:place], size, *bound.front[place + 1 :])
    return bound
