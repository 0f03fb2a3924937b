"""Factors with some variables fixed: p(x | z, y = 3), or observed: p(x = x_obs | z)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from probflow._typing import Names, Shape
from probflow.distributions.base import Distribution, Factor, unsampled
from probflow.distributions.bound import Bound
from probflow.distributions.joint import product
from probflow.distributions.shapes import broadcast
from probflow.errors import ArgumentError, ShapeError
from probflow.graph import Statement


def fix(p: Distribution, fixed: Mapping[str, Tensor]) -> Distribution:
    """Every factor that mentions a fixed name, with that name filled in."""
    factors = []
    for factor in p.factors:
        mine = {n: fixed[n] for n in factor.var + factor.cond_var if n in fixed}
        factors.append(Given(factor, mine) if mine else factor)
    return product(tuple(factors))


class Given(Factor):
    """A factor with fixed values.  Fixed conditioning variables leave a distribution; observed variables leave a likelihood,
    a function of the rest that is no longer normalised and cannot be sampled.

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x | y)", loc="y", scale=1.0)
    >>> fixed = p.given(y=torch.tensor([[3.0]]))
    >>> print(fixed.statement)
    p(x|y=y*)
    >>> fixed.mean()
    tensor([[3.]])
    """

    def __init__(self, factor: Factor, fixed: Mapping[str, Tensor]) -> None:
        whole = factor.statement
        observed = [n for n in whole.var if n in fixed]
        if observed and len(observed) != len(whole.var):
            raise ArgumentError(f"given: {whole} draws {', '.join(whole.var)} together; observe all of them or none.")
        super().__init__(whole.given(fixed))
        self.factor = factor
        self._fixed = tuple(fixed)
        for index, value in enumerate(fixed.values()):
            if value.dim() == 0:
                raise ArgumentError(f"given: the value of {self._fixed[index]!r} has no batch dimension; write value[None].")
            self.register_buffer(f"_fixed{index}", value, persistent=False)
        self.finite, self.reparameterised = factor.finite and not observed, factor.reparameterised
        self.normalised = factor.normalised and not observed
        self.along_the_draw = factor.along_the_draw and not observed
        sizes = {n: v.shape[0] for n, v in fixed.items() if v.shape[0] != 1}
        if len(set(sizes.values())) > 1:
            rows = ", ".join(f"{n}: {size}" for n, size in sizes.items())
            raise ShapeError(f"given: the values for {whole} have different batch sizes ({rows}); dimension 0 is the batch.")

    def _value(self, name: str) -> Tensor:
        return getattr(self, f"_fixed{self._fixed.index(name)}")

    @property
    def fixed_batch(self) -> int | None:
        sizes = [size for n in self._fixed if (size := self._value(n).shape[0]) != 1]
        return sizes[0] if sizes else self.factor.fixed_batch

    @property
    def is_bound(self) -> bool:
        return self.factor.is_bound

    def state_count(self) -> int | None:
        return self.factor.state_count() if self.var else None

    @property
    def hidden_var(self) -> Names:
        return self.factor.hidden_var

    def _posterior(self, wanted: Names) -> Distribution:
        if not set(wanted) <= set(self.hidden_var):
            return super()._posterior(wanted)
        return fix(self.factor._posterior(wanted), {n: self._value(n) for n in self._fixed})

    def _for(self, known: frozenset[str]) -> Distribution:
        part = self.factor._for(known | frozenset(self._fixed))
        return self if part is self.factor else fix(part, {n: self._value(n) for n in self._fixed})

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        return self.factor.event_ranks if self.var else ()

    @property
    def kind(self) -> object:
        return self.factor.kind if self.var else type(self)

    @property
    def prefers_negative(self) -> bool:
        return bool(self.var) and self.factor.prefers_negative

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        known = dict(zip(self.cond_var, zip(inputs, leads, strict=True), strict=True))
        batch = max([t.shape[lead] for t, lead in known.values()]) if known else self.fixed_batch or 1
        tensors, dims = [], []
        for name in self.factor.cond_var:
            tensor, lead = known[name] if name in known else (_spread(self._value(name), batch), 0)
            tensors.append(tensor)
            dims.append(lead)
        bound = self.factor.bind(tensors, dims)
        return bound if self.var else _Observed(self.statement, bound, tuple(self._value(n) for n in self.factor.var))

    def check_sampler(self) -> None:
        if not self.var:
            raise unsampled(
                self,
                f"{self.factor.statement} is observed, and what is left is not normalised",
                "Sample a posterior instead: p.posterior(...) where it is finite, or fit q with ELBO(p, q).",
            )
        self.factor.check_sampler()

    def check_density(self) -> None:
        self.factor.check_density()

    def describe(self) -> str:
        first, *rest = self.factor.describe().split("\n")
        return "\n".join([f"{first}, given {', '.join(self._fixed)}", *rest])


def _spread(value: Tensor, batch: int) -> Tensor:
    """One fixed row serves every batch element."""
    return value.expand(batch, *value.shape[1:]) if value.shape[0] == 1 and batch != 1 else value


class _Observed(Bound):
    """log p(x = observed | ...), a function of the conditioning variables only."""

    def __init__(self, statement: Statement, bound: Bound, values: tuple[Tensor, ...]) -> None:
        self.statement, self.bound, self.values = statement, bound, values
        self.front: Shape = broadcast(bound.front, values[0].shape[:1])

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        raise self.no_sampler("it is observed", "Fit q with ELBO(p, q).")

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        mine = tuple(_spread(value, self.bound.batch) for value in self.values)
        return self.bound.log_prob(mine, (0,) * len(mine), True)

    def insert(self, depth: int) -> Bound:
        return _Observed(self.statement, self.bound.insert(depth), self.values)
