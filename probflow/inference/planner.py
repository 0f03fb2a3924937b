"""From an expression to a program: one visit per node, one op per distinct computation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from probflow._typing import Names, Shape
from probflow.distributions import Distribution
from probflow.distributions.base import Factor
from probflow.distributions.bound import Bound
from probflow.errors import LossError
from probflow.inference.axes import Axes, Axis, Slot, align, align_bound, missing_depths, union, widen
from probflow.inference.batch_groups import Fixed, grouped, row_sources
from probflow.inference.estimators import EVERY_STATE, FEW_STATES, MANY_STATES, MOST_STATES, Sampler, TooManyStates, choose
from probflow.inference.estimators.relaxed import relaxable, relaxed_log_prob
from probflow.inference.ops import Density, Draw, Item
from probflow.inference.program import BATCH, Info, Program, Read, Step, needed
from probflow.inference.totals import SUM
from probflow.losses.estimators import VIMCO, Canonical, Enumerate, Estimator, Rebar, Score
from probflow.losses.labels import Labels
from probflow.losses.node import Loss, children
from probflow.losses.probability import Expectation

if TYPE_CHECKING:
    from probflow.inference.nonlinear import Around


@dataclass(frozen=True)
class Env:
    """Which names are bound to which slots, and in which stream of randomness new draws are made.

    `draws` and `axes` are those of the enclosing expectations, also where an inner one has taken over the name: what is drawn
    or summed inside must not be tied to them.
    """

    bound: Mapping[str, Slot]
    stream: tuple[int, ...] = ()
    draws: frozenset[int] = frozenset()
    axes: frozenset[Axis] = frozenset()
    states: tuple[Slot, ...] = ()
    """The variables that are summed over here, each with all its states."""

    def branch(self, place: int) -> Env:
        """For one of several arguments that draw independently.  The first one draws what stands alone elsewhere."""
        return replace(self, stream=(*self.stream, place))

    @property
    def path(self) -> tuple[int, ...]:
        """The stream, where first arguments of first arguments are the same stream."""
        end = len(self.stream)
        while end and self.stream[end - 1] == 0:
            end -= 1
        return self.stream[:end]


@dataclass(frozen=True)
class _Path:
    """A pathwise draw of a flow: its slot, what it was drawn from, and how it is drawn together with its log-density."""

    slot: Slot
    bound: int
    run: Callable[..., tuple[Tensor, ...]]


class Planner:
    """Collects ops; equal ops (same function, same arguments) are one op."""

    def __init__(self, loss: Loss, leads: Mapping[str, int], batched_numbers: frozenset[str], too_many: frozenset[int]) -> None:
        self.labels = Labels(loss)
        self.leads, self.batched_numbers, self.too_many = leads, batched_numbers, too_many
        self.steps: list[Step] = []
        self.reads: dict[str, Read] = {}
        self.size = 1  # slot 0 holds the batch size
        self._ops: dict[Any, Slot] = {}
        self._dense: dict[int, Callable[..., Bound]] = {}
        self._axes: dict[Any, Axis] = {}
        self._samples: dict[Loss, bool] = {}
        self.fixed: dict[str, Fixed] = {}  # values given at construction, by statement
        self.drawn: dict[str, tuple[int, int, int]] = {}
        self._items: dict[int, tuple[int, int]] = {}  # slot of a drawn value -> (slot of the draw, place)
        self._paths: dict[int, _Path] = {}  # slot of a pathwise draw -> how its log-density is had along the way
        self._along: set[int] = set()  # slots of the log-densities had that way
        self.relaxed: set[int] = set()  # slots of values between the states of a finite variable
        self.around: Around | None = None  # the nonlinear function that is being planned

    # ------------------------------------------------------------------ ops

    def op(
        self,
        kind: str,
        key: object,
        args: tuple[Slot, ...],
        run: Callable[..., Any],
        axes: Axes,
        *,
        batched: bool = True,
        text: str = "",
        note: str = "",
        extra: tuple[int, ...] = (),
        fresh: bool = False,
        about: tuple[Any, ...] = (),
        total: Callable[..., Any] | None = None,
        like: Slot | None = None,
    ) -> Slot:
        """The slot of this op; `extra` are plain slots (the batch size) passed after the arguments; `fresh` marks a draw.

        `about`: the factors, the function or the tensor behind it, for those who read the plan.  `total`: see `Step`; `like`: see
        `Info`.
        """
        full = (kind, key, tuple(a.index for a in args), extra, None if like is None else like.index)
        slot = self._ops.get(full)
        if slot is None:
            index = self._new()
            draws = frozenset().union(*(a.draws for a in args)) | ({index} if fresh else frozenset())
            slot = self._ops[full] = Slot(index, axes, batched, draws)
            info = Info(key, args, axes, batched, about, like)
            self.steps.append(Step(kind, tuple(a.index for a in args) + extra, index, run, text, note, info, total))
        return slot

    def _new(self) -> int:
        self.size += 1
        return self.size - 1

    def axis(self, key: object, label: str, size: int | None, enumerated: bool = False) -> Axis:
        """The axis with this meaning; a new one stands outside all others."""
        if key not in self._axes:
            self._axes[key] = Axis(len(self._axes), label, size, enumerated)
        return self._axes[key]

    def constant(self, value: float) -> Slot:
        """A number."""
        return self.op("constant", (type(value), value), (), lambda: value, (), batched=False)

    def read(self, name: str, env: Env) -> Slot:
        """A variable: what it is bound to, else a free variable of the loss."""
        if name in env.bound:
            return env.bound[name]
        lead = self.leads.get(name, 0)
        axes = tuple(self.axis(("given", i), "given", None) for i in range(lead))
        if name not in self.reads:
            self.reads[name] = Read(name, self._new(), lead)
        return Slot(self.reads[name].slot, union(axes))

    def number(self, name: str) -> Slot:
        """A named parameter: one number, or one per batch element."""
        if name not in self.reads:
            self.reads[name] = Read(name, self._new(), 0, number=True)
        return Slot(self.reads[name].slot, (), name in self.batched_numbers)

    def has_rows(self, slot: Slot) -> bool:
        """Whether there is one number per batch element of something; a constant is one for all batches."""
        return any(True for _ in row_sources(slot, self.steps, {entry.slot for entry in self.fixed.values()}))

    def aligned(self, slot: Slot, axes: Axes) -> Slot:
        """The slot's tensor lined up with `axes`."""
        depths = missing_depths(slot.axes, axes)
        if not depths:
            return slot
        lead = len(slot.axes)
        if not slot.batched:  # a number per sample: no batch dimension to count from

            def run(value: Tensor) -> Tensor:
                return align(value.unsqueeze(-1), lead, depths).squeeze(-1)
        else:

            def run(value: Tensor) -> Tensor:
                return align(value, lead, depths)

        full = union(slot.axes, tuple(a for a in axes if a.order < slot.axes[0].order))
        return replace(self.op("align", depths, (slot,), run, full, batched=slot.batched))

    def plain(self, slot: Slot) -> Slot:
        """The value itself where the slot holds its negative."""
        if not slot.negated:
            return slot
        return self.op(
            "combine", "negative", (replace(slot, negated=False),), _negative, slot.axes, batched=slot.batched, text="times -1"
        )

    def combine(self, key: object, slots: tuple[Slot, ...], run: Callable[..., Any], text: str = "") -> Slot:
        """An elementwise op on aligned values."""
        axes = union(*(slot.axes for slot in slots))
        batched = any(slot.batched for slot in slots)
        lined = []
        for slot in slots:
            aligned = self.aligned(slot, axes)
            if batched and not slot.batched and slot.axes:
                aligned = self.op("align", "batch", (aligned,), lambda t: t.unsqueeze(-1), aligned.axes)
            lined.append(aligned)
        return self.op("combine", key, tuple(lined), run, axes, batched=batched, text=text)

    # ------------------------------------------------------------------ distributions

    def bind(self, factor: Factor, env: Env) -> Slot:
        """Its parameters at the current values: once per (weights, inputs)."""
        inputs = tuple(self.read(name, env) for name in factor.cond_var)
        axes = union(*(slot.axes for slot in inputs))
        lined = tuple(self.aligned(slot, axes) for slot in inputs)
        leads = tuple(len(slot.axes) for slot in lined)
        run = factor.binder(leads)
        label = self.labels.text(factor)
        slot = self.op(
            "params", id(factor.origin), lined, run, axes, text=label, note=factor.describe().split("\n")[0], about=(factor,)
        )
        if factor.fixed_batch is not None:
            self.fixed.setdefault(label, Fixed(factor.fixed_batch, slot.index))
        self._dense[slot.index] = factor.binder(leads, dense=True)
        return slot

    def log_prob(self, p: Distribution, env: Env) -> Slot:
        """log p at the current values: the sum over factors."""
        slots = tuple(self.factor_log_prob(factor, env) for factor in p.factors)
        return slots[0] if len(slots) == 1 else self.signed_sum((1,) * len(slots), slots, f"log {self.labels.text(p)}")

    def signed_sum(self, signs: tuple[int, ...], slots: tuple[Slot, ...], text: str) -> Slot:
        """+a - b + c, starting with a positive term if there is one; where there is none, the negative of the sum."""
        real = [-sign if slot.negated else sign for sign, slot in zip(signs, slots, strict=True)]
        negated = all(sign < 0 for sign in real)
        if negated:
            real = [1] * len(real)
        first = real.index(1)
        order = [first, *(i for i in range(len(real)) if i != first)]
        later = tuple(real[i] for i in order[1:])
        plain = tuple(replace(slots[i], negated=False) for i in order)
        shown = f"-({text})" if negated else text
        return replace(self.combine((SUM, later), plain, _signed(later), text=shown), negated=negated)

    def factor_log_prob(self, factor: Factor, env: Env) -> Slot:
        """The log-density of one factor."""
        bound = self.bind(factor, env)
        values = tuple(self.read(name, env) for name in factor.var)
        if self.relaxed and any(value.index in self.relaxed for value in values):
            return self._relaxed_log_prob(factor, bound, values)
        drawn = self._drawn_from(bound, values) if factor.along_the_draw else None
        if drawn is not None:
            first = len(values)
            shown = f"log {self.labels.text(factor)}"
            return self._along_draw(drawn, factor, "along", lambda parts: _total(parts[first:]), shown)
        factor.check_density()
        axes = union(bound.axes, *(slot.axes for slot in values))
        bound = self._aligned_bound(bound, axes)
        lined = tuple(self.aligned(slot, axes) for slot in values)
        leads = tuple(len(slot.axes) for slot in lined)
        check = (
            any(not slot.draws and name not in env.bound for slot, name in zip(values, factor.var, strict=True)) or not values
        )

        negated = factor.prefers_negative

        density = Density(leads, check, negated)
        slot = self.op(
            "log_prob", check, (bound, *lined), density, axes, text=f"log {self.labels.text(factor)}", about=(factor,),
            note="a lower bound, in expectation" if factor.is_bound else "", total=density.total if negated and not axes else None,
        )  # fmt: skip
        return replace(slot, negated=negated)

    def _relaxed_log_prob(self, factor: Factor, bound: Slot, values: tuple[Slot, ...]) -> Slot:
        """The log-density at a value between the states: linear in it, so that it has a gradient there."""
        if not relaxable(factor):
            kind = factor.describe().split("\n")[0]
            raise LossError(
                f"log {factor.statement} ({kind}) has no meaning between the states of {', '.join(factor.var)}, where a relaxed "
                "estimator needs it.\nAsk for 'score' or 'enumerate'."
            )
        axes = union(bound.axes, values[0].axes)
        bound, value = self._aligned_bound(bound, axes), self.aligned(values[0], axes)
        lead = len(value.axes)
        return self.op(
            "log_prob", "relaxed", (bound, value), lambda dist, y: relaxed_log_prob(dist, y, lead), axes,
            text=f"log {self.labels.text(factor)}", note="linear between the states", about=(factor,),
        )  # fmt: skip

    def flow_term(self, factor: Factor, env: Env, place: int, shown: str) -> Slot:
        """log p_z(f⁻¹(x)), place 0, or log|det ∂f⁻¹/∂x|, place 1: both from one pass."""
        bound = self.bind(factor, env)
        values = tuple(self.read(name, env) for name in factor.var)
        drawn = self._drawn_from(bound, values)
        if drawn is not None:
            return self._along_draw(drawn, factor, ("along", place), lambda parts: parts[1 + place], shown)
        factor.check_density()
        axes = union(bound.axes, values[0].axes)
        bound, value = self._aligned_bound(bound, axes), self.aligned(values[0], axes)
        lead = len(value.axes)
        both = self.op(
            "inverse", None, (bound, value), lambda dist, x: dist.terms(x, lead), axes, text=f"of {factor.statement}",
            about=(factor,),
        )  # fmt: skip
        return self.op("item", place, (both,), Item(place), axes)

    def _along_draw(self, drawn: Slot, factor: Factor, key: object, run: Callable[..., Any], shown: str) -> Slot:
        """A part of the log-density of a draw, computed with the draw."""
        slot = self.op("log_prob", key, (drawn,), run, drawn.axes, text=shown, note="along its draw", about=(factor,))
        self._along.add(slot.index)
        return slot

    def _drawn_from(self, bound: Slot, values: tuple[Slot, ...]) -> Slot | None:
        """The draw that these are the values of, if they were drawn, pathwise, from this very distribution."""
        items = [self._items.get(value.index) for value in values]
        first = items[0] if items else None
        if first is None or items != [(first[0], place) for place in range(len(values))]:
            return None
        path = self._paths.get(first[0])
        return path.slot if path is not None and path.bound == bound.index else None

    def _aligned_bound(self, slot: Slot, axes: Axes) -> Slot:
        depths = missing_depths(slot.axes, axes)
        if not depths:
            return slot
        full = union(slot.axes, tuple(a for a in axes if a.order < slot.axes[0].order))
        return self.op("align", ("bound", depths), (slot,), lambda bound: align_bound(bound, depths), full)

    def two_bounds(self, kind: str, q: Factor, p: Factor, env: Env, run: Callable[..., Tensor], text: str, note: str) -> Slot:
        """An op on two distributions, such as a divergence; ``run(a, b, batch)`` is its sum over the batch."""
        a, b = self.bind(q, env), self.bind(p, env)
        axes = union(a.axes, b.axes)
        return self.op(
            kind, None, (self._aligned_bound(a, axes), self._aligned_bound(b, axes)), run, axes, text=text, note=note,
            about=(q, p), total=None if axes else run,
        )  # fmt: skip

    # ------------------------------------------------------------------ draws

    def enumerate(self, factor: Factor, env: Env, asked: bool) -> tuple[Env, Slot, Axis]:
        """All states of a finite factor along an axis of their own, and log q at each; `asked` if the author asked for it."""
        bound = self.bind(factor, env)
        key: tuple[Any, ...] = ("states", id(factor.origin), factor.var, bound.index)
        axis = self.axis(key, f"states of {', '.join(factor.var)}", None, True)
        while axis in env.axes:  # an expectation inside another one over the same variable sums over its own states
            key = (*key, "inner")
            axis = self.axis(key, axis.label, None, True)
        origin, lead = id(factor.origin), len(bound.axes)

        def run(dist: Bound, *others: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            states = dist.states(MOST_STATES if asked else FEW_STATES)
            if states is None and asked:
                raise LossError(
                    f"{dist.statement} has more than {MOST_STATES} states, or not the same ones for every element, so "
                    "estimator='enumerate' cannot sum over it.\nLeave estimator out, or ask for 'score'."
                )
            if states is None or (not asked and _combinations((*others, states)) > MANY_STATES):
                raise TooManyStates(origin)
            return tuple(s.reshape(s.shape[0], *s.shape[1 + dist.lead - lead :]) if dist.lead > lead else s for s in states)

        states = self.op(
            "states",
            (axis, asked),
            (bound, *env.states),
            run,
            union((axis,), bound.axes),
            text=", ".join(factor.var),
            note=f"{EVERY_STATE}, as asked" if asked else EVERY_STATE,
            about=(factor,),
        )
        new = dict(env.bound)
        for place, name in enumerate(factor.var):
            item = self.op("item", place, (states,), Item(place), union((axis,), bound.axes))
            new[name] = Slot(item.index, (axis, *bound.axes), True, item.draws)
        inner = replace(env, bound=new, states=(*env.states, states))
        return inner, self.plain(self.factor_log_prob(factor, inner)), axis

    def draw(self, factor: Factor, env: Env, sample_axes: Axes, sampler: Sampler) -> tuple[Env, Slot]:
        """One draw per batch element and sample, and the slot of all that was drawn."""
        bound = self.bind(factor, env)
        lacking = tuple(axis for axis in sample_axes if axis not in bound.axes)
        outer = tuple(axis for axis in lacking if not bound.axes or axis.order > bound.axes[0].order)
        axes = union(bound.axes, sample_axes)
        inner = tuple(d for d, axis in enumerate(reversed(axes)) if axis in lacking and axis not in outer)
        inner_sizes = tuple(list(reversed(axes))[d].size or 1 for d in inner)
        shape: Shape = tuple(axis.size or 1 for axis in axes if axis in outer)

        how, pathwise = sampler.run, sampler.pathwise

        def run(dist: Bound, batch: int) -> tuple[Tensor, ...]:
            return how(widen(dist, inner, inner_sizes), shape, batch)

        count = " x ".join(str(axis.size) for axis in sample_axes) or "1"
        names = ", ".join(factor.var)
        note = f"{count} per batch element, {sampler.note}"
        path = env.path
        while True:
            slot = self.op(
                "draw",
                (factor.var, axes, path, sampler.key),
                (bound,),
                Draw(shape) if pathwise and not inner else run,
                axes,
                extra=(BATCH,),
                fresh=True,
                text=f"{names} ~ {self.labels.text(factor)}",
                note=note + (", drawn independently" if path else ""),
                about=(factor,),
            )
            if slot.index not in env.draws:
                break
            path = (*path, -1)  # an expectation inside another one over the same variable draws its own
        if pathwise and factor.along_the_draw and slot.index not in self._paths:

            def along(dist: Bound, batch: int) -> tuple[Tensor, ...]:
                values, terms = widen(dist, inner, inner_sizes).draw_with_terms(shape, batch, True)
                return (*values, *terms)

            self._paths[slot.index] = _Path(slot, bound.index, along)
        new = dict(env.bound)
        for place, name in enumerate(factor.var):
            new[name] = self.op("item", place, (slot,), Item(place), axes)
            self._items[new[name].index] = (slot.index, place)
            self.drawn.setdefault(name, (slot.index, place, len(axes)))
            if sampler.relaxed:
                self.relaxed.add(new[name].index)
        return replace(env, bound=new), slot

    def sample_axes(self, q: Distribution, body: Names, sample_shape: Shape, env: Env) -> Axes:
        """The axes of an expectation's samples: of their own, unless nothing outside is involved."""
        involved = [env.bound[name] for name in (*q.cond_var, *body) if name in env.bound]
        level = 1 + max((axis.order for slot in involved for axis in slot.axes), default=-1) if involved else 0
        keys = [(level, sample_shape, place) for place in range(len(sample_shape))]
        made = [self.axis(("samples", *key), "samples", sample_shape[key[2]]) for key in reversed(keys)]
        return union(tuple(made))

    def choose(self, factor: Factor, sample_shape: Shape, estimator: Canonical) -> Estimator:
        """The estimator for one factor."""
        return choose(factor, sample_shape, estimator, self.too_many)

    def samples(self, node: Loss) -> bool:
        """Whether computing `node` draws anything of its own."""
        known = self._samples.get(node)
        if known is None:
            known = isinstance(node, Expectation) and any(
                not isinstance(self.choose(factor, node.sample_shape, node.estimator), Enumerate) for factor in node.q.factors
            )
            known = self._samples[node] = known or any(map(self.samples, children(node)))
        return known

    def scores(self, node: Loss) -> bool:
        """Whether the gradient of `node` has a score-function term."""
        here = isinstance(node, Expectation) and any(
            isinstance(self.choose(factor, node.sample_shape, node.estimator), (Score, VIMCO, Rebar))
            for factor in node.q.factors
        )
        return here or any(map(self.scores, children(node)))

    # ------------------------------------------------------------------ the whole

    def program(self, formula: str, outputs: Mapping[str, Slot], keep_draws: bool) -> Program:
        """The finished program."""
        outputs = {name: self.plain(slot) for name, slot in outputs.items()}
        drawn = self.drawn if keep_draws else {}
        steps = needed(self.steps, [*(slot.index for slot in outputs.values()), *(slot for slot, _, _ in drawn.values())])
        # parameters that enter a density: a wrong one shows in the result, and is not searched for before
        dense = {
            slot for step in steps if step.kind in ("log_prob", "kl", "entropy") for slot in step.args
        } & self._dense.keys()
        steps = tuple(replace(step, run=self._dense[step.out]) if step.out in dense else step for step in steps)
        along = {step.args[0] for step in steps if step.out in self._along}
        steps = tuple(replace(step, run=self._paths[step.out].run) if step.out in along else step for step in steps)
        reads = tuple(self.reads.values())
        steps, groups, batch_of = grouped(steps, reads, self.batched_numbers, self.fixed, self.steps, self._new)
        batched = frozenset(name for name, slot in outputs.items() if slot.batched)
        slots = {name: slot.index for name, slot in outputs.items()}
        if "" in batched and slots[""] in batch_of:  # a constant term of a loss with rows has as many
            batch_of |= {slots[name]: batch_of[slots[""]] for name in batched}
        return Program(formula, reads, steps, self.size, slots, drawn, batched, groups, batch_of)


def _combinations(variables: tuple[tuple[Tensor, ...], ...]) -> int:
    """The number of states of several variables together; a plain loop, which torch.compile can trace."""
    count = 1
    for states in variables:
        count *= states[0].shape[0]
    return count


def _total(parts: tuple[Tensor, ...]) -> Tensor:
    """The sum of a few tensors."""
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


def _negative(value: Any) -> Any:
    return -value


def _signed(later: tuple[int, ...]) -> Callable[..., Any]:
    """first + s_2 second + s_3 third + ..."""
    if later == (1,):
        return lambda a, b: a + b
    if later == (-1,):
        return lambda a, b: a - b

    def run(total: Any, *rest: Any) -> Any:
        for sign, value in zip(later, rest, strict=True):
            total = total + value if sign > 0 else total - value
        return total

    return run
