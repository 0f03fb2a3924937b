"""Ops that say what they do: the draws, densities and divergences of a plan, as functions of bound distributions.

A specialised program (:mod:`probflow.inference.special`) reads their fields, and calls the family's formulas itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.checks import compiling, is_lenient
from probflow.distributions.bound import Bound
from probflow.distributions.family import FamilyBound
from probflow.distributions.flow_bound import FlowBound
from probflow.inference.steps import PartOfPlan

WIDE = (torch.float32, torch.float64)


def spread(rows: Any, batch: int) -> Any:
    """The sum over the batch of one number per row, or of one number for all rows; of 16-bit numbers in float32, where it fits."""
    if not isinstance(rows, Tensor) or rows.dim() == 0:
        return rows * batch
    total = rows.sum() if rows.dtype in WIDE else rows.sum(dtype=torch.float32)
    return total if rows.shape[0] == batch else total * (batch / rows.shape[0])


@dataclass(frozen=True)
class Draw(PartOfPlan):
    """A pathwise draw with these sample dimensions in front."""

    shape: Shape

    def __call__(self, dist: Bound, batch: int) -> tuple[Tensor, ...]:
        return dist.draw(self.shape, batch, True)


@dataclass(frozen=True)
class NoisyDraw(Draw):
    """The same with its noise beside it."""

    def __call__(self, dist: Bound, batch: int) -> tuple[Tensor, ...]:
        return dist.draw_with_noise(self.shape, batch) if isinstance(dist, FamilyBound) else super().__call__(dist, batch)


@dataclass(frozen=True)
class Item(PartOfPlan):
    """One of several values that were drawn together."""

    place: int

    def __call__(self, values: tuple[Tensor, ...]) -> Tensor:
        return values[self.place]


@dataclass(frozen=True)
class Density(PartOfPlan):
    """The log-density at values with these numbers of sample dimensions, or its negative.

    check: whether the values come from outside.  Drawn values are in the support of what drew them, not always of this; they are
    looked at where the result is not finite.
    """

    leads: tuple[int, ...]
    check: bool
    negated: bool

    def __call__(self, dist: Bound, *values: Tensor) -> Tensor:
        look = self.check or not (is_lenient() or compiling())
        return dist.neg_log_prob(values, self.leads, look) if self.negated else dist.log_prob(values, self.leads, look)

    def total(self, dist: Bound, *arguments: Any) -> Any:
        """The sum over the batch, the last argument."""
        *values, batch = arguments
        if not isinstance(dist, (FamilyBound, FlowBound)) or values[0].shape[0] != batch or not _wide(dist, values[0]):
            return spread(self(dist, *values), batch)
        return dist.total_nll(values[0], self.check or not (is_lenient() or compiling()))


@dataclass(frozen=True)
class NoiseDensity(PartOfPlan):
    """The negative log-density at a value that this distribution has drawn a moment ago, from the noise that it was made of."""

    density: Density

    def __call__(self, dist: Bound, drawn: tuple[Tensor, ...]) -> Tensor:
        nll = self._nll(dist, drawn, 0)
        return self.density(dist, drawn[0]) if nll is None else nll

    def total(self, dist: Bound, drawn: tuple[Tensor, ...], batch: int) -> Any:
        """The sum over the batch."""
        whole = drawn[0].shape[0] == batch and _wide(dist, drawn[0])
        nll = self._nll(dist, drawn, 1) if whole else None
        return self.density.total(dist, drawn[0], batch) if nll is None else nll

    def _nll(self, dist: Bound, drawn: tuple[Tensor, ...], more: int) -> Tensor | None:
        """None where there is no noise, or where the values themselves are to be looked at."""
        if len(drawn) < 2 or not isinstance(dist, FamilyBound) or not (is_lenient() or compiling()):
            return None
        formula = dist.family.noise_nll
        return None if formula is None else formula(dist.params, drawn[1], dist.extra + more)


@dataclass(frozen=True)
class MeanDensity(PartOfPlan):
    """The mean of a log-density over its `dims` sample dimensions, or its negative, without the densities themselves."""

    density: Density
    dims: int
    negated: bool

    def __call__(self, dist: Bound, value: Tensor) -> Tensor:
        lead, check = self.density.leads[0], self.density.check or not (is_lenient() or compiling())
        if isinstance(dist, FamilyBound):
            mean = dist.mean_log_prob(value, lead, self.dims, check)
        else:
            mean = dist.log_prob((value,), (lead,), check).mean(tuple(range(self.dims)))
        return -mean if self.negated else mean


def _wide(dist: Bound, value: Tensor) -> bool:
    """Whether there is a sum over a whole batch, and it may be made of these numbers: those of 16 bits overflow, or lose too much."""
    if isinstance(dist, FlowBound):
        return value.dtype in WIDE and _wide(dist.base, value)
    if not isinstance(dist, FamilyBound) or dist.family.event_nll is None:  # the base of a flow may have been replaced
        return False
    return all(tensor.dtype in WIDE for tensor in dist.params.values())
