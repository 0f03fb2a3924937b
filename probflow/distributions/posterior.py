"""Exact posteriors of finite variables, by Bayes' rule over all their states."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow._typing import Names
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.bound import Bound
from probflow.distributions.enumeration import enumerated_log_prob
from probflow.distributions.finite import FiniteBound
from probflow.distributions.joint import product
from probflow.distributions.marginal import Marginal
from probflow.errors import ArgumentError, NoDensity, NoSampler
from probflow.graph import Statement


class Posterior(Factor):
    r""":math:`p(z \mid x) = p(x, z) / \sum_{z'} p(x, z')`, exact: z is finite.

    Errors: NoDensity where z is not finite (an approximate posterior is a distribution of your own: q(z|x)).
    """

    finite = True
    reparameterised = False

    def __init__(self, joint: Distribution, wanted: Names) -> None:
        whole = joint.statement
        rest = tuple(n for n in whole.var if n not in wanted)
        if not rest:
            raise ArgumentError(f"posterior: {whole} has no other variable than {', '.join(wanted)} to condition on.")
        super().__init__(Statement(whole.name, wanted, rest + whole.cond_var))
        joint, self.gone = _opened(joint, wanted)
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
        total, points = enumerated_log_prob(self.joint, self.var + self.gone, values, dims, check=False)
        # the state dimensions, outermost first: the last variable of the ancestral order comes first
        groups = [f for i in reversed(self.joint.graph.order) if (f := self.joint.factors[i]).var[0] in points]
        summed = [k for k, f in enumerate(groups) if set(f.var) <= set(self.gone)]
        if summed:
            total = total.logsumexp(summed)
            groups = [f for k, f in enumerate(groups) if k not in summed]
        sizes = [points[f.var[0]].shape[0] for f in groups]
        flat = total.flatten(0, len(sizes) - 1)
        grid = torch.cartesian_prod(*[torch.arange(s, device=flat.device) for s in sizes]).reshape(-1, len(sizes))
        states = {n: points[n][grid[:, k]] for k, f in enumerate(groups) for n in f.var}
        return FiniteBound(self.statement, [states[n] for n in self.var], flat.log_softmax(0))

    def describe(self) -> str:
        return f"exact posterior of {self.joint.statement}"


def _opened(joint: Distribution, wanted: Names) -> tuple[Distribution, Names]:
    """Marginals that hold a wanted variable as the joints they were made from, and what was summed out of them."""
    factors: list[Factor] = []
    gone: Names = ()
    for factor in joint.factors:
        if isinstance(factor, Marginal) and factor.exact and set(factor.var) & set(wanted):
            factors += factor.joint.factors
            gone += factor.gone
        else:
            factors.append(factor)
    return (product(tuple(factors)), gone) if gone else (joint, ())


class TruePosterior(Factor):
    r""":math:`p(z \mid x) = p(x, z) / p(x)` as a symbol: it stands in equations, its density is not known.

    What a derivation of the evidence lower bound names as its gap, KL[q(z|x) || p(z|x)].
    """

    def __init__(self, joint: Distribution, wanted: Names) -> None:
        whole = joint.statement
        rest = tuple(n for n in whole.var if n not in wanted)
        super().__init__(Statement(whole.name, wanted, rest + whole.cond_var))
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
