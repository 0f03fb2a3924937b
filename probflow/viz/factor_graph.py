"""The factor graph of a model or a loss: as a figure, and as text for other programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from probflow.distributions import Distribution
from probflow.distributions.drawing import is_inference, parts
from probflow.errors import ArgumentError
from probflow.graph.dot import to_dot as dot
from probflow.graph.layout import Arrow, Box, Disc, layout
from probflow.graph.mermaid import to_mermaid as mermaid
from probflow.graph.picture import Picture, picture_of
from probflow.graph.svg import label_place
from probflow.graph.svg import to_svg as svg
from probflow.graph.tikz import to_tikz as tikz
from probflow.losses import Loss
from probflow.losses.drawing import picture as picture_of_loss
from probflow.printing import latex_name
from probflow.viz._matplotlib import new_axes
from probflow.viz.mathtext import label_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SHADE, FAINT = "#1a1a1a", "#d5d5d5", "#666666"
SCALE = 1.25
Names = str | Iterable[str]


def factor_graph(
    *models: Distribution | Loss,
    observed: Names = (),
    plates: Mapping[str, Names] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The factor graph of distributions, or of a loss: a circle for every variable, an arrow for every "given".

    Arrows of the generative model are solid, those of the inference model (distributions named q) dashed.  Observed variables
    are shaded: those named in `observed`, data, and what a loss needs values of.  What is only conditioned on has no border,
    a deterministic variable a double one, a variable that is summed or integrated out a dotted one.
    plates: label -> variables, a box around what is repeated.

    Errors: UnknownVariable for names that do not occur, ArgumentError for other arguments and for plates that cannot be drawn,
    MissingDependency without matplotlib (extra `viz`).

    >>> from probflow import Normal
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    >>> q = Normal("q(z | x)", loc="x", scale=1.0)
    >>> axes = factor_graph(p, q, observed=["x"], plates={"N": ["x", "z"]})
    >>> from probflow.viz import save
    >>> save(axes, "graph.png").name
    'graph.png'
    """
    from matplotlib.patches import Rectangle

    drawn = layout(picture(*models, observed=observed, plates=plates))
    if ax is None:
        ax = new_axes(SCALE * drawn.width / 72, SCALE * drawn.height / 72)
    ax.set(xlim=(0.0, drawn.width), ylim=(0.0, drawn.height), aspect="equal")
    ax.set_axis_off()
    ax.add_patch(Rectangle((0.0, 0.0), drawn.width, drawn.height, visible=False))
    for box in drawn.boxes:
        _box(ax, box, drawn.height)
    for arrow in drawn.arrows:
        _arrow(ax, arrow, drawn.height)
    for disc in drawn.discs:
        _disc(ax, disc, drawn.height)
    return ax


def picture(*models: Distribution | Loss, observed: Names = (), plates: Mapping[str, Names] | None = None) -> Picture:
    """What `factor_graph` draws, as plain data: nodes, edges and plates.

    >>> from probflow import Normal
    >>> p, q = Normal("p(x | z)", loc="z", scale=1.0), Normal("q(z | x)", loc="x", scale=1.0)
    >>> [(edge.source, edge.target, edge.inference) for edge in picture(p, q).edges]
    [('z', 'x', False), ('x', 'z', True)]
    """
    losses = [model for model in models if isinstance(model, Loss)]
    if len(losses) == 1 == len(models):
        found = picture_of_loss(losses[0], observed, plates)
        if found is None:
            raise ArgumentError(f"factor_graph: {losses[0]} has no distribution, so there is nothing to draw.")
        return found
    for model in models:
        if not isinstance(model, Distribution):
            got = "several models, one of them a loss" if losses else f"a {type(model).__name__}"
            raise ArgumentError(f"factor_graph takes distributions, factor_graph(p, q), or one loss; got {got}.")
    if not models:
        raise ArgumentError("factor_graph needs something to draw: factor_graph(p, q), or factor_graph(loss).")
    factors = [factor for model in models if isinstance(model, Distribution) for factor in model.factors]
    generative = [part for factor in factors if not is_inference(factor) for part in parts(factor)]
    inference = [part for factor in factors if is_inference(factor) for part in parts(factor)]
    return picture_of(generative, inference, observed, plates)


