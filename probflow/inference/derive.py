"""Derivations: from what was typed to what is computed, or from log p(x) to a bound, one rule a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probflow.distributions import Distribution, Marginal
from probflow.errors import LossError
from probflow.inference.simplify import Trace, simplified
from probflow.losses.arithmetic import Detach, Elementwise, Negative, Product, Quotient, Reduce, Sum
from probflow.losses.change_of_variables import is_flow
from probflow.losses.expand import flat_sum
from probflow.losses.labels import Labels
from probflow.losses.latex import latex
from probflow.losses.node import Loss, children, intern, walk, with_children
from probflow.losses.probability import ELBO, Expectation, KullbackLeibler, LogProb, Prob
from probflow.losses.rules import RULES, bounds, densities, sums
from probflow.losses.rules.rule import Relation, Rule
from probflow.losses.scalars import Constant
from probflow.losses.text import text


@dataclass(frozen=True)
class Step:
    """One line of a derivation: what the expression has become, and why."""

    expression: Loss
    relation: Relation
    rule: str
    """The name of a rule in ``probflow.losses.rules.RULES``, or a few words."""
    remark: str = ""
    written: tuple[str, str] | None = None
    """The line as text and as LaTeX, where the expression alone does not show what changed."""

    @property
    def equation(self) -> str:
        """The rule in general, in LaTeX; empty where the step is in words."""
        return RULES[self.rule].equation if self.rule in RULES else ""

    @property
    def condition(self) -> str:
        """The side condition that was checked."""
        return RULES[self.rule].condition if self.rule in RULES else ""


@dataclass(frozen=True)
class Derivation:
    """An aligned sequence of equalities (and named bounds).

    ``print(derivation)`` is plain text; in a notebook it is typeset; ``.latex()`` is the aligned block for a paper.

    >>> import probflow as pf
    >>> p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
    >>> q = pf.Normal("q(z | x)", loc="x", scale=1.0)
    >>> derivation = pf.ELBO(p, q).derive()
    >>> print(derivation.result)
    E_q(z|x)[log p(x|z)] - KL[q(z|x) || p(z)]
    >>> [step.rule for step in derivation.steps]
    ['log of a product', 'log-ratio to KL']
    """

    start: Loss
    steps: tuple[Step, ...]
    gap: Loss | None = None
    """What a bound leaves out: start = result + gap."""

    @property
    def result(self) -> Loss:
        """The last line."""
        return self.steps[-1].expression if self.steps else self.start

    def __str__(self) -> str:
        labels = self._labels()
        if not self.steps:
            return f"   {text(self.start, labels)}\n   computed as typed: no rule applies"
        shown = [step.written[0] if step.written else text(step.expression, labels) for step in self.steps]
        width = max(map(len, shown))
        lines = [f"   {text(self.start, labels)}"]
        for step, line in zip(self.steps, shown, strict=True):
            why = step.rule + (f": {step.remark}" if step.remark else f" ({step.condition})" if step.condition else "")
            lines.append(f"{step.relation:>2} {line:<{width}}   {why}")
        if self.gap is not None:
            lines.append(f"the gap: {text(self.gap, labels)}")
        return "\n".join(lines)

    __repr__ = __str__

    def latex(self) -> str:
        """An ``aligned`` block, without dollar signs."""
        labels = self._labels()
        rows = [rf"& {latex(self.start, labels)}"]
        for step in self.steps:
            sign = {"=": "=", ">=": r"\ge", "<=": r"\le"}[step.relation]
            why = step.rule + (f": {step.remark}" if step.remark else "")
            line = step.written[1] if step.written else latex(step.expression, labels)
            rows.append(rf"{sign}\;& {line} && \text{{{_plain(why)}}}")
        return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    def _labels(self) -> Labels:
        """One naming for all lines."""
        expressions = [self.start, *(step.expression for step in self.steps)]
        return Labels(intern(Sum, (1,) * len(expressions), tuple(expressions)))


def derive(loss: Loss, to: str | None = None, q: Distribution | None = None, samples: int = 10) -> Derivation:
    r"""The steps from `loss` as typed to what is computed; or, with `to`, from log p(x) to a bound.

    to="elbo": :math:`\log p(x) \ge \mathbb E_q[\log p(x, z) - \log q(z \mid x)]`, with the gap KL[q || p(z|x)] named, and on to the
    form that is computed.  to="jensen": the same bound by Jensen's inequality.  to="iwae": the importance-weighted bound with
    K = `samples` (Burda et al., arXiv:1509.00519, eq. 8).  `loss` is then ``log(p.marginalize_var("z"))`` and `q` is over z.

    Errors: LossError where `to` is unknown, `loss` is no marginal, or `q` is not over what was integrated out.

    >>> from probflow.distributions import Normal
    >>> from probflow.losses import ELBO
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    >>> q = Normal("q(z | x)", loc="x", scale=1.0)
    >>> print(derive(ELBO(p, q)))
       E_q(z|x)[log p(x,z) - log q(z|x)]
     = E_q(z|x)[log p(x|z) + log p(z) - log q(z|x)]   log of a product
     = E_q(z|x)[log p(x|z)] - KL[q(z|x) || p(z)]      log-ratio to KL (nothing that p conditions on is drawn below z in q: d-separation)
    """
    if to is None:
        if q is not None:
            raise LossError('derive takes q together with to: derive(log(p.marginalize_var("z")), to="elbo", q=q).')
        return Derivation(loss, tuple(_computed(loss)))
    ways = {"elbo": _elbo, "jensen": _jensen, "iwae": _iwae}
    if to not in ways:
        raise LossError(f"derive knows no way to {to!r}; it knows {', '.join(map(repr, ways))}.")
    marginal = _marginal(loss)
    if q is None or set(q.var) != set(marginal.gone):
        shown = "none" if q is None else str(q.statement)
        idle = [] if q is None or not set(marginal.gone) <= set(q.var) else [n for n in q.var if n not in marginal.gone]
        hint = f"\nWhat nothing depends on is dropped without an integral: take a q without {', '.join(idle)}." if idle else ""
        raise LossError(
            f"derive({loss}, to={to!r}) needs a q over {', '.join(marginal.gone)}, which was integrated out of "
            f"{marginal.joint.statement}; got {shown}.{hint}"
        )
    return ways[to](loss, marginal, q, samples)


def _marginal(loss: Loss) -> Marginal:
    if isinstance(loss, LogProb) and len(loss.p.factors) == 1 and isinstance(loss.p.factors[0], Marginal):
        return loss.p.factors[0]
    raise LossError(f'derive(..., to=...) starts from the logarithm of a marginal, log(p.marginalize_var("z")), got {loss}.')


def _elbo(loss: Loss, marginal: Marginal, q: Distribution, samples: int) -> Derivation:
    true = densities.posterior_of(marginal)
    joint, posterior, log_q = LogProb(marginal.joint), LogProb(true), LogProb(q)
    steps: list[Step] = []

    def line(expression: Loss, rule: str, relation: Relation = "=", remark: str = "") -> Loss:
        steps.append(Step(expression, relation, rule, remark))
        return expression

    names = ", ".join(marginal.gone)
    bayes = f"{marginal.statement} = {marginal.joint.statement} / {true.statement}"
    line(
        Expectation(q, loss),
        "expectation of a constant",
        remark=f"{loss} does not depend on {names}, and {q.statement} integrates to 1",
    )
    line(Expectation(q, intern(Sum, (1, -1), (joint, posterior))), "Bayes' rule", remark=bayes)
    both = intern(Sum, (1, -1, 1, -1), (joint, log_q, log_q, posterior))
    line(Expectation(q, both), "cancellation", remark=f"add and subtract log {q.statement}")
    bound = ELBO(marginal.joint, q)
    ratio = Expectation(q, intern(Sum, (1, -1), (log_q, posterior)))
    line(intern(Sum, (1, 1), (bound, ratio)), "linearity", remark="the first two terms and the last two")
    gap = KullbackLeibler(q, true)
    line(intern(Sum, (1, 1), (bound, gap)), "definition of KL")
    line(bound, bounds.drop_kl.name, ">=", f"equal where {q.statement} is the posterior; this is the evidence lower bound")
    return Derivation(loss, (*steps, *_computed(bound)), gap)


def _jensen(loss: Loss, marginal: Marginal, q: Distribution, samples: int) -> Derivation:
    weighted = Elementwise("log", Expectation(q, Prob(marginal.joint) / Prob(q)))
    steps = [
        Step(
            weighted,
            "=",
            "importance weighting",
            f"the integral over {', '.join(marginal.gone)} as an expectation under {q.statement}",
        ),
        Step(ELBO(marginal.joint, q), ">=", bounds.jensen.name),
    ]
    gap = KullbackLeibler(q, densities.posterior_of(marginal))
    return Derivation(loss, (*steps, *_computed(ELBO(marginal.joint, q))), gap)


def _iwae(loss: Loss, marginal: Marginal, q: Distribution, samples: int) -> Derivation:
    one = Elementwise("log", Expectation(q, Prob(marginal.joint) / Prob(q)))
    log_weight = intern(Sum, (1, -1), (LogProb(marginal.joint), LogProb(q)))
    many = Elementwise("log", Expectation(q, Elementwise("exp", log_weight), samples))
    mean, mean_latex = f"1/{samples} sum_k w_k", rf"\frac{{1}}{{{samples}}} \sum_{{k=1}}^{{{samples}}} w_k"
    weight = f"w_k = {text(Prob(marginal.joint))} / {text(Prob(q))}"
    steps = [
        Step(
            one,
            "=",
            "importance weighting",
            f"the integral over {', '.join(marginal.gone)} as an expectation under {q.statement}",
        ),
        Step(
            one,
            "=",
            "average of independent weights",
            f"{weight} at K = {samples} draws from {q.statement}, each with the same expectation",
            (f"log(E[{mean}])", rf"\log \mathbb{{E}}\left[{mean_latex}\right]"),
        ),
        Step(
            many,
            ">=",
            bounds.jensen.name,
            "the expectation leaves the logarithm; the larger K, the less is lost",
            (f"E[log({mean})]", rf"\mathbb{{E}}\left[\log {mean_latex}\right]"),
        ),
    ]
    return Derivation(loss, tuple(steps))


def _computed(bound: Loss) -> list[Step]:
    """On to what is computed, densities of flows by their change of variables, or by the bound that stands for them."""
    trace = Trace(bound)
    simplified(bound, trace)
    steps = [Step(expression, "=", name) for name, expression in trace.steps]
    whole = trace.whole
    logs = [node for node in walk(whole) if isinstance(node, LogProb)]
    flows = list(dict.fromkeys(LogProb(factor) for node in logs for factor in node.p.factors if is_flow(factor)))
    whole = _line(steps, whole, sums.log_of_a_product, logs if flows else [], "=")
    whole = _line(steps, whole, densities.change_of_variables, flows, "=")
    for sign, relation in _RELATIONS.items():
        signed = [node for node in flows if _signs(whole, node) == {sign}]
        whole = _line(steps, whole, densities.variational_bound, signed, relation)
    return steps


_RELATIONS: dict[int, Relation] = {1: ">=", -1: "<="}


def _line(steps: list[Step], whole: Loss, rule: Rule, nodes: Sequence[Loss], relation: Relation) -> Loss:
    """`whole` with `rule` applied to all of `nodes`: one more step, if it changes anything."""
    before = whole
    for node in nodes:
        after = rule(node)
        whole = whole if after is None else _replaced(whole, node, after)
    if whole is not before:
        steps.append(Step(whole, relation, rule.name))
    return whole


def _signs(whole: Loss, node: Loss) -> set[int]:
    """The signs with which `node` enters: a bound of it, in expectation, is a bound of `whole` where there is one; 0 where it
    enters by a function that is not linear, or with a weight whose sign is not known."""
    if whole is node:
        return {1}
    below = children(whole)
    found = [_signs(child, node) for child in below]
    if isinstance(whole, Sum):
        return {sign * inner for sign, signs in zip(whole.signs, found, strict=True) for inner in signs}
    if isinstance(whole, Negative):
        return {-inner for inner in found[0]}
    if isinstance(whole, (Reduce, Detach, Expectation)):
        return set().union(*found)
    signs = set().union(*found)
    weights = [child for child, inside in zip(below, found, strict=True) if not inside]
    linear = isinstance(whole, Product) or (isinstance(whole, Quotient) and not found[1])
    if signs and linear and len(weights) == len(below) - 1 and all(isinstance(weight, Constant) for weight in weights):
        negative = sum(weight.value < 0 for weight in weights if isinstance(weight, Constant)) % 2
        return {-inner if negative else inner for inner in signs}
    return {0} if signs else set()


def _replaced(node: Loss, before: Loss, after: Loss) -> Loss:
    """`node` with `after` in place of `before`; sums within sums become one."""
    if node is before:
        return after
    below = [_replaced(child, before, after) for child in children(node)]
    if isinstance(node, Sum):
        return flat_sum(list(zip(node.signs, below, strict=True)))
    return with_children(node, below) if below else node


def _plain(words: str) -> str:
    """Words that may stand in ``\\text{...}``."""
    for character in "\\{}_^&%$#~":
        words = words.replace(character, "" if character in "\\{}" else f"\\{character}" if character in "_&%$#" else " ")
    return words
