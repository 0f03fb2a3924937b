"""A score-function term that the author wrote into an expectation whose draws get that gradient anyway: said when planning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

from probflow.distributions.base import Factor
from probflow.losses.arithmetic import Detach, Product, Sum
from probflow.losses.free import free_variables
from probflow.losses.labels import Labels
from probflow.losses.node import Loss, children, intern
from probflow.losses.probability import Expectation, LogProb
from probflow.losses.terms import substitute
from probflow.losses.text import text


def warn_of_hand_written_scores(node: Expectation, factor: Factor, labels: Labels) -> None:
    """Where the body of `node` has detach(f) log q of the `factor` that is drawn with its score, and f depends on the draw."""
    for term in dict.fromkeys(_hand_written(node.f, factor)):
        q, whole = labels.text(factor), labels.text(node.q)
        kind = factor.describe().split("\n")[0]
        why = "is estimated by its score" if factor.reparameterised else "is not reparameterised"
        warnings.warn(
            f"{text(term, labels)} in E_{whole} is a score-function gradient written by hand, but the expectation adds the score "
            f"of all that is inside by itself, as {q} ({kind}) {why}: the gradient has it twice, and is wrong.\n"
            f"Write E_{whole}[{text(_without(node.f, term, factor), labels)}]; "
            "a baseline goes into estimator=Score(baseline=...).\n"
            "If weights of given draws are meant, draw them first, z = q.sample(...), and take the loss at these values.",
            UserWarning,
            stacklevel=_to_the_user(),
        )


def _hand_written(node: Loss, factor: Factor) -> Iterator[Product]:
    """The products with log q and a detached factor; not those of expectations inside."""
    if isinstance(node, (Detach, Expectation)):
        return
    if isinstance(node, Product) and any(_is_log_of(f, factor) for f in node.factors):
        if any(_depends(f, factor) and not _is_log_of(f, factor) and _held(f, factor) for f in node.factors):
            yield node
    for child in children(node):
        yield from _hand_written(child, factor)


def _is_log_of(node: Loss, factor: Factor) -> bool:
    if not isinstance(node, LogProb):
        return False
    return any(other.origin is factor.origin and other.statement == factor.statement for other in node.p.factors)


def _depends(node: Loss, factor: Factor) -> bool:
    return not set(free_variables(node)).isdisjoint(factor.var)


def _held(node: Loss, factor: Factor) -> bool:
    """Whether no gradient flows to the draw."""
    if isinstance(node, Detach) or not _depends(node, factor):
        return True
    below = children(node)
    return bool(below) and not isinstance(node, Expectation) and all(_held(child, factor) for child in below)


def _without(body: Loss, term: Product, factor: Factor) -> Loss:
    """The body without the term where a cost is left, else with the cost in its place."""
    if isinstance(body, Sum) and term in body.summands:
        kept = [(sign, t) for sign, t in zip(body.signs, body.summands, strict=True) if t is not term]
        if any(_depends(t, factor) for _, t in kept):
            signs, terms = zip(*kept, strict=True)
            return terms[0] if signs == (1,) else intern(Sum, signs, terms)
    cost = [f.operand if isinstance(f, Detach) else f for f in term.factors if not _is_log_of(f, factor)]
    return substitute(body, term, cost[0] if len(cost) == 1 else intern(Product, tuple(cost)))


def _to_the_user() -> int:
    """The stack level of the first caller outside this package."""
    frame, level, inside = sys._getframe(1), 1, (__name__.split(".")[0], "functools")
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in inside:
        frame, level = frame.f_back, level + 1
    return level
