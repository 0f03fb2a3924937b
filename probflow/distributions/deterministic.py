"""Variables that are functions of others: z = f(x)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from probflow._typing import NamesLike, Shape
from probflow.distributions.bound import Bound, inserted_front
from probflow.distributions.networked import Networked
from probflow.distributions.values import fold, insert_axis
from probflow.errors import ArgumentError, NetworkError, ShapeError
from probflow.graph import Statement, make_statement
from probflow.printing import did_you_mean, shape_text


class Deterministic(Networked):
    """A deterministic rule: the variables are the output of a network (or of a subclass's `forward`).

    The network returns a tensor, or for several variables a dict by name or a tuple in statement order.  It has no density of
    its own (a point mass); in a product it can be sampled through, in both directions of the gradient, and marginalised.

    >>> h = Deterministic("h(z | x)", lambda x: 2 * x)
    >>> h.sample({"x": torch.ones(1, 2)})["z"]
    tensor([[2., 2.]])
    """

    def __init__(
        self,
        statement: str | None = None,
        network: Callable[..., Any] | None = None,
        *,
        var: NamesLike | None = None,
        cond_var: NamesLike | None = None,
        name: str | None = None,
    ) -> None:
        parsed = make_statement(statement, var=var, cond_var=cond_var, name=name)
        super().__init__(parsed, network, parsed.cond_var)
        if not self._source:
            raise ArgumentError(
                f'Deterministic {parsed} needs a network: Deterministic("{parsed}", network), or a subclass with forward.'
            )

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        folded, front = fold(inputs, leads)
        outputs = self._named(self.call(folded))
        batch = folded[0].shape[0] if folded else 1
        for name, tensor in zip(self.var, outputs, strict=True):
            if not isinstance(tensor, Tensor):
                raise NetworkError(f"{self.statement}: {name} must be a tensor, got a {type(tensor).__name__}.")
            if tensor.dim() == 0 or tensor.shape[0] != batch:
                raise ShapeError(
                    f"{self.statement}: {name} has shape {shape_text(tensor.shape)}, but dimension 0 must be the batch, "
                    f"of size {batch}."
                )
        if len(front) > 1:
            outputs = tuple(t.unflatten(0, front) for t in outputs)
        return PointBound(self.statement, outputs, front)

    def _named(self, outputs: Any) -> tuple[Tensor, ...]:
        if isinstance(outputs, dict):
            for name in outputs:
                if name not in self.var:
                    raise NetworkError(
                        f"{self.statement}: the network returned {name!r}, which is none of its variables "
                        f"({', '.join(self.var)}).{did_you_mean(name, self.var)}"
                    )
            missing = [n for n in self.var if n not in outputs]
            if missing:
                raise NetworkError(f"{self.statement}: the network's dict lacks {', '.join(map(repr, missing))}.")
            return tuple(outputs[n] for n in self.var)
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        if not isinstance(outputs, (tuple, list)) or len(outputs) != len(self.var):
            got = f"{len(outputs)} values" if isinstance(outputs, (tuple, list)) else f"a {type(outputs).__name__}"
            raise NetworkError(f"{self.statement}: the network must return {', '.join(self.var)}, got {got}.")
        return tuple(outputs)

    def describe(self) -> str:
        return f"Deterministic {self.source_text() and 'from ' + self.source_text()}".rstrip()


class PointBound(Bound):
    """A point mass at known values."""

    def __init__(self, statement: Statement, values: tuple[Tensor, ...], front: Shape) -> None:
        self.statement, self.values, self.front = statement, values, front

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        front = (*sample_shape, *self.front[:-1], batch)
        return tuple(
            value if value.shape[: len(front)] == front else value.expand(*front, *value.shape[self.lead + 1 :])
            for value in self.values
        )

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        raise self.no_density(
            "it is a point mass",
            f"Marginalise it: p.marginalize_var({self.statement.var[0]!r}) substitutes it, or take it inside E(...)[...].",
        )

    def insert(self, depth: int) -> PointBound:
        values = tuple(insert_axis(value, self.lead, depth) for value in self.values)
        return PointBound(self.statement, values, inserted_front(self.front, depth))

    def mean(self) -> tuple[Tensor, ...]:
        return self.values

    def variance(self) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(value) for value in self.values)
