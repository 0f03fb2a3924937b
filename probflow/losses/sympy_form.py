"""``loss.to_sympy()``: an expression in sympy, whose algebra of scalar coefficients is then at hand.

log p(x|z)       ``log(p(x|z))`` of a positive symbol; a product p(x|z) p(z) is the product of its symbols
KL, H            undefined functions of the symbols of their distributions: ``KL(q(z|x), p(z))``, ``H(q(z|x))``
E_q[f]           an undefined function named after q, applied to f: ``E_q(z|x)(log(p(x|z)))``
mean, sum        undefined functions; so are ``detach`` and a `Function`, of the symbols of its variables
numbers          exact rationals of the decimals as typed: 0.5 is 1/2
coefficients     real symbols: a `Parameter` by its name, a trained one by its label (w, w1, ...)

Limits.  sympy reorders terms, and it knows no linearity: expand a loss first, ``loss.expand().to_sympy()``.  Two networks with
one statement have different symbols within one expression (``p#1(x|z)``), not across expressions: convert the whole.  Densities
are taken to be positive.  Whether two expectations draw independently, sample shapes and estimators are not expressed.
"""

from __future__ import annotations

from functools import singledispatch

import sympy

from probflow.distributions import Distribution
from probflow.losses.arithmetic import Clamp, Detach, Elementwise, Extremum, Negative, Power, Product, Quotient, Reduce, Sum
from probflow.losses.change_of_variables import LogDet, NoiseLogProb
from probflow.losses.labels import Labels
from probflow.losses.node import Loss
from probflow.losses.probability import CrossEntropy, Entropy, Expectation, KullbackLeibler, LogProb, Prob
from probflow.losses.scalars import Constant, Function, Parameter, Trainable
from probflow.losses.text import text


def sympy_form(node: Loss, labels: Labels | None = None) -> sympy.Expr:
    """The expression in sympy."""
    return _form(node, labels or Labels(node))


@singledispatch
def _form(node: object, labels: Labels) -> sympy.Expr:
    raise TypeError(f"{type(node).__name__} has no sympy form; register one with sympy_form._form.register")


def _density(p: Distribution, labels: Labels) -> sympy.Expr:
    return sympy.Mul(*(_symbol(labels.text(factor)) for factor in p.factors))


def _symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, positive=True)


def _whole(p: Distribution, labels: Labels) -> sympy.Symbol:
    return _symbol(labels.text(p))


def _applied(name: str, *arguments: sympy.Expr) -> sympy.Expr:
    return sympy.Function(name, real=True)(*arguments)


@_form.register
def _(node: Constant, labels: Labels) -> sympy.Expr:
    value = node.value
    if isinstance(value, int):
        return sympy.Integer(value)
    if value != value or value in (float("inf"), float("-inf")):
        return sympy.Float(value)
    return sympy.Rational(repr(value))


@_form.register
def _(node: Trainable, labels: Labels) -> sympy.Expr:
    return sympy.Symbol(labels.weight(node.tensor), real=True)


@_form.register
def _(node: Parameter, labels: Labels) -> sympy.Expr:
    return sympy.Symbol(node.name, real=True)


@_form.register
def _(node: Function, labels: Labels) -> sympy.Expr:
    return _applied(node.name, *(sympy.Symbol(name) for name in node.variables))


@_form.register
def _(node: LogProb, labels: Labels) -> sympy.Expr:
    return sympy.log(_density(node.p, labels))


@_form.register
def _(node: Prob, labels: Labels) -> sympy.Expr:
    return _density(node.p, labels)


@_form.register
def _(node: NoiseLogProb, labels: Labels) -> sympy.Expr:
    return sympy.log(_symbol(text(node, labels).removeprefix("log ")))


@_form.register
def _(node: LogDet, labels: Labels) -> sympy.Expr:
    return sympy.log(_symbol(text(node, labels).removeprefix("log")))


@_form.register
def _(node: Entropy, labels: Labels) -> sympy.Expr:
    return _applied("H", _whole(node.p, labels))


@_form.register
def _(node: KullbackLeibler, labels: Labels) -> sympy.Expr:
    return _applied("KL", _whole(node.q, labels), _whole(node.p, labels))


@_form.register
def _(node: CrossEntropy, labels: Labels) -> sympy.Expr:
    return _applied("H", _whole(node.q, labels), _whole(node.p, labels))


@_form.register
def _(node: Expectation, labels: Labels) -> sympy.Expr:
    return _applied(f"E_{labels.text(node.q)}", _form(node.f, labels))


@_form.register
def _(node: Sum, labels: Labels) -> sympy.Expr:
    return sympy.Add(*(sign * _form(term, labels) for sign, term in zip(node.signs, node.summands, strict=True)))


@_form.register
def _(node: Product, labels: Labels) -> sympy.Expr:
    return sympy.Mul(*(_form(factor, labels) for factor in node.factors))


@_form.register
def _(node: Quotient, labels: Labels) -> sympy.Expr:
    return _form(node.numerator, labels) / _form(node.denominator, labels)


@_form.register
def _(node: Power, labels: Labels) -> sympy.Expr:
    return _form(node.base, labels) ** _form(node.exponent, labels)


@_form.register
def _(node: Negative, labels: Labels) -> sympy.Expr:
    return -_form(node.operand, labels)


@_form.register
def _(node: Elementwise, labels: Labels) -> sympy.Expr:
    return {"exp": sympy.exp, "log": sympy.log, "abs": sympy.Abs}[node.name](_form(node.operand, labels))


@_form.register
def _(node: Detach, labels: Labels) -> sympy.Expr:
    return _applied("detach", _form(node.operand, labels))


@_form.register
def _(node: Clamp, labels: Labels) -> sympy.Expr:
    value = _form(node.operand, labels)
    value = value if node.low is None else sympy.Max(value, sympy.Rational(repr(node.low)))
    return value if node.high is None else sympy.Min(value, sympy.Rational(repr(node.high)))


@_form.register
def _(node: Reduce, labels: Labels) -> sympy.Expr:
    return _applied(node.how, _form(node.operand, labels))


@_form.register
def _(node: Extremum, labels: Labels) -> sympy.Expr:
    return {"min": sympy.Min, "max": sympy.Max}[node.how](*(_form(operand, labels) for operand in node.operands))
