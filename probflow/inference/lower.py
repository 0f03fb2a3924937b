"""How each kind of node is computed: a generic function over the nodes, in terms of the planner's ops."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from probflow.distributions.values import fold
from probflow.errors import LossError, NetworkError, ShapeError
from probflow.inference.axes import Slot, union
from probflow.inference.closed_forms import has_entropy, kl_formula
from probflow.inference.expectation import expectation
from probflow.inference.nonlinear import function_of, over_rows
from probflow.inference.planner import Env, Planner
from probflow.inference.program import BATCH
from probflow.losses.arithmetic import Clamp, Detach, Elementwise, Extremum, Negative, Power, Product, Quotient, Reduce, Sum
from probflow.losses.change_of_variables import LogDet, NoiseLogProb
from probflow.losses.node import Loss
from probflow.losses.probability import Entropy, Expectation, KullbackLeibler, LogProb, Prob
from probflow.losses.rules.logarithms import logarithm
from probflow.losses.scalars import Constant, Function, Parameter, Trainable
from probflow.losses.text import text
from probflow.printing import shape_text


@singledispatch
def lower(node: object, planner: Planner, env: Env) -> Slot:
    """The slot that holds the value of `node`."""
    raise LossError(f"{type(node).__name__} cannot be computed; register a rule with lower.register.")


def _value(node: Loss, planner: Planner, env: Env) -> Slot:
    """The slot of the value itself, never of its negative: for every rule that is not linear."""
    return planner.plain(lower(node, planner, env))


def _independent(nodes: tuple[Loss, ...], planner: Planner, env: Env) -> tuple[Slot, ...]:
    """Arguments of a nonlinear function: those that draw samples of their own draw them independently of each other.

    E[f] E[g] estimated on common samples would have the bias Cov(f, g) / K.
    """
    drawing = [place for place, node in enumerate(nodes) if planner.samples(node)]
    if len(drawing) < 2:
        return tuple(_value(node, planner, env) for node in nodes)
    branch = {place: env.branch(number) for number, place in enumerate(drawing)}
    return tuple(_value(node, planner, branch.get(place, env)) for place, node in enumerate(nodes))


@lower.register
def _(node: Constant, planner: Planner, env: Env) -> Slot:
    return planner.constant(node.value)


@lower.register
def _(node: Trainable, planner: Planner, env: Env) -> Slot:
    tensor = node.tensor
    return planner.op("constant", id(tensor), (), lambda: tensor.reshape(()), (), batched=False, about=(tensor,))


@lower.register
def _(node: Parameter, planner: Planner, env: Env) -> Slot:
    return planner.number(node.name)


@lower.register
def _(node: LogProb, planner: Planner, env: Env) -> Slot:
    return planner.log_prob(node.p, env)


@lower.register
def _(node: NoiseLogProb, planner: Planner, env: Env) -> Slot:
    return planner.flow_term(node.p.factors[0], env, 0, text(node))


@lower.register
def _(node: LogDet, planner: Planner, env: Env) -> Slot:
    return planner.flow_term(node.p.factors[0], env, 1, text(node))


@lower.register
def _(node: Prob, planner: Planner, env: Env) -> Slot:
    return planner.combine("exp", (planner.plain(planner.log_prob(node.p, env)),), torch.exp)


@lower.register
def _(node: KullbackLeibler, planner: Planner, env: Env) -> Slot:
    (q,), (p,) = node.q.factors, node.p.factors
    formula = kl_formula(q, p)
    if formula is None:
        raise LossError(f"{node} has no closed form.")
    shown = f"KL[{planner.labels.text(q)} || {planner.labels.text(p)}]"
    return planner.two_bounds("kl", q, p, env, formula, shown, "closed form")


@lower.register
def _(node: Entropy, planner: Planner, env: Env) -> Slot:
    (p,) = node.p.factors
    if not has_entropy(p):
        raise LossError(f"{node} has no closed form.")
    bound = planner.bind(p, env)
    return planner.op(
        "entropy",
        None,
        (bound,),
        lambda dist: dist.entropy(),
        bound.axes,
        text=f"H[{planner.labels.text(p)}]",
        note="closed form",
        about=(p,),
    )


@lower.register
def _(node: Expectation, planner: Planner, env: Env) -> Slot:
    return expectation(node, node.f, planner, env, logarithmic=False, lower=lower)


@lower.register
def _(node: Sum, planner: Planner, env: Env) -> Slot:
    slots = tuple(lower(term, planner, env) for term in node.summands)
    return planner.signed_sum(node.signs, slots, text(node, planner.labels))


def _multiply(a: Any, *rest: Any) -> Any:
    for b in rest:
        a = a * b
    return a


@lower.register
def _(node: Product, planner: Planner, env: Env) -> Slot:
    return planner.combine("product", _independent(node.factors, planner, env), _multiply, text=text(node, planner.labels))


@lower.register
def _(node: Quotient, planner: Planner, env: Env) -> Slot:
    def build() -> Slot:
        slots = _independent((node.numerator, node.denominator), planner, env)
        return planner.combine("quotient", slots, lambda a, b: a / b, text=text(node, planner.labels))

    return function_of(planner, build) if planner.samples(node.denominator) else build()


@lower.register
def _(node: Power, planner: Planner, env: Env) -> Slot:
    exponent = node.exponent
    if isinstance(exponent, Constant) and exponent.value in range(2, 17) and planner.samples(node.base):
        slots = _independent((node.base,) * int(exponent.value), planner, env)  # (E f)^2 = E f E f', two independent draws
        return planner.combine("product", slots, _multiply, text=text(node, planner.labels))

    def build() -> Slot:
        slots = _independent((node.base, exponent), planner, env)
        return planner.combine("power", slots, lambda a, b: a**b, text=text(node, planner.labels))

    return function_of(planner, build)


@lower.register
def _(node: Negative, planner: Planner, env: Env) -> Slot:
    slot = lower(node.operand, planner, env)
    return replace(slot, negated=not slot.negated)


@lower.register
def _(node: Elementwise, planner: Planner, env: Env) -> Slot:
    inside = node.operand
    if node.name == "log" and isinstance(inside, Expectation) and (power := _logarithm(inside.f)) is not None:

        def log_mean() -> Slot:
            return expectation(inside, power, planner, env, logarithmic=True, lower=lower)

        # the scores of its own draws are known to the expectation; those of draws inside the exponential are not
        return function_of(planner, log_mean) if planner.samples(power) else log_mean()
    if node.name == "log" and isinstance(inside, Prob):
        return planner.plain(planner.log_prob(inside.p, env))
    if node.name == "log" and isinstance(inside, Sum):
        parts = [logarithm(term) for term in inside.summands] if min(inside.signs) > 0 else []
        if parts and None not in parts and not any(map(planner.scores, inside.summands)):
            slots = tuple(_value(part, planner, env) for part in parts if part is not None)
            return planner.combine("logaddexp", slots, _log_sum, text=text(node, planner.labels))
    function: Callable[[Any], Tensor] = {"exp": torch.exp, "log": torch.log, "abs": torch.abs}[node.name]

    def build() -> Slot:
        operand = _value(node.operand, planner, env)
        return planner.combine(node.name, (operand,), lambda a: function(torch.as_tensor(a)), text=text(node, planner.labels))

    return function_of(planner, build)


def _logarithm(body: Loss) -> Loss | None:
    """g where the body of an expectation is exp(g)."""
    if isinstance(body, Elementwise) and body.name == "exp":
        return body.operand
    return LogProb(body.p) if isinstance(body, Prob) else None


def _log_sum(first: Any, *rest: Any) -> Tensor:
    """log(exp a + exp b + ...): softplus does not overflow, and a mixture of densities is not 0."""
    total = torch.as_tensor(first)
    for term in rest:
        total = torch.logaddexp(total, torch.as_tensor(term))
    return total


@lower.register
def _(node: Detach, planner: Planner, env: Env) -> Slot:
    around = planner.around
    with nullcontext() if around is None else around.changed(False, around.left_out):
        operand = _value(node.operand, planner, env)
    return planner.combine(
        "detach", (operand,), lambda a: a.detach() if isinstance(a, Tensor) else a, text=text(node, planner.labels)
    )


@lower.register
def _(node: Clamp, planner: Planner, env: Env) -> Slot:
    low, high = node.low, node.high

    def build() -> Slot:
        operand = _value(node.operand, planner, env)
        return planner.combine(
            ("clamp", low, high), (operand,), lambda a: torch.as_tensor(a).clamp(low, high), text=text(node, planner.labels)
        )

    return function_of(planner, build)


@lower.register
def _(node: Extremum, planner: Planner, env: Env) -> Slot:
    function = torch.minimum if node.how == "min" else torch.maximum

    def run(first: Any, *rest: Any) -> Tensor:
        like = next((t for t in (first, *rest) if isinstance(t, Tensor)), torch.tensor(0.0))
        best = torch.as_tensor(first, dtype=like.dtype, device=like.device)
        for other in rest:
            best = function(best, torch.as_tensor(other, dtype=like.dtype, device=like.device))
        return best

    def build() -> Slot:
        return planner.combine(node.how, _independent(node.operands, planner, env), run, text=text(node, planner.labels))

    return function_of(planner, build)


@lower.register
def _(node: Reduce, planner: Planner, env: Env) -> Slot:
    around = planner.around
    if around is not None and around.left_out is not None:
        with around.changed(False, None):
            whole = _value(node.operand, planner, env)
        other = _value(node.operand, planner, env)
        if whole.batched and other != whole:
            return over_rows(planner, node.how, whole, other)
    slot = lower(node.operand, planner, env)
    if not slot.batched:
        return slot
    shown = ("-" if slot.negated else "") + text(node, planner.labels)
    if node.how == "mean":
        mean = planner.op(
            "reduce", "mean", (slot,), lambda t: t.mean(-1), slot.axes, batched=False, text=shown, note="over the batch"
        )
        return replace(mean, negated=slot.negated)

    def run(tensor: Tensor, batch: int) -> Tensor:
        return (tensor if tensor.shape[-1] == batch else tensor.expand(*tensor.shape[:-1], batch)).sum(-1)

    total = planner.op(
        "reduce", "sum", (slot,), run, slot.axes, batched=False, text=shown, note="over the batch", extra=(BATCH,)
    )
    return replace(total, negated=slot.negated)


@lower.register
def _(node: Function, planner: Planner, env: Env) -> Slot:
    slots = tuple(planner.read(name, env) for name in node.variables)
    axes = union(*(slot.axes for slot in slots))
    lined = tuple(planner.aligned(slot, axes) for slot in slots)
    leads = [len(slot.axes) for slot in lined]
    function, shown = node.function, text(node)

    def run(*values: Tensor) -> Tensor:
        folded, front = fold(list(values), leads)
        result = function(*folded)
        if not isinstance(result, Tensor):
            raise NetworkError(f"{shown} must return a tensor, got a {type(result).__name__}.")
        if result.shape != folded[0].shape[:1]:
            raise ShapeError(
                f"{shown} must return one number per batch element, shape ({folded[0].shape[0]},), got {shape_text(result.shape)}.\n"
                + (
                    "Sum over the event dimensions inside: .flatten(1).sum(1)."
                    if result.dim()
                    else f"What is one number for the whole batch is the same in every row: .expand(len({node.variables[0]}))."
                )
            )
        return result.unflatten(0, front) if len(front) > 1 else result

    return planner.op("function", id(function), lined, run, axes, text=shown, about=(function, node.name))
