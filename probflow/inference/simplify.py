"""What is rewritten before planning: products become sums, log-ratios become closed-form divergences.

Every rule keeps the value; the rules themselves, with their side conditions, are in ``probflow.losses.rules``.  Here is decided
which are used: a divergence or an entropy is taken out where it has a closed form, a variable is not drawn where nothing needs it.
"""

from __future__ import annotations

from functools import singledispatch

from probflow.distributions import Distribution
from probflow.distributions.joint import part
from probflow.inference.closed_forms import has_entropy, kl_formula
from probflow.losses.arithmetic import Elementwise, Negative, Product, Quotient, Reduce, Sum
from probflow.losses.free import is_scalar
from probflow.losses.node import Loss, children, intern, with_children
from probflow.losses.probability import CrossEntropy, Entropy, Expectation, KullbackLeibler, LogProb
from probflow.losses.rules import cancellation
from probflow.losses.rules.divergences import Found, Places, take_out_entropy, take_out_kl, written
from probflow.losses.rules.logarithms import positive_factors
from probflow.losses.scalars import Constant
from probflow.losses.terms import Term, substitute, sum_of, terms_of
from probflow.losses.text import text


class Trace:
    """Records what is done to an expression: the name of each rule, and the whole after it."""

    def __init__(self, loss: Loss) -> None:
        self.whole = loss
        self.steps: list[tuple[str, Loss]] = []

    def step(self, name: str, before: Loss, after: Loss) -> None:
        """`before`, somewhere in the whole, has become `after`."""
        old, self.whole = self.whole, substitute(self.whole, before, after)
        if self.whole is not old and text(self.whole) != text(old):  # 2 and 2.0 are two nodes, and one line
            self.steps.append((name, self.whole))


@singledispatch
def simplify(node: Loss, trace: Trace | None = None) -> Loss:
    """`node`, rewritten into what is computed; the value is the same."""
    below = children(node)
    return with_children(node, [simplify(child, trace) for child in below]) if below else node


@simplify.register(Sum)
@simplify.register(Product)
@simplify.register(Quotient)
def _(node: Loss, trace: Trace | None = None) -> Loss:
    typed = _cancelled(node, trace, keep=True)  # first as typed: what cancels need not be taken apart
    new = with_children(typed, [simplify(child, trace) for child in children(typed)])
    return _cancelled(new, trace, keep=True)


@simplify.register
def _(node: Elementwise, trace: Trace | None = None) -> Loss:
    new = positive_factors(node)
    if new is not None:
        if trace is not None:
            trace.step(positive_factors.name, node, new)
        return simplify(new, trace)
    return with_children(node, [simplify(node.operand, trace)])


def _cancelled(node: Loss, trace: Trace | None, keep: bool) -> Loss:
    """Equal terms and equal factors cancelled; `keep`: not where one number per row would become one number."""
    rule = cancellation.cancellation if isinstance(node, Sum) else cancellation.factors
    new = rule(node)
    if new is None or (keep and is_scalar(new) and not is_scalar(node)):
        return node
    if trace is not None:
        trace.step(rule.name, node, new)
    return new


def simplified(loss: Loss, trace: Trace | None = None) -> Loss:
    """`loss` as `simplify` has it, for the reader: also where the terms of a row cancel to one number, the same for all rows."""
    before = simplify(loss, trace)
    after = _settled(before)
    if trace is not None and after is not before:
        trace.step(cancellation.cancellation.name, before, after)
    return after


def _settled(node: Loss) -> Loss:
    below = children(node)
    if not below:
        return node
    new = with_children(node, list(map(_settled, below)))
    inside = children(new)[0]
    if isinstance(new, Reduce) and isinstance(inside, Constant) and not is_scalar(below[0]):
        if new.how == "sum" and inside.value != 0:  # as many of them as there are rows
            return node
        return inside
    if isinstance(new, Negative) and inside is Constant(0.0):
        return inside
    return _cancelled(new, None, keep=False)


def _kl_known(q: Distribution, p: Distribution) -> bool:
    """Whether KL[q || p] has a closed form.  Raises LossError where it is infinite: draws would only hide it."""
    return len(q.factors) == 1 and len(p.factors) == 1 and kl_formula(q.factors[0], p.factors[0]) is not None


@simplify.register
def _(node: KullbackLeibler, trace: Trace | None = None) -> Loss:
    if _kl_known(node.q, node.p) and node.analytical:
        return node
    ratio = Expectation(node.q, intern(Sum, (1, -1), (LogProb(node.q), LogProb(node.p))), node.sample_shape)
    return _as_expectation("definition of KL", node, ratio, node.analytical, trace)


@simplify.register
def _(node: Entropy, trace: Trace | None = None) -> Loss:
    if node.analytical and len(node.p.factors) == 1 and has_entropy(node.p.factors[0]):
        return node
    expectation = Expectation(node.p, intern(Negative, LogProb(node.p)), node.sample_shape)
    return _as_expectation("definition of entropy", node, expectation, node.analytical, trace)


