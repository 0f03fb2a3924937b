"""How each kind of node is computed: a generic function over the nodes, in terms of the planner's ops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from probflow.distributions.values import fold
from probflow.errors import LossError, NetworkError, ShapeError
from probflow.inference.axes import Slot, union
from probflow.inference.closed_forms import has_entropy, kl_formula
from probflow.inference.estimators import score_logarithm, score_surrogate, weighted_sum
from probflow.inference.planner import Env, Planner
from probflow.inference.program import BATCH
from probflow.losses.arithmetic import Clamp, Detach, Elementwise, Extremum, Negative, Power, Product, Quotient, Reduce, Sum
from probflow.losses.change_of_variables import LogDet, NoiseLogProb
from probflow.losses.free import free_variables
from probflow.losses.node import Loss
from probflow.losses.probability import Entropy, Expectation, KullbackLeibler, LogProb, Prob
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
    return planner.op("constant", id(tensor), (), lambda: tensor.reshape(()), (), batched=False)


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
    )


@lower.register
def _(node: Expectation, planner: Planner, env: Env) -> Slot:
    return _expectation(node, node.f, planner, env, logarithmic=False)


def _expectation(node: Expectation, body_node: Loss, planner: Planner, env: Env, logarithmic: bool) -> Slot:
    """E_q[f], or log E_q[exp g] with `body_node` g, which is averaged in log space: exp(-1000) is 0, its logarithm is not."""
    q, inner = node.q, env
    used = free_variables(node.f)
    axes = planner.sample_axes(q, tuple(n for n in used if n not in q.var), node.sample_shape, env)
    sums: list[tuple[Slot, Any]] = []
    scores: list[Slot] = []
    for place in q.graph.order:
        factor = q.factors[place]
        factor.check_sampler()
        how = planner.choose(factor, node.sample_shape, node.estimator)
        if how == "enumerate":
            inner, log_weight, axis = planner.enumerate(factor, inner, asked=node.estimator == "enumerate")
            sums.append((log_weight, axis))
        else:
            inner, log_q = planner.draw(factor, inner, axes, how == "pathwise")
            if log_q is not None:
                scores.append(log_q)
    mine = [inner.bound[n] for n in q.var]
    inner = replace(
        inner,
        draws=env.draws.union(*(slot.draws for slot in mine)),
        axes=env.axes.union(*(slot.axes for slot in mine)),
    )
    body = lower(body_node, planner, inner)
    if logarithmic:
        body = planner.plain(body)
    scores = [log_q for log_q in scores if log_q.draws & body.draws]
    if not logarithmic:
        for log_q in scores:
            body = _scored(planner, body, log_q, axes)
    for log_weight, axis in reversed(sums):
        if axis in body.axes:
            body = _summed(planner, body, log_weight, axis, logarithmic)
    average = _averaged(planner, body, axes, text(node, planner.labels), logarithmic)
    if logarithmic:
        for log_q in scores:
            average = _scored_logarithm(planner, average, body, log_q, axes)
    return average


def _scored_logarithm(planner: Planner, average: Slot, body: Slot, log_q: Slot, axes: tuple[Any, ...]) -> Slot:
    """The same for log-mean-exp, a function of all samples together: all of their scores are weighted with its value."""
    full = union(body.axes, log_q.axes)
    samples = tuple(full.index(axis) for axis in axes if axis in body.axes)
    own = tuple(place for place, axis in enumerate(full) if axis not in average.axes and axis not in axes)
    dims, batched = len(full) + 1, body.batched

    def run(value: Tensor, cost: Tensor, log_prob: Tensor) -> Tensor:
        return score_logarithm(value, cost, log_prob, dims, samples, own, batched)

    slots = (average, planner.aligned(body, full), planner.aligned(log_q, full))
    return planner.op(
        "score", ("log", samples, own, batched), slots, run, average.axes, batched=batched,
        text="score-function gradient", note="unbiased, value unchanged",
    )  # fmt: skip


def _scored(planner: Planner, body: Slot, log_q: Slot, axes: tuple[Any, ...]) -> Slot:
    full = union(body.axes, log_q.axes)
    dims = tuple(full.index(axis) for axis in axes)
    batched = body.batched

    def run(cost: Tensor, log_prob: Tensor) -> Tensor:
        return score_surrogate(cost, log_prob, dims, batched)

    slots = (planner.aligned(body, full), planner.aligned(log_q, full))
    slot = planner.op(
        "score",
        (dims, batched),
        slots,
        run,
        full,
        batched=batched,
        text="score-function gradient",
        note="unbiased, value unchanged",
    )
    return replace(slot, negated=body.negated)


def _summed(planner: Planner, body: Slot, log_weight: Slot, axis: Any, logarithmic: bool) -> Slot:
    full = union(body.axes, log_weight.axes)
    dim = full.index(axis) - len(full) - (1 if body.batched else 0)
    rest = tuple(a for a in full if a != axis)
    if not body.batched:
        raise LossError(
            "A sum over the states of a finite variable cannot hold .mean() or .sum() over the batch: put them outside the expectation."
        )

    def run(weight: Tensor, cost: Tensor) -> Tensor:
        if cost.dim() < weight.dim():
            cost = cost.expand(weight.shape)
        if weight.dim() < cost.dim():
            weight = weight.expand(cost.shape)
        return (weight + cost).logsumexp(dim) if logarithmic else weighted_sum(weight, cost, dim)

    slots = (planner.aligned(log_weight, full), planner.aligned(body, full))
    slot = planner.op("sum", (dim, logarithmic), slots, run, rest, text=f"over the {axis.label}", note="exact")
    return replace(slot, negated=body.negated)


def _averaged(planner: Planner, body: Slot, axes: tuple[Any, ...], shown: str, logarithmic: bool) -> Slot:
    present = tuple(axis for axis in axes if axis in body.axes)
    if not present:
        return body
    dims = tuple(body.axes.index(axis) for axis in present)
    rest = tuple(axis for axis in body.axes if axis not in present)
    if not logarithmic:
        shown = f"-{shown}" if body.negated else shown
        slot = planner.op(
            "average", dims, (body,), lambda t: t.mean(dims), rest, batched=body.batched, text=shown, note="over the samples"
        )
        return replace(slot, negated=body.negated)
    count = math.log(math.prod(axis.size or 1 for axis in present))
    note = "log-mean-exp over the samples: a lower bound on the logarithm, biased for finitely many"
    return planner.op(
        "average",
        ("log", dims),
        (body,),
        lambda t: t.logsumexp(dims) - count,
        rest,
        batched=body.batched,
        text=f"log {shown}",
        note=note,
    )


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
    slots = _independent((node.numerator, node.denominator), planner, env)
    return planner.combine("quotient", slots, lambda a, b: a / b, text=text(node, planner.labels))


@lower.register
def _(node: Power, planner: Planner, env: Env) -> Slot:
    exponent = node.exponent
    if isinstance(exponent, Constant) and exponent.value in range(2, 17) and planner.samples(node.base):
        slots = _independent((node.base,) * int(exponent.value), planner, env)  # (E f)^2 = E f E f', two independent draws
        return planner.combine("product", slots, _multiply, text=text(node, planner.labels))
    slots = _independent((node.base, exponent), planner, env)
    return planner.combine("power", slots, lambda a, b: a**b, text=text(node, planner.labels))


@lower.register
def _(node: Negative, planner: Planner, env: Env) -> Slot:
    slot = lower(node.operand, planner, env)
    return replace(slot, negated=not slot.negated)


@lower.register
def _(node: Elementwise, planner: Planner, env: Env) -> Slot:
    inside = node.operand
    if node.name == "log" and isinstance(inside, Expectation):
        body = inside.f
        if isinstance(body, Elementwise) and body.name == "exp":
            return _expectation(inside, body.operand, planner, env, logarithmic=True)
        if isinstance(body, Prob):
            return _expectation(inside, LogProb(body.p), planner, env, logarithmic=True)
    if node.name == "log" and isinstance(inside, Prob):
        return planner.plain(planner.log_prob(inside.p, env))
    function: Callable[[Any], Tensor] = {"exp": torch.exp, "log": torch.log, "abs": torch.abs}[node.name]
    operand = _value(node.operand, planner, env)
    return planner.combine(node.name, (operand,), lambda a: function(torch.as_tensor(a)), text=text(node, planner.labels))


@lower.register
def _(node: Detach, planner: Planner, env: Env) -> Slot:
    operand = _value(node.operand, planner, env)
    return planner.combine(
        "detach", (operand,), lambda a: a.detach() if isinstance(a, Tensor) else a, text=text(node, planner.labels)
    )


@lower.register
def _(node: Clamp, planner: Planner, env: Env) -> Slot:
    low, high = node.low, node.high
    operand = _value(node.operand, planner, env)
    return planner.combine(
        ("clamp", low, high), (operand,), lambda a: torch.as_tensor(a).clamp(low, high), text=text(node, planner.labels)
    )


@lower.register
def _(node: Extremum, planner: Planner, env: Env) -> Slot:
    function = torch.minimum if node.how == "min" else torch.maximum

    def run(first: Any, *rest: Any) -> Tensor:
        like = next((t for t in (first, *rest) if isinstance(t, Tensor)), torch.tensor(0.0))
        best = torch.as_tensor(first, dtype=like.dtype, device=like.device)
        for other in rest:
            best = function(best, torch.as_tensor(other, dtype=like.dtype, device=like.device))
        return best

    return planner.combine(node.how, _independent(node.operands, planner, env), run, text=text(node, planner.labels))


@lower.register
def _(node: Reduce, planner: Planner, env: Env) -> Slot:
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
                "Sum over the event dimensions inside: .flatten(1).sum(1)."
            )
        return result.unflatten(0, front) if len(front) > 1 else result

    return planner.op("function", id(function), lined, run, axes, text=shown)
