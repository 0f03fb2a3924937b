"""Densities on the plane: as a field, as points, and as the bending of a grid of noise through the layers of a flow."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from probflow._typing import Values
from probflow.distributions import Distribution, Flow
from probflow.errors import ArgumentError, ShapeError
from probflow.transforms import Compose
from probflow.viz._matplotlib import new_axes, new_panels
from probflow.viz.conditions import conditions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW = (-4.5, 4.5, -4.5, 4.5)
"""left, right, bottom, top: where the toy densities live."""

SHARE_SHOWN = 0.999  # of the brightest pixels, a thousandth may be cut: a density has spikes where a flow folds
DEPTH = 8.0  # nats below the highest log-density that are told apart
Window = tuple[float, float, float, float]


def panels(rows: int, cols: int, size: float = 3.0, title: str | None = None) -> list[Axes]:
    """The axes of a new figure of `rows` x `cols` pictures, row by row; `save` of any of them writes them all.

    >>> len(panels(2, 3))
    6
    """
    return new_panels(rows, cols, size, title)


def log_density_grid(p: Distribution, values: Values | None = None, window: Window = WINDOW, resolution: int = 200) -> Tensor:
    """log p at the centres of `resolution` x `resolution` pixels of `window`, in nats; the first row is the lowest.

    p: a distribution of one variable with two features.  values: its conditioning variables, one row each.

    Errors: ArgumentError where p has more variables, ShapeError where it has not two features, SupportError where the window
    reaches beyond the support.

    >>> from probflow.distributions import Normal
    >>> p = Normal("p(x)", loc=0.0, scale=1.0, features_shape=2)
    >>> field = log_density_grid(p, window=(-6.0, 6.0, -6.0, 6.0), resolution=60)
    >>> round(field.exp().sum().item() * 0.2**2, 3)
    1.0
    """
    if len(p.var) != 1:
        raise ArgumentError(f"A density on the plane is one of one variable, got {', '.join(p.var)}. Ask for its marginal.")
    rows_of = conditions(p, values, "log_density_grid")
    left, right, bottom, top = window
    weight = next(p.parameters(), torch.empty(0))
    across = left + (right - left) * (torch.arange(resolution, device=weight.device) + 0.5) / resolution
    up = bottom + (top - bottom) * (torch.arange(resolution, device=weight.device) + 0.5) / resolution
    points = torch.cartesian_prod(up, across).flip(1)
    known = {n: v.expand(resolution, *v.shape[1:]) for n, v in rows_of.items()}
    with torch.no_grad():  # a row of pixels at a time: memory stays bounded
        rows = [p.log_prob({**known, p.var[0]: row}) for row in points.split(resolution)]
    return torch.stack(rows).cpu()


def density(
    p: Distribution,
    values: Values | None = None,
    window: Window = WINDOW,
    resolution: int = 200,
    log: bool = False,
    samples: Tensor | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    levels: Sequence[float] | None = None,
) -> Axes:
    """The density of p on the plane: bright where it is high; with `log` the log-density, down to 8 nats below its maximum.

    samples: points (N, 2) drawn over it.  levels: shares of the probability, such as (0.5, 0.9); for each the border of the
    smallest region that holds it, within the window.  The others as for `log_density_grid`.

    Errors: as for `log_density_grid`; ArgumentError for a level that is not between 0 and 1.

    >>> from probflow.distributions import Normal
    >>> axes = density(Normal("p(x)", loc=0.0, scale=1.0, features_shape=2), resolution=20, title="p(x)")
    >>> axes.get_title()
    'p(x)'
    """
    conditions(p, values, "density")
    ax = _square(ax, window, title)
    field = log_density_grid(p, values, window, resolution)
    finite = torch.where(field.isfinite(), field, field[field.isfinite()].min() if field.isfinite().any() else 0.0)
    if log:
        high = float(finite.max())
        ax.imshow(finite.tolist(), origin="lower", extent=window, cmap="viridis", vmin=high - DEPTH, vmax=high)
    else:
        shown = finite.exp()
        ax.imshow(
            shown.tolist(), origin="lower", extent=window, cmap="magma", vmin=0.0, vmax=float(shown.quantile(SHARE_SHOWN))
        )
    if levels is not None:
        _level_sets(ax, finite, levels, window)
    if samples is not None:
        x = _points(samples)
        ax.plot(x[:, 0].tolist(), x[:, 1].tolist(), ",", color="white", alpha=0.8)
    return ax


def _level_sets(ax: Axes, field: Tensor, levels: Sequence[float], window: Window) -> None:
    """Lines round the regions of highest density that hold given shares of what the window holds."""
    for level in levels:
        if not 0 < level < 1:
            raise ArgumentError(f"density: a level is a share of the probability, between 0 and 1, got {level!r}.")
    shares, order = field.double().flatten().softmax(0).sort(descending=True)
    held, heights = shares.cumsum(0), field.double().flatten()[order]
    found = {float(heights[int((held < level).sum().clamp(max=len(heights) - 1))]): level for level in levels}
    left, right, bottom, top = window
    side = field.shape[0]
    across = [left + (right - left) * (place + 0.5) / side for place in range(side)]
    up = [bottom + (top - bottom) * (place + 0.5) / side for place in range(side)]
    lines = ax.contour(across, up, field.tolist(), levels=sorted(found), colors="white", linewidths=0.9, linestyles="-")
    ax.clabel(lines, fmt={height: f"{level:.0%}" for height, level in found.items()}, fontsize=7)


def scatter(
    x: Tensor,
    colors: Sequence[float] | Tensor | None = None,
    rings: Sequence[float] = (),
    window: Window = WINDOW,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Points (N, 2); `colors`, one number in [0, 1] for each, by default the angle of each point.  rings: radii of circles.

    >>> axes = scatter(torch.randn(100, 2), rings=(1, 2))
    >>> len(axes.patches)
    2
    """
    from matplotlib.patches import Circle

    ax = _square(ax, window, title)
    points = _points(x)
    hues = angles(points) if colors is None else torch.as_tensor(colors)
    if len(hues) != len(points):
        raise ArgumentError(f"scatter: {len(points)} points, but {len(hues)} colours.")
    ax.scatter(
        points[:, 0].tolist(), points[:, 1].tolist(), c=hues.tolist(), s=2.0, cmap="hsv", vmin=0.0, vmax=1.0, linewidths=0
    )
    for radius in rings:
        ax.add_patch(Circle((0.0, 0.0), radius, fill=False, color="black", linewidth=0.6, alpha=0.6))
    return ax


