"""Rules that cancel: equal terms of a sum, equal factors of a quotient.  Equal means the same object, not the same name."""

from __future__ import annotations

from probflow.losses.arithmetic import Elementwise, Negative, Product, Quotient, Sum
from probflow.losses.node import Loss, intern, walk
from probflow.losses.probability import CrossEntropy, Entropy, Expectation, KullbackLeibler, Prob
from probflow.losses.rules.rule import rule
from probflow.losses.scalars import Constant
from probflow.losses.terms import Term, plain_scalar, sum_of, terms_of

_ROUNDING = 1e-15  # 0.1 f + 0.2 f - 0.3 f is 0


@rule("cancellation", r"f - f = 0", "both are the same object, not two networks of the same name")
def cancellation(node: Loss) -> Loss | None:
    """Equal terms of opposite signs: as they stand, with sums inside taken apart, with log-densities of products taken apart."""
    if not isinstance(node, Sum):
        return None
    new: Loss = node
    for look in (_as_they_stand, _flat, _factorised):
        terms = look(new)
        left = collected(terms)
        if len(left) < len(terms):
            new = sum_of(left)
    return None if new is node else new


def _as_they_stand(node: Loss) -> list[Term]:
    if isinstance(node, Sum):
        return [Term(sign, (), term) for sign, term in zip(node.signs, node.summands, strict=True)]
    return [Term(1, (), node)]


def _flat(node: Loss) -> list[Term]:
    return terms_of(node, frozenset(), split_products=False)


def _factorised(node: Loss) -> list[Term]:
    return terms_of(node, frozenset())


def collected(terms: list[Term]) -> list[Term]:
    """Terms of opposite signs put together where they differ by their coefficient only: 2 f - f = f, at the place of the first."""
    groups: dict[tuple[object, ...], list[tuple[int, float, Term]]] = {}
    for place, term in enumerate(terms):
        number, bare = _bare(term)
        key = (tuple(sorted(map(id, bare.scalars))), bare.node)
        groups.setdefault(key, []).append((place, number, bare))
    out: dict[int, Term] = {}
    for (*_, node), members in groups.items():
        numbers = [number for _, number, _ in members]
        net = sum(numbers)
        gone = abs(net) <= _ROUNDING * sum(map(abs, numbers))
        if min(numbers) * max(numbers) >= 0 or (isinstance(node, Constant) and not members[0][2].scalars and not gone):
            out.update({place: terms[place] for place, _, _ in members})
        elif not gone:
            first, _, bare = members[0]
            typed = next((terms[place] for place, number, _ in members if number == net), None)
            out[first] = typed or bare.times(net)
    return [out[place] for place in sorted(out)]


def _bare(term: Term) -> tuple[float, Term]:
    """The number in front, and the term without it.  Of the factors, plain coefficients commute; what may draw keeps its place."""
    number, scalars = term.number, list(term.scalars)
    rest: list[Loss] = []
    drawn: list[Loss] = []
    stack = [term.node]
    while stack:
        node = stack.pop()
        if isinstance(node, Negative):
            number = -number
            stack.append(node.operand)
        elif isinstance(node, Product):
            several = sum(map(draws, node.factors)) > 1  # each then draws by its place, which must stay
            for factor in reversed(node.factors):
                if several and draws(factor):
                    drawn.insert(0, factor)
                else:
                    stack.append(factor)
        elif isinstance(node, Quotient) and isinstance(node.denominator, Constant):
            number /= node.denominator.value
            stack.append(node.numerator)
        elif isinstance(node, Constant):
            number *= node.value
        else:
            (scalars if plain_scalar(node) else rest).append(node)
    rest += drawn
    if not rest:
        return number, Term(1, tuple(scalars), Constant(1))
    return number, Term(1, tuple(scalars), rest[0] if len(rest) == 1 else intern(Product, tuple(rest)))


@rule("cancellation of factors", r"\frac{f g}{f} = g", "f is a density or an exponential, the same object, and draws nothing")
def factors(node: Loss) -> Loss | None:
    """What may be zero, such as a log-density, does not cancel; nor do expectations, whose draws are independent in a quotient."""
    if not isinstance(node, (Product, Quotient)):
        return None
    above, below = _fraction(node)
    if not below or sum(map(draws, above + below)) > 1:  # a factor gone would give the other draws other places
        return None
    if not _cancel(above, below):
        above, below = _densities(above), _densities(below)
        if not _cancel(above, below):
            return None
    top = _product(above)
    return top if not below else intern(Quotient, top, _product(below))


def _fraction(node: Loss) -> tuple[list[Loss], list[Loss]]:
    """The factors of the numerator and of the denominator."""
    if isinstance(node, Product):
        parts = [_fraction(factor) for factor in node.factors]
        return [f for above, _ in parts for f in above], [f for _, below in parts for f in below]
    if isinstance(node, Quotient):
        (above, under), (below, over) = _fraction(node.numerator), _fraction(node.denominator)
        return above + over, under + below
    return [node], []


def _cancel(above: list[Loss], below: list[Loss]) -> bool:
    """Takes equal factors out of both lists."""
    count = len(below)
    for factor in tuple(below):
        if factor in above and _never_zero(factor):
            above.remove(factor)
            below.remove(factor)
    return len(below) < count


def _densities(factors: list[Loss]) -> list[Loss]:
    """With p(x, z) as p(x | z) p(z)."""
    return [part for f in factors for part in (map(Prob, f.p.factors) if isinstance(f, Prob) else (f,))]


def _never_zero(node: Loss) -> bool:
    if isinstance(node, Constant):
        return node.value != 0
    return isinstance(node, Prob) or (isinstance(node, Elementwise) and node.name == "exp")


def draws(node: Loss) -> bool:
    """Whether computing it may draw samples."""
    return any(isinstance(part, (Expectation, KullbackLeibler, Entropy, CrossEntropy)) for part in walk(node))


def _product(factors: list[Loss]) -> Loss:
    if not factors:
        return Constant(1)
    return factors[0] if len(factors) == 1 else intern(Product, tuple(factors))
