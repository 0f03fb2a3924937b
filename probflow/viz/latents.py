"""Latent variables: where the data lie in them, and what the decoder makes of a walk through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probflow._typing import Values
from probflow.distributions import Distribution
from probflow.errors import ArgumentError, ShapeError
from probflow.printing import shape_text
from probflow.viz._matplotlib import new_axes
from probflow.viz.images import image_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTILES = (0.02, 0.98)


def interpolation(
    *paths: Tensor, row_labels: Sequence[object] | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Images on the way from one to another: one row for each path, its first image on the left.

    Shapes: a path has one image per step, as for `image_grid`; all have as many steps.

    Errors: ShapeError for paths of different length, ArgumentError without any.

    >>> z = torch.lerp(torch.zeros(1, 4), torch.ones(1, 4), torch.linspace(0, 1, 7)[:, None])
    >>> [label.get_text() for label in interpolation(z).get_xticklabels()][:3]
    ['0', '0.17', '0.33']
    """
    if not paths:
        raise ArgumentError("interpolation needs images: interpolation(images), one image per step.")
    lengths = sorted({len(path) for path in paths})
    if len(lengths) > 1:
        raise ShapeError(f"interpolation: the paths have different numbers of steps, {', '.join(map(str, lengths))}.")
    steps = lengths[0]
    shares = [f"{step / max(steps - 1, 1):.2g}" for step in range(steps)]
    images = torch.cat([path.detach().cpu() for path in paths])
    return image_grid(images, len(paths), steps, row_labels=row_labels, col_labels=shares, title=title, ax=ax)


def latent_traversal(
    p: Distribution,
    values: Values | None = None,
    z: Tensor | int | None = None,
    dims: Sequence[int] | None = None,
    steps: int = 9,
    latent: str | None = None,
    variable: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """What each dimension of z does: one row for each, its value going from the 2% to the 98% quantile of N(0, 1).

    Shown is the mean image of p(x|z) (``sample_mean``), all other dimensions as in `z`.

    p: a decoder p(x|z), or a joint p(x|z) p(z).  values: its other conditioning variables, one row each.
    z: the point to start from, (1, D) or (D,), or the number D of dimensions, for the origin; not needed for a joint.
    dims: which dimensions, by default all, at most ten.  latent, variable: the names of z and x, where there is a choice.

    Errors: ArgumentError where p, `latent` or `dims` do not say what to draw; ShapeError for shapes.

    >>> from probflow import Bernoulli
    >>> from torch import nn
    >>> from probflow.nn import MLP
    >>> p = Bernoulli("p(x | z)", MLP(2, [8], {"logits": 16}))
    >>> axes = latent_traversal(p, z=2, steps=5)
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['$z_{1}$', '$z_{2}$']
    """
    known = dict(values or {})
    name = _latent_name(p, latent, known)
    shown = _image_name(p, name, variable)
    start = _start(p, name, z, known)
    size = start.shape[1]
    chosen = list(range(min(size, 10))) if dims is None else list(dims)
    for dim in chosen:
        if not isinstance(dim, int) or not 0 <= dim < size:
            raise ArgumentError(f"latent_traversal: {name} has the dimensions 0 to {size - 1}, not {dim!r}.")
    low, high = QUANTILES
    along = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(low, high, steps))
    points = start.repeat(len(chosen) * steps, 1)
    for row, dim in enumerate(chosen):
        points[row * steps : (row + 1) * steps, dim] = along.to(points)
    rest = {n: v.expand(len(points), *v.shape[1:]) for n, v in known.items() if n != name}
    with torch.no_grad(), torch.random.fork_rng():
        images = p.sample({**rest, name: points}, sample_mean=True)[shown]
    from probflow.printing import latex_name

    labels = [f"${latex_name(f'{name}_{dim + 1}') if len(name) == 1 else f'{dim + 1}'}$" for dim in chosen]
    return image_grid(images, len(chosen), steps, labels, [f"{v:.2g}" for v in along.tolist()], title, ax)


