"""The distribution of a data set."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from probflow._typing import NamesLike, Shape
from probflow.distributions.base import Factor
from probflow.distributions.bound import Bound
from probflow.distributions.values import check_mapping
from probflow.errors import ArgumentError, ShapeError
from probflow.graph import Statement, make_statement
from probflow.printing import shape_text


class EmpiricalDistribution(Factor):
    r"""Rows of a data set, each with probability 1/N: :math:`p_{data}(x, y) = \frac1N \sum_n \delta_{(x_n, y_n)}`.

    Rows are drawn with replacement, all variables of a row together.  The data move with ``.to(device)`` and stay out of
    ``state_dict``.  It has no density (a sum of point masses).

    >>> data = EmpiricalDistribution("p_{data}(x, y)", {"x": torch.zeros(10, 2), "y": torch.ones(10)})
    >>> data.sample(batch_n=4)["x"].shape
    torch.Size([4, 2])
    """

    reparameterised = True  # nothing to differentiate: the rows do not depend on parameters

    def __init__(
        self,
        statement: str | None = None,
        data: Mapping[str, Tensor] | Tensor | None = None,
        *,
        var: NamesLike | None = None,
        name: str | None = None,
    ) -> None:
        if data is None:
            raise ArgumentError('EmpiricalDistribution needs data: EmpiricalDistribution("p_{data}(x)", {"x": tensor}).')
        if statement is None and var is None and isinstance(data, Mapping):
            var = list(data)
        super().__init__(make_statement(statement, var=var, name=name, default_name="p_{data}"))
        if self.cond_var:
            everything = ", ".join(self.var + self.cond_var)
            raise ArgumentError(f'{self.statement}: data are not conditioned on anything; write "{self.name}({everything})".')
        rows = {self.var[0]: data} if isinstance(data, Tensor) else check_mapping(data, f"Data {self.statement}", self.var)
        if set(rows) != set(self.var):
            raise ArgumentError(
                f"{self.statement}: the data are for {', '.join(rows)}; they must be for {', '.join(self.var)}."
            )
        sizes = {n: rows[n].shape[0] if rows[n].dim() else 0 for n in self.var}
        if len(set(sizes.values())) != 1 or 0 in sizes.values():
            shapes = ", ".join(f"{n} {shape_text(rows[n].shape)}" for n in self.var)
            raise ShapeError(f"{self.statement}: every variable needs the same number of rows, at least one; got {shapes}.")
        for index, variable in enumerate(self.var):
            self.register_buffer(f"_rows{index}", rows[variable], persistent=False)

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """The data, one tensor per variable."""
        return tuple(getattr(self, f"_rows{index}") for index in range(len(self.var)))

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        return tuple(rows.dim() - 1 for rows in self.rows)

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        return _EmpiricalBound(self.statement, self.rows)

    def describe(self) -> str:
        return f"EmpiricalDistribution of {self.rows[0].shape[0]} rows"


class _EmpiricalBound(Bound):
    def __init__(self, statement: Statement, rows: tuple[Tensor, ...]) -> None:
        self.statement, self.rows, self.front = statement, rows, (1,)

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        index = torch.randint(self.rows[0].shape[0], (*sample_shape, batch), device=self.rows[0].device)
        return tuple(rows[index] for rows in self.rows)

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        raise self.no_density("data are point masses", "It can be sampled: E(p_data)[...], or pass the batch as values.")

    def insert(self, depth: int) -> Bound:
        return self

    def mean(self) -> tuple[Tensor, ...]:
        return tuple(rows.mean(0, keepdim=True) for rows in self.rows)

    def variance(self) -> tuple[Tensor, ...]:
        return tuple(rows.var(0, unbiased=False, keepdim=True) for rows in self.rows)


Data = EmpiricalDistribution
