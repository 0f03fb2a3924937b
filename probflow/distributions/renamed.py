"""The same factor under other variable names; the weights are shared, not copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from probflow._typing import Names
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.bound import Bound
from probflow.errors import NoDensity, NoSampler
from probflow.graph import Statement


def rename(factor: Factor, table: Mapping[str, str]) -> Factor:
    """`factor` with its variables renamed; itself when nothing changes, its origin when the names are back."""
    statement = factor.statement.rename(table)
    if statement == factor.statement:
        return factor
    origin = factor.origin
    return origin if statement == origin.statement else Renamed(origin, statement)


class Renamed(Factor):
    """A view of `origin`: its parameter, buffer and module tables are the origin's own, so keys and weights are the same.

    >>> import probflow as pf
    >>> p = pf.Normal("p(x | z)", loc="z", scale=1.0)
    >>> other = p.replace_var(x="x2", z="z2")
    >>> print(type(other).__name__, other.statement, other.origin is p)
    Renamed p(x2|z2) True
    """

    _origin: Factor

    def __init__(self, origin: Factor, statement: Statement) -> None:
        super().__init__(statement)
        object.__setattr__(self, "_origin", origin)  # not a submodule: the keys of state_dict stay those of the origin
        self.finite, self.reparameterised, self.normalised = origin.finite, origin.reparameterised, origin.normalised
        self.along_the_draw = origin.along_the_draw
        self._share()

    @property
    def is_bound(self) -> bool:
        return self._origin.is_bound

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
    def prefers_negative(self) -> bool:
        return self._origin.prefers_negative

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        return self._origin.event_ranks

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        bound = self._origin.bind(inputs, leads)
        bound.statement = self.statement
        return bound

    def state_count(self) -> int | None:
        return self._origin.state_count()

    @property
    def fixed_batch(self) -> int | None:
        return self._origin.fixed_batch

    @property
    def hidden_var(self) -> Names:
        return self._origin.hidden_var

    @property
    def _table(self) -> dict[str, str]:
        """What each name of the origin is called here."""
        old, new = self._origin.statement, self.statement
        return dict(zip(old.var + old.cond_var, new.var + new.cond_var, strict=True))

    def _posterior(self, wanted: Names) -> Distribution:
        if not set(wanted) <= set(self.hidden_var):
            return super()._posterior(wanted)
        return self._origin._posterior(wanted).replace_var(self._table)

    def _for(self, known: frozenset[str]) -> Distribution:
        part = self._origin._for(frozenset(old for old, new in self._table.items() if new in known))
        if part is self._origin:
            return self
        names = part.var + part.cond_var
        return part.replace_var({old: new for old, new in self._table.items() if old in names})

    def train(self, mode: bool = True) -> Renamed:
        self._origin.train(mode)
        nn.Module.train(self, mode)
        return self

    def describe(self) -> str:
        first, *rest = self._origin.describe().split("\n")
        return "\n".join([f"{first}, renamed from {self._origin.statement}", *rest])

    def check_sampler(self) -> None:
        try:
            self._origin.check_sampler()
        except NoSampler as error:
            raise NoSampler(str(error).replace(str(self._origin.statement), str(self.statement))) from None

    def check_density(self) -> None:
        try:
            self._origin.check_density()
        except NoDensity as error:
            raise NoDensity(str(error).replace(str(self._origin.statement), str(self.statement))) from None
