"""Kullback-Leibler divergences and entropies in closed form: a table, looked up when planning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import kl as torch_kl

from probflow.checks import compiling, require
from probflow.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    ContinuousBernoulli,
    Family,
    Geometric,
    LogNormal,
    Normal,
    Parametric,
)
from probflow.distributions.base import Factor
from probflow.distributions.bound import Bound
from probflow.distributions.family import FamilyBound, Params, plain_number, sum_event
from probflow.errors import LossError, ShapeError
from probflow.inference.ops import WIDE, spread
from probflow.inference.steps import PartOfPlan
from probflow.printing import shape_text

Formula: TypeAlias = Callable[[Params, Params, int], Tensor]


def _normal(q: Params, p: Params, dims: int) -> Tensor:
    # log of the scales, not of their squares: a negative scale must give NaN, not a plausible number
    loc, scale = plain_number(p["loc"]), plain_number(p["scale"])
    distance = q["loc"] if isinstance(loc, float) and loc == 0 else q["loc"] - loc
    ratio = q["scale"]
    if not (isinstance(scale, float) and scale == 1):
        ratio, distance = ratio / scale, distance / scale
    excess = torch.add(ratio.log(), distance.square() + ratio.square(), alpha=-0.5)
    return torch.rsub(sum_event(excess, dims), -0.5 * math.prod(excess.shape[excess.dim() - dims :]))


def _weighted(prob: Tensor, log_ratio: Tensor) -> Tensor:
    """prob * log_ratio with 0 * inf = 0, in the value and in the gradient."""
    possible = prob > 0
    return torch.where(possible, prob * torch.where(possible, log_ratio, 0.0), 0.0)


def _bernoulli(q: Params, p: Params, dims: int) -> Tensor:
    return sum_event(_coin(q, p), dims)


def _coin(q: Params, p: Params) -> Tensor:
    a = q["logits"] if "logits" in q else q["probs"].logit()
    b = p["logits"] if "logits" in p else p["probs"].logit()
    log1, log0 = torch.nn.functional.logsigmoid, lambda x: torch.nn.functional.logsigmoid(-x)
    return _weighted(a.sigmoid(), log1(a) - log1(b)) + _weighted((-a).sigmoid(), log0(a) - log0(b))


def _binomial(q: Params, p: Params, dims: int) -> Tensor:
    """A Binomial is a sum of Bernoullis, as many on both sides; for other counts there is no closed form."""
    if not compiling():
        require(
            (q["total_count"] - p["total_count"]).abs().amax(),
            lambda largest: largest == 0,
            lambda: LossError("KL of two Binomials is known for the same total_count only.\nWrite KL(q, p, analytical=False)."),
        )
    return sum_event(q["total_count"] * _coin(q, p), dims)


def _log_probs(params: Params) -> Tensor:
    if "logits" in params:
        return params["logits"].log_softmax(-1)
    probs = params["probs"]
    return (probs / probs.sum(-1, keepdim=True)).log()


def _categorical(q: Params, p: Params, dims: int) -> Tensor:
    log_q, log_p = _log_probs(q), _log_probs(p)
    return sum_event(_weighted(log_q.exp(), log_q - log_p).sum(-1), dims)


def _linear(family: Family) -> Formula:
    """Families whose log-density is linear in x: E_q[log q(x) - log p(x)] is the difference at the mean of q."""

    def formula(q: Params, p: Params, dims: int) -> Tensor:
        mean = family.torch_class(**q, validate_args=False).mean
        log_prob = family.log_prob
        if log_prob is None:
            raise LossError(f"{family.name} has no formula of its own.")
        return sum_event(log_prob(q, mean) - log_prob(p, mean), dims)

    return formula


KL: dict[tuple[type[Parametric], type[Parametric]], Formula] = {
    (Normal, Normal): _normal,
    (LogNormal, LogNormal): _normal,  # a divergence does not change under a common bijection
    (Bernoulli, Bernoulli): _bernoulli,
    (Binomial, Binomial): _binomial,
    (Categorical, Categorical): _categorical,
    (ContinuousBernoulli, ContinuousBernoulli): _linear(ContinuousBernoulli.family),
    (Geometric, Geometric): _linear(Geometric.family),
}
"""Our own formulas: where torch has none, is inexact at large logits, gives NaN at probability 0, or breaks compiled graphs."""

_BY_FAMILY = {(q.family, p.family): formula for (q, p), formula in KL.items()}


def kl_formula(q: Factor, p: Factor) -> Callable[..., Tensor] | None:
    """The closed form of KL[q || p], or None: one number per row, or with the batch size as a third argument the sum over the batch.

    Errors: LossError where it is known to be infinite, because q has mass where p has none.
    """
    kinds = (q.kind, p.kind)
    if not (isinstance(kinds[0], Family) and isinstance(kinds[1], Family)):
        return None
    formula = _BY_FAMILY.get((kinds[0], kinds[1]))
    if formula is not None:
        return ClosedForm(formula)
    classes = kinds[0].torch_class, kinds[1].torch_class
    if not all(isinstance(c, type) and issubclass(c, td.Distribution) for c in classes):
        return None
    function = torch_kl._dispatch_kl(*classes)
    name = getattr(function, "__name__", "")
    if name.endswith("_infinity"):
        raise LossError(
            f"KL[{q.statement} || {p.statement}] is infinite: a {kinds[0].name} has mass where a {kinds[1].name} has none.\n"
            f"Choose a {p.statement} whose support contains that of {q.statement}."
        )
    # the two generic rules fail at run time, or differentiate inside; they are not closed forms
    if function is NotImplemented or name in ("_kl_transformed_transformed", "_kl_expfamily_expfamily"):
        return None

    def run(a: Bound, b: Bound, batch: int | None = None) -> Tensor:
        rows = _torch(a, b, function)
        return rows if batch is None else spread(rows, batch)

    return run


def _check_events(a: FamilyBound, b: FamilyBound) -> None:
    if a.event != b.event:
        hint = (
            f"Change the second one's features_shape to {list(a.event)}, or the width of what the first one's network returns."
            if b.event
            else f"Declare the second one's: features_shape={list(a.event)}."
        )
        raise ShapeError(
            f"KL[{a.statement} || {b.statement}]: event shapes differ, {shape_text(a.event)} and {shape_text(b.event)}.\n{hint}"
        )


@dataclass(frozen=True)
class ClosedForm(PartOfPlan):
    """A formula of ours, as a function of two bound distributions: one number per row, or their sum over the batch."""

    formula: Formula

    def __call__(self, a: Bound, b: Bound, batch: int | None = None) -> Tensor:
        if not (isinstance(a, FamilyBound) and isinstance(b, FamilyBound)):
            raise LossError(f"KL[{a.statement} || {b.statement}] has no closed form.")
        if a.event != b.event:
            _check_events(a, b)
        if batch is not None and any(
            tensor.dim() and tensor.shape[0] == batch and tensor.dtype in WIDE for tensor in a.params.values()
        ):
            return self.formula(a.params, b.params, a.extra + 1)
        rows = self.formula(a.full if a.front == (1,) else a.params, b.params, a.extra)
        return rows if batch is None else spread(rows, batch)


def _torch(a: Bound, b: Bound, function: Callable[[td.Distribution, td.Distribution], Tensor]) -> Tensor:
    if not (isinstance(a, FamilyBound) and isinstance(b, FamilyBound)):
        raise LossError(f"KL[{a.statement} || {b.statement}] has no closed form.")
    _check_events(a, b)
    return sum_event(function(a.torch, b.torch), a.extra)


def has_entropy(p: Factor) -> bool:
    """Whether the entropy of `p` is known in closed form."""
    if isinstance(p.kind, Family):
        return p.kind.has_entropy
    return False
