"""Constant activation memory in depth: inputs are reconstructed from outputs in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from probflow.errors import ArgumentError
from probflow.transforms.transform import Pair, Transform, sum_event

_RANDOM = (_DropoutNd,)
_BATCH = (_BatchNorm,)


def check_invertible(parts: tuple[Transform, ...]) -> None:
    """Every layer must be deterministic and one pass both ways, so that a reconstruction is cheap and the same."""
    for place, part in enumerate(parts):
        if part.forward_cost != "one pass" or part.inverse_cost != "one pass":
            raise ArgumentError(
                f"Compose(memory='invert'): layer {place} ({part._title()}) is not one pass in both directions "
                f"(forward {part.forward_cost}, inverse {part.inverse_cost}); use memory='store'."
            )
        if part.stochastic_forward or part.stochastic_inverse or any(isinstance(m, _RANDOM) for m in part.modules()):
            raise ArgumentError(f"Compose(memory='invert'): layer {place} ({part._title()}) draws noise; use memory='store'.")
        if any(getattr(m, "uses_the_batch", isinstance(m, _BATCH)) for m in part.modules()):
            raise ArgumentError(
                f"Compose(memory='invert'): layer {place} ({part._title()}) computes with the statistics of the batch, which its inverse "
                "does not know; use memory='store'."
            )


def run(parts: tuple[Transform, ...], value: Tensor, context: Tensor | None, inverse: bool) -> Pair:
    """The chain, in one direction, as one autograd node that keeps its output only."""
    order = tuple(reversed(parts)) if inverse else parts
    weights = list({id(p): p for part in parts for p in part.parameters()}.values())
    if torch.compiler.is_compiling():  # the compiler decides for itself what to keep
        return _plain(order, value, context, inverse)
    if not torch.is_grad_enabled() or not (value.requires_grad or weights or (context is not None and context.requires_grad)):
        return _plain(order, value, context, inverse)
    result: Pair = _Chain.apply(order, inverse, value, context, *weights)
    return result


def _step(part: Transform, value: Tensor, context: Tensor | None, inverse: bool) -> Pair:
    own = None if part.context is None else context
    result, logdet = part._inverse_and_logdet(value, own) if inverse else part._forward_and_logdet(value, own)
    return result, sum_event(logdet)


def _plain(order: tuple[Transform, ...], value: Tensor, context: Tensor | None, inverse: bool) -> Pair:
    total: Tensor | None = None
    for part in order:
        value, logdet = _step(part, value, context, inverse)
        total = logdet if total is None else total + logdet
    return value, value.new_zeros(value.shape[:1]) if total is None else total


@contextmanager
def _evaluating(part: Transform) -> Iterator[None]:
    """Evaluation mode for a moment."""
    training = [module for module in part.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _Chain(torch.autograd.Function):
    """forward: without a graph.  backward: from the last layer to the first, invert, recompute with a graph, differentiate.

    (Gomez et al., *The reversible residual network*, arXiv:1707.04585, algorithm 1, for any invertible layer.)
    """

    @staticmethod
    def forward(ctx: Any, order: Any, inverse: bool, value: Tensor, context: Tensor | None, *weights: Tensor) -> Pair:
        ctx.order, ctx.inverse, ctx.weights = order, inverse, weights
        with torch.no_grad():
            result, logdet = _plain(order, value, context, inverse)
        ctx.save_for_backward(result, context)
        return result, logdet

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        value, context = ctx.saved_tensors
        grad, grad_logdet = grads
        leaf_context = None if context is None else context.detach().requires_grad_(ctx.needs_input_grad[3])
        totals: dict[int, Tensor] = {}
        context_grad: Tensor | None = None
        for part in reversed(ctx.order):
            with torch.no_grad(), _evaluating(part):  # a reconstruction is not data: nothing initialises from it
                before, _ = _step(part, value, context, not ctx.inverse)
            with torch.enable_grad():
                leaf = before.detach().requires_grad_()
                out, logdet = _step(part, leaf, leaf_context, ctx.inverse)
            weights = [p for p in part.parameters() if p.requires_grad]
            extra = [leaf_context] if leaf_context is not None and leaf_context.requires_grad else []
            pairs = [(o, g) for o, g in ((out, grad), (logdet, grad_logdet)) if o.requires_grad]
            found = torch.autograd.grad(
                [o for o, _ in pairs], [leaf, *extra, *weights], [g for _, g in pairs], allow_unused=True
            )
            grad = torch.zeros_like(leaf) if found[0] is None else found[0]
            if extra and found[1] is not None:
                context_grad = found[1] if context_grad is None else context_grad + found[1]
            for weight, part_grad in zip(weights, found[1 + len(extra) :], strict=True):
                if part_grad is not None:
                    known = totals.get(id(weight))
                    totals[id(weight)] = part_grad if known is None else known + part_grad
            value = before
        return (None, None, grad, context_grad, *(totals.get(id(weight)) for weight in ctx.weights))
