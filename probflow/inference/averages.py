"""Sums over the states of a finite variable, and averages over samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from probflow.errors import LossError
from probflow.inference.axes import Axes, Axis, Slot, union
from probflow.inference.estimators.states import weighted_sum
from probflow.inference.planner import Planner


def summed(planner: Planner, body: Slot, log_weight: Slot, axis: Axis, logarithmic: bool) -> Slot:
    """The sum over the states along `axis`, each with its probability; of the exponentials where it is `logarithmic`."""
    full = union(body.axes, log_weight.axes)
    dim = full.index(axis) - len(full) - (1 if body.batched else 0)
    rest = tuple(a for a in full if a != axis)
    if not body.batched:
        raise LossError(
            "A sum over the states of a finite variable cannot hold .mean() or .sum() over the batch: put them outside the expectation."
        )

    def run(weight: Tensor, cost: Tensor) -> Tensor:
        if cost.dim() < weight.dim():
            cost = cost.expand(weight.shape)
        if weight.dim() < cost.dim():
            weight = weight.expand(cost.shape)
        return (weight + cost).logsumexp(dim) if logarithmic else weighted_sum(weight, cost, dim)

    slots = (planner.aligned(log_weight, full), planner.aligned(body, full))
    slot = planner.op("sum", (dim, logarithmic), slots, run, rest, text=f"over the {axis.label}", note="exact")
    return replace(slot, negated=body.negated)


def eliminated(planner: Planner, terms: Sequence[Slot], states: Sequence[tuple[Slot, Axis]]) -> Slot:
    r"""log Σ exp of the sum of `terms`, one variable at a time, the last drawn first: what factorises gets no joint table.

    states: log q at every state, and its axis, in the order of drawing.  When an axis is summed out, only its own log q mentions
    it besides the terms, as those of its descendants are summed out already; where no term does, q sums to 1.
    """
    left = list(terms)
    for log_weight, axis in reversed(states):
        mine = [term for term in left if axis in term.axes]
        if mine:
            left = [term for term in left if axis not in term.axes]
            left.append(summed(planner, _added(planner, mine, f"the terms with the {axis.label}"), log_weight, axis, True))
    return _added(planner, left, "what is left")


def _added(planner: Planner, terms: Sequence[Slot], shown: str) -> Slot:
    return planner.plain(terms[0] if len(terms) == 1 else planner.signed_sum((1,) * len(terms), tuple(terms), shown))


def averaged(planner: Planner, body: Slot, axes: Axes, shown: str, logarithmic: bool) -> Slot:
    """The mean over the samples along `axes`; the log-mean-exp where it is `logarithmic`."""
    present = tuple(axis for axis in axes if axis in body.axes)
    if not present:
        return body
    dims = tuple(body.axes.index(axis) for axis in present)
    rest = tuple(axis for axis in body.axes if axis not in present)
    if not logarithmic:
        shown = f"-{shown}" if body.negated else shown
        slot = planner.op(
            "average", dims, (body,), lambda t: t.mean(dims), rest, batched=body.batched, text=shown, note="over the samples"
        )
        return replace(slot, negated=body.negated)
    count = math.log(math.prod(axis.size or 1 for axis in present))
    note = "log-mean-exp over the samples: a lower bound on the logarithm, biased for finitely many"
    return planner.op(
        "average",
        ("log", dims),
        (body,),
        lambda t: t.logsumexp(dims) - count,
        rest,
        batched=body.batched,
        text=f"log {shown}",
        note=note,
    )
