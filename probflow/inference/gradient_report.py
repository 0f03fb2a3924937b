"""How noisy the gradient of a loss is, distribution by distribution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probflow._typing import Inputs
from probflow.errors import LossError
from probflow.losses.free import coefficients, is_scalar
from probflow.losses.labels import Labels
from probflow.losses.node import Loss, walk
from probflow.losses.scalars import Function
from probflow.losses.text import text
from probflow.printing import value_text


@dataclass(frozen=True)
class GradientRow:
    """The gradient of one distribution's weights: its mean, its noise, and the ratio of the two."""

    name: str
    weights: int
    mean: float
    """Norm of the mean gradient."""
    deviation: float
    """Standard deviation: the root of the summed variances of all weights."""

    @property
    def ratio(self) -> float:
        """Signal to noise; infinite where the gradient has no noise."""
        return self.mean / self.deviation if self.deviation > 0 else float("inf") if self.mean > 0 else 0.0


@dataclass(frozen=True)
class GradientReport:
    """Signal and noise of a gradient; print it.

    >>> import torch
    >>> import probflow as pf
    >>> q = pf.Normal("q(z)", loc=torch.nn.Parameter(torch.zeros(1)), scale=1.0)
    >>> p = pf.Normal("p(z)", loc=1.0, scale=1.0, features_shape=1)
    >>> report = pf.gradient_report(pf.E(q)[pf.log(p)].mean(), draws=50)
    >>> [row.name for row in report.rows], report["q(z)"].weights
    (['q(z)'], 1)
    """

    formula: str
    draws: int
    rows: tuple[GradientRow, ...]

    def __getitem__(self, name: str) -> GradientRow:
        for row in self.rows:
            if row.name == name:
                return row
        wanted = repr(name) if isinstance(name, str) else f"for a {type(name).__name__}"
        raise LossError(f"The report has no row {wanted}; its rows are named {', '.join(repr(row.name) for row in self.rows)}.")

    def __str__(self) -> str:
        head = ("", "weights", "|mean|", "std", "signal/noise")
        body = [(r.name, str(r.weights), value_text(r.mean), value_text(r.deviation), value_text(r.ratio)) for r in self.rows]
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
        lines = [f"gradient of {self.formula}, {self.draws} draws"]
        for first, *rest in (head, *body):
            lines.append(
                "  " + "  ".join([first.ljust(widths[0]), *(t.rjust(w) for t, w in zip(rest, widths[1:], strict=True))])
            )
        return "\n".join(lines)

    __repr__ = __str__


def gradient_report(loss: Loss, values: Inputs | None = None, draws: int = 100) -> GradientReport:
    """The signal-to-noise ratio of the gradient of `loss` at `values`, for the weights of every distribution in it.

    The loss is evaluated `draws` times on the same batch; the ratio is the norm of the mean gradient over the root of its total
    variance (Rainforth et al., arXiv:1802.04537, use it for one weight).  A loss with a batch dimension is averaged over it.  ``.grad``
    is left alone, and the weights too; modules that keep running statistics keep them, as in any evaluation.

    Errors: LossError where nothing is trained, or draws < 2.

    >>> import torch
    >>> from probflow.distributions import Normal
    >>> from probflow.losses import ELBO
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    >>> q = Normal("q(z)", loc=torch.nn.Parameter(torch.zeros(())), scale=1.0)
    >>> report = gradient_report(ELBO(p, q), {"x": torch.ones(8)}, draws=20)
    >>> report.rows[0].name, report.rows[0].weights
    ('q(z)', 1)
    """
    if not isinstance(loss, Loss):
        raise LossError(f"gradient_report takes a loss first, got a {type(loss).__name__}.")
    if draws < 2:
        raise LossError(f"gradient_report needs two draws at least, got draws={draws}.")
    groups = list(_groups(loss))
    weights = [weight for _, group in groups for weight in group]
    if not weights:
        raise LossError(f"{loss} has nothing to train, so its gradient is empty.")
    whole = loss if is_scalar(loss) else loss.mean()
    mean: list[Tensor] = [torch.zeros_like(w, dtype=torch.float64) for w in weights]
    square: list[Tensor] = [torch.zeros_like(m) for m in mean]
    with torch.enable_grad():
        for count in range(1, draws + 1):  # Welford's update: one pass, no cancellation
            value = whole.eval(values)
            if not value.requires_grad:
                raise LossError(f"{loss} does not depend on its weights here: is everything detached?")
            for place, gradient in enumerate(torch.autograd.grad(value, weights, allow_unused=True)):
                new = torch.zeros_like(mean[place]) if gradient is None else gradient.double()
                step = new - mean[place]
                mean[place] += step / count
                square[place] += step * (new - mean[place])
    rows, start = [], 0
    for name, group in groups:
        end = start + len(group)
        signal = sum(float(m.square().sum()) for m in mean[start:end]) ** 0.5
        noise = (sum(float(s.sum()) for s in square[start:end]) / (draws - 1)) ** 0.5
        rows.append(GradientRow(name, sum(w.numel() for w in group), signal, noise))
        start = end
    return GradientReport(str(whole), draws, tuple(rows))


def _groups(loss: Loss) -> Iterator[tuple[str, list[Tensor]]]:
    """The trained tensors by what they belong to; a shared one belongs to the first."""
    seen: set[int] = set()
    labels = Labels(loss)

    def fresh(tensors: list[Tensor]) -> list[Tensor]:
        found = [t for t in tensors if t.requires_grad and id(t) not in seen]
        seen.update(map(id, found))
        return found

    parts: list[tuple[str, list[Tensor]]] = [(labels.text(p), list(p.parameters())) for p in loss.distributions]
    parts += [
        (text(node), list(node.function.parameters()))
        for node in walk(loss)
        if isinstance(node, Function) and isinstance(node.function, nn.Module)
    ]
    parts += [(labels.weight(tensor), [tensor]) for tensor in coefficients(loss)]
    for name, tensors in parts:
        mine = fresh(tensors)
        if mine:
            yield name, mine
