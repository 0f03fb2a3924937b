"""How an expectation is computed: its draws and sums, its terms, and the surrogates that give its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from probflow.distributions.base import Factor
from probflow.errors import LossError
from probflow.inference.averages import averaged, eliminated, summed
from probflow.inference.axes import Axes, Axis, Slot
from probflow.inference.credit import Costs, enumerated, log_scored, rebar_scored, scored
from probflow.inference.estimators import sampler_for
from probflow.inference.estimators.dreg import double_reparameterisation
from probflow.inference.fixed import fixed_log_prob
from probflow.inference.hand_written import warn_of_hand_written_scores
from probflow.inference.nonlinear import Around, Waiting, without_own
from probflow.inference.planner import Env, Planner
from probflow.losses.estimators import NAMED, STL, VIMCO, DReG, Enumerate, Estimator, Rebar, Score
from probflow.losses.free import free_variables
from probflow.losses.node import Loss
from probflow.losses.probability import Expectation, LogProb
from probflow.losses.terms import Term, terms_of
from probflow.losses.text import text

Lower = Callable[[Loss, Planner, Env], Slot]
"""The slot of an expression: ``probflow.inference.lower``."""


@dataclass(frozen=True)
class Drawn:
    """A factor that was drawn: how, in which slot, and log q of what was drawn where its gradient is needed."""

    factor: Factor
    how: Estimator
    slot: Slot
    log_q: Slot | None


def expectation(node: Expectation, body_node: Loss, planner: Planner, env: Env, logarithmic: bool, lower: Lower) -> Slot:
    """E_q[f], or log E_q[exp g] with `body_node` g, which is averaged in log space: exp(-1000) is 0, its logarithm is not."""
    q, inner = node.q, env
    used = free_variables(node.f)
    axes = planner.sample_axes(q, tuple(n for n in used if n not in q.var), node.sample_shape, env)
    steps: list[Drawn | tuple[Slot, Axis]] = []
    for place in q.graph.order:
        factor = q.factors[place]
        factor.check_sampler()
        how = planner.choose(factor, node.sample_shape, node.estimator)
        if isinstance(how, Enumerate):
            inner, log_weight, axis = planner.enumerate(factor, inner, asked=enumerated(node.estimator, factor))
            steps.append((log_weight, axis))
            continue
        if planner.around is not None and isinstance(how, (STL, DReG)):  # only in a sum is what they leave out 0 on average
            how = NAMED["pathwise"]
        inner, slot = planner.draw(factor, inner, axes, sampler_for(how))
        log_q = planner.plain(planner.factor_log_prob(factor, inner)) if isinstance(how, (Score, VIMCO, Rebar)) else None
        steps.append(Drawn(factor, how, slot, log_q))
    mine = [inner.bound[n] for n in q.var]
    inner = replace(
        inner,
        draws=env.draws.union(*(slot.draws for slot in mine)),
        axes=env.axes.union(*(slot.axes for slot in mine)),
    )
    drawn = [step for step in steps if isinstance(step, Drawn)]
    _check(node, drawn, len(drawn) < len(steps), logarithmic)
    fixed = [d.factor for d in drawn if isinstance(d.how, (STL, DReG))]
    around = planner.around
    without = around is not None and around.leaves_out(axes) and any(d.log_q is not None for d in drawn)
    if around is not None and without:
        with around.changed(False, None):  # each draw is left out with all that depends on it
            body = lower(body_node, planner, inner)
    elif fixed:
        body = _fixed_body(node, body_node, planner, inner, axes, fixed, logarithmic, lower)
    else:
        body = lower(body_node, planner, inner)
    if logarithmic:
        body = planner.plain(body)
    if logarithmic and not drawn and len(steps) > 1:
        return averaged(
            planner, _eliminated(body_node, body, planner, inner, steps, lower), axes, text(node, planner.labels), True
        )
    costs = Costs(node, body_node, body, inner, axes, lower)
    for step in reversed(steps):  # the cost of a draw is averaged over what is summed below it: q(y|z) depends on z
        if not isinstance(step, Drawn):
            log_weight, axis = step
            if axis in body.axes:
                body = summed(planner, body, log_weight, axis, logarithmic)
            costs.sums.append(step)
        elif step.log_q is not None and step.slot.index in costs.body.draws and around is not None:
            _wait(around, node, step, axes, costs.body.batched)
        elif step.log_q is not None and step.slot.index in costs.body.draws and not logarithmic:
            warn_of_hand_written_scores(node, step.factor, planner.labels)
            body = (
                rebar_scored(planner, body, costs, step) if isinstance(step.how, Rebar) else scored(planner, body, costs, step)
            )
    if without and body.batched:
        return without_own(planner, planner.plain(body), axes, logarithmic)
    average = averaged(planner, body, axes, text(node, planner.labels), logarithmic)
    if logarithmic and around is None:
        for d in drawn:
            if d.log_q is not None and d.slot.index in costs.body.draws:
                average = log_scored(planner, average, body, d, axes)
    return average


def _wait(around: Around, node: Expectation, drawn: Drawn, axes: Axes, rows: bool) -> None:
    """The score of a draw is left to the nonlinear function around."""
    how, name = drawn.how, ", ".join(drawn.factor.var)
    if isinstance(how, Rebar) or (isinstance(how, Score) and not isinstance(how.baseline, str)):
        raise LossError(
            f"estimator={how} is for a sum of expectations, not for a nonlinear function of E_{node.q.statement}.\nAsk for 'score'."
        )
    if drawn.log_q is not None:
        centred = not (isinstance(how, Score) and how.baseline == "none")
        around.add(Waiting(name, drawn.slot.index, drawn.log_q, axes, centred, rows))


def _check(node: Expectation, drawn: list[Drawn], summed: bool, logarithmic: bool) -> None:
    """Estimators that are for the logarithm of a mean, or not for it."""
    many = math.prod(node.sample_shape) > 1
    for d in drawn:
        name, where = f"estimator={d.how.name!r}", f"{'log ' if logarithmic else ''}E_{node.q.statement}"
        if isinstance(d.how, VIMCO) and not (logarithmic and many):
            raise LossError(
                f"{name} is for log(E(q, sample_shape=[K])[exp(f)]) with K > 1, such as IWAE(p, q, samples=K); "
                f"{where} has {'one sample' if logarithmic else 'no logarithm'}.\nAsk for 'score'."
            )
        if isinstance(d.how, STL) and logarithmic and (many or summed):
            raise LossError(
                f"{name} is biased in the logarithm of a mean: its gradient would not be that of {where}[...].\n"
                "Ask for 'dreg', which is the same idea without the bias."
            )
        if isinstance(d.how, Rebar) and logarithmic:
            raise LossError(f"{name} is for E(q)[f], not for its logarithm.\nAsk for {'vimco' if many else 'score'!r}.")
        if isinstance(d.how, Score) and logarithmic and not isinstance(d.how.baseline, str):
            raise LossError(
                f"{where}: Score(baseline={d.how.baseline}) is for E(q)[f], not for its logarithm.\n"
                f"Ask for {'vimco' if many else 'score'!r}."
            )
    double = [d for d in drawn if isinstance(d.how, DReG)]
    if logarithmic and double and (summed or len(double) < len(drawn)):
        raise LossError(
            f"estimator='dreg' is for all variables of {node.q.statement} together, and they must be reparameterised: it weighs the "
            "gradient through the whole draw.\nAsk for 'pathwise' per variable."
        )


def _eliminated(
    body_node: Loss, body: Slot, planner: Planner, env: Env, steps: list[Drawn | tuple[Slot, Axis]], lower: Lower
) -> Slot:
    """log Σ exp of the body over finite variables alone, term by term."""
    states = [step for step in steps if not isinstance(step, Drawn)]
    slots = []
    for term in terms_of(body_node, frozenset(name for name in env.bound)):
        slot = lower(replace(term, number=abs(term.number)).loss()[1], planner, env)
        slots.append(replace(slot, negated=slot.negated != (term.number < 0)))
    if any(
        not slot.batched and slot.axes for slot in slots
    ):  # a mean over the batch inside: of the sum of all terms, or refused
        slots = [body]
    return eliminated(planner, slots, states)


# ---------------------------------------------------------------------- terms with log q held fixed


def _fixed_body(
    node: Expectation,
    body_node: Loss,
    planner: Planner,
    env: Env,
    axes: Axes,
    fixed: list[Factor],
    logarithmic: bool,
    lower: Lower,
) -> Slot:
    """The body, with log q of the `fixed` factors as a function of the draw alone where it is a term.

    Inside a nonlinear function it is left alone: only E_q[a ∇ log q], with a constant a, is 0.
    """
    terms = terms_of(body_node, frozenset(node.q.var))
    double = logarithmic and math.prod(node.sample_shape) > 1
    found = {id(factor): [t for t in terms if _is_log_of(t, factor)] for factor in fixed}
    inside = env
    if double:
        views = {
            name: planner.op("view", id(node), (env.bound[name],), lambda t: t.view_as(t), env.bound[name].axes)
            for name in node.q.var
        }
        inside = replace(env, bound={**env.bound, **views})
    slots = []
    for term in terms:
        factor = next((f for f in fixed if term in found[id(f)]), None)
        if factor is None:
            slots.append(lower(replace(term, number=abs(term.number)).loss()[1], planner, inside))
            continue
        slot = fixed_log_prob(planner, factor, inside)
        times = [lower(s, planner, inside) for s in term.scalars]
        times += [planner.constant(abs(term.number))] if abs(term.number) != 1 else []
        slots.append(planner.combine("product", (*map(planner.plain, times), slot), _multiply) if times else slot)
    signs = tuple(-1 if term.number < 0 else 1 for term in terms)
    body = (
        planner.signed_sum(signs, tuple(slots), text(body_node, planner.labels)) if len(terms) > 1 or signs[0] < 0 else slots[0]
    )
    if not double:
        return body
    powers = {_power(node, factor, found[id(factor)]) for factor in fixed}
    if len(powers) > 1:
        raise LossError(
            f"estimator='dreg' needs the logarithm of every factor of {node.q.statement} with the same coefficient, as in "
            f"exp(log p - log q); got {', '.join(f'{p:g}' for p in sorted(powers))} in {text(body_node)}."
        )
    return _doubly(node, planner, planner.plain(body), tuple(views.values()), axes, powers.pop())


def _is_log_of(term: Term, factor: Factor) -> bool:
    if not isinstance(term.node, LogProb) or len(term.node.p.factors) != 1:
        return False
    (other,) = term.node.p.factors
    return other.origin is factor.origin and other.statement == factor.statement


def _power(node: Expectation, factor: Factor, terms: list[Term]) -> float:
    """c of exp(... - c log q)."""
    if any(term.scalars for term in terms):
        raise LossError(
            f"estimator='dreg' needs a number in front of log {factor.statement}, not a named or trained coefficient: {text(node)}.\n"
            "Ask for 'pathwise'."
        )
    return -sum(term.number for term in terms)


def _doubly(node: Expectation, planner: Planner, body: Slot, views: tuple[Slot, ...], axes: Axes, power: float) -> Slot:
    if not body.batched or any(view.axes != body.axes for view in views):
        raise LossError(
            f"estimator='dreg' cannot weigh the draws of {node.q.statement} one by one: inside there is a mean over the batch, or "
            "something that has sample dimensions which the draws have not.\nAsk for 'pathwise'."
        )
    samples = tuple(body.axes.index(axis) for axis in axes)

    def run(log_weight: Tensor, *draws: Tensor) -> Tensor:
        return double_reparameterisation(log_weight, draws, samples, power)

    return planner.op(
        "weigh", ("dreg", samples, power), (body, *views), run, body.axes,
        text="gradient through the draws", note="doubly reparameterised: unbiased, value unchanged",
    )  # fmt: skip


def _multiply(a: Any, *rest: Any) -> Any:
    for b in rest:
        a = a * b
    return a
