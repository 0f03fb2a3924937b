"""enumerate: the exact sum over the states of a finite variable."""

from __future__ import annotations

import torch
from torch import Tensor

FEW_STATES = 128
"""Up to this many states a finite variable is summed exactly instead of drawn."""

MANY_STATES = 4096
"""Up to this many combinations of the states of several variables."""

MOST_STATES = 65536
"""Where estimator="enumerate" asks for the sum."""

EVERY_STATE = "every state, summed exactly"
"""What a plan says of such a sum."""


class TooManyStates(Exception):
    """Raised by a running program: this factor turned out too large to sum over; it is planned again as a draw."""

    def __init__(self, origin: int) -> None:
        super().__init__(origin)
        self.origin = origin


def weighted_sum(log_weight: Tensor, cost: Tensor, dim: int) -> Tensor:
    """sum_y q(y) f(y) over one dimension; a state of probability 0 contributes 0, whatever its cost."""
    weight = log_weight.exp()
    possible = weight > 0
    return (weight * torch.where(possible, cost, 0.0)).sum(dim)
