"""Steps that do not keep the value: named bounds, used only where they are asked for."""

from __future__ import annotations

from probflow.losses.arithmetic import Elementwise, Sum
from probflow.losses.node import Loss
from probflow.losses.probability import Expectation, KullbackLeibler
from probflow.losses.rules.expectations import normalised
from probflow.losses.rules.rule import rule
from probflow.losses.rules.sums import log_of_a_product
from probflow.losses.terms import sum_of, terms_of


@rule(
    "Jensen's inequality",
    r"\log \mathbb{E}_q[f] \ge \mathbb{E}_q[\log f]",
    "the logarithm is concave, and its argument positive",
    relation=">=",
)
def jensen(node: Loss) -> Loss | None:
    """The logarithm is concave.  The gap is the KL of q from the density proportional to q f."""
    if not isinstance(node, Elementwise) or node.name != "log" or not isinstance(node.operand, Expectation):
        return None
    inside = node.operand
    if not normalised(inside.q):
        return None
    if isinstance(inside.f, Elementwise) and inside.f.name == "exp":
        body = inside.f.operand
    else:
        logarithm: Loss = Elementwise("log", inside.f)
        split = log_of_a_product(logarithm)
        body = logarithm if split is None else split
    return Expectation(inside.q, body, inside.sample_shape, inside.estimator)


@rule("KL is not negative", r"f + D_{\mathrm{KL}}[q \,\|\, p] \ge f", "the divergence has the sign +", relation=">=")
def drop_kl(node: Loss) -> Loss | None:
    """The divergence that is left out is the gap of the bound."""
    if not isinstance(node, Sum):
        return None
    terms = terms_of(node, frozenset(), split_products=False)
    kept = [t for t in terms if not (isinstance(t.node, KullbackLeibler) and t.number > 0 and not t.scalars)]
    return sum_of(kept) if 0 < len(kept) < len(terms) else None
