"""What turns raw data into the values that a family of distributions accepts."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow.errors import ArgumentError, ShapeError, SupportError


def one_hot(y: Tensor, K: int) -> Tensor:
    """Class indices (N,) as one-hot rows (N, K) of the default float type: what a Categorical and a network's input take.

    Errors: `ArgumentError` when `y` is not a tensor of integers, `ShapeError` when it is not (N,), `SupportError` for an index
    outside 0..K-1.

    >>> one_hot(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise ArgumentError(f"one_hot(y, {K}) takes a tensor of indices, integers in 0..{K - 1}; got {kind}. Write y.long()")
    if y.dim() != 1:
        raise ShapeError(f"one_hot(y, {K}) takes class indices of shape (N,), got {tuple(y.shape)}.")
    outside = (y < 0) | (y >= K)
    if outside.any():
        raise SupportError(f"one_hot(y, {K}): y contains {y[outside][0].item()}, expected integers in 0..{K - 1}.")
    return torch.nn.functional.one_hot(y.long(), K).to(torch.get_default_dtype())


def binarize(x: Tensor, threshold: float = 0.5) -> Tensor:
    """1 where x > threshold, else 0, in the type of `x`: grey pixels made into values of a Bernoulli.

    >>> binarize(torch.tensor([0.0, 0.4, 0.6, 1.0]))
    tensor([0., 0., 1., 1.])
    """
    return (x > threshold).to(x.dtype)
