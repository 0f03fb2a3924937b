"""Finite variables laid out along sample dimensions of their own, so that one pass computes every state."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from probflow._typing import Names
from probflow.distributions.base import Distribution, Factor
from probflow.errors import NoDensity

MOST_STATES = 2**20
"""More joint states than this are an error, not a silent out-of-memory."""


def enumerated_log_prob(
    p: Distribution, names: Names, values: Mapping[str, Tensor], leads: Mapping[str, int], check: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """log p at every joint state of the finite `names` (deterministic ones are substituted).

    Returns the log-density, ``(S_n, ..., S_1, *lead, batch)``, and the states of each finite name, ``(S, *event)``, in the
    order S_1, ..., S_n of `p`'s topological order.
    """
    values, leads = dict(values), dict(leads)
    depth = max([0, *leads.values()])
    points: dict[str, Tensor] = {}
    count = 1
    total: Tensor | None = None
    for index in p.graph.order:
        factor = p.factors[index]
        bound = factor.bind([values[n] for n in factor.cond_var], [leads[n] for n in factor.cond_var])
        hidden = [n for n in factor.var if n in names]
        if hidden and not factor.finite:  # a deterministic variable: its value follows
            for name, value in zip(factor.var, bound.draw((), bound.batch, True), strict=True):
                values[name], leads[name] = value, bound.lead
            continue
        if hidden:
            states = bound.states(MOST_STATES // count)
            if states is None:
                raise NoDensity(
                    f"{p.statement} cannot be summed over {', '.join(names)}: more than {MOST_STATES} joint states.\n"
                    "Use a bound instead: ELBO(p, q)."
                )
            for name, value in zip(factor.var, states, strict=True):
                event = value.shape[bound.lead + 2 :]
                values[name], leads[name] = value.reshape(value.shape[0], *[1] * (depth + 1), *event), depth + 1
                points[name] = value.reshape(value.shape[0], *event)
            count *= states[0].shape[0]
            depth += 1
        term = bound.log_prob(tuple(values[n] for n in factor.var), tuple(leads[n] for n in factor.var), check)
        total = term if total is None else total + term
    if total is None:
        raise NoDensity(f"{p.statement} has no factor with a density.")
    return total, points


def summable(factor: Factor) -> bool:
    """Whether the variables of `factor` can be summed out or substituted exactly."""
    from probflow.distributions.deterministic import Deterministic

    return factor.finite or isinstance(factor.origin, Deterministic)
