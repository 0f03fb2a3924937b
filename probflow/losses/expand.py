"""``loss.expand()``: logarithms of products, expectations of sums and densities of flows written out; the value is the same.

log of a product       log p(x|z) p(z) = log p(x|z) + log p(z)
change of variables    log p(x) = log p_z(f⁻¹(x)) + log|det ∂f⁻¹/∂x|       p is a flow
linearity              E_q[f + g] = E_q[f] + E_q[g],  mean(f + g) = mean(f) + mean(g)
"""

from __future__ import annotations

from functools import singledispatch

from probflow.losses.arithmetic import Negative, Reduce, Sum
from probflow.losses.change_of_variables import LogDet, NoiseLogProb, is_flow
from probflow.losses.node import Loss, children, intern, with_children
from probflow.losses.probability import Expectation, LogProb


@singledispatch
def expand(node: Loss) -> Loss:
    """`node` written out."""
    below = children(node)
    return with_children(node, tuple(map(expand, below))) if below else node


@expand.register
def _(node: LogProb) -> Loss:
    if is_flow(node.p):
        return intern(Sum, (1, 1), (NoiseLogProb(node.p), LogDet(node.p)))
    factors = node.p.factors
    if len(factors) == 1:
        return node
    return flat_sum([(1, expand(LogProb(factor))) for factor in factors])


@expand.register
def _(node: Sum) -> Loss:
    return flat_sum([(sign, expand(term)) for sign, term in zip(node.signs, node.summands, strict=True)])


@expand.register
def _(node: Negative) -> Loss:
    return flat_sum([(-1, expand(node.operand))])


@expand.register
def _(node: Expectation) -> Loss:
    terms = summands(expand(node.f))
    return flat_sum([(sign, Expectation(node.q, term, node.sample_shape, node.estimator)) for sign, term in terms])


@expand.register
def _(node: Reduce) -> Loss:
    return flat_sum([(sign, intern(Reduce, node.how, term)) for sign, term in summands(expand(node.operand))])


def summands(node: Loss) -> list[tuple[int, Loss]]:
    """The signed terms of a sum; anything else is its own only term."""
    if isinstance(node, Sum):
        return [
            (sign * inner, term) for sign, part in zip(node.signs, node.summands, strict=True) for inner, term in summands(part)
        ]
    if isinstance(node, Negative):
        return [(-sign, term) for sign, term in summands(node.operand)]
    return [(1, node)]


def flat_sum(parts: list[tuple[int, Loss]]) -> Loss:
    """Signed terms added up, sums inside taken apart, in order."""
    flat = [(sign * inner, term) for sign, part in parts for inner, term in summands(part)]
    if len(flat) == 1:
        sign, only = flat[0]
        return only if sign > 0 else intern(Negative, only)
    return intern(Sum, tuple(sign for sign, _ in flat), tuple(term for _, term in flat))
