"""Exact posteriors of finite variables, by Bayes' rule over all their states."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow._typing import Names
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.bound import Bound
from probflow.distributions.enumeration import summed_log_prob
from probflow.distributions.finite import FiniteBound
from probflow.distributions.marginal import opened
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
        total, groups = summed_log_prob(self.joint, self.gone, self.var, values, dims, check=False)
        sizes = [group.size for group in groups]
        flat = total.flatten(0, len(sizes) - 1)
        grid = torch.cartesian_prod(*[torch.arange(s, device=flat.device) for s in sizes]).reshape(-1, len(sizes))
        states = {n: at[grid[:, k]] for k, group in enumerate(groups) for n, at in zip(group.names, group.points, strict=True)}
        return FiniteBound(self.statement, [states[n] for n in self.var], flat.log_softmax(0))

    def describe(self) -> str:
        return f"exact posterior of {self.joint.statement}"


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
