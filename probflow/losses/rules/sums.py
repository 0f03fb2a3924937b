"""Rules about sums: logarithms of products, linearity, signs."""

from __future__ import annotations

from probflow.losses.arithmetic import Elementwise, Negative, Product, Quotient, Sum
from probflow.losses.node import Loss, intern
from probflow.losses.probability import Expectation, LogProb, Prob
from probflow.losses.rules.rule import rule
from probflow.losses.terms import Term, sum_of, terms_of


@rule("log of a product", r"\log p(x \mid z)\,p(z) = \log p(x \mid z) + \log p(z)")
def log_of_a_product(node: Loss) -> Loss | None:
    """Of a joint distribution, of a product of factors, of a quotient."""
    if isinstance(node, LogProb) and len(node.p.factors) > 1:
        return intern(Sum, (1,) * len(node.p.factors), tuple(LogProb(factor) for factor in node.p.factors))
    if isinstance(node, Elementwise) and node.name == "log":
        inside = node.operand
        if isinstance(inside, Product):
            return intern(Sum, (1,) * len(inside.factors), tuple(map(_log, inside.factors)))
        if isinstance(inside, Quotient):
            return intern(Sum, (1, -1), (_log(inside.numerator), _log(inside.denominator)))
        if isinstance(inside, Prob):
            return LogProb(inside.p)
    return None


def _log(node: Loss) -> Loss:
    return LogProb(node.p) if isinstance(node, Prob) else Elementwise("log", node)


@rule(
    "linearity", r"\mathbb{E}_q[a f + g] = a\,\mathbb{E}_q[f] + \mathbb{E}_q[g]", "coefficients do not depend on what q draws"
)
def linearity(node: Loss) -> Loss | None:
    """The expectation of every term by itself, coefficients outside."""
    if not isinstance(node, Expectation):
        return None
    terms = terms_of(node.f, frozenset(node.q.var), split_products=False)
    if len(terms) == 1 and terms[0].number == 1 and not terms[0].scalars:
        return None
    return sum_of([Term(t.number, t.scalars, Expectation(node.q, t.node, node.sample_shape, node.estimator)) for t in terms])


@rule("distributive law", r"a\,(f - g) = a f - a g", "a is a number, a weight or a function")
def distributive(node: Loss) -> Loss | None:
    """Signs and coefficients multiplied into the sums behind them."""
    terms = terms_of(node, frozenset(), split_products=False)
    new = sum_of(terms) if len(terms) > 1 else node
    return None if new is node else new


@rule("double negative", r"-(-f) = f")
def double_negative(node: Loss) -> Loss | None:
    """Signs in front of sums, multiplied in."""
    if isinstance(node, Negative) and isinstance(node.operand, (Negative, Sum)):
        return sum_of([t.times(-1) for t in terms_of(node.operand, frozenset(), split_products=False)])
    return None
