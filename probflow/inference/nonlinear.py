r"""Draws inside a nonlinear function: their score is weighted with the value of the function, not with the cost inside it.

What is computed for g(E_q[f]) is :math:`g(\hat f)`, with :math:`\hat f` an average over draws.  The gradient of its mean is

.. math:: \nabla\,\mathbb E[g(\hat f)] = \mathbb E\Big[\nabla g(\hat f) + \sum_k \big(g(\hat f) - g(\hat f_{-k})\big)\,\nabla \log q(z_k)\Big],

as for the logarithm of a mean (Mnih & Rezende, arXiv:1602.06725, eq. 5-6).  The score of f alone would give
:math:`g'(\hat f) \sum_k f_k \nabla \log q(z_k)`, which has another mean.  The baseline :math:`g(\hat f_{-k})` leaves the k-th draw out of
every average that it enters, or the row where there is one draw per row, and so does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probflow.checks import differentiated
from probflow.inference.axes import Axes, Slot, union
from probflow.inference.estimators.vimco import first_dims, others
from probflow.inference.planner import Planner
from probflow.inference.steps import BATCH


@dataclass(frozen=True)
class Waiting:
    """A draw whose score waits for the value of the function around it."""

    name: str
    draw: int
    log_q: Slot
    axes: Axes
    """Of the samples of its expectation."""
    centred: bool
    """Whether it is to have a baseline."""
    rows: bool
    """Whether what its expectation averages is one number per row."""


@dataclass
class Around:
    """The nonlinear function that is being planned: the draws inside, and those that are left out of their averages."""

    found: dict[int, Waiting] = field(default_factory=dict)
    collecting: bool = True
    left_out: Axes | None = None
    """Draws with these sample axes are left out one by one, or with none the rows; None: nothing is."""

    def add(self, waiting: Waiting) -> None:
        """A draw that the function depends on."""
        if self.collecting:
            self.found.setdefault(waiting.draw, waiting)

    def leaves_out(self, axes: Axes) -> bool:
        """Whether an expectation with these sample axes is to leave its draws out one by one."""
        return self.left_out == axes

    @contextmanager
    def changed(self, collecting: bool, left_out: Axes | None) -> Iterator[None]:
        """Other settings for a part of the expression."""
        before = self.collecting, self.left_out
        self.collecting, self.left_out = collecting and self.collecting, left_out
        try:
            yield
        finally:
            self.collecting, self.left_out = before


def function_of(planner: Planner, build: Callable[[], Slot]) -> Slot:
    """What `build` makes, a nonlinear function of expectations, with the scores of the draws inside."""
    if planner.around is not None:  # part of a larger function
        return build()
    around = planner.around = Around()
    try:
        value = build()
        waiting = [w for w in around.found.values() if w.draw in value.draws]
        baselines: dict[Axes, Slot] = {}
        if all(w.rows for w in waiting):
            for axes in dict.fromkeys(w.axes for w in waiting if w.centred):
                with around.changed(False, axes):
                    baselines[axes] = build()
    finally:
        planner.around = None
    result = value
    for w in waiting:
        result = _scored(planner, result, value, w, baselines.get(w.axes) if w.centred else None)
    return result


def _scored(planner: Planner, result: Slot, value: Slot, waiting: Waiting, baseline: Slot | None) -> Slot:
    """`result` with the score of one draw, times what `value` is above its baseline."""
    full = union(value.axes, waiting.log_q.axes, *(() if baseline is None else (baseline.axes,)))
    own = tuple(place for place, axis in enumerate(full) if axis not in value.axes)
    alone = all(axis.size == 1 for axis in waiting.axes)
    dims, rows, level = len(full) + 1, value.batched, baseline is None or baseline.batched

    def run(total: Tensor, cost: Tensor, log_prob: Tensor, rest: Tensor | None = None) -> Tensor:
        if not differentiated(log_prob):
            return total
        cost = cost.detach() if rows else cost.detach().unsqueeze(-1)
        weight = cost
        if rest is not None and not (alone and log_prob.shape[-1] == 1):  # of one draw there are no others
            rest = rest.detach() if level else rest.detach().unsqueeze(-1)
            weight = cost - torch.where(rest.isfinite(), rest, 0.0)
        score = weight * (log_prob - log_prob.detach())
        score = score.reshape((1,) * (dims - score.dim()) + score.shape)
        if own:
            score = score.sum(own)
        return total + (score if rows else score.sum(-1))

    parts = (value, waiting.log_q) if baseline is None else (value, waiting.log_q, baseline)
    return planner.op(
        "score",
        ("function", own, dims, alone),
        (result, *(planner.aligned(part, full) for part in parts)),
        run,
        value.axes,
        batched=value.batched,
        text=f"score-function gradient of {waiting.name}",
        note="weighted with the function: unbiased, value unchanged",
    )


def without_own(planner: Planner, body: Slot, axes: Axes, logarithmic: bool) -> Slot:
    """The mean of `body` over the draws but one, for each of them: over samples, or over the rows where there is one draw for each.

    Of the exponentials where it is `logarithmic`.
    """
    dims = tuple(body.axes.index(axis) for axis in axes if axis in body.axes and axis.size != 1) or (len(body.axes),)

    def run(cost: Tensor) -> Tensor:
        first = first_dims(cost.detach(), dims)
        count = len(first)
        if count == 1:
            return cost.detach()
        if logarithmic and dims != (cost.dim() - 1,):
            mean = others(first) - math.log(count - 1)
        else:
            mean = (first.sum(0, keepdim=True) - first) / (count - 1)
        sizes = [cost.shape[dim] for dim in dims]
        return mean.unflatten(0, sizes).movedim(tuple(range(len(dims))), dims)

    return planner.op(
        "others", (dims, logarithmic), (body,), run, body.axes, text="without each draw in turn", note="a baseline"
    )


def over_rows(planner: Planner, how: str, whole: Slot, other: Slot) -> Slot:
    """The mean or the sum of `whole` over the batch, with one row of `other` in its place: for every row."""
    axes = union(whole.axes, other.axes)
    mean = how == "mean"

    def run(rows: Tensor, left: Tensor, size: int) -> Tensor:
        rows, left = rows.detach(), left.detach()
        rows = rows if rows.shape[-1] == size else rows.expand(*rows.shape[:-1], size)
        total = rows.sum(-1, keepdim=True) + (left - rows)
        return total / size if mean else total

    return planner.op(
        "others", ("rows", how), (planner.aligned(whole, axes), planner.aligned(other, axes)), run, axes, extra=(BATCH,),
        text=f"the {how} with the row without its draw", note="a baseline",
    )  # fmt: skip
