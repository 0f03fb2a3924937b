"""Standard noise that the families' samplers transform; never exactly 0 or 1, so that its logarithm is finite."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow._typing import Shape


def uniform(shape: Shape, like: Tensor) -> Tensor:
    """Uniform on the open interval (0, 1), of the dtype and device of `like`."""
    return torch.rand(shape, dtype=like.dtype, device=like.device).clamp_min(torch.finfo(like.dtype).tiny)


def logistic(shape: Shape, like: Tensor) -> Tensor:
    """Standard logistic noise: the logit of a uniform number."""
    u = uniform(shape, like)
    return u.log() - torch.log1p(-u)


def gumbel(shape: Shape, like: Tensor) -> Tensor:
    """Standard Gumbel noise: -log E for E of the exponential distribution."""
    return (
        -torch.empty(shape, dtype=like.dtype, device=like.device).exponential_().clamp_min(torch.finfo(like.dtype).tiny).log()
    )


def into_open_unit_interval(x: Tensor) -> Tensor:
    """Numbers that rounding has put on 0 or 1, moved to the nearest number inside; NaN stays."""
    limits = torch.finfo(x.dtype)
    return x.clamp(limits.tiny, 1 - limits.eps / 2)
