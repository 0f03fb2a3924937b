"""Densities on the line: the exact curve, and the samples as a histogram below it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probflow._typing import Values
from probflow.distributions import Distribution
from probflow.errors import ArgumentError, NoSampler, ShapeError, SupportError
from probflow.printing import shape_text
from probflow.viz._matplotlib import new_axes
from probflow.viz.conditions import conditions
from probflow.viz.mathtext import mathtext

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 400
TAIL = 0.002  # of the draws, beyond either end of the window
MARGIN = 0.15


def density_1d(
    p: Distribution,
    values: Values | None = None,
    samples: Tensor | None = None,
    window: tuple[float, float] | None = None,
    bins: int = 60,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The exact density of p on the line, and a histogram of `samples`, (N,) or (N, 1), on the same scale.

    p: a distribution of one variable with one feature.  values: its conditioning variables; one curve for each row.
    window: left and right end; by default where draws of p, or the samples, lie.

    Errors: ArgumentError for a discrete p, for more variables, and for a window that is empty; ShapeError for more features.

    >>> from probflow import Normal
    >>> p = Normal("p(x)", loc=0.0, scale=1.0, features_shape=1)
    >>> axes = density_1d(p, samples=p.sample(batch_n=500)["x"], window=(-4.0, 4.0))
    >>> len(axes.lines), len(axes.containers)
    (1, 1)
    """
    if len(p.var) != 1:
        raise ArgumentError(
            f"density_1d: {p.statement} has the variables {', '.join(p.var)}; draw the marginal of one of them."
        )
    known = conditions(p, values, "density_1d")
    rows = _rows(p, known)
    points = None if samples is None else _line(samples, "samples")
    draws = _draws(p, known)
    _check_continuous(p, draws)
    left, right = _window(p, window, points, draws)
    if ax is None:
        ax = new_axes(5.4, 3.2)
    x = torch.linspace(left, right, POINTS)
    if points is not None:
        inside = points[(points >= left) & (points <= right)]
        share = len(inside) / max(len(points), 1)
        edges = torch.linspace(left, right, bins + 1, dtype=inside.dtype)
        heights = torch.histogram(inside, edges).hist / max(len(inside), 1) * share / ((right - left) / bins)
        ax.bar(
            edges[:-1].tolist(),
            heights.tolist(),
            (right - left) / bins,
            align="edge",
            color="0.82",
            label="samples",
            linewidth=0,
        )
    for row in range(rows):
        mine = {n: v[row : row + 1] for n, v in known.items()}
        y = density_on_the_line(p, x, mine)
        label = mathtext(p.statement.latex()) if rows == 1 else _row_label(mine, row)
        ax.plot(x.tolist(), y.tolist(), linewidth=1.8, label=label)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel(mathtext(_latex(p.var[0])))
    ax.legend(fontsize="small", frameon=False)
    if title:
        ax.set_title(title)
    return ax


def density_on_the_line(p: Distribution, x: Tensor, values: Values) -> Tensor:
    """p at the points x (N,), zero outside of the support; `values` has one row."""
    weight = next(p.parameters(), torch.empty(0))
    points = x.to(weight.device)
    events: list[tuple[int, ...]] = [()] if p._event_ranks()[p.var[0]] == 0 else [(1,), ()]

    def at(part: Tensor) -> Tensor:
        known = {n: v.expand(len(part), *v.shape[1:]) for n, v in values.items()}
        for event in events:
            try:
                return p.log_prob({**known, p.var[0]: part.reshape(-1, *event)}).exp().cpu()
            except ShapeError as error:
                found = error
        raise ShapeError(f"{p.statement} has not one feature; its density cannot be drawn on the line.\n{found}")

    with torch.no_grad():
        try:
            return at(points)
        except SupportError:
            pass
        result = torch.zeros(len(points))
        for place in range(len(points)):
            try:
                result[place] = at(points[place : place + 1])[0]
            except SupportError:
                continue
    return result


def _rows(p: Distribution, known: Mapping[str, Tensor]) -> int:
    sizes = {len(v) for v in known.values()}
    if len(sizes) > 1:
        raise ShapeError(
            f"density_1d: {p.statement} gets values with {', '.join(map(str, sorted(sizes)))} rows; as many of each."
        )
    return sizes.pop() if sizes else 1


def _row_label(values: Mapping[str, Tensor], row: int) -> str:
    shown = [f"{mathtext(_latex(n))} = {v.item():.3g}" for n, v in values.items() if v.numel() == 1]
    return ", ".join(shown) if len(shown) == len(values) else f"row {row + 1}"


def _draws(p: Distribution, known: Values) -> Tensor | None:
    """Some draws of p for all rows; None where it has no sampler."""
    try:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            drawn = p.sample(known, sample_shape=2000) if known else p.sample(batch_n=2000)
    except NoSampler:
        return None
    drawn_x = drawn[p.var[0]]
    lead = drawn.sample_dims.get(p.var[0], 0) + 1
    if drawn_x.dim() > lead and math.prod(drawn_x.shape[lead:]) != 1:
        raise ShapeError(
            f"density_1d: {p.statement} has events of the shape {shape_text(drawn_x.shape[lead:])}; only a distribution with one "
            "feature has a density on the line."
        )
    return drawn_x.flatten().cpu().float()


def _check_continuous(p: Distribution, draws: Tensor | None) -> None:
    if any(f.finite for f in p.factors) or (draws is not None and len(draws) > 1 and bool((draws == draws.round()).all())):
        raise ArgumentError(
            f"density_1d: {p.statement} is discrete: it has probabilities, not a density.\n"
            "Draw them as bars: ax.bar(states, p.log_prob(...).exp())."
        )


def _window(
    p: Distribution, window: tuple[float, float] | None, points: Tensor | None, draws: Tensor | None
) -> tuple[float, float]:
    if window is not None:
        left, right = map(float, window)
        if not left < right:
            raise ArgumentError(f"density_1d: the window goes from {left:g} to {right:g}; left must be less than right.")
        return left, right
    seen = [t for t in (points, draws) if t is not None and len(t)]
    if not seen:
        raise ArgumentError(f"density_1d: {p.statement} cannot be sampled, so say where to draw it: window=(-4, 4).")
    low = min(float(t.quantile(TAIL)) for t in seen)
    high = max(float(t.quantile(1 - TAIL)) for t in seen)
    room = MARGIN * (high - low) or 1.0
    return low - room, high + room


def _line(samples: Tensor, what: str) -> Tensor:
    points = samples.detach().to("cpu", torch.float32)
    if points.dim() == 2 and points.shape[1] == 1:
        points = points[:, 0]
    if points.dim() != 1:
        raise ShapeError(f"density_1d: {what} on the line have the shape (N,) or (N, 1), got {shape_text(samples.shape)}.")
    return points


def _latex(name: str) -> str:
    from probflow.printing import latex_name

    return latex_name(name)
