r"""A distribution over many finite variables as what variable elimination leaves: one conditional per variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.distributions.bound import Bound, inserted_front
from probflow.distributions.elimination import Table, aligned
from probflow.distributions.enumeration import Finite
from probflow.distributions.finite import FiniteBound
from probflow.distributions.index import draw_index
from probflow.distributions.shapes import broadcast
from probflow.graph import Statement


class FactorisedBound(Bound):
    r""":math:`p(z_1, \dots, z_n) = \prod_k p(z_k \mid z_{s_k})`, with z_{s_k} eliminated after z_k: it costs the tables of the elimination.

    Sampled in the reverse order (for a chain: forward filtering, backward sampling).  Moments and lists of states are those of
    the table of all joint states, which `jointly` makes.
    """

    def __init__(
        self,
        statement: Statement,
        finite: Sequence[Finite],
        buckets: Sequence[tuple[int, Table]],
        jointly: Callable[[], FiniteBound],
    ) -> None:
        self.statement, self.finite, self.buckets, self.jointly = statement, finite, buckets, jointly
        self.front = broadcast(*(table.values.shape[len(table.axes) :] for _, table in buckets))

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        index: dict[int, Tensor] = {}
        for axis, table in reversed(self.buckets):
            alone = table.axes == (axis,)  # else the samples come with what it is conditioned on
            index[axis] = draw_index(self._conditional(axis, table, index), sample_shape if alone else (), batch)
        points = self._points()
        return tuple(points[name][1][index[points[name][0]]] for name in self.statement.var)

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        lead = max((*leads, self.lead))
        given = dict(zip(self.statement.var, zip(values, leads, strict=True), strict=True))
        index: dict[int, Tensor] = {}
        total = torch.zeros(self.front, dtype=self.buckets[0][1].values.dtype, device=self.buckets[0][1].values.device)
        for axis, _ in self.buckets:
            names = self.finite[axis].names
            one = FiniteBound(self.statement, self.finite[axis].points, total.new_zeros(self.finite[axis].size, 1))
            match = one.match(tuple(given[n][0] for n in names), tuple(given[n][1] for n in names), lead, check)
            index[axis] = match.to(torch.uint8).argmax(0)
            total = torch.where(match.any(0), total, -torch.inf)
        for axis, table in self.buckets:
            log_probs = self._conditional(axis, table, index)
            log_probs = aligned(log_probs, (axis,), log_probs.dim() - 2, (axis,), lead)
            front = broadcast(log_probs.shape[1:], index[axis].shape)
            total = total + log_probs.expand(-1, *front).gather(0, index[axis].expand(1, *front))[0]
        return total

    def insert(self, depth: int) -> Bound:
        if self.lead <= depth:
            return self
        buckets = []
        for axis, table in self.buckets:
            split = len(table.axes)
            front = inserted_front(tuple(table.values.shape[split:]), depth)
            buckets.append((axis, Table(table.axes, len(front) - 1, table.values.reshape(*table.values.shape[:split], *front))))
        return FactorisedBound(self.statement, self.finite, buckets, lambda: self.jointly().insert(depth))

    def mean(self) -> tuple[Tensor, ...]:
        return self.jointly().mean()

    def variance(self) -> tuple[Tensor, ...]:
        return self.jointly().variance()

    def entropy(self) -> Tensor:
        return self.jointly().entropy()

    def states(self, limit: int) -> tuple[Tensor, ...] | None:
        count = 1
        for axis, _ in self.buckets:
            count *= self.finite[axis].size
        return None if count > limit else self.jointly().states(limit)

    def _points(self) -> dict[str, tuple[int, Tensor]]:
        """The axis and the states of every variable."""
        every = ((axis, self.finite[axis]) for axis, _ in self.buckets)
        return {name: (axis, point) for axis, each in every for name, point in zip(each.names, each.points, strict=True)}

    def _conditional(self, axis: int, table: Table, index: dict[int, Tensor]) -> Tensor:
        """log p(z_axis | those after it at `index`), ``(S, *their lead, batch)``."""
        others = [other for other in table.axes if other != axis]
        values = aligned(table.values, table.axes, table.lead, table.axes, self.lead)
        values = values.movedim(table.axes.index(axis), 0).log_softmax(0)
        if not others:
            return values
        front = values.shape[1 + len(others) :]
        rest = [
            torch.arange(size, device=values.device).reshape(size, *[1] * (len(front) - 1 - place)) if size != 1 else 0
            for place, size in enumerate(front)
        ]
        places = (slice(None), *(index[other] for other in others), *rest)
        return values[places]
