"""Nodes for arithmetic, kept in the author's order."""

from __future__ import annotations

from typing import Literal

from probflow.errors import LossError
from probflow.losses.node import Loss, Scalar, as_loss, intern
from probflow.losses.scalars import Constant


class Sum(Loss):
    """``+a - b + c``: terms in the author's order, each with its sign."""

    __slots__ = ("signs", "summands")
    fields = ("signs", "summands")
    signs: tuple[int, ...]
    summands: tuple[Loss, ...]


class Product(Loss):
    """``a * b * c``."""

    __slots__ = ("factors",)
    fields = ("factors",)
    factors: tuple[Loss, ...]


class Quotient(Loss):
    """``a / b``."""

    __slots__ = ("denominator", "numerator")
    fields = ("numerator", "denominator")
    numerator: Loss
    denominator: Loss


class Power(Loss):
    """``a ** b``."""

    __slots__ = ("base", "exponent")
    fields = ("base", "exponent")
    base: Loss
    exponent: Loss


class Negative(Loss):
    """``-a``."""

    __slots__ = ("operand",)
    fields = ("operand",)
    operand: Loss


class Elementwise(Loss):
    """``exp(a)``, ``log(a)``, ``abs(a)``."""

    __slots__ = ("name", "operand")
    fields = ("name", "operand")
    name: str
    operand: Loss

    def __new__(cls, name: Literal["exp", "log", "abs"], operand: Loss) -> Elementwise:
        return intern(cls, name, operand)


class Detach(Loss):
    """The value without its gradient."""

    __slots__ = ("operand",)
    fields = ("operand",)
    operand: Loss

    def __new__(cls, operand: Loss) -> Detach:
        return intern(cls, operand)


class Clamp(Loss):
    """The value limited to [low, high]."""

    __slots__ = ("high", "low", "operand")
    fields = ("operand", "low", "high")
    operand: Loss
    low: float | None
    high: float | None


class Reduce(Loss):
    """``mean`` or ``sum`` over the batch."""

    __slots__ = ("how", "operand")
    fields = ("how", "operand")
    how: str
    operand: Loss

    def __new__(cls, how: Literal["mean", "sum"], operand: Loss) -> Reduce:
        return intern(cls, how, operand)


class Extremum(Loss):
    """``min(a, b, ...)`` or ``max(a, b, ...)``, elementwise."""

    __slots__ = ("how", "operands")
    fields = ("how", "operands")
    how: str
    operands: tuple[Loss, ...]


def add(a: Loss | Scalar, b: Loss | Scalar) -> Loss:
    """a + b."""
    return _sum(as_loss(a), 1, as_loss(b))


def subtract(a: Loss | Scalar, b: Loss | Scalar) -> Loss:
    """a - b."""
    return _sum(as_loss(a), -1, as_loss(b))


def _sum(a: Loss, sign: int, b: Loss) -> Loss:
    # only the left side is flattened: a - (b - c) stays as typed
    signs, summands = (a.signs, a.summands) if isinstance(a, Sum) else ((1,), (a,))
    if isinstance(b, Negative):  # a + (-b) is read as a - b
        sign, b = -sign, b.operand
    return intern(Sum, (*signs, sign), (*summands, b))


def multiply(a: Loss | Scalar, b: Loss | Scalar) -> Loss:
    """a * b."""
    left, right = as_loss(a), as_loss(b)
    return intern(Product, (*(left.factors if isinstance(left, Product) else (left,)), right))


def divide(a: Loss | Scalar, b: Loss | Scalar) -> Loss:
    """a / b."""
    below = as_loss(b)
    if isinstance(below, Constant) and below.value == 0:
        raise LossError(f"{as_loss(a)} is divided by zero.")
    return intern(Quotient, as_loss(a), below)


def power(a: Loss | Scalar, b: Loss | Scalar) -> Loss:
    """a ** b."""
    return intern(Power, as_loss(a), as_loss(b))


def negate(a: Loss) -> Loss:
    """-a."""
    if isinstance(a, Negative):
        return a.operand
    return intern(Negative, a)


def clamp(a: Loss, low: float | None, high: float | None) -> Loss:
    """a limited to [low, high]."""
    if low is None and high is None:
        raise LossError("clamp needs min or max: loss.clamp(min=0.0).")
    if low is not None and high is not None and low > high:
        raise LossError(f"clamp: min={low:g} is larger than max={high:g}.")
    return intern(Clamp, a, None if low is None else float(low), None if high is None else float(high))


def Min(*losses: Loss | Scalar) -> Loss:
    """The smallest of several losses, elementwise over the batch.

    >>> import torch
    >>> import probflow as pf
    >>> loss = pf.Min(pf.Parameter("a"), pf.Parameter("b"))
    >>> print(loss, loss.eval({"a": 1.0, "b": 2.0}).item())
    min(a, b) 1.0
    """
    return _extremum("min", losses)


def Max(*losses: Loss | Scalar) -> Loss:
    """The largest of several losses, elementwise over the batch: ``Max(KL(q, p), 2.0)`` gives free bits.

    >>> import torch
    >>> import probflow as pf
    >>> loss = pf.Max(pf.Parameter("kl"), 0.5)  # "free bits": no reward below half a nat
    >>> print(loss, loss.eval({"kl": 0.1}).item())
    max(kl, 0.5) 0.5
    """
    return _extremum("max", losses)


def _extremum(how: str, losses: tuple[Loss | Scalar, ...]) -> Loss:
    if len(losses) < 2:
        raise LossError(f"{how.capitalize()} compares two losses or more, got {len(losses)}.")
    return intern(Extremum, how, tuple(as_loss(entry) for entry in losses))
