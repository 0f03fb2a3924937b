"""A distribution over an explicit list of states with given log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.distributions.bound import Bound, inserted_front
from probflow.distributions.index import draw_index
from probflow.errors import SupportError
from probflow.graph import Statement


class FiniteBound(Bound):
    """States ``(S, *event)`` per variable, log-probabilities ``(S, *lead, batch)``."""

    def __init__(self, statement: Statement, points: Sequence[Tensor], log_probs: Tensor) -> None:
        self.statement, self.points, self.log_probs = statement, tuple(points), log_probs
        self.front = tuple(log_probs.shape[1:])

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        index = draw_index(self.log_probs, sample_shape, batch)
        return tuple(points[index] for points in self.points)

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        lead = max((*leads, self.lead))
        table = self.log_probs.reshape(-1, *[1] * (lead - self.lead), *self.front)
        return torch.where(self.match(values, leads, lead, check), table, -torch.inf).logsumexp(0)

    def match(self, values: tuple[Tensor, ...], leads: tuple[int, ...], lead: int, check: bool) -> Tensor:
        """Which state the values are, ``(S, *lead, batch)``, with `lead` sample dimensions."""
        match: Tensor | None = None
        for value, own, points in zip(values, leads, self.points, strict=True):
            if not value.is_floating_point() and points.is_floating_point() and value.dim() == own + points.dim() - 1:
                value = (value[..., None] == torch.arange(points.shape[-1], device=value.device)).to(points.dtype)
            event = points.dim() - 1
            equal = value.unsqueeze(0) == points.reshape(-1, *[1] * (own + 1), *points.shape[1:]).to(value.dtype)
            equal = equal.flatten(-event).all(-1) if event else equal  # (S, *own lead, batch)
            equal = equal.reshape(equal.shape[0], *[1] * (lead - own), *equal.shape[1:])
            match = equal if match is None else match & equal
        if match is None:
            raise SupportError(f"{self.statement} has no variable.")
        if check and not bool(match.any(0).all()):
            place = (~match.any(0)).nonzero()[0].tolist()
            names = ", ".join(map(repr, self.statement.var))
            raise SupportError(
                f"{self.statement}: the value of {names} in row {place[-1]} is not one of its {self.points[0].shape[0]} states."
            )
        return match

    def insert(self, depth: int) -> FiniteBound:
        if self.lead <= depth:
            return self
        front = inserted_front(self.front, depth)
        return FiniteBound(self.statement, self.points, self.log_probs.reshape(-1, *front))

    def mean(self) -> tuple[Tensor, ...]:
        return tuple(self._average(points) for points in self.points)

    def variance(self) -> tuple[Tensor, ...]:
        return tuple(self._average(points.square()) - self._average(points).square() for points in self.points)

    def _average(self, points: Tensor) -> Tensor:
        weights = self.log_probs.exp()
        return torch.einsum("s...,se->...e", weights, points.flatten(1) if points.dim() > 1 else points[:, None]).reshape(
            *self.front, *points.shape[1:]
        )

    def entropy(self) -> Tensor:
        probs = self.log_probs.exp()
        return -torch.where(probs > 0, probs * self.log_probs, 0.0).sum(0)

    def states(self, limit: int) -> tuple[Tensor, ...] | None:
        if self.log_probs.shape[0] > limit:
            return None
        return tuple(points.reshape(-1, *[1] * (self.lead + 1), *points.shape[1:]) for points in self.points)
