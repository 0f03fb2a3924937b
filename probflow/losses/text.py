"""An expression as plain text, as it was typed."""

from __future__ import annotations

import math
from functools import singledispatch

from probflow.losses.arithmetic import Clamp, Detach, Elementwise, Extremum, Negative, Power, Product, Quotient, Reduce, Sum
from probflow.losses.change_of_variables import LogDet, NoiseLogProb, flow_symbols
from probflow.losses.labels import Labels
from probflow.losses.node import Loss
from probflow.losses.probability import CrossEntropy, Entropy, Expectation, KullbackLeibler, LogProb, Prob
from probflow.losses.scalars import Constant, Function, Parameter, Trainable


def text(node: Loss, labels: Labels | None = None) -> str:
    """``KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)]``."""
    return _text(node, labels or Labels(node))


@singledispatch
def _text(node: object, labels: Labels) -> str:
    raise TypeError(f"{type(node).__name__} has no text form; register one with text._text.register")


def _inside(node: Loss, labels: Labels, *loose: type[Loss]) -> str:
    """In parentheses where `node` binds less tightly than its surroundings."""
    shown = _text(node, labels)
    negative = isinstance(node, (Constant, Trainable)) and shown.startswith("-")
    return f"({shown})" if isinstance(node, loose) or negative else shown


def number_text(value: float) -> str:
    """A number as it was typed: short, but never another number."""
    short = f"{value:g}"
    return short if float(short) == value or value != value else repr(float(value)).removesuffix(".0")


@_text.register
def _(node: Constant, labels: Labels) -> str:
    return number_text(node.value) if isinstance(node.value, float) else str(node.value)


@_text.register
def _(node: Trainable, labels: Labels) -> str:
    return labels.weight(node.tensor)


@_text.register
def _(node: Parameter, labels: Labels) -> str:
    return node.name


@_text.register
def _(node: Function, labels: Labels) -> str:
    return f"{node.name}({', '.join(node.variables)})"


@_text.register
def _(node: LogProb, labels: Labels) -> str:
    return f"log {labels.text(node.p)}"


@_text.register
def _(node: NoiseLogProb, labels: Labels) -> str:
    base, argument = flow_symbols(node.p)
    return f"log {base}(f^-1({argument}))"


@_text.register
def _(node: LogDet, labels: Labels) -> str:
    _, argument = flow_symbols(node.p)
    return f"log|det df^-1({argument})/d{node.p.var[0]}|"


@_text.register
def _(node: Prob, labels: Labels) -> str:
    return labels.text(node.p)


@_text.register
def _(node: Entropy, labels: Labels) -> str:
    return f"H[{labels.text(node.p)}]"


@_text.register
def _(node: KullbackLeibler, labels: Labels) -> str:
    return f"KL[{labels.text(node.q)} || {labels.text(node.p)}]"


@_text.register
def _(node: CrossEntropy, labels: Labels) -> str:
    return f"H[{labels.text(node.q)}, {labels.text(node.p)}]"


@_text.register
def _(node: Expectation, labels: Labels) -> str:
    return f"E_{labels.text(node.q)}[{_text(node.f, labels)}]"


@_text.register
def _(node: Sum, labels: Labels) -> str:
    parts = []
    for place, (sign, term) in enumerate(zip(node.signs, node.summands, strict=True)):
        shown = _inside(term, labels, Sum, Negative) if place else _inside(term, labels, *((Sum,) if sign < 0 else ()))
        parts.append(("" if sign > 0 else "-") + shown if not place else (" + " if sign > 0 else " - ") + shown)
    return "".join(parts)


@_text.register
def _(node: Product, labels: Labels) -> str:
    first, *rest = node.factors
    return " * ".join([_inside(first, labels, Sum), *(_inside(f, labels, Sum, Negative, Product, Quotient) for f in rest)])


@_text.register
def _(node: Quotient, labels: Labels) -> str:
    above = _inside(node.numerator, labels, Sum)
    return f"{above} / {_inside(node.denominator, labels, Sum, Negative, Product, Quotient)}"


@_text.register
def _(node: Power, labels: Labels) -> str:
    loose = (Sum, Negative, Product, Quotient, Power, LogProb)
    return f"{_inside(node.base, labels, *loose)} ** {_inside(node.exponent, labels, *loose)}"


@_text.register
def _(node: Negative, labels: Labels) -> str:
    return f"-{_inside(node.operand, labels, Sum, Negative)}"


@_text.register
def _(node: Elementwise, labels: Labels) -> str:
    inside = node.operand
    if isinstance(inside, Expectation) and inside.sample_shape:
        # the mean over K draws is inside a nonlinear function: not the same as the expectation there
        mean = f"1/{math.prod(inside.sample_shape)} sum_{labels.text(inside.q)}[{_text(inside.f, labels)}]"
        return f"{node.name}({mean})"
    return f"{node.name}({_text(inside, labels)})"


@_text.register
def _(node: Detach, labels: Labels) -> str:
    return f"detach({_text(node.operand, labels)})"


@_text.register
def _(node: Clamp, labels: Labels) -> str:
    limits = [f"{n}={number_text(v)}" for n, v in (("min", node.low), ("max", node.high)) if v is not None]
    return f"clamp({', '.join([_text(node.operand, labels), *limits])})"


@_text.register
def _(node: Reduce, labels: Labels) -> str:
    return f"{node.how}({_text(node.operand, labels)})"


@_text.register
def _(node: Extremum, labels: Labels) -> str:
    return f"{node.how}({', '.join(_text(o, labels) for o in node.operands)})"
