"""Which costs a draw is answerable for: the score of a factor multiplies the terms downstream of its draw, and no others.

The others have nothing to do with it, and would only add noise (Schulman et al., arXiv:1506.05254; Ranganath et al., arXiv:1401.0118,
section 3.1).  What is downstream is known of every value of a plan: the draws that it depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from probflow.distributions.base import Factor
from probflow.errors import LossError
from probflow.inference.averages import summed
from probflow.inference.axes import Axes, Axis, Slot, union
from probflow.inference.estimators.rebar import rebar_surrogate
from probflow.inference.estimators.score import score_surrogate
from probflow.inference.estimators.vimco import score_logarithm
from probflow.inference.planner import Env, Planner
from probflow.losses.estimators import VIMCO, Canonical, Enumerate, Estimator, Rebar, Score, asked
from probflow.losses.node import Loss
from probflow.losses.probability import Expectation
from probflow.losses.scalars import Function
from probflow.losses.terms import Term, sum_of, terms_of
from probflow.losses.text import text


class DrawnLike(Protocol):
    """What is needed of a draw."""

    @property
    def factor(self) -> Factor: ...
    @property
    def how(self) -> Estimator: ...
    @property
    def slot(self) -> Slot: ...
    @property
    def log_q(self) -> Slot | None: ...


@dataclass(frozen=True)
class Costs:
    """The body of an expectation, which can be taken apart."""

    node: Expectation
    body_node: Loss
    body: Slot
    env: Env
    axes: Axes
    lower: Callable[[Loss, Planner, Env], Slot]
    sums: list[tuple[Slot, Axis]] = field(default_factory=list)
    """The sums over states below the draw at hand, innermost first."""

    def settled(self, planner: Planner, cost: Slot) -> Slot:
        """A cost, averaged over the states of what is summed below the draw."""
        for log_weight, axis in self.sums:
            if axis in cost.axes:
                cost = summed(planner, cost, log_weight, axis, False)
        return cost

    def of(self, planner: Planner, draw: int) -> tuple[Loss, Slot | None]:
        """The terms downstream of a draw, and their sum; None for all of them, where it makes no difference."""
        terms = terms_of(self.body_node, frozenset(self.node.q.var))
        if len(terms) > 1:
            downstream = [t for t in terms if draw in self.lower(_alone(t), planner, self.env).draws]
            if 0 < len(downstream) < len(terms):
                loss = sum_of(downstream)
                slot = self.lower(loss, planner, self.env)
                if slot.batched == self.body.batched:
                    return loss, self.settled(planner, slot)
        return self.body_node, None


def _alone(term: Term) -> Loss:
    return replace(term, number=1.0, scalars=()).loss()[1]


def enumerated(estimator: Canonical, factor: Factor) -> bool:
    """Whether the author asked for the sum over the states of `factor`."""
    return isinstance(asked(estimator, factor.var), Enumerate)


def _log_q(draw: DrawnLike) -> Slot:
    if draw.log_q is None:
        raise LossError(f"{draw.factor.statement} was drawn without its log-density.")
    return draw.log_q


def scored(planner: Planner, body: Slot, costs: Costs, draw: DrawnLike) -> Slot:
    """`body` with the score of one draw, times the costs downstream of it."""
    log_q, axes = _log_q(draw), costs.axes
    _, part = costs.of(planner, draw.slot.index)
    cost = body if part is None else part
    baseline = draw.how.baseline if isinstance(draw.how, Score) else "leave-one-out"
    given = _given(planner, baseline, costs, draw) if isinstance(baseline, Function) else None
    whole = part is None and given is None
    if not whole:
        body, cost = planner.plain(body), planner.plain(cost)
    full = union(body.axes, cost.axes, log_q.axes, *((given.axes,) if given is not None else ()))
    dims = tuple(full.index(axis) for axis in axes)
    batched, kind = cost.batched, baseline if isinstance(baseline, str) else "given"

    def run_whole(value: Tensor, log_prob: Tensor) -> Tensor:
        return score_surrogate(value, value, log_prob, dims, batched, kind)

    def run(value: Tensor, cost: Tensor, log_prob: Tensor, given: Tensor | None = None) -> Tensor:
        return score_surrogate(value, cost, log_prob, dims, batched, kind, given)

    parts = (body, log_q) if whole else (body, cost, log_q) if given is None else (body, cost, log_q, given)
    slot = planner.op(
        "score",
        (dims, batched) if kind == "leave-one-out" else (dims, batched, kind),
        tuple(planner.aligned(part, full) for part in parts),
        run_whole if whole else run,
        full,
        batched=body.batched,
        text="score-function gradient" if part is None else f"score-function gradient of {', '.join(draw.factor.var)}",
        note="unbiased, value unchanged",
    )
    return replace(slot, negated=body.negated)


def _given(planner: Planner, baseline: Function, costs: Costs, draw: DrawnLike) -> Slot:
    """A baseline of named variables, which must be known before the draw; its own gradient ends at them."""
    q, names = costs.node.q, baseline.variables
    slots = {name: planner.read(name, costs.env) for name in names}
    late = [name for name, slot in slots.items() if draw.slot.index in slot.draws]
    if late:
        raise LossError(
            f"The baseline {text(baseline)} of {draw.factor.statement} depends on {', '.join(late)}, which is drawn with or after "
            f"{', '.join(draw.factor.var)}: the gradient would be biased.\n"
            f"It may depend on {', '.join(q.cond_var) or 'the data'} and on what is drawn before."
        )
    if not costs.body.batched:
        raise LossError(
            f"The baseline {text(baseline)} is one number per batch element, but {text(costs.body_node)} is one number.\n"
            "Put .mean() or .sum() outside the expectation."
        )
    cut = {
        name: planner.op("combine", "detach", (slot,), lambda t: t.detach(), slot.axes, text=f"detach({name})")
        for name, slot in slots.items()
    }
    return costs.lower(baseline, planner, replace(costs.env, bound={**costs.env.bound, **cut}))


def rebar_scored(planner: Planner, body: Slot, costs: Costs, draw: DrawnLike) -> Slot:
    """`body` with the score of one draw and its relaxed control variate: the costs at the state, and at two relaxed values."""
    log_q, how = _log_q(draw), draw.how
    if not isinstance(how, Rebar):
        raise LossError(f"{draw.factor.statement} was not drawn for rebar.")
    (name,) = draw.factor.var
    q = costs.node.q
    below = [n for n in q.var if n != name and draw.slot.index in costs.env.bound[n].draws]
    if below:
        verb = "is" if len(below) == 1 else "are"
        raise LossError(
            f"estimator='rebar' moves {name} between its states, but {', '.join(below)} {verb} drawn given the state of {name}.\n"
            f"Ask for 'score' for {name}: estimator={{{name!r}: 'score'}}."
        )
    if not body.batched:
        raise LossError("estimator='rebar' needs one cost per batch element: put .mean() or .sum() outside the expectation.")
    loss, part = costs.of(planner, draw.slot.index)
    relaxed = []
    for place in (1, 2):
        item = planner.op("item", place, (draw.slot,), lambda values, place=place: values[place], draw.slot.axes)
        planner.relaxed.add(item.index)
        moved = costs.lower(loss, planner, replace(costs.env, bound={**costs.env.bound, name: item}))
        relaxed.append(costs.settled(planner, moved))
    parts = [*map(planner.plain, (body, body if part is None else part, *relaxed)), log_q]
    full = union(*(part.axes for part in parts))
    dims, eta = tuple(full.index(axis) for axis in costs.axes), how.eta

    def run(value: Tensor, cost: Tensor, soft: Tensor, given: Tensor, log_prob: Tensor) -> Tensor:
        return rebar_surrogate(value, cost, soft, given, log_prob, dims, eta)

    return planner.op(
        "score", ("rebar", dims, eta), tuple(planner.aligned(part, full) for part in parts), run, full,
        text=f"score-function gradient of {name}", note=f"{how}: unbiased, value unchanged",
    )  # fmt: skip


def log_scored(planner: Planner, average: Slot, body: Slot, draw: DrawnLike, axes: Axes) -> Slot:
    """The same for log-mean-exp, a function of all samples together: all of their scores are weighted with its value."""
    log_q, how = _log_q(draw), draw.how
    full = union(body.axes, log_q.axes)
    samples = tuple(full.index(axis) for axis in axes if axis in body.axes)
    own = tuple(place for place, axis in enumerate(full) if axis not in average.axes and axis not in axes)
    dims, batched = len(full) + 1, body.batched
    none = isinstance(how, Score) and how.baseline == "none"
    baseline = how.mean if isinstance(how, VIMCO) else "none" if none else "arithmetic"

    def run(value: Tensor, cost: Tensor, log_prob: Tensor) -> Tensor:
        return score_logarithm(value, cost, log_prob, dims, samples, own, batched, baseline)

    slots = (average, planner.aligned(body, full), planner.aligned(log_q, full))
    key = ("log", samples, own, batched)
    return planner.op(
        "score", key if baseline == "arithmetic" else (*key, baseline), slots, run, average.axes, batched=batched,
        text="score-function gradient", note=f"{'' if none else 'VIMCO: '}unbiased, value unchanged",
    )  # fmt: skip
