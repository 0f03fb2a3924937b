"""A Normal with its scale multiplied by a temperature; the weights are the original's."""

from __future__ import annotations

import copy
import math

from torch import Tensor

from probflow._typing import Names, Shape
from probflow.distributions.base import Factor
from probflow.distributions.bound import Bound
from probflow.distributions.families.normal import Normal
from probflow.errors import ArgumentError


class TemperedNormal(Factor):
    r"""N(loc, (t · scale)²) for a Normal N(loc, scale²) and a temperature t > 0.

    >>> import torch
    >>> base = Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    >>> TemperedNormal(base, 0.5).log_prob({"z": torch.zeros(1, 2)})
    tensor([-0.4516])
    """

    def __init__(self, base: Factor, temperature: float) -> None:
        if not isinstance(base.origin, (Normal, TemperedNormal)):
            raise ArgumentError(f"A temperature is defined for a Normal base; {base.statement} is {base.describe()}.")
        super().__init__(base.statement)
        self.base = base
        self.temperature = float(temperature)

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        return self.base.event_ranks

    @property
    def fixed_batch(self) -> int | None:
        return self.base.fixed_batch

    @property
    def hidden_var(self) -> Names:
        return self.base.hidden_var

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        return _TemperedBound(self.base.bind(inputs, leads), self.temperature)

    def describe(self) -> str:
        return f"{self.base.describe()} at temperature {self.temperature:g}"


class _TemperedBound(Bound):
    def __init__(self, bound: Bound, temperature: float) -> None:
        self.bound, self.temperature = bound, temperature
        self.statement, self.front = bound.statement, bound.front

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        bound = copy.copy(self.bound)
        bound.front = self.front
        (mean,) = bound.mean()
        (z,) = bound.draw(sample_shape, batch, reparam)
        return (mean + self.temperature * (z - mean),)

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        (mean,) = self.bound.mean()
        (z,) = values
        size = math.prod(z.shape[leads[0] + 1 :])
        inner = mean + (z - mean) / self.temperature
        return self.bound.log_prob((inner,), (inner.dim() - z.dim() + leads[0],), check) - size * math.log(self.temperature)

    def insert(self, depth: int) -> Bound:
        return _TemperedBound(self.bound.insert(depth), self.temperature)

    def mean(self) -> tuple[Tensor, ...]:
        return self.bound.mean()

    def variance(self) -> tuple[Tensor, ...]:
        (variance,) = self.bound.variance()
        return (variance * self.temperature**2,)
