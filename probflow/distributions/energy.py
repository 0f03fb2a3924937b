"""Densities known up to a constant: any function of the named variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from probflow._typing import NamesLike, Shape
from probflow.distributions.base import unsampled
from probflow.distributions.bound import Bound, inserted_front
from probflow.distributions.networked import Networked
from probflow.distributions.values import fold, insert_axis
from probflow.errors import ArgumentError, NetworkError
from probflow.graph import Statement, make_statement
from probflow.printing import shape_text


class CustomProb(Networked):
    r"""An unnormalised log-density :math:`\log \tilde p(x) = f(x)` from any callable or module of the named variables.

    The function gets the variables by parameter name when the names match, else in statement order (variables first, then
    conditioning variables), each with one batch dimension, and returns shape (batch,).  Parameters of a module are tracked.
    It can be evaluated, not sampled.  The normalising constant is missing from every number it gives.

    >>> import torch
    >>> p = CustomProb("p(x)", lambda x: -0.5 * (x**2).sum(1))
    >>> p.log_prob({"x": torch.tensor([[1.0, 1.0]])})
    tensor([-1.])
    """

    normalised = False

    def __init__(
        self,
        statement: str | None = None,
        log_density: Callable[..., Any] | None = None,
        *,
        var: NamesLike | None = None,
        cond_var: NamesLike | None = None,
        name: str | None = None,
    ) -> None:
        parsed = make_statement(statement, var=var, cond_var=cond_var, name=name)
        super().__init__(parsed, log_density, parsed.var + parsed.cond_var)
        if not self._source:
            raise ArgumentError(f'CustomProb {parsed} needs a log-density: CustomProb("{parsed}", function).')

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        front = inputs[0].shape[: leads[0] + 1] if inputs else (1,)
        return _EnergyBound(self, self.statement, inputs, leads, tuple(front))

    def check_sampler(self) -> None:
        instead = "Fit a distribution to it: KL(q, p) with a q that can be sampled."
        raise unsampled(self, "its density is known up to a constant only", instead)

    def describe(self) -> str:
        return f"CustomProb (unnormalised) {self.source_text() and 'from ' + self.source_text()}".rstrip()


class _EnergyBound(Bound):
    def __init__(self, owner: CustomProb, statement: Statement, inputs: list[Tensor], leads: list[int], front: Shape) -> None:
        self.owner, self.statement, self.inputs, self.leads, self.front = owner, statement, inputs, leads, front

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        raise self.no_sampler("its density is known up to a constant only", "Fit a distribution to it: KL(q, p).")

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        folded, front = fold([*values, *self.inputs], [*leads, *self.leads])
        result = self.owner.call(folded)
        batch = folded[0].shape[0]
        if not isinstance(result, Tensor) or result.shape != (batch,):
            got = shape_text(result.shape) if isinstance(result, Tensor) else f"a {type(result).__name__}"
            raise NetworkError(
                f"{self.statement}: the log-density must return one number per batch element, shape ({batch},), got {got}.\n"
                "Sum over the event: .flatten(1).sum(1)."
            )
        return result.unflatten(0, front) if len(front) > 1 else result

    def insert(self, depth: int) -> Bound:
        inputs = [insert_axis(tensor, lead, depth) for tensor, lead in zip(self.inputs, self.leads, strict=True)]
        leads = [lead + (lead > depth) for lead in self.leads]
        return _EnergyBound(self.owner, self.statement, inputs, leads, inserted_front(self.front, depth))
