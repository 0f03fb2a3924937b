"""Rules about expectations: what does not depend on a draw leaves it, and nested expectations."""

from __future__ import annotations

from probflow.distributions import Distribution
from probflow.distributions.joint import part
from probflow.losses.free import free_variables
from probflow.losses.node import Loss
from probflow.losses.probability import Expectation
from probflow.losses.rules.rule import rule
from probflow.losses.terms import Term, sum_of, terms_of


def normalised(q: Distribution) -> bool:
    """Whether every factor of q integrates to 1 over its variables: what the rules of this file need."""
    return all(factor.var and factor.normalised for factor in q.factors)


@rule("expectation of a constant", r"\mathbb{E}_{q(z)}[c] = c", "c does not depend on z, and q integrates to 1")
def constant(node: Loss) -> Loss | None:
    """A number, or whatever has no variable of q."""
    if isinstance(node, Expectation) and normalised(node.q) and not set(free_variables(node.f)) & set(node.q.var):
        return node.f
    return None


@rule(
    "Rao-Blackwellisation",
    r"\mathbb{E}_{q(z)}[f(z) + g] = \mathbb{E}_{q(z)}[f(z)] + g",
    "g does not depend on z, and q integrates to 1",
)
def rao_blackwell(node: Loss) -> Loss | None:
    """Terms that do not depend on a draw leave its expectation, and are computed once, not once per draw."""
    if not isinstance(node, Expectation) or not normalised(node.q):
        return None
    terms = terms_of(node.f, frozenset(node.q.var), split_products=False)
    inside = [term for term in terms if set(term.used()) & set(node.q.var)]
    if not inside or len(inside) == len(terms):
        return None
    left = Expectation(node.q, sum_of(inside), node.sample_shape, node.estimator)
    return sum_of([Term(1, (), left), *(term for term in terms if term not in inside)])


@rule(
    "barren variables",
    r"\mathbb{E}_{q(z)\,q(w \mid z)}[f(z)] = \mathbb{E}_{q(z)}[f(z)]",
    "what is left out is needed by nothing that is left, and integrates to 1",
)
def barren(node: Loss) -> Loss | None:
    """Variables that nothing needs are not drawn."""
    if not isinstance(node, Expectation) or not normalised(node.q):
        return None
    needed = node.q.graph.needed_for([n for n in free_variables(node.f) if n in node.q.var])
    if not needed or len(needed) == len(node.q.factors):
        return None
    kept = part(tuple(node.q.factors[i] for i in needed))
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
    return Expectation(part(tuple(node.q.factors[i] for i in outer)), inner, (), node.estimator)
