"""The laws of distributions that are about probability: its total, draws, moments, gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from probflow.distributions import Family, Samples
from probflow.domains import Domain
from probflow.errors import NoClosedForm, SupportError
from probflow.testing import integrals
from probflow.testing.distribution_laws import Subject
from probflow.testing.integrals import SIGMAS
from probflow.testing.projections import disagreement
from probflow.testing.report import Outcome, require

KOLMOGOROV = 2.7
"""P(√N D > 2.7) ≈ 2 exp(-2 · 2.7²) < 1e-6."""


REPEATS = 50
"""Blocks of draws, so that the standard error of a gradient is itself known."""


def total_probability(subject: Subject) -> Outcome:
    """The density integrates, or sums, to 1."""
    if not all(factor.normalised for factor in subject.p.factors):
        return Outcome("it says that its density is not normalised", checked=False)
    found = _fit(subject)
    if isinstance(found, str):
        return Outcome(found, checked=False)
    total, slack, _, _ = found
    require(
        abs(total - 1) <= subject.tolerance + slack,
        lambda: (
            f"{subject} breaks the law 'total probability': its density {'sums' if subject.discrete else 'integrates'} to {total:.4f}, "
            f"expected 1.\n{_scale(total)}"
        ),
    )
    return Outcome(f"{total:.4f}")


def samples(subject: Subject) -> Outcome:
    """Draws follow the density (up to a constant factor)."""
    found = _fit(subject)
    if isinstance(found, str):
        return Outcome(found, checked=False)
    _, _, statistic, what = found
    bound = KOLMOGOROV if what.startswith("Kolmogorov") else SIGMAS
    require(
        statistic <= bound,
        lambda: (
            f"{subject} breaks the law 'samples': {subject.draws} draws do not follow the density.\n"
            f"  {what}: {statistic:.3g}, expected at most {bound:g}"
        ),
    )
    return Outcome(f"{what} {statistic:.2f}, at most {bound:g}")


def _fit(subject: Subject) -> tuple[float, float, float, str] | str:
    """Total probability, its slack, how far the draws are from the density, and in which measure; or why it is not known."""
    if len(subject.p.var) != 1:
        return "several variables: check the factors"
    draws, width = subject.many, subject.many.shape[1]
    if subject.discrete:
        if len(draws.unique(dim=0)) > len(draws) / 2:
            return "more values than can be listed"
        total, missed, statistic = integrals.listed(subject.log_density, draws)
        return total, 3 * missed + SIGMAS / subject.draws, statistic, "χ² in standard deviations"
    if width > 2:
        return f"the event has {width} numbers; checked for one and two"
    if width == 2 and float(torch.corrcoef(draws.T)[0, 1].abs()) > 1 - 1e-9:
        return "its values lie on a line in the plane"
    try:
        if width == 1:
            return (*_slackless(integrals.line(subject.log_density, draws)), "Kolmogorov-Smirnov distance times √N")
        return (*_slackless(integrals.plane(subject.log_density, draws)), "χ² in standard deviations")
    except SupportError:
        return "its support has holes"


def _slackless(found: tuple[float, float]) -> tuple[float, float, float]:
    return found[0], 0.0, found[1]


def _scale(total: float) -> str:
    if not 0 < total < math.inf:
        return "Has the log-density the right sign?"
    return (
        f"Where only a constant is wrong, subtract {math.log(total):.4g} from the log-density; "
        "where it shall stay so, say normalised = False."
    )


def moments(subject: Subject) -> Outcome:
    """Mean, variance and entropy, where they are known, are those of the draws."""
    if len(subject.p.factors) != 1:
        return Outcome("several factors: check each", checked=False)
    first = {name: value[:1] for name, value in subject.given.items()}
    drawn = subject.sample(1, (subject.draws,))
    x = drawn[subject.p.var[0]][:, 0]
    x = x.to(torch.float64)
    estimates: dict[str, Callable[[], Tensor]] = {
        "mean": lambda: x,
        "variance": lambda: (x - x.mean(0)).square(),
        "entropy": lambda: -subject.p.log_prob(drawn)[:, 0],
    }
    seen = []
    for name, estimate in estimates.items():
        try:
            truth = getattr(subject.p, name)(first)[0].detach()
        except NoClosedForm:
            continue
        if not bool(truth.isfinite().all()):
            continue
        sampled = estimate().detach()
        error = sampled.std(0) / math.sqrt(len(sampled))
        far = (sampled.mean(0) - truth).abs() > SIGMAS * error + 1e-9
        require(
            not bool(far.any()),
            lambda name=name, truth=truth, sampled=sampled, far=far, error=error: (  # type: ignore[misc]
                f"{subject} breaks the law 'moments': its {name} is {float(truth[far].flatten()[0]):.5g}, that of {subject.draws} draws "
                f"{float(sampled.mean(0)[far].flatten()[0]):.5g} ± {float(error[far].flatten()[0]):.2g}."
            ),
        )
        seen.append(name)
    return Outcome(", ".join(seen)) if seen else Outcome("none is known in closed form", checked=False)


def pathwise_gradient(subject: Subject) -> Outcome:
    """∇ E[tanh x] along the draws is that of the score function, for every weight."""
    p = subject.p
    if not all(factor.reparameterised for factor in p.factors):
        return Outcome("it says that its draws are not reparameterised", checked=False)
    if any(isinstance(factor.kind, Family) and not isinstance(factor.kind.support, Domain) for factor in p.factors):
        return Outcome("its support moves with its parameters", checked=False)
    named = [(n, w) for n, w in p.named_parameters() if w.requires_grad]
    if not named:
        return Outcome("it has no weights: make a constant an nn.Parameter", checked=False)
    weights = [w for _, w in named]
    block = max(10, subject.draws // REPEATS)

    def bent(drawn: Samples) -> Tensor:
        x = torch.cat([drawn[name].reshape(block, -1) for name in p.var], 1)
        return (x * (1 + torch.arange(x.shape[1]) / 7)).tanh().sum(1)

    def along() -> tuple[Tensor | None, ...]:
        value = bent(subject.sample(1, (block,), True)).mean()
        return torch.autograd.grad(value, weights, allow_unused=True) if value.requires_grad else (None,) * len(weights)

    def score() -> tuple[Tensor | None, ...]:
        drawn = subject.sample(1, (block,))
        h = bent(drawn).detach()
        centred = (h - h.mean()) * block / (block - 1)
        return torch.autograd.grad((centred * p.log_prob(drawn)[:, 0]).mean(), weights, allow_unused=True)

    worst, name, a, b, error = disagreement(along, score, named, REPEATS)
    require(
        worst <= SIGMAS,
        lambda: (
            f"{subject} breaks the law 'pathwise gradient', at {name}: the gradient of E[tanh x] along the draws is {a:.4g}, by the score "
            f"function {b:.4g} (± {error:.2g}).\nIs a parameter detached in rsample, or not part of it?"
        ),
    )
    return Outcome(f"{worst:.1f} standard errors from the score function's, at most {SIGMAS:g}")


def gradients(subject: Subject) -> Outcome:
    """The log-density gives every weight a finite gradient that is not zero everywhere."""
    p = copy.deepcopy(subject.p)
    with torch.no_grad():
        for weight in p.parameters():
            weight.add_(1e-3 * torch.randn_like(weight))  # a layer that starts as zero hides those in front of it
    weights = {n: w for n, w in p.named_parameters() if w.requires_grad and not any(part in n for part in subject.exempt)}
    if not weights:
        return Outcome("it has no weights", checked=False)
    drawn = subject.sample(subject.rows, (16,))
    log_p = p.log_prob(drawn)
    found = (
        torch.autograd.grad(log_p.sum(), list(weights.values()), allow_unused=True)
        if log_p.requires_grad
        else [None] * len(weights)
    )
    for name, grad in zip(weights, found, strict=True):
        require(
            grad is not None and bool(grad.isfinite().all()) and bool((grad != 0).any()),
            lambda name=name, grad=grad: (  # type: ignore[misc]
                f"{subject} breaks the law 'gradients': log_prob gives {name} "
                f"{'no gradient' if grad is None or bool((grad == 0).all()) else 'a gradient that is not finite'}."
            ),
        )
    return Outcome(f"reach {len(weights)} tensors")
