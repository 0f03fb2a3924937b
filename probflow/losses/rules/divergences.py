"""Rules about divergences and entropies: log-ratios become KL, in whole or in parts; KL by the chain rule; definitions."""

from __future__ import annotations

from collections.abc import Callable

from probflow._typing import Names
from probflow.distributions import Distribution, Factor
from probflow.distributions.joint import part
from probflow.losses.arithmetic import Negative, Sum
from probflow.losses.node import Loss, intern
from probflow.losses.probability import CrossEntropy, Entropy, Expectation, KullbackLeibler, LogProb
from probflow.losses.rules.expectations import normalised
from probflow.losses.rules.rule import rule
from probflow.losses.terms import Term, sum_of, terms_of

Pair = Callable[[Factor, Factor], object]
Single = Callable[[Factor], object]
Places = dict[int, Term]
Found = dict[int, list[Term]]


def may_become_kl(q: Distribution, factor: Factor, target: Factor) -> bool:
    r"""The side condition of E_q[log q_i(z|a) - log p(z|b)] = E_q[KL[q_i(z|a) || p(z|b)]].

    b may hold no descendant of z in q: given its parents, z is independent of its non-descendants only (d-separation).  With
    q(z1) q(z2|z1) and p(z1|z2), averaging over z1 with z2 held fixed would need q(z1|z2), not q(z1).
    """
    return (
        set(target.var) == set(factor.var)
        and not q.graph.descendants(factor.var) & set(target.cond_var)
        and not set(target.cond_var) & set(factor.var)
    )


def log_factor(term: Term) -> Factor | None:
    """The factor whose log-density the term is."""
    if isinstance(term.node, LogProb) and len(term.node.p.factors) == 1:
        return term.node.p.factors[0]
    return None


def outer(q: Distribution, inner: Loss, names: Names) -> Loss:
    """E over the variables of q that `inner` is conditioned on; itself when there are none."""
    needed = q.graph.needed_for([n for n in names if n in q.var])
    return Expectation(part(tuple(q.factors[i] for i in needed)), inner) if needed else inner


def take_out_kl(q: Distribution, terms: Places, known: Pair) -> tuple[Places, Found]:
    """Pairs ±(log q_i - log p_j) as ±KL, at the place of the first of the two; `known` says which pairs are wanted."""
    left, found = dict(terms), {}
    for place, term in terms.items():
        factor = log_factor(term)
        if factor is None or factor not in q.factors or place not in left:
            continue
        for other, partner in terms.items():
            target = log_factor(partner)
            if (
                other in left
                and other != place
                and target is not None
                and partner.number == -term.number
                and partner.scalars == term.scalars
                and may_become_kl(q, factor, target)
                and known(factor, target)
            ):
                del left[place], left[other]
                divergence = outer(q, KullbackLeibler(factor, target), factor.cond_var + target.cond_var)
                found[min(place, other)] = [Term(term.number, term.scalars, divergence)]
                break
    return left, found


def take_out_entropy(q: Distribution, terms: Places, known: Single) -> tuple[Places, Found]:
    """Terms -log q_i as H[q_i]; `known` says which are wanted."""
    left, found = dict(terms), {}
    for place, term in terms.items():
        factor = log_factor(term)
        if factor is not None and factor in q.factors and known(factor):
            del left[place]
            found[place] = [Term(-term.number, term.scalars, outer(q, Entropy(factor), factor.cond_var))]
    return left, found


def written(node: Expectation, left: Places, found: Found) -> Loss:
    """E_q[what is left], at the place of its first term, and what was taken out."""
    parts = dict(found)
    if left:
        body = sum_of([left[place] for place in sorted(left)])
        first = min(left)
        parts[first] = [Term(1, (), Expectation(node.q, body, node.sample_shape, node.estimator)), *parts.get(first, [])]
    return sum_of([term for place in sorted(parts) for term in parts[place]])


def places(node: Expectation, split_products: bool = False) -> Places:
    """The terms of the body, numbered."""
    return dict(enumerate(terms_of(node.f, frozenset(node.q.var), split_products)))


