"""A mean or a sum over the batch of a sum of terms, computed as hand-written programs do: one sum over batch and event per term.

``mean_b(Σ_i a_bi + Σ_j c_bj)`` is ``(Σ_bi a_bi + Σ_bj c_bj) / B``: without the sums per row there are fewer kernels, forward and
backward, and nothing of the size of the batch in between.  The steps of a plan stay as they are; this is how they are executed.
"""

from __future__ import annotations

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
    """The same steps, those that only reductions over the batch need as sums over it; `kept` are needed as they are.

    What reads a term does not matter, a loss or a report of its terms: both get the same number, to the last bit.
    """
    readers: dict[int, list[Step]] = {}
    for step in steps:
        for slot in step.args:
            readers.setdefault(slot, []).append(step)
    free: dict[int, bool] = {}
    for step in reversed(steps):
        free[step.out] = (
            step.out not in kept
            and step.info is not None
            and not step.info.axes
            and all(_reduces(reader) or (_adds(reader) and free[reader.out]) for reader in readers.get(step.out, []))
        )
    changed: dict[int, Step] = {}
    totals: set[int] = set()  # slots that hold the sum of their rows
    for step in steps:
        done = tuple(slot in totals for slot in step.args)
        if _reduces(step) and done[0]:
            run = _mean if step.info is not None and step.info.key == "mean" else _same
            changed[step.out] = replace(step, run=run, args=(step.args[0], BATCH))
        elif free[step.out] and step.total is not None:
            changed[step.out] = replace(step, run=step.total, args=(*step.args, BATCH))
            totals.add(step.out)
        elif free[step.out] and _adds(step) and any(done):
            signs = step.info.key[1] if step.info is not None else ()
            changed[step.out] = replace(step, run=_added((1, *signs), done), args=(*step.args, BATCH))
            totals.add(step.out)
    return tuple(changed.get(step.out, step) for step in steps)


def _reduces(step: Step) -> bool:
    """Whether it is a mean or a sum over the batch, without samples."""
    return step.kind == "reduce" and step.info is not None and step.info.key in ("mean", "sum") and not step.info.axes


def _adds(step: Step) -> bool:
    key = step.info.key if step.info is not None else None
    return step.kind == "combine" and isinstance(key, tuple) and key[0] == SUM


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