def latent_scatter(
    z: Tensor, labels: Tensor | Sequence[object] | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Latent variables (N, 2) as points, coloured by label: a legend for classes, a colour bar for real numbers.

    labels: (N,) integers or names, (N, K) one-hot, or (N,) real numbers.

    Errors: ArgumentError for what is not a tensor, ShapeError for other shapes.

    >>> axes = latent_scatter(torch.randn(30, 2), torch.arange(30) % 3)
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['0', '1', '2']
    """
    if not isinstance(z, Tensor):
        raise ArgumentError(
            f"latent_scatter takes the points themselves, a tensor of the shape (N, 2), got a {type(z).__name__}.\n"
            "Draws of q(z|x): q.sample({'x': x})['z']; its means: q.mean({'x': x})."
        )
    points = z.detach().to("cpu", torch.float32)
    if points.dim() != 2 or points.shape[1] != 2:
        hint = " Choose two of them: z[:, :2]." if points.dim() == 2 and points.shape[1] > 2 else ""
        raise ShapeError(f"latent_scatter: z has the shape {shape_text(points.shape)}, expected (N, 2).{hint}")
    classes, numbers = _labels(labels, len(points))
    if ax is None:
        ax = new_axes(5.2, 4.4)
    if numbers is not None:
        drawn = ax.scatter(points[:, 0].tolist(), points[:, 1].tolist(), c=numbers, s=6, linewidths=0, cmap="viridis")
        figure = ax.get_figure(root=True)
        if figure is not None:
            figure.colorbar(drawn, ax=ax)
    elif classes is None:
        ax.scatter(points[:, 0].tolist(), points[:, 1].tolist(), s=6, linewidths=0)
    else:
        _by_class(ax, points, classes)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    if title:
        ax.set_title(title)
    return ax


def _by_class(ax: Axes, points: Tensor, classes: list[str]) -> None:
    from matplotlib import colormaps

    names = list(dict.fromkeys(sorted(classes, key=lambda c: (not c.lstrip("-").isdigit(), len(c) if c.isdigit() else 0, c))))
    palette = colormaps["tab10" if len(names) <= 10 else "tab20" if len(names) <= 20 else "turbo"]
    for place, name in enumerate(names):
        here = points[torch.tensor([c == name for c in classes])]
        color = palette(place) if len(names) <= 20 else palette(place / (len(names) - 1))
        ax.scatter(here[:, 0].tolist(), here[:, 1].tolist(), s=6, linewidths=0, color=color, label=name)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2.5, fontsize="small", frameon=False)


def _labels(labels: Tensor | Sequence[object] | None, count: int) -> tuple[list[str] | None, list[float] | None]:
    """Classes by name, or real numbers; neither without labels."""
    if labels is None:
        return None, None
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu()
        if labels.dim() == 2 and labels.shape[1] > 1:
            labels = labels.argmax(1)
        labels = labels.squeeze(-1) if labels.dim() == 2 else labels
        if labels.shape != (count,):
            raise ShapeError(f"latent_scatter: {count} points, but labels of the shape {shape_text(labels.shape)}.")
        if labels.is_floating_point() and bool((labels != labels.round()).any()):
            return None, labels.tolist()
        return [str(int(label)) for label in labels.tolist()], None
    if len(labels) != count:
        raise ShapeError(f"latent_scatter: {count} points, but {len(labels)} labels.")
    return [str(label) for label in labels], None


def _latent_name(p: Distribution, latent: str | None, known: Values) -> str:
    choices = [n for n in p.cond_var if n not in known]
    if latent is not None:
        if latent not in p.cond_var + p.var:
            raise ArgumentError(f"latent_traversal: {p.statement} has no variable {latent!r}.")
        return latent
    if not choices and len(p.factors) > 1:
        choices = [n for n in p.var if p.graph.children(n)]
    if len(choices) != 1:
        asked = ", ".join(choices) or "nothing"
        raise ArgumentError(
            f"latent_traversal: which variable of {p.statement} is to be varied? It could be {asked}.\n"
            'Say it, latent="z", and give values for the others, values={"y": y[:1]}.'
        )
    return choices[0]


def _image_name(p: Distribution, latent: str, variable: str | None) -> str:
    choices = [n for n in p.var if n != latent]
    if variable is not None and variable not in choices:
        raise ArgumentError(f"latent_traversal: {p.statement} has no variable {variable!r} besides {latent!r} to show.")
    if variable is None and len(choices) > 1:
        leaves = [n for n in p.graph.leaves() if n != latent]
        choices = leaves if len(leaves) == 1 else choices
    if variable is None and len(choices) != 1:
        raise ArgumentError(f'latent_traversal: which of {", ".join(choices)} is the image? Say it: variable="{choices[0]}".')
    return variable or choices[0]


def _start(p: Distribution, name: str, z: Tensor | int | None, known: Values) -> Tensor:
    """The point (1, D) that is varied."""
    if z is None and name in known:
        z = known[name]
    if isinstance(z, int) and not isinstance(z, bool) and z > 0:
        return torch.zeros(1, z)
    if z is None and name in p.var:
        with torch.no_grad(), torch.random.fork_rng():
            z = torch.zeros_like(p.sample({n: v[:1] for n, v in known.items()}, batch_n=1)[name])
    if not isinstance(z, Tensor):
        raise ArgumentError(f"latent_traversal: how many dimensions has {name}? Give the point to start from, or z=8.")
    z = z[None] if z.dim() == 1 else z
    if z.dim() != 2 or z.shape[0] != 1:
        raise ShapeError(f"latent_traversal: the point to start from is one row, (1, D), got {shape_text(z.shape)}.")
    return z.detach().clone()