@simplify.register
def _(node: CrossEntropy, trace: Trace | None = None) -> Loss:
    if _kl_known(node.q, node.p) and node.analytical and has_entropy(node.q.factors[0]):
        new = intern(Sum, (1, 1), (Entropy(node.q), KullbackLeibler(node.q, node.p)))
        if trace is not None:
            trace.step("cross-entropy", node, new)
        return new
    expectation = Expectation(node.q, intern(Negative, LogProb(node.p)), node.sample_shape)
    return _as_expectation("definition of cross-entropy", node, expectation, node.analytical, trace)


def _as_expectation(name: str, node: Loss, expectation: Expectation, analytical: bool, trace: Trace | None) -> Loss:
    if trace is not None:
        trace.step(name, node, expectation)
    return simplify_expectation(expectation, analytical, trace)


@simplify.register
def _(node: Expectation, trace: Trace | None = None) -> Loss:
    # an explicit number of samples or estimator asks for Monte Carlo, as typed
    return simplify_expectation(node, closed=not node.sample_shape and node.estimator is None, trace=trace)


def simplify_expectation(node: Expectation, closed: bool, trace: Trace | None = None) -> Loss:
    """Expand the body, take out what has a closed form or no variable of q, and drop barren variables from the rest."""
    body = simplify(node.f, trace)
    typed = node if body is node.f else Expectation(node.q, body, node.sample_shape, node.estimator)
    if not all(factor.var and factor.normalised for factor in node.q.factors):  # the rules need densities that integrate to 1
        return typed
    terms = dict(enumerate(terms_of(body, frozenset(node.q.var))))
    left, divergences = take_out_kl(node.q, terms, kl_formula) if closed else (terms, {})
    rest, entropies = take_out_entropy(node.q, left, has_entropy) if closed else (left, {})
    out = {**divergences, **entropies}
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, term in rest.items():
        needed = node.q.graph.needed_for([n for n in term.used() if n in node.q.var])
        groups.setdefault(needed, []).append(place)
    if not out and set(groups) == {tuple(range(len(node.q.factors)))}:
        return typed
    if trace is not None:
        _explain(typed, terms, (left, divergences), (rest, out), groups, trace)
    return _split(typed, rest, out, groups, drop=True)


def _split(node: Expectation, terms: Places, found: Found, groups: dict[tuple[int, ...], list[int]], drop: bool) -> Loss:
    """One expectation per group of terms that need the same factors; `drop`: over those factors only."""
    out = dict(found)
    for needed, places in groups.items():
        if not needed and drop:  # no variable of q: its own expectation
            for place in places:
                out.setdefault(place, []).append(terms[place])
            continue
        all_of_q = not drop or len(needed) == len(node.q.factors)
        q = node.q if all_of_q else part(tuple(node.q.factors[i] for i in needed))
        if len(places) == 1:
            term = terms[places[0]]
            inner = Expectation(q, term.node, node.sample_shape, node.estimator)
            out.setdefault(places[0], []).append(Term(term.number, term.scalars, inner))
        else:
            body = sum_of([terms[place] for place in places])
            out.setdefault(places[0], []).append(Term(1, (), Expectation(q, body, node.sample_shape, node.estimator)))
    return sum_of([term for place in sorted(out) for term in out[place]])


def _explain(
    node: Expectation,
    terms: Places,
    after_kl: tuple[Places, Found],
    after_entropy: tuple[Places, Found],
    groups: dict[tuple[int, ...], list[int]],
    trace: Trace,
) -> None:
    """The same in single steps, each with its rule."""
    now: Loss = node
    split = len(terms) > len(terms_of(node.f, frozenset(node.q.var), split_products=False))
    stages = [
        ("log of a product" if split else "distributive law", written(node, terms, {})),
        ("log-ratio to KL", written(node, *after_kl)),
        ("entropy", written(node, *after_entropy)),
        ("linearity", _split(node, *after_entropy, groups, drop=False)),
    ]
    whole = tuple(range(len(node.q.factors)))
    constants = {needed: places for needed, places in groups.items() if not needed}
    if constants:
        kept = {needed or whole: places for needed, places in groups.items() if needed}
        free = {place: [after_entropy[0][place]] for places in constants.values() for place in places}
        found = {**after_entropy[1], **free}
        stages.append(("expectation of a constant", _split(node, after_entropy[0], found, kept, drop=False)))
    stages.append(("barren variables", _split(node, *after_entropy, groups, drop=True)))
    for name, then in stages:
        trace.step(name, now, then)
        now = then


def top_terms(loss: Loss) -> list[tuple[int, Reduce | None, Loss]]:
    """The printed terms of a loss, each with its sign and the reduction over the batch that it is inside."""
    if isinstance(loss, Reduce):
        return [
            (sign, loss, term if inner is None else intern(Reduce, inner.how, term))
            for sign, inner, term in top_terms(loss.operand)
        ]
    if isinstance(loss, Negative):
        return [(-sign, inner, term) for sign, inner, term in top_terms(loss.operand)]
    if isinstance(loss, Sum):
        return [
            (outer * sign, inner, term)
            for outer, summand in zip(loss.signs, loss.summands, strict=True)
            for sign, inner, term in top_terms(summand)
        ]
    return [(1, None, loss)]
