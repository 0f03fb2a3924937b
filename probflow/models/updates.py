"""Updates of optimizers as formulas, for a compiler: the weights, their gradients and the state in, all of them changed in place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adam import adam

Columns = list[list[Tensor]]
Update = Callable[[Mapping[str, Any], list[Tensor], list[Tensor], Columns, Tensor], None]


def _adam(group: Mapping[str, Any], weights: list[Tensor], gradients: list[Tensor], columns: Columns, rate: Tensor) -> None:
    """Adam (arXiv:1412.6980, algorithm 1) and AdamW (arXiv:1711.05101), with the numbers of each step found once.

    torch's own function, in a graph, takes both powers beta^t anew for every few elements of a weight, which doubles the time of
    its kernel on a CPU.  Here one small kernel has written them before.  Not for float64, which nearly nothing is trained in.
    """
    averages, squares, steps, *largest = columns
    beta1, beta2 = group["betas"]
    usual = all(weight.is_cpu and weight.dtype != torch.float64 for weight in weights)
    if not usual or isinstance(beta1, Tensor) or isinstance(beta2, Tensor):
        adam(
            weights, gradients, averages, squares, largest[0] if largest else [], steps,
            foreach=False, capturable=True, differentiable=False, fused=False, has_complex=False,
            amsgrad=group["amsgrad"], beta1=beta1, beta2=beta2, lr=rate, weight_decay=group["weight_decay"], eps=group["eps"],
            maximize=group["maximize"], decoupled_weight_decay=group.get("decoupled_weight_decay", False),
        )  # fmt: skip
        return
    decay = group["weight_decay"]
    count = torch.stack([step.double() for step in steps]) + 1
    sizes = rate / _without_power(beta1, count)
    roots = _without_power(beta2, count).rsqrt()
    for place, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
        if group["maximize"]:
            gradient = -gradient
        if decay and group.get("decoupled_weight_decay", False):
            weight.mul_((1 - rate * decay).float())
        elif decay:
            gradient = gradient + decay * weight
        average, square = averages[place], squares[place]
        average.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        if largest:
            square = largest[0][place].copy_(torch.maximum(largest[0][place], square))
        size, root = sizes[place].float(), roots[place].float()
        weight.sub_(size * average / (square.sqrt() * root + group["eps"]))
        steps[place].add_(1)


def _without_power(beta: float, count: Tensor) -> Tensor:
    """1 - beta^count, through an exponential: the compiler then keeps what several kernels read, and copies it into none of them."""
    return 1 - (count * math.log(beta)).exp() if beta else torch.ones_like(count)


def _sgd(group: Mapping[str, Any], weights: list[Tensor], gradients: list[Tensor], columns: Columns, rate: Tensor) -> None:
    for place, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
        if group["maximize"]:
            gradient = -gradient
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * weight
        if group["momentum"]:
            velocity = columns[0][place]
            velocity.mul_(group["momentum"]).add_(gradient, alpha=1 - group["dampening"])
            gradient = gradient + group["momentum"] * velocity if group["nesterov"] else velocity
        weight.sub_(rate * gradient)


UPDATES: dict[type[Optimizer], Update] = {Adam: _adam, AdamW: _adam, SGD: _sgd}
"""The optimizers whose update is a formula for the compiler."""


def columns_of(optimizer: Optimizer, group: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a weight's state, as the update takes them."""
    if isinstance(optimizer, SGD):
        return ("momentum_buffer",) if group["momentum"] else ()
    return ("exp_avg", "exp_avg_sq", "step", *(["max_exp_avg_sq"] if group["amsgrad"] else []))


def clipped(gradients: list[Any], norm: float | None, value: float | None) -> list[Any]:
    """As ``clip_grad_norm_`` and then ``clip_grad_value_`` do it."""
    if norm is not None:
        total = torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm()
        scale = (norm / (total + 1e-6)).clamp(max=1.0)
        gradients = [None if gradient is None else gradient * scale for gradient in gradients]
    if value is not None:
        gradients = [None if gradient is None else gradient.clamp(-value, value) for gradient in gradients]
    return gradients
