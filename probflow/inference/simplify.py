"""What is rewritten before planning: products become sums, log-ratios become closed-form divergences.

Every rule keeps the value.  The rules and their side conditions:

log of a product      log p(a|b) p(b) = log p(a|b) + log p(b)
linearity             E_q[a f + g] = a E_q[f] + E_q[g]            a has no variable of q
barren variables      E_q(z)q(w|z)[f(z)] = E_q(z)[f(z)]
log-ratio to KL       E_q[log q(z|a) - log p(z|b)] = E_q[KL[q(z|a) || p(z|b)]]
                      b may hold no descendant of z in q: given its parents, z is independent of its non-descendants only
entropy               E_q[-log q(z|a)] = E_q[H[q(z|a)]]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from probflow._typing import Names
from probflow.distributions import Distribution, Factor
from probflow.distributions.joint import product
from probflow.inference.closed_forms import has_entropy, kl_formula
from probflow.losses.arithmetic import Negative, Product, Reduce, Sum
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


@singledispatch
def simplify(node: Loss) -> Loss:
    """`node`, rewritten into what is computed; the value is the same."""
    below = children(node)
    return with_children(node, tuple(map(simplify, below))) if below else node


def sum_of(terms: list[Term]) -> Loss:
    """The terms added up, in order."""
    parts = [term.loss() for term in terms]
    if not parts:
        return Constant(0.0)
    if len(parts) == 1:
        sign, only = parts[0]
        return only if sign > 0 else intern(Negative, only)
    return intern(Sum, tuple(sign for sign, _ in parts), tuple(term for _, term in parts))


@simplify.register
def _(node: Sum) -> Loss:
    new = [simplify(term) for term in node.summands]
    return intern(Sum, node.signs, tuple(new))


def _kl_known(q: Distribution, p: Distribution) -> bool:
    """Whether KL[q || p] has a closed form.  Raises LossError where it is infinite: draws would only hide it."""
    return len(q.factors) == 1 and len(p.factors) == 1 and kl_formula(q.factors[0], p.factors[0]) is not None


@simplify.register
def _(node: KullbackLeibler) -> Loss:
    if _kl_known(node.q, node.p) and node.analytical:
        return node
    ratio = intern(Sum, (1, -1), (LogProb(node.q), LogProb(node.p)))
    return simplify_expectation(Expectation(node.q, ratio, node.sample_shape), node.analytical)


@simplify.register
def _(node: Entropy) -> Loss:
    if node.analytical and len(node.p.factors) == 1 and has_entropy(node.p.factors[0]):
        return node
    return simplify_expectation(Expectation(node.p, intern(Negative, LogProb(node.p)), node.sample_shape), node.analytical)


@simplify.register
def _(node: CrossEntropy) -> Loss:
    if _kl_known(node.q, node.p) and node.analytical and has_entropy(node.q.factors[0]):
        return intern(Sum, (1, 1), (Entropy(node.q), KullbackLeibler(node.q, node.p)))
    return simplify_expectation(Expectation(node.q, intern(Negative, LogProb(node.p)), node.sample_shape), node.analytical)


@simplify.register
def _(node: Expectation) -> Loss:
    # an explicit number of samples or estimator asks for Monte Carlo, as typed
    return simplify_expectation(node, closed=not node.sample_shape and node.estimator is None)


def simplify_expectation(node: Expectation, closed: bool) -> Loss:
    """Expand the body, take out what has a closed form or no variable of q, and drop barren variables from the rest."""
    if not all(factor.var and factor.normalised for factor in node.q.factors):  # the rules need densities that integrate to 1
        return Expectation(node.q, simplify(node.f), node.sample_shape, node.estimator)
    terms = expand(simplify(node.f), frozenset(node.q.var))
    out: dict[int, list[Term]] = {}
    if closed:
        terms, out = _closed_forms(node.q, terms)
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, term in terms.items():
        needed = node.q.graph.needed_for([n for n in _used(term) if n in node.q.var])
        groups.setdefault(needed, []).append(place)
    whole = tuple(range(len(node.q.factors)))
    if not out and set(groups) == {whole}:
        return Expectation(node.q, simplify(node.f), node.sample_shape, node.estimator)
    for needed, places in groups.items():
        if not needed:  # no variable of q: its own expectation
            for place in places:
                out.setdefault(place, []).append(terms[place])
            continue
        q = product(tuple(node.q.factors[i] for i in needed))
        if len(places) == 1:
            term = terms[places[0]]
            inner = Expectation(q, term.node, node.sample_shape, node.estimator)
            out.setdefault(places[0], []).append(Term(term.number, term.scalars, inner))
        else:
            body = sum_of([terms[place] for place in places])
            out.setdefault(places[0], []).append(Term(1, (), Expectation(q, body, node.sample_shape, node.estimator)))
    return sum_of([term for place in sorted(out) for term in out[place]])


def _used(term: Term) -> Names:
    names = free_variables(term.node)
    return names + tuple(n for scalar in term.scalars for n in free_variables(scalar))


def expand(node: Loss, bound: frozenset[str]) -> dict[int, Term]:
    """The summands of `node`, by place; coefficients are what has none of the names in `bound`."""
    return dict(enumerate(_expand(node, bound)))


def _expand(node: Loss, bound: frozenset[str]) -> list[Term]:
    if isinstance(node, Sum):
        return [t.times(sign) for sign, term in zip(node.signs, node.summands, strict=True) for t in _expand(term, bound)]
    if isinstance(node, Negative):
        return [t.times(-1) for t in _expand(node.operand, bound)]
    if isinstance(node, LogProb) and len(node.p.factors) > 1:
        return [Term(1, (), LogProb(factor)) for factor in node.p.factors]
    if isinstance(node, Product):
        *scalars, last = node.factors
        if not any(set(free_variables(s)) & bound for s in scalars) and all(map(_plain_scalar, scalars)):
            number = 1.0
            rest = []
            for scalar in scalars:
                if isinstance(scalar, Constant):
                    number *= scalar.value
                else:
                    rest.append(scalar)
            return [t.times(number, tuple(rest)) for t in _expand(last, bound)]
    return [Term(1, (), node)]


def _plain_scalar(node: Loss) -> bool:
    """A coefficient: nothing that samples, so that taking it out of an expectation cannot couple draws."""
    return not children(node) and not isinstance(node, (LogProb, KullbackLeibler, Entropy, CrossEntropy, Expectation))


def _closed_forms(q: Distribution, terms: dict[int, Term]) -> tuple[dict[int, Term], dict[int, list[Term]]]:
    """Replace -log q_i + log p_j pairs by -KL, and -log q_i alone by +H; returns what is left and what was found."""
    left, found = dict(terms), {}
    graph = q.graph
    for place, term in terms.items():
        factor = _log_factor(term)
        if factor is None or factor not in q.factors or place not in left:
            continue
        below = graph.descendants(factor.var)
        for other, partner in terms.items():
            target = _log_factor(partner)
            if (
                other in left
                and other != place
                and target is not None
                and set(target.var) == set(factor.var)
                and partner.number == -term.number
                and partner.scalars == term.scalars
                and not below & set(target.cond_var)  # the side condition of the rule
                and not set(target.cond_var) & set(factor.var)
                and kl_formula(factor, target)
            ):
                del left[place], left[other]
                spot = min(place, other)
                divergence = KullbackLeibler(factor, target)
                found[spot] = [Term(term.number, term.scalars, _outer(q, divergence, factor.cond_var + target.cond_var))]
                break
        else:
            if has_entropy(factor):
                del left[place]
                found[place] = [Term(-term.number, term.scalars, _outer(q, Entropy(factor), factor.cond_var))]
    return left, found


def _log_factor(term: Term) -> Factor | None:
    if isinstance(term.node, LogProb) and len(term.node.p.factors) == 1:
        return term.node.p.factors[0]
    return None


def _outer(q: Distribution, inner: Loss, names: Names) -> Loss:
    """E over the variables of q that `inner` is conditioned on; itself when there are none."""
    needed = q.graph.needed_for([n for n in names if n in q.var])
    return Expectation(product(tuple(q.factors[i] for i in needed)), inner) if needed else inner


def top_terms(loss: Loss) -> list[tuple[Reduce | None, Loss]]:
    """The printed terms of a loss, each with the reduction over the batch that it is inside."""
    if isinstance(loss, Reduce):
        return [(loss, term if inner is None else intern(Reduce, inner.how, term)) for inner, term in top_terms(loss.operand)]
    if isinstance(loss, Negative):
        return top_terms(loss.operand)
    if isinstance(loss, Sum):
        return [entry for term in loss.summands for entry in top_terms(term)]
    return [(None, loss)]