def to_dot(*models: Distribution | Loss, observed: Names = (), plates: Mapping[str, Names] | None = None) -> str:
    """The factor graph in the language of Graphviz; arguments as for `factor_graph`.

    >>> from probflow import Normal
    >>> print(to_dot(Normal("p(x | z)", loc="z", scale=1.0), observed="x").splitlines()[-3])
      "z" [label=<<i>z</i>>, shape=none, width=0.3, height=0.3];
    """
    return dot(picture(*models, observed=observed, plates=plates))


def to_mermaid(*models: Distribution | Loss, observed: Names = (), plates: Mapping[str, Names] | None = None) -> str:
    """The factor graph as a Mermaid flowchart, for Markdown; arguments as for `factor_graph`.

    >>> from probflow import Normal
    >>> print(to_mermaid(Normal("p(x | z)", loc="z", scale=1.0)).splitlines()[3])
      v1 --> v0
    """
    return mermaid(picture(*models, observed=observed, plates=plates))


def to_tikz(*models: Distribution | Loss, observed: Names = (), plates: Mapping[str, Names] | None = None) -> str:
    r"""The factor graph as a ``tikzpicture``, which needs no TikZ library; arguments as for `factor_graph`.

    >>> from probflow import Normal
    >>> print(to_tikz(Normal("p(x | z)", loc="z", scale=1.0)).splitlines()[-2])
      \draw[generative] (z) -- (x);
    """
    return tikz(picture(*models, observed=observed, plates=plates))


def to_svg(*models: Distribution | Loss, observed: Names = (), plates: Mapping[str, Names] | None = None) -> str:
    """The factor graph as SVG, as notebooks show it; needs no matplotlib; arguments as for `factor_graph`.

    >>> from probflow import Normal
    >>> to_svg(Normal("p(x | z)", loc="z", scale=1.0)).endswith("</svg>")
    True
    """
    return svg(picture(*models, observed=observed, plates=plates))


def _disc(ax: Axes, disc: Disc, height: float) -> None:
    from matplotlib.patches import Circle, PathPatch, Wedge

    role, center = disc.node.role, (disc.x, height - disc.y)
    if role != "conditioned":
        line = (0, (0.1, 2.2)) if role == "summed" else "-"
        face = SHADE if role == "observed" else "white"
        circle = Circle(center, disc.r, facecolor=face, edgecolor=INK, linewidth=1.1, linestyle=line, zorder=3)
        circle.set_capstyle("round")
        circle.set_gid(f"node {disc.node.key}")
        ax.add_artist(circle)
        if role == "partly":
            ax.add_artist(Wedge(center, disc.r - 0.5, -90, 90, facecolor=SHADE, linewidth=0, zorder=3))
        if disc.node.deterministic:
            ax.add_artist(Circle(center, disc.r - 3, fill=False, edgecolor=INK, linewidth=0.9, zorder=3))
    path = label_path(disc.node.label, disc.font, center)
    name = PathPatch(path, facecolor=FAINT if role == "summed" else INK, linewidth=0, zorder=4)
    name.set_gid(f"label {disc.node.key}")
    ax.add_artist(name)


def _arrow(ax: Axes, arrow: Arrow, height: float) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    points = [(x, height - y) for x, y in arrow.curve]
    path = Path(points, [Path.MOVETO, *[Path.CURVE4] * (len(points) - 1)])
    dashes = (0, (4.0, 2.6)) if arrow.edge.inference else "-"
    line = PathPatch(path, fill=False, edgecolor=INK, linewidth=1.1, linestyle=dashes, zorder=2)
    line.set_capstyle("butt")
    line.set_gid(f"edge {arrow.edge.source} -> {arrow.edge.target}")
    ax.add_artist(line)
    ax.add_artist(Polygon([(x, height - y) for x, y in arrow.head], facecolor=INK, linewidth=0, zorder=2))


def _box(ax: Axes, box: Box, height: float) -> None:
    from matplotlib.patches import FancyBboxPatch, PathPatch

    width, tall = box.right - box.left, box.bottom - box.top
    style = "round,pad=0,rounding_size=6"
    frame = FancyBboxPatch((box.left, height - box.bottom), width, tall, style, fill=False, edgecolor=INK, linewidth=0.9)
    frame.set_gid(f"plate {box.plate.label}")
    ax.add_artist(frame)
    x, y = label_place(box)
    path = label_path(latex_name(box.plate.label), 11.5, (x, height - y - 3), "start" if box.label_left else "end")
    ax.add_artist(PathPatch(path, facecolor=INK, linewidth=0, zorder=4))
