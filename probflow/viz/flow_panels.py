"""The panels of a textbook for flows: the map with the densities at its two ends, and the plane warped layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from probflow._typing import Values
from probflow.distributions import Flow
from probflow.errors import ArgumentError, ShapeError
from probflow.printing import latex_name, shape_text
from probflow.transforms import Compose
from probflow.viz._matplotlib import new_figure
from probflow.viz.conditions import conditions
from probflow.viz.densities import WINDOW, Window, layers_to_draw
from probflow.viz.lines import density_on_the_line
from probflow.viz.mathtext import mathtext

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE, AFTER, THIRD = "#2f6db3", "#d1701f", "#4b8b3b"
CURVE = 400
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
FLAT = 1e-4
"""A log-determinant smaller than this is the rounding of an identity, and is not magnified."""


def change_of_variables(
    p: Flow, values: Values | None = None, samples: int = 4000, bins: int = 60, title: str | None = None
) -> Figure:
    """A flow on the line in four panels: the density of the noise z, the map z -> x, the density of x, and log|dx/dz|.

    They are aligned as in Prince, *Understanding Deep Learning*, figures 16.1-16.3: z runs to the right in the three panels of
    the right column, x upwards in the two of the upper row, and five points are followed from p(z) along the map to p(x). Where the
    map is steep, noise is pulled apart and the density becomes smaller. Histograms are of the same draws, before and after.

    values: the conditioning variables, one row.

    Errors: ArgumentError for what is not a flow, ShapeError for one with more than one feature.

    >>> from probflow.flows import NSF
    >>> figure = change_of_variables(NSF("p(x)", features=1, layers=1), samples=200)
    >>> [ax.get_title() for ax in figure.axes]
    ['the map', 'density after', 'density before', 'Jacobian term']
    """
    flow = _flow(p, "change_of_variables", 1)
    known = conditions(flow, values, "change_of_variables")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        base_values = {n: known[n] for n in flow.base.cond_var}
        z = flow.base.sample(base_values, sample_shape=samples) if base_values else flow.base.sample(batch_n=samples)
        noise = z[flow.base.var[0]].reshape(-1)
    low, high = float(noise.quantile(0.001)), float(noise.quantile(0.999))
    room = 0.12 * (high - low)
    along = torch.linspace(low - room, high + room, CURVE)
    inside = _inside(flow, along, known)
    x, logdet = _mapped(flow, inside, known)
    drawn, _ = _mapped(flow, noise, known)
    marks = noise.quantile(torch.tensor(QUANTILES, dtype=noise.dtype))
    marked, _ = _mapped(flow, marks, known)

    figure = new_figure(7.4, 6.4)
    grid = figure.add_gridspec(3, 2, width_ratios=(1, 2), height_ratios=(2, 1, 1))
    ax_map = figure.add_subplot(grid[0, 1])
    ax_after = figure.add_subplot(grid[0, 0], sharey=ax_map)
    ax_before = figure.add_subplot(grid[1, 1], sharex=ax_map)
    ax_slope = figure.add_subplot(grid[2, 1], sharex=ax_map)
    zs, xs = inside.tolist(), x.tolist()
    ax_map.plot(zs, xs, color="black", linewidth=1.8)
    left, bottom, top = float(along[0]), *_limits(drawn)
    for a, b in zip(marks.tolist(), marked.tolist(), strict=True):
        ax_map.plot([a, a, left], [bottom, b, b], color="0.5", linewidth=0.8, linestyle=":")
        ax_map.plot([a], [b], "o", color="black", markersize=4)
        ax_before.axvline(a, color="0.5", linewidth=0.8, linestyle=":")
        ax_after.axhline(b, color="0.5", linewidth=0.8, linestyle=":")
    _density(ax_before, noise, zs, _base_density(flow, inside, base_values), bins, BEFORE, upright=True)
    reach = torch.linspace(bottom, top, CURVE)
    _density(ax_after, drawn, reach.tolist(), density_on_the_line(flow, reach, known), bins, AFTER, upright=False)
    ax_slope.plot(zs, logdet.tolist(), color=THIRD, linewidth=1.8)
    ax_slope.axhline(0.0, color="0.7", linewidth=0.8)
    if logdet.abs().max() < FLAT:
        ax_slope.set_ylim(-1.0, 1.0)
    _dress(flow, ax_map, ax_after, ax_before, ax_slope)
    ax_map.set(xlim=(left, float(along[-1])), ylim=(bottom, top))
    figure.text(0.18, 0.3, mathtext(_equation(flow)), ha="center", va="center", fontsize="x-large")
    if title:
        figure.suptitle(title)
    return figure


def _equation(flow: Flow) -> str:
    r"""``p(x) = p(z) |dx/dz|^{-1}``."""
    z, x = latex_name(flow.base.var[0]), latex_name(flow.var[0])
    return rf"{flow.statement.latex()} = {flow.base.statement.latex()}\,\left|\frac{{d{x}}}{{d{z}}}\right|^{{-1}}"


def _dress(flow: Flow, ax_map: Axes, ax_after: Axes, ax_before: Axes, ax_slope: Axes) -> None:
    z, x = latex_name(flow.base.var[0]), latex_name(flow.var[0])
    given = "; " + ", ".join(map(latex_name, flow.cond_var)) if flow.cond_var else ""
    ax_map.set_title("the map", fontsize="medium")
    ax_map.set_xlabel(mathtext(z))
    ax_map.set_ylabel(mathtext(f"{x} = f({z}{given})"))
    ax_after.set_title("density after", fontsize="medium")
    ax_after.set_xlabel(mathtext(flow.statement.latex()))
    ax_after.set_ylabel(mathtext(x))
    ax_after.invert_xaxis()
    ax_before.set_title("density before", fontsize="medium")
    ax_before.set_ylabel(mathtext(flow.base.statement.latex()))
    ax_slope.set_title("Jacobian term", fontsize="medium")
    ax_slope.set_xlabel(mathtext(z))
    ax_slope.set_ylabel(mathtext(rf"\log|d{x}/d{z}|"))


def _density(ax: Axes, draws: Tensor, at: list[float], density: Tensor, bins: int, color: str, upright: bool) -> None:
    """A histogram with the exact curve; on its side where not upright."""
    low, high = min(at), max(at)
    kept = draws[(draws >= low) & (draws <= high)].float()
    edges = torch.linspace(low, high, bins + 1)
    width = (high - low) / bins
    heights = torch.histogram(kept, edges.float()).hist / max(len(draws), 1) / width
    if upright:
        ax.bar(edges[:-1].tolist(), heights.tolist(), width, align="edge", color=color, alpha=0.3, linewidth=0)
        ax.plot(at, density.tolist(), color=color, linewidth=1.8)
        ax.set_ylim(bottom=0.0)
    else:
        ax.barh(edges[:-1].tolist(), heights.tolist(), width, align="edge", color=color, alpha=0.3, linewidth=0)
        ax.plot(density.tolist(), at, color=color, linewidth=1.8)
        ax.set_xlim(left=0.0)


def _limits(draws: Tensor) -> tuple[float, float]:
    low, high = float(draws.quantile(0.001)), float(draws.quantile(0.999))
    room = 0.12 * (high - low) or 1.0
    return low - room, high + room


def _inside(flow: Flow, z: Tensor, known: Values) -> Tensor:
    """The points of z that the transform takes."""
    return z[flow.transform.domain.holds(z)] if flow.transform.domain.rank == 0 else z


def _mapped(flow: Flow, z: Tensor, known: Values) -> tuple[Tensor, Tensor]:
    """x and log|dx/dz| at points z (N,)."""
    shape = flow.transform.shape or (1,)
    weight = next(flow.parameters(), torch.empty(0))
    with torch.no_grad():
        points = z.to(weight).reshape(-1, *shape)
        x, logdet = flow.transform.forward_and_logdet(points, _context(flow, known, len(z)))
    return x.reshape(-1).cpu(), logdet.reshape(-1).cpu()


def _base_density(flow: Flow, z: Tensor, values: Values) -> Tensor:
    return density_on_the_line(flow.base, z, values)


def _context(flow: Flow, known: Values, count: int) -> Tensor | None:
    if flow.transform.context is None:
        return None
    return flow._context_of([known[n] for n in flow._context], [0] * len(flow._context)).expand(count, *flow.transform.context)


def _flow(p: object, who: str, features: int) -> Flow:
    if not isinstance(p, Flow):
        got = p.statement if hasattr(p, "statement") else f"a {type(p).__name__}"
        raise ArgumentError(f"{who} draws a flow, got {got}.")
    if p.transform.forward_cost == "absent":
        raise ArgumentError(f"{who}: the transform of {p.statement} cannot be computed from z to x.")
    shape = p.transform.shape if p.transform.shape is not None else p._base_event()
    size = None if shape is None else math.prod(shape)
    if size not in (None, features):
        where = "on the line, so with one feature" if features == 1 else "on the plane, so with two features"
        raise ShapeError(f"{who}: a flow {where}; {p.statement} has events of the shape {shape_text(shape or ())}.")
    return p


def warped_steps(
    p: Flow,
    values: Values | None = None,
    most: int = 6,
    reach: float = 3.0,
    lines: int = 21,
    window: Window = WINDOW,
    samples: int = 1500,
    title: str | None = None,
) -> Figure:
    """A flow on the plane, layer by layer: a square grid of noise and draws of z, after at most `most` - 1 steps to x.

    The colour of a point is the log-determinant up to there, :math:`\\log|\\det \\partial f / \\partial z|`: red where the map has
    pulled space apart (the density became smaller), blue where it has pressed it together.

    values: the conditioning variables, one row.

    Errors: ArgumentError for what is not a flow, ShapeError for one that has not two features.

    >>> from probflow.flows import RealNVP
    >>> figure = warped_steps(RealNVP("p(x)", features=2, layers=2), most=3, lines=5, samples=50)
    >>> [ax.get_title() for ax in figure.axes[:3]]
    ['noise', '1 of 2 layers', '2 of 2 layers']
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    flow = _flow(p, "warped_steps", 2)
    known = conditions(flow, values, "warped_steps")
    chain = flow.transform if isinstance(flow.transform, Compose) else Compose([flow.transform])
    counts = layers_to_draw(flow, most)
    along = torch.linspace(-reach, reach, 160)
    at = torch.linspace(-reach, reach, lines)
    vertical = torch.cartesian_prod(at, along)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noise = torch.randn(samples, 2)
    weight = next(flow.parameters(), torch.empty(0))
    z = torch.cat([vertical, vertical.flip(1), noise]).to(weight)
    context = _context(flow, known, len(z))
    states: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        x, total, done = z, z.new_zeros(len(z)), 0
        for count in counts:
            for layer in chain[done:count]:
                x, logdet = layer.forward_and_logdet(x, context if layer.context is not None else None)
                total = total + logdet
            done = count
            states.append((x.cpu(), total.cpu()))
    cols = min(len(counts), 3)
    rows = math.ceil(len(counts) / cols)
    figure = new_figure(2.5 * cols + 0.7, 2.75 * rows + (0.3 if title else 0.0))
    axes = cast("list[Axes]", list(figure.subplots(rows, cols, squeeze=False).flat))
    shown = torch.cat([total[2 * len(vertical) :] for _, total in states])
    limit = float(shown.abs().quantile(0.99))
    limit = limit if limit > FLAT else 1.0
    points, colors = None, LinearSegmentedColormap.from_list("pulled apart", ["#1546c0", "#8a8a8a", "#cc2015"])
    for ax, count, (x, total) in zip(axes, counts, states, strict=False):
        grid = x[: 2 * len(vertical)].reshape(2 * lines, len(along), 2)
        ax.add_collection(LineCollection(grid.tolist(), colors="0.7", linewidths=0.4))
        here, color = x[2 * len(vertical) :], total[2 * len(vertical) :]
        points = ax.scatter(
            here[:, 0].tolist(), here[:, 1].tolist(), c=color.tolist(), s=3, linewidths=0, cmap=colors, vmin=-limit, vmax=limit
        )
        left, right, bottom, top = window
        ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
        ax.set_title("noise" if count == 0 else f"{count} of {len(chain)} layers", fontsize="medium")
    for ax in axes[len(counts) :]:
        ax.set_axis_off()
    if points is not None:
        figure.colorbar(points, ax=axes, label=mathtext(r"\log|\det\,\partial f/\partial z|"), shrink=0.8)
    if title:
        figure.suptitle(title)
    return figure