@rule(
    "log-ratio to KL",
    r"\mathbb{E}_q[\log q(z \mid a) - \log p(z \mid b)] = \mathbb{E}_q\left[D_{\mathrm{KL}}[q(z \mid a) \,\|\, p(z \mid b)]\right]",
    "nothing that p conditions on is drawn below z in q: d-separation",
)
def log_ratio_to_kl(node: Loss) -> Loss | None:
    """Whole, or in parts: of a hierarchical model those parts whose condition holds."""
    if not isinstance(node, Expectation) or not normalised(node.q) or node.sample_shape:
        return None
    left, found = take_out_kl(node.q, places(node), lambda q, p: True)
    return written(node, left, found) if found else None


@rule("entropy", r"\mathbb{E}_q[-\log q(z \mid a)] = \mathbb{E}_q\left[\mathrm{H}[q(z \mid a)]\right]", "q integrates to 1")
def entropy(node: Loss) -> Loss | None:
    """Logarithms of q's own factors."""
    if not isinstance(node, Expectation) or not normalised(node.q) or node.sample_shape:
        return None
    left, found = take_out_entropy(node.q, places(node), lambda q: True)
    return written(node, left, found) if found else None


@rule("definition of KL", r"D_{\mathrm{KL}}[q \,\|\, p] = \mathbb{E}_q[\log q - \log p]")
def kl_definition(node: Loss) -> Loss | None:
    """From the symbol to the expectation."""
    if not isinstance(node, KullbackLeibler):
        return None
    return Expectation(node.q, intern(Sum, (1, -1), (LogProb(node.q), LogProb(node.p))), node.sample_shape)


@rule("definition of entropy", r"\mathrm{H}[p] = -\mathbb{E}_p[\log p]")
def entropy_definition(node: Loss) -> Loss | None:
    """From the symbol to the expectation."""
    if not isinstance(node, Entropy):
        return None
    return Expectation(node.p, intern(Negative, LogProb(node.p)), node.sample_shape)


@rule("cross-entropy", r"\mathrm{H}[q, p] = \mathrm{H}[q] + D_{\mathrm{KL}}[q \,\|\, p]", "q integrates to 1")
def cross_entropy(node: Loss) -> Loss | None:
    """In closed forms, where both are known."""
    if not isinstance(node, CrossEntropy) or not normalised(node.q):
        return None
    return intern(Sum, (1, 1), (Entropy(node.q), KullbackLeibler(node.q, node.p)))


@rule("definition of cross-entropy", r"\mathrm{H}[q, p] = -\mathbb{E}_q[\log p]")
def cross_entropy_definition(node: Loss) -> Loss | None:
    """From the symbol to the expectation."""
    if not isinstance(node, CrossEntropy):
        return None
    return Expectation(node.q, intern(Negative, LogProb(node.p)), node.sample_shape)


@rule(
    "chain rule of KL",
    r"D_{\mathrm{KL}}[q(a)\,q(b \mid a) \,\|\, p(a)\,p(b \mid a)] = D_{\mathrm{KL}}[q(a) \,\|\, p(a)] + "
    r"\mathbb{E}_{q(a)}\left[D_{\mathrm{KL}}[q(b \mid a) \,\|\, p(b \mid a)]\right]",
    "every factor of p has the variables of one factor of q, and is conditioned on none of its descendants in q",
)
def kl_chain(node: Loss) -> Loss | None:
    """Of products, factor by factor."""
    if not isinstance(node, KullbackLeibler) or len(node.q.factors) < 2 or not normalised(node.q) or not normalised(node.p):
        return None
    parts = []
    for place in node.q.graph.order:
        factor = node.q.factors[place]
        target = next((f for f in node.p.factors if set(f.var) == set(factor.var)), None)
        if target is None or not may_become_kl(node.q, factor, target):
            return None
        parts.append(Term(1, (), outer(node.q, KullbackLeibler(factor, target), factor.cond_var + target.cond_var)))
    return sum_of(parts) if len(parts) == len(node.p.factors) else None
