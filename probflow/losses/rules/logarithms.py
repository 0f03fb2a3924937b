"""The logarithm of what is positive, without what it is the logarithm of: a density of 784 pixels is 0 in floating point, its
logarithm is not.
"""

from __future__ import annotations

import math

from probflow.losses.arithmetic import Elementwise, Power, Product, Quotient, Sum
from probflow.losses.node import Loss
from probflow.losses.probability import Expectation, LogProb, Prob
from probflow.losses.rules.cancellation import draws
from probflow.losses.rules.rule import rule
from probflow.losses.scalars import Constant
from probflow.losses.terms import Term, sum_of, terms_of


@rule(
    "log of positive factors",
    r"\log \frac{f\,g^a}{h} = \log f + a \log g - \log h",
    "each is a density, an exponential, a positive number, or an average or a sum of such; at most one draws",
)
def positive_factors(node: Loss) -> Loss | None:
    """Also inside of an expectation: log E_q[f / g] = log E_q[exp(log f - log g)]."""
    if not isinstance(node, Elementwise) or node.name != "log":
        return None
    new = logarithm(node.operand)
    return None if new is node else new


def logarithm(node: Loss) -> Loss | None:
    """log of `node`, where `node` is known to be positive; None where it is not.

    Of an average it is the logarithm of an average of exponentials, of a sum the logarithm of that sum.
    """
    if isinstance(node, Constant):
        return _number(math.log(node.value)) if node.value > 0 else None
    if isinstance(node, Prob):
        return LogProb(node.p)
    if isinstance(node, Elementwise):
        return node.operand if node.name == "exp" else None
    if isinstance(node, Product):
        return _signed_sum(1, node.factors)
    if isinstance(node, Quotient):
        return _signed_sum(-1, (node.numerator, node.denominator))
    if isinstance(node, Power) and isinstance(node.exponent, Constant) and not draws(node.base):
        base = logarithm(node.base)
        return None if base is None else sum_of([t.times(node.exponent.value) for t in _terms(base)])
    if isinstance(node, Expectation):
        body = logarithm(node.f)
        if body is None or isinstance(node.f, Prob) or (isinstance(node.f, Elementwise) and node.f.name == "exp"):
            return None if body is None else Elementwise("log", node)
        return Elementwise("log", Expectation(node.q, Elementwise("exp", body), node.sample_shape, node.estimator))
    if isinstance(node, Sum) and min(node.signs) > 0 and None not in map(logarithm, node.summands):
        return Elementwise("log", node)
    return None


def _signed_sum(sign: int, factors: tuple[Loss, ...]) -> Loss | None:
    """The logarithm of the first, and those of the others with this sign."""
    if sum(map(draws, factors)) > 1:  # expectations in a product draw independently of each other, in a sum together
        return None
    terms: list[Term] = []
    for place, factor in enumerate(factors):
        found = logarithm(factor)
        if found is None:
            return None
        terms += [t.times(sign if place else 1) for t in _terms(found)]
    return sum_of(terms)


def _number(value: float) -> Loss:
    """A number with its sign in front, not inside."""
    return sum_of([Term(math.copysign(1, value), (), Constant(abs(value)))])


def _terms(node: Loss) -> list[Term]:
    return terms_of(node, frozenset(), split_products=False)
