"""score: the cost of a draw times the gradient of its log-density."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from probflow.checks import differentiated


def score_surrogate(
    value: Tensor,
    cost: Tensor,
    log_prob: Tensor,
    sample_dims: tuple[int, ...],
    batched: bool,
    baseline: str = "leave-one-out",
    given: Tensor | None = None,
) -> Tensor:
    r"""`value`, with :math:`(f - b)\,\nabla \log q` added to its gradient.

    f is `cost`: the terms of `value` that depend on the draw.  The baseline b is the mean cost of the other samples
    (leave-one-out; over the batch where there is one sample), which is independent of the draw it is subtracted for, so the
    gradient stays unbiased (Kool et al. 2019; arXiv:1402.0030); or it is `given`, and learned where it has a gradient.
    """
    if not differentiated(log_prob):
        return value
    if not batched and log_prob.dim() > cost.dim():
        log_prob = log_prob.sum(-1)  # the cost is of the whole batch, so every draw of the batch shares it
    weight = cost.detach()
    if log_prob.dim() > weight.dim():
        weight = weight.expand(log_prob.shape)
    if given is not None:
        target = weight
        weight = target - given.detach()
    elif baseline == "leave-one-out":
        weight = leave_one_out(weight, tuple(d - weight.dim() for d in sample_dims) if batched else (), batched)
    surrogate = value + weight * (log_prob - log_prob.detach())
    if given is not None and given.requires_grad:
        surrogate = _learn(surrogate, given, target)
    return surrogate


def leave_one_out(value: Tensor, dims: tuple[int, ...], batched: bool) -> Tensor:
    """Each value minus the mean of the others along `dims`; along the batch where there is one sample only."""
    if not batched:
        return value
    count = 1
    for dim in dims:
        count *= value.shape[dim]
    if count == 1:
        dims, count = (-1,), value.shape[-1]
    if count == 1:
        return value
    return (value - value.mean(dims, keepdim=True)) * (count / (count - 1))


def _learn(value: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
    """`value`; its gradient also moves the baseline towards the target, down (b - f)² whichever way the loss goes."""
    shape = torch.broadcast_shapes(value.shape, baseline.shape)
    learned: Tensor = _Learn.apply(value.expand(shape), baseline.expand(shape), target.expand(shape))
    return learned


class _Learn(torch.autograd.Function):
    """The first argument, whose gradient it passes on; 2 |gradient| (b - f) for the second.

    The size of the gradient is that of the weight of the cost in the loss, so that a mean over the batch, or a factor that
    scales a loss for half precision, weighs the squared error as it weighs the cost.
    """

    @staticmethod
    def forward(value: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        _, baseline, target = inputs
        ctx.save_for_backward(baseline.detach() - target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (error,) = ctx.saved_tensors
        return gradient, 2 * gradient.abs() * error, None
