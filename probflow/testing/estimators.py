"""`check_unbiased`: two spellings of one quantity have the same mean value and the same mean gradient."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from probflow._typing import Values
from probflow.errors import ArgumentError, BrokenLaw
from probflow.losses import Loss
from probflow.testing.integrals import SIGMAS
from probflow.testing.projections import disagreement
from probflow.testing.report import Outcome, Report


def check_unbiased(
    loss: Loss, reference: Loss, values: Values | None = None, *, draws: int = 400, gradient: bool = True, seed: int = 0
) -> Report:
    """Hold an estimator to its law: `loss` has the mean value, and the mean gradient, of `reference` at `values`.

    Both are evaluated `draws` times, with gradients for the weights of both; the means are compared for each tensor of weights, along
    the direction in which they differ most and a random one, and called different at five standard errors.
    The more draws, the smaller the bias that is found.

    gradient: False compares values alone (where the reference is a bound, say, that has another gradient on purpose).

    Errors: BrokenLaw, naming the tensor and the numbers; ArgumentError where there is nothing to compare.

    >>> from probflow.distributions import Normal
    >>> from probflow.losses import E, Function
    >>> q = Normal("q(z)", loc=torch.nn.Parameter(torch.zeros(1)), scale=1.0)
    >>> f = Function(lambda z: z.square().sum(1), ["z"], "f")
    >>> print(check_unbiased(E(q, estimator="score", sample_shape=[64])[f].mean(), E(q)[f].mean())["gradient"].checked)
    True
    """
    for part in (loss, reference):
        if not isinstance(part, Loss):
            raise ArgumentError(f"check_unbiased compares two losses, got a {type(part).__name__}.")
    if draws < 20:
        raise ArgumentError(f"check_unbiased needs 20 draws at least, got draws={draws}.")
    named: dict[int, tuple[str, Tensor]] = {}
    for place, weight in enumerate(chain(loss.parameters(), reference.parameters())):
        named.setdefault(id(weight), (f"weight {place} of shape {tuple(weight.shape)}", weight))
    for p in (*loss.distributions, *reference.distributions):
        for name, weight in p.named_parameters():
            if id(weight) in named:
                named[id(weight)] = (f"{name} of {p.statement}", weight)
    weights = [w for _, w in named.values()]
    if gradient and not weights:
        raise ArgumentError(f"{loss} has nothing to train: compare values alone with gradient=False.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        value = torch.zeros(())
        outcomes = {
            "value": _compared(
                lambda: [_mean(loss, values)], lambda: [_mean(reference, values)], [("the value", value)], loss, draws
            )
        }
        if gradient:
            first, second = (_gradient_of(part, values, weights) for part in (loss, reference))
            outcomes["gradient"] = _compared(first, second, list(named.values()), loss, draws)
    return Report(f"{loss}: no bias found", outcomes)


def _mean(loss: Loss, values: Values | None) -> Tensor:
    with torch.no_grad():
        result: Tensor = loss.eval(values).mean()
    return result


class _gradient_of:
    """The gradient of a loss, drawn anew at each call."""

    def __init__(self, loss: Loss, values: Values | None, weights: Sequence[Tensor]) -> None:
        self.loss, self.values, self.weights = loss, values, weights

    def __call__(self) -> Sequence[Tensor | None]:
        with torch.enable_grad():
            value = self.loss.eval(self.values).mean()
            if not value.requires_grad:
                return [None] * len(self.weights)
            return torch.autograd.grad(value, list(self.weights), allow_unused=True)


def _compared(first, second, named, loss: Loss, draws: int) -> Outcome:  # type: ignore[no-untyped-def]
    worst, name, a, b, error = disagreement(first, second, named, draws)
    if worst > SIGMAS:
        raise BrokenLaw(
            f"{loss} is biased, at {name}: on average it gives {a:.5g}, the reference {b:.5g}.\n"
            + (
                f"  that is {worst:.0f} standard errors; {SIGMAS:g} would be chance"
                if error > 0
                else "  nothing here is random"
            )
        )
    return Outcome(f"{worst:.1f} standard errors apart at most, {SIGMAS:g} would be chance")
