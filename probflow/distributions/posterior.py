"""Exact posteriors of finite variables, by Bayes' rule over all their states."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow._typing import Names
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.bound import Bound
from probflow.distributions.elimination import Table, added, eliminate
from probflow.distributions.enumeration import MOST_STATES, Finite, refusal, states_of, terms
from probflow.distributions.factorised import FactorisedBound
from probflow.distributions.finite import FiniteBound
from probflow.distributions.marginal import opened
from probflow.errors import ArgumentError, NoDensity, NoSampler
from probflow.graph import Statement

FEW_JOINTLY = 4096
"""Up to as many joint states a posterior is one table of them; beyond, a product of conditionals."""


class Posterior(Factor):
    r""":math:`p(z \mid x) = p(x, z) / \sum_{z'} p(x, z')`, exact: z is finite.

    Errors: NoDensity where z is not finite (an approximate posterior is a distribution of your own: q(z|x)).

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Bernoulli("p(z)", probs=torch.tensor([0.5]))
    >>> q = p.posterior("z")
    >>> print(q.statement)
    p(z|x)
    >>> q.mean({"x": torch.tensor([[0.5]])})  # half way between the two
    tensor([[0.5000]])
    """

    finite = True
    reparameterised = False

    def __init__(self, joint: Distribution, wanted: Names) -> None:
        whole = joint.statement
        rest = tuple(n for n in whole.var if n not in wanted)
        if not rest:
            raise ArgumentError(f"posterior: {whole} has no other variable than {', '.join(wanted)} to condition on.")
        super().__init__(Statement(whole.name, wanted, rest + whole.cond_var, (), whole.observed + whole.fixed))
        joint, self.gone = opened(joint, wanted)
        for factor in joint.factors:
            if set(factor.var) & set(wanted) and not (factor.finite and set(factor.var) <= set(wanted)):
                raise NoDensity(
                    f"{whole} has no exact posterior of {', '.join(wanted)}: {factor.statement} is not finite.\n"
                    f"Write an approximate one: q({', '.join(wanted)}|{', '.join(rest)}), and maximise ELBO(p, q)."
                )
        self.joint = joint

    @property
    def fixed_batch(self) -> int | None:
        return next((f.fixed_batch for f in self.joint.factors if f.fixed_batch is not None), None)

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        values = dict(zip(self.cond_var, inputs, strict=True))
        dims = dict(zip(self.cond_var, leads, strict=True))
        tables, finite = terms(self.joint, self.var + self.gone, values, dims, check=False)
        kept = [axis for axis, each in enumerate(finite) if set(each.names) & set(self.var)]
        sizes = [each.size for each in finite]

        def what() -> str:
            return refusal(self.joint, self.var + self.gone)

        left, _ = eliminate(tables, sizes, kept, MOST_STATES, what)
        if states_of(finite, kept) <= FEW_JOINTLY:
            return self._jointly(left, finite)
        _, buckets = eliminate(left, sizes, (), MOST_STATES, what)
        return FactorisedBound(self.statement, finite, buckets, lambda: self._jointly(left, finite))

    def _jointly(self, left: list[Table], finite: list[Finite]) -> FiniteBound:
        """The table of all joint states."""
        axes = sorted({axis for table in left for axis in table.axes}, reverse=True)
        sizes = [finite[axis].size for axis in axes]
        if states_of(finite, axes) > MOST_STATES:
            raise NoDensity(
                f"{self.statement} has more than {MOST_STATES} joint states: it can be sampled and evaluated, but not listed.\n"
                f"Ask for one variable at a time: p.marginalize_var(...).posterior({self.var[0]!r})."
            )
        total = added(left).values
        flat = total.flatten(0, len(sizes) - 1)
        grid = torch.cartesian_prod(*[torch.arange(s, device=flat.device) for s in sizes]).reshape(-1, len(sizes))
        groups = [finite[axis] for axis in axes]
        states = {n: at[grid[:, k]] for k, group in enumerate(groups) for n, at in zip(group.names, group.points, strict=True)}
        return FiniteBound(self.statement, [states[n] for n in self.var], flat.log_softmax(0))

    def describe(self) -> str:
        return f"{'posterior, by a lower bound,' if self.joint.is_bound else 'exact posterior'} of {self.joint.statement}"


class TruePosterior(Factor):
    r""":math:`p(z \mid x) = p(x, z) / p(x)` as a symbol: it stands in equations, its density is not known.

    What a derivation of the evidence lower bound names as its gap, KL[q(z|x) || p(z|x)].
    """

    def __init__(self, joint: Distribution, wanted: Names) -> None:
        whole = joint.statement
        rest = tuple(n for n in whole.var if n not in wanted)
        super().__init__(Statement(whole.name, wanted, rest + whole.cond_var, (), whole.observed + whole.fixed))
        self.joint = joint

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        raise NoDensity(self._why())

    def check_sampler(self) -> None:
        raise NoSampler(self._why())

    def check_density(self) -> None:
        raise NoDensity(self._why())

    def _why(self) -> str:
        names = ", ".join(n for n in self.joint.var if n not in self.var)
        return (
            f"{self.statement} is the true posterior of {self.joint.statement}: a symbol, it can be neither evaluated nor sampled.\n"
            f"Its normalising constant p({names}) is what a bound replaces: use a q of your own."
        )

    def describe(self) -> str:
        return f"true posterior of {self.joint.statement} (a symbol)"
