r"""An expression in LaTeX: ``\mathbb{E}_{q(z \mid x)}\left[\log p(x \mid z)\right]``."""

from __future__ import annotations

import math
from functools import singledispatch

from probflow.distributions import Distribution
from probflow.losses.arithmetic import Clamp, Detach, Elementwise, Extremum, Negative, Power, Product, Quotient, Reduce, Sum
from probflow.losses.change_of_variables import LogDet, NoiseLogProb, flow_symbols
from probflow.losses.labels import Labels
from probflow.losses.node import Loss
from probflow.losses.probability import CrossEntropy, Entropy, Expectation, KullbackLeibler, LogProb, Prob
from probflow.losses.scalars import Constant, Function, Parameter, Trainable
from probflow.losses.text import number_text
from probflow.printing import latex_name


def latex(node: Loss, labels: Labels | None = None) -> str:
    """The expression as typed, in LaTeX."""
    return _latex(node, labels or Labels(node))


@singledispatch
def _latex(node: object, labels: Labels) -> str:
    raise TypeError(f"{type(node).__name__} has no LaTeX form; register one with latex._latex.register")


def _brackets(inner: str) -> str:
    return rf"\left[{inner}\right]"


def _parentheses(inner: str) -> str:
    return rf"\left({inner}\right)"


def _inside(node: Loss, labels: Labels, *loose: type[Loss]) -> str:
    shown = _latex(node, labels)
    negative = isinstance(node, (Constant, Trainable)) and shown.startswith("-")
    return _parentheses(shown) if isinstance(node, loose) or negative else shown


@_latex.register
def _(node: Constant, labels: Labels) -> str:
    from sympy import latex as sympy_latex
    from sympy import sympify

    return str(sympy_latex(sympify(number_text(node.value) if isinstance(node.value, float) else node.value)))


@_latex.register
def _(node: Trainable, labels: Labels) -> str:
    return latex_name(labels.weight(node.tensor))


@_latex.register
def _(node: Parameter, labels: Labels) -> str:
    return latex_name(node.name)


@_latex.register
def _(node: NoiseLogProb, labels: Labels) -> str:
    base, _ = flow_symbols(node.p)
    return rf"\log {latex_name(base)}\left({_inverse(node.p)}\right)"


@_latex.register
def _(node: LogDet, labels: Labels) -> str:
    return rf"\log\left|\det \frac{{\partial {_inverse(node.p)}}}{{\partial {latex_name(node.p.var[0])}}}\right|"


def _inverse(p: Distribution) -> str:
    """The inverse of the flow at its variable, ``f^{-1}(x; y)``."""
    given = "; " + ", ".join(map(latex_name, p.cond_var)) if p.cond_var else ""
    return rf"f^{{-1}}({latex_name(p.var[0])}{given})"


@_latex.register
def _(node: Function, labels: Labels) -> str:
    return f"{latex_name(node.name)}({', '.join(map(latex_name, node.variables))})"


@_latex.register
def _(node: LogProb, labels: Labels) -> str:
    return rf"\log {labels.latex(node.p)}"


@_latex.register
def _(node: Prob, labels: Labels) -> str:
    return labels.latex(node.p)


@_latex.register
def _(node: Entropy, labels: Labels) -> str:
    return rf"\mathrm{{H}}{_brackets(labels.latex(node.p))}"


@_latex.register
def _(node: KullbackLeibler, labels: Labels) -> str:
    between = r" \,\|\, "
    return rf"D_{{\mathrm{{KL}}}}{_brackets(labels.latex(node.q) + between + labels.latex(node.p))}"


@_latex.register
def _(node: CrossEntropy, labels: Labels) -> str:
    return rf"\mathrm{{H}}{_brackets(labels.latex(node.q) + ', ' + labels.latex(node.p))}"


@_latex.register
def _(node: Expectation, labels: Labels) -> str:
    return rf"\mathbb{{E}}_{{{labels.latex(node.q)}}}{_brackets(_latex(node.f, labels))}"


@_latex.register
def _(node: Sum, labels: Labels) -> str:
    parts = []
    for place, (sign, term) in enumerate(zip(node.signs, node.summands, strict=True)):
        shown = _inside(term, labels, Sum, Negative) if place else _inside(term, labels, *((Sum,) if sign < 0 else ()))
        parts.append(("" if sign > 0 else "-") + shown if not place else (" + " if sign > 0 else " - ") + shown)
    return "".join(parts)


@_latex.register
def _(node: Product, labels: Labels) -> str:
    first, *rest = node.factors
    shown = [_inside(first, labels, Sum), *(_inside(f, labels, Sum, Negative, Product) for f in rest)]
    numbers = [isinstance(f, (Constant, Trainable)) for f in node.factors]
    joined = shown[0]
    for place in range(1, len(shown)):  # 2 \cdot 3, but 2 x
        joined += (r" \cdot " if numbers[place] else r" \, ") + shown[place]
    return joined


@_latex.register
def _(node: Quotient, labels: Labels) -> str:
    return rf"\frac{{{_latex(node.numerator, labels)}}}{{{_latex(node.denominator, labels)}}}"


@_latex.register
def _(node: Power, labels: Labels) -> str:
    loose = (Sum, Negative, Product, Quotient, Power, LogProb, Expectation, KullbackLeibler, Entropy, CrossEntropy, Elementwise)
    return rf"{_inside(node.base, labels, *loose)}^{{{_latex(node.exponent, labels)}}}"


@_latex.register
def _(node: Negative, labels: Labels) -> str:
    return f"-{_inside(node.operand, labels, Sum, Negative)}"


@_latex.register
def _(node: Elementwise, labels: Labels) -> str:
    inside = node.operand
    if isinstance(inside, Expectation) and inside.sample_shape:  # the mean over K draws: inside a function it is no expectation
        drawn = ", ".join(map(latex_name, inside.q.var))
        over = rf"\sum_{{{drawn} \sim {labels.latex(inside.q)}}}"
        inner = rf"\frac{{1}}{{{math.prod(inside.sample_shape)}}} {over} {_brackets(_latex(inside.f, labels))}"
    else:
        inner = _latex(inside, labels)
    return rf"\left|{inner}\right|" if node.name == "abs" else rf"\{node.name}{_parentheses(inner)}"


@_latex.register
def _(node: Detach, labels: Labels) -> str:
    return rf"\operatorname{{sg}}{_brackets(_latex(node.operand, labels))}"


@_latex.register
def _(node: Clamp, labels: Labels) -> str:
    low = r"-\infty" if node.low is None else number_text(node.low)
    high = r"\infty" if node.high is None else number_text(node.high)
    return rf"\operatorname{{clamp}}_{{[{low}, {high}]}}{_parentheses(_latex(node.operand, labels))}"


@_latex.register
def _(node: Reduce, labels: Labels) -> str:
    return rf"\operatorname{{{node.how}}}{_parentheses(_latex(node.operand, labels))}"


@_latex.register
def _(node: Extremum, labels: Labels) -> str:
    return rf"\{node.how}{_parentheses(', '.join(_latex(o, labels) for o in node.operands))}"
