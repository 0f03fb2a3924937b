"""Products with logarithms where 0 log 0 = 0, in the value and in the gradient (torch's xlogy has the gradient 0/0)."""

from __future__ import annotations

import torch
from torch import Tensor


def x_log_y(x: Tensor, y: Tensor) -> Tensor:
    """x log y, with value and gradient 0 where x is 0."""
    return x * torch.where(x == 0, 1.0, y).log()


def x_log_1m_y(x: Tensor, y: Tensor) -> Tensor:
    """x log(1 - y), with value and gradient 0 where x is 0."""
    return x * torch.log1p(torch.where(x == 0, 0.0, -y))
