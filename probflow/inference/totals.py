"""Means and sums computed as hand-written programs do: one sum over batch and event per term, the samples before the event.

``mean_b(Σ_i a_bi + Σ_j c_bj)`` is ``(Σ_bi a_bi + Σ_bj c_bj) / B``: without the sums per row there are fewer kernels, forward and
backward, and nothing of the size of the batch in between.  The steps of a plan stay as they are; this is how they are executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from torch import Tensor

from probflow.inference.ops import Density, MeanDensity, spread
from probflow.inference.steps import BATCH, Step

SUM = "sum"
"""The first entry of the key of an op that adds and subtracts its arguments; the second has the signs of those after the first."""


def with_means(steps: Sequence[Step], kept: Set[int]) -> tuple[Step, ...]:
    """The same steps, an average over samples of one log-density as one step: ``mean_k Σ_d a_kbd`` is ``Σ_d mean_k a_kbd``."""
    readers = _readers(steps)
    made = {step.out: step for step in steps}
    changed: dict[int, Step | None] = {}
    for step in steps:
        density = made.get(step.args[0]) if step.kind == "average" else None
        op = None if density is None or density.out in kept or len(readers[density.out]) > 1 else _mean_density(step, density)
        if density is None or op is None:
            continue
        last = step
        after = readers.get(step.out, [])
        if step.out not in kept and len(after) == 1 and after[0].info is not None and after[0].info.key == "negative":
            last, op = after[0], replace(op, negated=False)
            changed[step.out] = None
        changed[density.out] = None
        changed[last.out] = replace(last, kind="log_prob", run=op, args=density.args, info=None)
    found = (changed.get(step.out, step) for step in steps)
    return tuple(step for step in found if step is not None)


def _mean_density(step: Step, density: Step) -> MeanDensity | None:
    """Where all sample dimensions are averaged, of the log-density of one variable whose family has a formula for that."""
    op = density.run
    if step.info is None or density.info is None or not isinstance(op, Density) or not op.negated or len(density.args) != 2:
        return None
    (factor,), dims = density.info.about, step.info.key
    known = getattr(factor.kind, "mean_log_prob", None) is not None
    return MeanDensity(op, len(dims), True) if known and dims == tuple(range(len(density.info.axes))) else None


def _readers(steps: Sequence[Step]) -> dict[int, list[Step]]:
    readers: dict[int, list[Step]] = {}
    for step in steps:
        for slot in step.args:
            readers.setdefault(slot, []).append(step)
    return readers


def with_totals(steps: Sequence[Step], kept: Set[int], batch_of: Mapping[int, int]) -> tuple[Step, ...]:
    """The same steps, those that only reductions over the batch need as sums over it; `kept` are needed as they are.

    `batch_of`: where a slot has the size of its batch, if that is not the first; a sum is over the batch of those who read it.

    What reads a term does not matter, a loss or a report of its terms: both get the same number, to the last bit.
    """
    readers = _readers(steps)
    free: dict[int, bool] = {}
    for step in reversed(steps):
        free[step.out] = (
            step.out not in kept
            and step.info is not None
            and not step.info.axes
            and all(
                (_reduces(reader) or (_adds(reader) and free[reader.out]))
                and batch_of.get(reader.out, BATCH) == batch_of.get(step.out, BATCH)
                for reader in readers.get(step.out, [])
            )
        )
    changed: dict[int, Step] = {}
    totals: set[int] = set()  # slots that hold the sum of their rows
    for step in steps:
        done = tuple(slot in totals for slot in step.args)
        batch = batch_of.get(step.out, BATCH)
        if _reduces(step) and done[0]:
            run = _mean if step.info is not None and step.info.key == "mean" else _same
            changed[step.out] = replace(step, run=run, args=(step.args[0], batch))
        elif free[step.out] and step.total is not None:
            changed[step.out] = replace(step, run=step.total, args=(*step.args, batch))
            totals.add(step.out)
        elif free[step.out] and _adds(step) and any(done):
            signs = step.info.key[1] if step.info is not None else ()
            changed[step.out] = replace(step, run=_added((1, *signs), done), args=(*step.args, batch))
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
