"""Sums taken apart into terms with their coefficients, and put together again."""

from __future__ import annotations

from dataclasses import dataclass

from probflow._typing import Names
from probflow.losses.arithmetic import Negative, Product, Sum
from probflow.losses.free import free_variables
from probflow.losses.node import Loss, children, intern, with_children
from probflow.losses.probability import CrossEntropy, Entropy, Expectation, KullbackLeibler, LogProb
from probflow.losses.scalars import Constant


@dataclass(frozen=True)
class Term:
    """``number * scalars * node``: one summand of an expanded expression."""

    number: float
    scalars: tuple[Loss, ...]
    node: Loss

    def times(self, number: float, scalars: tuple[Loss, ...] = ()) -> Term:
        """The term multiplied."""
        return Term(self.number * number, scalars + self.scalars, self.node)

    def loss(self) -> tuple[int, Loss]:
        """Sign and expression."""
        sign = -1 if self.number < 0 else 1
        magnitude = abs(self.number)
        factors = (*([Constant(magnitude)] if magnitude != 1 else []), *self.scalars)
        if isinstance(self.node, Constant) and self.node.value == 1 and factors:
            return sign, factors[0] if len(factors) == 1 else intern(Product, factors)
        return sign, intern(Product, (*factors, self.node)) if factors else self.node

    def used(self) -> Names:
        """Its free variables."""
        return free_variables(self.node) + tuple(n for scalar in self.scalars for n in free_variables(scalar))


def sum_of(terms: list[Term]) -> Loss:
    """The terms added up, in order."""
    parts = [term.loss() for term in terms]
    if not parts:
        return Constant(0.0)
    if len(parts) == 1:
        sign, only = parts[0]
        return only if sign > 0 else intern(Negative, only)
    return intern(Sum, tuple(sign for sign, _ in parts), tuple(term for _, term in parts))


def terms_of(node: Loss, bound: frozenset[str], split_products: bool = True) -> list[Term]:
    """The summands of `node`; coefficients are what has none of the names in `bound`."""
    if isinstance(node, Sum):
        return [
            t.times(sign)
            for sign, term in zip(node.signs, node.summands, strict=True)
            for t in terms_of(term, bound, split_products)
        ]
    if isinstance(node, Negative):
        return [t.times(-1) for t in terms_of(node.operand, bound, split_products)]
    if split_products and isinstance(node, LogProb) and len(node.p.factors) > 1:
        return [Term(1, (), LogProb(factor)) for factor in node.p.factors]
    if isinstance(node, Product):
        *scalars, last = node.factors
        if not any(set(free_variables(s)) & bound for s in scalars) and all(map(plain_scalar, scalars)):
            number = 1.0
            rest = []
            for scalar in scalars:
                if isinstance(scalar, Constant):
                    number *= scalar.value
                else:
                    rest.append(scalar)
            return [t.times(number, tuple(rest)) for t in terms_of(last, bound, split_products)]
    return [Term(1, (), node)]


def plain_scalar(node: Loss) -> bool:
    """A coefficient: nothing that samples, so that taking it out of an expectation cannot couple draws."""
    return not children(node) and not isinstance(node, (LogProb, KullbackLeibler, Entropy, CrossEntropy, Expectation))


def substitute(root: Loss, old: Loss, new: Loss) -> Loss:
    """`root` with every occurrence of `old` replaced."""
    if root is old:
        return new
    below = children(root)
    return with_children(root, [substitute(child, old, new) for child in below]) if below else root
