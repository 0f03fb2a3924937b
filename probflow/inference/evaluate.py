"""Losses with values: the value, its terms, the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from torch import Tensor

from probflow._typing import Inputs
from probflow.distributions import Distribution, Samples
from probflow.distributions.values import check_mapping
from probflow.inference.axes import Slot
from probflow.inference.derive import Derivation, derive
from probflow.inference.estimators import TooManyStates
from probflow.inference.lower import lower
from probflow.inference.planner import Env, Planner
from probflow.inference.program import BATCH, Program
from probflow.inference.simplify import simplified, simplify, top_terms
from probflow.losses import Loss, evaluation
from probflow.losses.arithmetic import Reduce
from probflow.losses.free import free_variables, modules
from probflow.losses.labels import Labels
from probflow.losses.node import intern, walk
from probflow.losses.probability import CrossEntropy, Entropy, KullbackLeibler
from probflow.losses.scalars import Parameter
from probflow.losses.text import text

NAMED = (KullbackLeibler, CrossEntropy, Entropy)
"""What a term is called after where it is typed, however it is computed."""

_Key = tuple[tuple[tuple[str, int], ...], frozenset[str], bool, bool]
_NOTHING: frozenset[str] = frozenset()


class _Plans:
    """The programs of one loss, by what they depend on besides the loss; and which factors turned out too large to sum over."""

    __slots__ = ("__weakref__", "numbers", "programs", "too_many", "usual", "value")

    def __init__(self, loss: Loss) -> None:
        self.numbers = tuple(dict.fromkeys(n.name for n in walk(loss) if isinstance(n, Parameter)))
        self.programs: dict[_Key, Program] = {}
        self.too_many: frozenset[int] = frozenset()
        self.set_usual(None)

    def set_usual(self, program: Program | None) -> None:
        """The program for plain dicts, where nothing else has to be looked up; `value` gives the loss by it."""
        self.usual = program
        self.value: Callable[[dict[str, Any]], Tensor | None] = _unknown if program is None else program.quick


def _unknown(values: dict[str, Any]) -> None:
    return None


def _plans(loss: Loss) -> _Plans:
    plans = cast("_Plans | None", loss._plans)
    if plans is None:
        plans = _Plans(loss)
        object.__setattr__(loss, "_plans", plans)  # goes when the loss goes
    return plans


def program_for(
    loss: Loss, values: Mapping[str, Any] | None = None, with_terms: bool = False, keep_draws: bool = False
) -> Program:
    """The program of `loss` for values like these, planned once."""
    plans = _plans(loss)
    if values.__class__ is dict and plans.usual is not None and not (with_terms or keep_draws):
        return plans.usual
    leads: tuple[tuple[str, int], ...] = ()
    numbers = _NOTHING
    if values is not None:
        if isinstance(values, Samples):
            leads = tuple((n, d) for n, d in values.sample_dims.items() if d)
        if plans.numbers:
            numbers = frozenset(n for n in plans.numbers if isinstance(values.get(n), Tensor) and values[n].dim())
    key = (leads, numbers, with_terms, keep_draws)
    program = plans.programs.get(key)
    if program is None:
        program = plans.programs[key] = make_program(loss, dict(leads), numbers, plans.too_many, with_terms, keep_draws)
        if not (leads or plans.numbers or with_terms or keep_draws):
            plans.set_usual(program)
    return program


def make_program(
    loss: Loss,
    leads: Mapping[str, int],
    numbers: frozenset[str],
    too_many: frozenset[int],
    with_terms: bool = False,
    keep_draws: bool = False,
) -> Program:
    """Simplify, plan, collect."""
    planner = Planner(loss, leads, numbers, too_many)
    env = Env({})
    simple = simplify(loss)
    outputs = {"": lower(simple, planner, env)}
    if all(read.number for read in planner.reads.values()):  # nothing is left that says the batch size
        named = {node.name for node in walk(loss) if isinstance(node, Parameter)}
        for name in free_variables(loss):
            if name not in named:
                planner.read(name, env)
    if with_terms:
        for _, shown, whole, term in shown_terms(loss, planner.labels):
            while shown in outputs:  # the same term twice is shown twice
                shown += " "
            outputs[shown] = _term(whole, term, planner, env)
    return planner.program(text(loss, planner.labels), outputs, keep_draws)


def shown_terms(loss: Loss, labels: Labels) -> Iterator[tuple[int, str, Reduce | None, Loss]]:
    """What is reported of a loss: its sign, how it is called, the reduction that it is inside, and what is computed for it.

    A divergence keeps the name that was typed, with its weight, also where it is estimated from its parts; a bound is reported in
    its parts.
    """
    for sign, whole, term in top_terms(loss):
        simple = simplify(term)
        parts = list(top_terms(simple))
        alone = len(parts) == 1 and parts[0][:2] == (1, None) and any(isinstance(node, NAMED) for node in walk(term))
        if alone or isinstance(term, NAMED):
            yield sign, text(term, labels), whole, simple
            continue
        for within, inner, part in parts:
            if whole is None:
                yield sign * within, text(part, labels), inner, part
            else:
                shown = part if inner is None else intern(Reduce, inner.how, part)
                yield sign * within, text(shown, labels), whole, shown


def _term(whole: Reduce | None, term: Loss, planner: Planner, env: Env) -> Slot:
    """One summand of a loss, reduced over the batch as the whole is: their signed sum is the value."""
    if whole is None:
        return lower(term, planner, env)
    slot = lower(intern(Reduce, whole.how, term), planner, env)
    if whole.how == "mean" or planner.has_rows(lower(term, planner, env)):
        return slot
    around = lower(whole.operand, planner, env)
    if not around.batched:
        return slot
    # a number among terms that have a batch is added once per row
    number = planner.plain(lower(intern(Reduce, "mean", term), planner, env))
    return planner.op(
        "reduce", "rows", (number,), lambda t, batch: t * batch, number.axes, batched=False, extra=(BATCH,), like=around
    )


def _run(loss: Loss, values: Inputs, with_terms: bool = False, keep_draws: bool = False) -> tuple[Program, list[Any]]:
    if values.__class__ is not dict and not isinstance(values, Mapping):
        check_mapping(values, str(loss), loss.input_var)
    while True:
        program = program_for(loss, values, with_terms, keep_draws)
        try:
            return program, program.run(values)
        except TooManyStates as found:
            _plan_anew(loss, found)


def _plan_anew(loss: Loss, found: TooManyStates) -> None:
    """A variable turned out too large to sum over: it will be drawn."""
    plans = _plans(loss)
    plans.too_many |= {found.origin}
    plans.programs.clear()
    plans.set_usual(None)


@evaluation.evaluate.register
def evaluate(loss: Loss, values: Inputs, return_dict: bool = False) -> Tensor | tuple[Tensor, Samples]:
    """The value of `loss`; with `return_dict` also the samples drawn."""
    program, slots = _run(loss, values, keep_draws=return_dict)
    value = program.value(slots)
    return (value, program.samples(slots)) if return_dict else value


def value_and_terms(loss: Loss, values: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
    """The value with its gradient, and every printed term detached, from one evaluation.

    >>> import torch
    >>> import probflow as pf
    >>> from probflow.inference import value_and_terms
    >>> q, p = pf.Normal("q(z | x)", loc="x", scale=1.0), pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=1)
    >>> value, terms = value_and_terms((2 * pf.KL(q, p)).mean(), {"x": torch.full((1, 1), 2.0)})
    >>> value.item(), {name: term.item() for name, term in terms.items()}
    (4.0, {'2 * KL[q(z|x) || p(z)]': 4.0})
    """
    program, slots = _run(loss, values, with_terms=True)
    shown = {name: program.value(slots, name).detach() for name in program.outputs if name}
    return program.value(slots), shown


@evaluation.terms.register
def terms(loss: Loss, values: Inputs) -> dict[str, Tensor]:
    """Every printed term with its value."""
    program, slots = _run(loss, values, with_terms=True)
    return {name: program.value(slots, name) for name in program.outputs if name}


@evaluation.plan.register
def plan(loss: Loss, values: Inputs | None = None) -> Program:
    """The program that computes `loss`; with example values also the shapes."""
    if values is None:
        return program_for(loss)
    if values.__class__ is not dict and not isinstance(values, Mapping):
        check_mapping(values, str(loss), loss.input_var)
    while True:
        try:
            return program_for(loss, values).with_example(values, modules(loss))
        except TooManyStates as found:
            _plan_anew(loss, found)


@evaluation.simplified.register
def shown(loss: Loss) -> Loss:
    """What is computed in place of `loss`; the value is the same."""
    return simplified(loss)


@evaluation.derivation.register
def derivation(loss: Loss, to: str | None, q: Distribution | None, samples: int) -> Derivation:
    """The steps from `loss` to what is computed, or to a bound."""
    return derive(loss, to, q, samples)
