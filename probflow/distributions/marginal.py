"""Marginals: always a sampler, a density where the integral is exact."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from probflow._typing import Names, Shape
from probflow.distributions.ancestral import ancestral
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.bound import Bound, inserted_front
from probflow.distributions.enumeration import summable, summed_log_prob
from probflow.distributions.joint import product
from probflow.distributions.shapes import broadcast
from probflow.distributions.values import insert_axis
from probflow.errors import ArgumentError, CycleError, DuplicateVariable
from probflow.graph import Statement


def marginalize(p: Distribution, gone: Names) -> Distribution:
    """Drop what nothing depends on; integrate the rest over the smallest group of factors that mentions it."""
    if set(gone) >= set(p.var):
        raise ArgumentError(f"marginalize_var: nothing would be left of {p.statement}.")
    p, earlier = opened(p, gone)
    gone = earlier + gone
    factors = list(p.factors)
    left = set(gone)
    while True:
        used = {n for f in factors for n in f.cond_var}
        barren = [f for f in factors if f.var and set(f.var) <= left and not set(f.var) & used]
        if not barren:
            break
        factors = [f for f in factors if f not in barren]
        left -= {n for f in barren for n in f.var}
    if not left:
        return product(tuple(factors))
    core = [f for f in factors if left & set(f.var + f.cond_var)]
    rest = [f for f in factors if f not in core]
    try:
        return product((Marginal(product(tuple(core)), tuple(n for n in gone if n in left)), *rest))
    except CycleError:  # the other factors sit between those of the core
        return Marginal(product(tuple(factors)), tuple(n for n in gone if n in left))


def opened(p: Distribution, names: Names) -> tuple[Distribution, Names]:
    """Exact marginals that hold one of `names` as the joints they were made from, and what was summed out of them."""
    factors: list[Factor] = []
    gone: Names = ()
    waiting = list(reversed(p.factors))
    while waiting:
        factor = waiting.pop()
        if isinstance(factor, Marginal) and factor.exact and set(factor.var) & set(names):
            waiting += reversed(factor.joint.factors)  # which may hold marginals in their turn
            gone += factor.gone
        else:
            factors.append(factor)
    try:
        return (product(tuple(factors)), gone) if gone else (p, ())
    except DuplicateVariable:  # the name of what was summed out has been given away since
        return p, ()


class Marginal(Factor):
    r""":math:`p(x) = \int p(x, z)\,\mathrm dz`: sampled by dropping z; exact density where z is finite or deterministic.

    >>> import torch
    >>> import probflow as pf
    >>> prior = pf.Bernoulli("p(z)", probs=torch.tensor([0.25]))
    >>> p = (pf.Normal("p(x | z)", loc="z", scale=1.0) * prior).marginalize_var("z")
    >>> print(p.statement)
    p(x)
    >>> p.log_prob({"x": torch.zeros(1, 1)}).exp()  # 0.75 N(0; 0, 1) + 0.25 N(0; 1, 1)
    tensor([0.3597])
    """

    def __init__(self, joint: Distribution, gone: Names) -> None:
        whole = joint.statement
        super().__init__(replace(whole, var=tuple(n for n in whole.var if n not in gone)))
        self.joint, self.gone = joint, gone
        hidden = [f for f in joint.factors if set(f.var) & set(gone)]
        self.reparameterised = all(f.reparameterised for f in joint.factors)
        self.normalised = all(f.normalised for f in joint.factors)
        self.exact = all(summable(f) and set(f.var) <= set(gone) for f in hidden)

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        ranks = self.joint._event_ranks()
        return tuple(ranks[n] for n in self.var)

    @property
    def is_bound(self) -> bool:
        return self.joint.is_bound

    @property
    def fixed_batch(self) -> int | None:
        return next((f.fixed_batch for f in self.joint.factors if f.fixed_batch is not None), None)

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        fronts = [t.shape[: lead + 1] for t, lead in zip(inputs, leads, strict=True)]
        front = broadcast(*fronts, (self.fixed_batch or 1,))
        return _MarginalBound(self, self.statement, inputs, leads, front)

    def check_sampler(self) -> None:
        for factor in self.joint.factors:
            factor.check_sampler()

    def describe(self) -> str:
        about = "" if self.exact and not self.is_bound else "; log-density a lower bound" if self.exact else " (no density)"
        return f"marginal of {self.joint.statement} over {', '.join(self.gone)}{about}"


class _MarginalBound(Bound):
    def __init__(self, owner: Marginal, statement: Statement, inputs: list[Tensor], leads: list[int], front: Shape) -> None:
        self.owner, self.statement, self.inputs, self.leads, self.front = owner, statement, inputs, leads, front

    def _known(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        names = self.owner.cond_var
        return dict(zip(names, self.inputs, strict=True)), dict(zip(names, self.leads, strict=True))

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        values, leads = self._known()
        drawn = ancestral(self.owner.joint, values, leads, batch, sample_shape, reparam, False)
        return tuple(drawn[n] for n in self.owner.var)

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        owner = self.owner
        if not owner.exact:
            names = ", ".join(owner.gone)
            raise self.no_density(
                f"the integral over {names} is not known exactly",
                f"Use a bound: ELBO(p, q) with q({names}|{','.join(self.statement.var)}), on {owner.joint.statement}.",
            )
        known, dims = self._known()
        known |= dict(zip(owner.var, values, strict=True))
        dims |= dict(zip(owner.var, leads, strict=True))
        return summed_log_prob(owner.joint, owner.gone, known, dims, check)

    def insert(self, depth: int) -> Bound:
        inputs = [insert_axis(tensor, lead, depth) for tensor, lead in zip(self.inputs, self.leads, strict=True)]
        leads = [lead + (lead > depth) for lead in self.leads]
        return _MarginalBound(self.owner, self.statement, inputs, leads, inserted_front(self.front, depth))
