"""Exact posteriors of finite variables, by Bayes' rule over all their states."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow._typing import Names
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.bound import Bound
from probflow.distributions.enumeration import enumerated_log_prob, summable
from probflow.distributions.finite import FiniteBound
from probflow.errors import ArgumentError, NoDensity
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
        for factor in joint.factors:
            if set(factor.var) & set(wanted) and not (factor.finite and summable(factor) and set(factor.var) <= set(wanted)):
                raise NoDensity(
                    f"{whole} has no exact posterior of {', '.join(wanted)}: {factor.statement} is not finite.\n"
                    f"Write an approximate one: q({', '.join(wanted)}|{', '.join(rest)}), and maximise ELBO(p, q)."
                )
        self.joint = joint

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        values = dict(zip(self.cond_var, inputs, strict=True))
        total, points = enumerated_log_prob(self.joint, self.var, values, dict(zip(self.cond_var, leads, strict=True)), check=False)
        order = list(points)  # S_1, ..., S_n: the first is the innermost of the state dimensions
        groups = [f for i in self.joint.graph.order if (f := self.joint.factors[i]).var[0] in points]
        sizes = [points[f.var[0]].shape[0] for f in reversed(groups)]
        flat = total.flatten(0, len(sizes) - 1)
        grid = torch.cartesian_prod(*[torch.arange(s, device=flat.device) for s in sizes]).reshape(-1, len(sizes))
        place = {n: k for k, f in enumerate(reversed(groups)) for n in f.var}
        states = {n: points[n][grid[:, place[n]]] for n in order}
        return FiniteBound(self.statement, [states[n] for n in self.var], flat.log_softmax(0))

    def describe(self) -> str:
        return f"exact posterior of {self.joint.statement}"
