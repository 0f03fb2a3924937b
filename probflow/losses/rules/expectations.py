"""Rules about expectations: what does not depend on a draw leaves it, and nested expectations."""

from __future__ import annotations

from probflow.distributions import Distribution
from probflow.distributions.joint import product
from probflow.losses.free import free_variables
from probflow.losses.node import Loss
from probflow.losses.probability import Expectation
from probflow.losses.rules.rule import rule


def normalised(q: Distribution) -> bool:
    """Whether every factor of q integrates to 1 over its variables: what the rules of this file need."""
    return all(factor.var and factor.normalised for factor in q.factors)


@rule("Rao-Blackwellisation", r"\mathbb{E}_{q(z)}[f] = f", "f has no variable of q, and q is normalised")
def rao_blackwell(node: Loss) -> Loss | None:
    """A term that does not depend on a draw leaves its expectation: the same value without the noise."""
    if isinstance(node, Expectation) and normalised(node.q) and not set(free_variables(node.f)) & set(node.q.var):
        return node.f
    return None


@rule(
    "barren variables",
    r"\mathbb{E}_{q(z)\,q(w \mid z)}[f(z)] = \mathbb{E}_{q(z)}[f(z)]",
    "neither f nor a parent of what f needs mentions w, and q is normalised",
)
def barren(node: Loss) -> Loss | None:
    """Variables that nothing needs are not drawn."""
    if not isinstance(node, Expectation) or not normalised(node.q):
        return None
    needed = node.q.graph.needed_for([n for n in free_variables(node.f) if n in node.q.var])
    if not needed or len(needed) == len(node.q.factors):
        return None
    kept = product(tuple(node.q.factors[i] for i in needed))
    return Expectation(kept, node.f, node.sample_shape, node.estimator)


@rule(
    "tower rule",
    r"\mathbb{E}_{q(z)\,q(w \mid z)}[f] = \mathbb{E}_{q(z)}\left[\mathbb{E}_{q(w \mid z)}[f]\right]",
    "drawn one sample each, as typed",
)
def tower(node: Loss) -> Loss | None:
    """The factors drawn last, inside."""
    if not isinstance(node, Expectation) or len(node.q.factors) < 2 or node.sample_shape:
        return None
    *outer, last = node.q.graph.order
    inner = Expectation(node.q.factors[last], node.f, (), node.estimator)
    return Expectation(product(tuple(node.q.factors[i] for i in outer)), inner, (), node.estimator)
