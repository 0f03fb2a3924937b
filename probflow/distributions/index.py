"""Draws of an index from log-probabilities: one uniform number each, looked up in the cumulative sum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from probflow._typing import Shape


def draw_index(log_probs: Tensor, sample_shape: Shape, batch: int) -> Tensor:
    """Indices of shape ``(*sample_shape, *lead, batch)`` for log-probabilities ``(K, *lead, batch or 1)``, normalised.

    Inverse-transform sampling: binary search, so neither memory nor time grows with K (``torch.distributions.Categorical``
    is several times slower).  A state of probability 0 is never drawn: its step in the cumulative sum has width 0.
    """
    log_probs = log_probs.detach()
    dtype = torch.promote_types(log_probs.dtype, torch.float32)
    states, *lead, rows = log_probs.shape
    cumulative = log_probs.to(dtype).exp().cumsum(0)
    cumulative = cumulative / cumulative[-1:]  # the last step is exactly 1, and a uniform number is below it
    if math.prod(lead) * rows == 1:
        uniform = torch.rand((*sample_shape, *lead, batch), dtype=dtype, device=log_probs.device)
        return torch.searchsorted(cumulative.reshape(states), uniform, right=True)
    table = cumulative.movedim(0, -1)
    if rows != batch:
        table = table.expand(*lead, batch, states)
    uniform = torch.rand((*lead, batch, math.prod(sample_shape)), dtype=dtype, device=log_probs.device)
    index = torch.searchsorted(table.contiguous(), uniform, right=True)
    return index.movedim(-1, 0).reshape(*sample_shape, *lead, batch)
