"""The same factor under other variable names; the weights are shared, not copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from probflow.distributions.base import Factor
from probflow.distributions.bound import Bound
from probflow.graph import Statement


def rename(factor: Factor, table: Mapping[str, str]) -> Factor:
    """`factor` with its variables renamed; itself when nothing changes, its origin when the names are back."""
    statement = factor.statement.rename(table)
    if statement == factor.statement:
        return factor
    origin = factor.origin
    return origin if statement == origin.statement else Renamed(origin, statement)


class Renamed(Factor):
    """A view of `origin`: its parameter, buffer and module tables are the origin's own, so keys and weights are the same."""

    def __init__(self, origin: Factor, statement: Statement) -> None:
        super().__init__(statement)
        object.__setattr__(self, "_origin", origin)  # not a submodule: the keys of state_dict stay those of the origin
        self.finite, self.reparameterised = origin.finite, origin.reparameterised
        self._share()

    def _share(self) -> None:
        for table in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[table] = self._origin.__dict__[table]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    @property
    def origin(self) -> Factor:
        return self._origin

    @property
    def kind(self) -> object:
        return self._origin.kind

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        return self._origin.event_ranks

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        bound = self._origin.bind(inputs, leads)
        bound.statement = self.statement
        return bound

    def state_count(self) -> int | None:
        return self._origin.state_count()

    def train(self, mode: bool = True) -> Renamed:
        self._origin.train(mode)
        nn.Module.train(self, mode)
        return self

    def describe(self) -> str:
        return f"{self._origin.describe()}, renamed from {self._origin.statement}"

    def check_sampler(self) -> None:
        self._origin.check_sampler()
