"""Constant activation memory in depth: inputs are reconstructed from outputs in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from probflow import domains
from probflow.errors import ArgumentError
from probflow.transforms.inverse import Inverse
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
    """The chain, in one direction, as one autograd node that keeps its output, and what no output tells."""
    order = tuple(reversed(parts)) if inverse else parts
    weights = list({id(p): p for part in parts for p in part.parameters()}.values())
    if torch.compiler.is_compiling():  # the compiler decides for itself what to keep
        return _plain(order, value, context, inverse)
    if not torch.is_grad_enabled() or not (value.requires_grad or weights or (context is not None and context.requires_grad)):
        return _plain(order, value, context, inverse)
    result: Pair = _Chain.apply(tuple(_single(order, inverse)), value, context, *weights)
    return result


Step = tuple[Transform, bool]
"""A layer, and whether it runs from x to z."""


def _single(order: tuple[Transform, ...], inverse: bool) -> Iterator[Step]:
    """The layers one by one, those of chains inside the chain too."""
    from probflow.transforms.compose import Compose

    for part in order:
        if isinstance(part, Inverse):
            yield from _single((part.transform,), not inverse)
        elif isinstance(part, Compose):
            parts = tuple(part)
            yield from _single(parts[::-1] if inverse else parts, inverse)
        else:
            yield part, inverse


def _saturates(step: Step) -> bool:
    """Whether numbers far out may become one in floating point: then no output tells the input (a sigmoid gives 1)."""
    part, inverse = step
    return (part.domain if inverse else part.codomain) is not domains.real


def _step(part: Transform, value: Tensor, context: Tensor | None, inverse: bool) -> Pair:
    own = None if part.context is None else context
    result, logdet = part._inverse_and_logdet(value, own) if inverse else part._forward_and_logdet(value, own)
    return result, sum_event(logdet)


def _plain(order: tuple[Transform, ...], value: Tensor, context: Tensor | None, inverse: bool) -> Pair:
    return _through(tuple((part, inverse) for part in order), value, context, [])


def _through(steps: tuple[Step, ...], value: Tensor, context: Tensor | None, before: list[Tensor]) -> Pair:
    """The value after all layers, and the sum of the log-determinants; `before` gets the inputs that have to be kept, and of the
    others an empty tensor of their dtype."""
    total: Tensor | None = None
    for part, inverse in steps:
        before.append(value if _saturates((part, inverse)) else value.new_empty(0))
        value, logdet = _step(part, value, context, inverse)
        total = logdet if total is None else total + logdet
    return value, value.new_zeros(value.shape[:1]) if total is None else total


def _casting(device: str) -> AbstractContextManager[object]:
    """The automatic casts of now, for later; without their cache, whose copies of weights made here have no graph."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False)


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


def _check_repeats(steps: tuple[Step, ...], value: Tensor, context: Tensor | None, result: Tensor, state: Tensor) -> None:
    """A network that draws numbers (dropout as a function) would draw others in the backward pass."""
    if torch.equal(state, _random_state(value)):
        return
    again, _ = _through(steps, value, context, [])  # another thread may have drawn: only another result proves it
    if not torch.equal(torch.nan_to_num(again), torch.nan_to_num(result)):
        raise ArgumentError(
            "Compose(memory='invert'): a layer draws random numbers, so that its inputs cannot be computed again from its outputs; "
            "use memory='store'."
        )


def _random_state(value: Tensor) -> Tensor:
    return torch.cuda.get_rng_state(value.device) if value.is_cuda else torch.get_rng_state()


class _Chain(torch.autograd.Function):
    """forward: without a graph.  backward: from the last layer to the first, invert, recompute with a graph, differentiate.

    (Gomez et al., *The reversible residual network*, arXiv:1707.04585, algorithm 1, for any invertible layer.)
    """

    @staticmethod
    def forward(ctx: Any, steps: Any, value: Tensor, context: Tensor | None, *weights: Tensor) -> Pair:
        ctx.steps, ctx.casting = steps, _casting(value.device.type)
        before: list[Tensor] = []
        capturing = value.is_cuda and torch.cuda.is_current_stream_capturing()
        state = None if capturing else _random_state(value)
        with torch.no_grad(), ctx.casting:
            result, logdet = _through(steps, value, context, before)
            if state is not None:
                _check_repeats(steps, value, context, result, state)
        ctx.weights = weights
        ctx.save_for_backward(result, context, *before, *weights)  # weights too: torch sees when they have changed meanwhile
        return result, logdet

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise ArgumentError("Compose(memory='invert') has first derivatives only: create_graph=True needs memory='store'.")
        value, context, *kept = ctx.saved_tensors
        grad, grad_logdet = grads
        leaf_context = None if context is None else context.detach().requires_grad_(ctx.needs_input_grad[2])
        totals: dict[int, Tensor] = {}
        context_grad: Tensor | None = None
        for place in reversed(range(len(ctx.steps))):
            (part, inverse), known = ctx.steps[place], kept[place]
            with ctx.casting:
                if _saturates((part, inverse)):
                    before = known
                else:
                    with torch.no_grad(), _evaluating(part):  # a reconstruction is not data: nothing initialises from it
                        before = _step(part, value, context, not inverse)[0].to(known.dtype)
                with torch.enable_grad():
                    leaf = before.detach().requires_grad_()
                    out, logdet = _step(part, leaf, leaf_context, inverse)
            weights = [p for p in part.parameters() if p.requires_grad]
            extra = [leaf_context] if leaf_context is not None and leaf_context.requires_grad else []
            pairs = [(o, g.to(o.dtype)) for o, g in ((out, grad), (logdet, grad_logdet)) if o.requires_grad]
            found = torch.autograd.grad(
                [o for o, _ in pairs], [leaf, *extra, *weights], [g for _, g in pairs], allow_unused=True
            )
            grad = torch.zeros_like(leaf) if found[0] is None else found[0]
            if extra and found[1] is not None:
                context_grad = found[1] if context_grad is None else context_grad + found[1]
            for weight, part_grad in zip(weights, found[1 + len(extra) :], strict=True):
                if part_grad is not None:
                    total = totals.get(id(weight))
                    totals[id(weight)] = part_grad if total is None else total + part_grad
            value = before
        return (None, grad, context_grad, *(totals.get(id(weight)) for weight in ctx.weights))