def angles(x: Tensor) -> Tensor:
    """The direction of each point (N, 2) from the origin, in [0, 1): a hue that can be recognised after a flow has moved it.

    >>> import torch
    >>> angles(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    tensor([0.5000, 0.7500, 1.0000])
    """
    x = _points(x)
    return torch.atan2(x[:, 1], x[:, 0]) / (2 * torch.pi) + 0.5


def layers_to_draw(p: Flow, most: int) -> list[int]:
    """How many layers noise has passed in each of at most `most` pictures, evenly: none, ..., all of them.

    >>> from probflow.flows import NICE
    >>> layers_to_draw(NICE("p(x)", features=2, layers=7), 5)
    [0, 2, 4, 6, 8]
    """
    whole = len(_chain(p))
    shown = min(most, whole + 1)
    return [round(place * whole / (shown - 1)) for place in range(shown)]


def warped_grid(
    p: Flow,
    layers: int | None = None,
    values: Values | None = None,
    reach: float = 3.0,
    lines: int = 19,
    window: Window = WINDOW,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A square grid of noise, [-reach, reach]², and 2,000 points z ~ N(0, I), after the first `layers` layers of a flow (all: None).

    The points have the colours of the directions that they start in.

    Errors: ShapeError where the flow has not two features.

    >>> from probflow.flows import NICE
    >>> axes = warped_grid(NICE("p(x)", features=2, layers=2), layers=0, lines=5)
    >>> len(axes.collections)
    2
    """
    from matplotlib.collections import LineCollection

    known = conditions(p, values, "warped_grid")
    chain = _chain(p)
    part = chain if layers is None else chain[:layers]
    weight = next(p.parameters(), torch.empty(0))
    along = torch.linspace(-reach, reach, 200, device=weight.device)
    at = torch.linspace(-reach, reach, lines, device=weight.device)
    vertical = torch.cartesian_prod(at, along)
    noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)).to(weight)
    z = torch.cat([vertical, vertical.flip(1), noise])
    context = None
    if chain.context is not None:
        context = p._context_of([known[n] for n in p._context], [0] * len(p._context)).expand(len(z), *chain.context)
    with torch.no_grad():
        x = part.forward(z, context if part.context is not None else None) if len(part) else z
    ax = _square(ax, window, title)
    grid = x[: 2 * len(vertical)].reshape(2 * lines, len(along), 2)
    ax.add_collection(LineCollection(grid.tolist(), colors="0.35", linewidths=0.35))
    return scatter(x[2 * len(vertical) :], angles(noise), window=window, title=title, ax=ax)


def animation(frames: Sequence[Tensor], path: str | PathLike[str], extent: Window = WINDOW, per_second: int = 5) -> Path:
    """Writes fields, (height, width) each with the lowest row first, as a GIF: one picture per frame, the last one held.

    Errors: ArgumentError without frames, MissingDependency without matplotlib (extra `viz`).

    >>> animation([torch.rand(10, 10) for _ in range(3)], "film.gif").name
    'film.gif'
    """
    if not len(frames):
        raise ArgumentError("animation: there are no frames.")
    ax = _square(None, extent, None)
    from matplotlib.animation import PillowWriter

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = PillowWriter(fps=per_second)
    with writer.saving(cast("Figure", ax.get_figure(root=True)), str(path), dpi=100):
        for number, frame in enumerate([*frames, *[frames[-1]] * (2 * per_second)]):
            ax.clear()
            _square(ax, extent, f"{min(number + 1, len(frames))} of {len(frames)}")
            high = float(frame.flatten().quantile(SHARE_SHOWN))
            ax.imshow(frame.tolist(), origin="lower", extent=extent, cmap="magma", vmin=0.0, vmax=high)
            writer.grab_frame()
    return path


def _square(ax: Axes | None, window: Window, title: str | None) -> Axes:
    ax = new_axes(4.0, 4.0) if ax is None else ax
    left, right, bottom, top = window
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    if title:
        ax.set_title(title, fontsize="medium")
    return ax


def _points(x: Tensor) -> Tensor:
    x = x.detach().to("cpu", torch.float32)
    if x.dim() != 2 or x.shape[1] != 2:
        raise ShapeError(f"Points on the plane have the shape (N, 2), got {tuple(x.shape)}.")
    return x


def _chain(p: Flow) -> Compose:
    """The layers of a flow on the plane."""
    if not isinstance(p, Flow):
        raise ArgumentError(f"Only a flow can be drawn layer by layer, got {p.statement}.")
    chain = p.transform if isinstance(p.transform, Compose) else Compose([p.transform])
    if chain.shape not in (None, (2,)):
        raise ShapeError(f"{p.statement}: only a flow with two features can be drawn on the plane, this one has {chain.shape}.")
    return chain
