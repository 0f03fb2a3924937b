"""A mean or a sum over the batch of a sum of terms, computed as hand-written programs do: one sum over batch and event per term.

``mean_b(Σ_i a_bi + Σ_j c_bj)`` is ``(Σ_bi a_bi + Σ_bj c_bj) / B``: without the sums per row there are fewer kernels, forward and
backward, and nothing of the size of the batch in between.  The steps of a plan stay as they are; this is how they are executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from probflow.inference.steps import BATCH, Step

WIDE = (torch.float32, torch.float64)
SUM = "sum"
"""The first entry of the key of an op that adds and subtracts its arguments; the second has the signs of those after the first."""


def spread(rows: Any, batch: int) -> Any:
    """The sum over the batch of one number per row, or of one number for all rows; of 16-bit numbers in float32, where it fits."""
    if not isinstance(rows, Tensor) or rows.dim() == 0:
        return rows * batch
    total = rows.sum() if rows.dtype in WIDE else rows.sum(dtype=torch.float32)
    return total if rows.shape[0] == batch else total * (batch / rows.shape[0])


def with_totals(steps: Sequence[Step], kept: set[int]) -> tuple[Step, ...]:
    """The same steps, those that nothing but a reduction over the batch needs as sums over it; `kept` are needed as they are."""
    by_slot = {step.out: step for step in steps}
    uses = Counter(slot for step in steps for slot in step.args)
    changed: dict[int, Step] = {}

    def alone(slot: int) -> bool:
        step = by_slot.get(slot)
        return step is not None and uses[slot] == 1 and slot not in kept and step.info is not None and not step.info.axes

    def total(slot: int) -> bool:
        """Whether the step of `slot` was changed so that it gives the sum over the batch."""
        if not alone(slot):
            return False
        step = by_slot[slot]
        if step.total is not None:
            changed[slot] = replace(step, run=step.total, args=(*step.args, BATCH))
            return True
        key = step.info.key if step.info is not None else None
        if step.kind != "combine" or not isinstance(key, tuple) or key[0] != SUM:
            return False
        done = tuple([total(argument) for argument in step.args])
        if any(done):
            changed[slot] = replace(step, run=_added((1, *key[1]), done), args=(*step.args, BATCH))
        return any(done)

    for step in steps:
        if step.kind == "reduce" and step.info is not None and step.info.key in ("mean", "sum") and not step.info.axes:
            if total(step.args[0]):
                changed[step.out] = replace(step, run=_mean if step.info.key == "mean" else _same, args=(step.args[0], BATCH))
    return tuple(changed.get(step.out, step) for step in steps) if changed else tuple(steps)


def _mean(total: Tensor, batch: int) -> Tensor:
    return total / batch


def _same(total: Tensor, batch: int) -> Tensor:
    return total


def _added(signs: tuple[int, ...], done: tuple[bool, ...]) -> Callable[..., Any]:
    """The signed sum of terms, of which some are summed over the batch already."""
    if all(done) and len(signs) == 2:
        return (lambda a, b, batch: a + b) if signs[1] > 0 else (lambda a, b, batch: a - b)

    def run(*arguments: Any) -> Any:
        *terms, batch = arguments
        result: Any = None
        for sign, ready, term in zip(signs, done, terms, strict=True):
            value = term if ready else spread(term, batch)
            result = value if result is None else result + value if sign > 0 else result - value
        return result

    return run
