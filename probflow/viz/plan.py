"""The plan of a loss as a figure: what is read, drawn, evaluated and combined, and what each op uses."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

from probflow.errors import ArgumentError, StatementError
from probflow.graph import parse
from probflow.graph.flowchart import flowchart
from probflow.inference import Program
from probflow.losses import Loss
from probflow.losses.evaluation import PlanLike
from probflow.printing import latex_name
from probflow.viz._matplotlib import new_axes
from probflow.viz.mathtext import SIZE, extent, outline, works

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {
    "read": "#e8e8e8",
    "params": "#dbe8f6",
    "draw": "#fbe3c6",
    "log_prob": "#d9efd6",
    "kl": "#e6dcf3",
    "entropy": "#e6dcf3",
    "combine": "#fdf3c4",
    "reduce": "#f6d7d7",
}
OTHER = "#eeeeee"
FONT, SMALL, LINE = SIZE, 7.5, 14.0
WIDEST = 34  # characters on a line
SCALE = 1.1


def plan_graph(plan: Loss | PlanLike, ax: Axes | None = None) -> Axes:
    """The data flow of a loss's plan: inputs on top, the loss at the bottom, an arrow from every op to those that use it.

    The number is that of the op in the printed plan, ``print(loss.plan())``; the colour is its kind.

    Errors: ArgumentError for what is neither a loss nor a plan.

    >>> from probflow import KL, Normal
    >>> q, p = Normal("q(z | x)", loc="x", scale=0.5), Normal("p(z)", loc=0.0, scale=1.0)
    >>> axes = plan_graph(KL(q, p).mean())
    >>> sum(patch.get_gid() is not None and patch.get_gid().startswith("op") for patch in axes.patches)
    5
    """
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path

    program = plan.plan() if isinstance(plan, Loss) else plan
    if not isinstance(program, Program):
        raise ArgumentError(f"plan_graph takes a loss or its plan, loss.plan(); got a {type(plan).__name__}.")
    graph = program.graph
    cards = {node: _card(node, graph.nodes[node]) for node in graph}
    sizes = {
        node: (_width(title, lines, note), 15.0 + LINE * len(lines) + (10.0 if note else 0.0))
        for node, (title, lines, note) in cards.items()
    }
    chart = flowchart(graph, sizes)
    if ax is None:
        ax = new_axes(SCALE * chart.width / 72, SCALE * chart.height / 72)
    ax.set(xlim=(0.0, chart.width), ylim=(chart.height, 0.0), aspect="equal")
    ax.set_axis_off()
    for curve, tip in chart.curves.values():
        path = Path(curve, [Path.MOVETO, *[Path.CURVE4] * (len(curve) - 1)])
        ax.add_artist(PathPatch(path, fill=False, edgecolor="0.35", linewidth=1.0, zorder=1))
        head = [tip, (tip[0] - 2.6, tip[1] - 6.5), (tip[0] + 2.6, tip[1] - 6.5)]
        ax.add_artist(Polygon(head, facecolor="0.35", linewidth=0, zorder=1))
    for node, (x, y) in chart.places.items():
        width, height = sizes[node]
        kind = graph.nodes[node]["kind"]
        box = FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, "round,pad=0,rounding_size=4",
            facecolor=COLORS.get(kind, OTHER), edgecolor="0.4", linewidth=0.8, zorder=2,
        )  # fmt: skip
        box.set_gid(f"op {node}")
        ax.add_artist(box)
        _write(ax, x, y - height / 2, cards[node])
    return ax


Card = tuple[str, list[str], str]


def _card(node: Any, op: dict[str, str]) -> Card:
    """Heading, lines and a remark below, such as the shape of the result."""
    if op["kind"] == "read":
        return "read", [formula(op["text"])], op["shape"]
    text = op["text"]
    remark = ", ".join(part for part in (op["note"], op["shape"]) if part)
    if op["kind"] == "reduce" and "(" in text:
        return f"{node} reduce", [text.split("(")[0] + " " + op["note"]], op["shape"]
    lines = [formula(line) for line in _lines(text)]
    return f"{node} {op['kind']}", lines or [""], remark


def _lines(text: str) -> list[str]:
    """A long formula on several lines, broken before + and -, and where that is not enough between words."""
    lines: list[str] = []
    for piece in re.split(r"(?= [-+] )", text):
        if lines and len(lines[-1]) + len(piece) <= WIDEST:
            lines[-1] += piece
        else:
            lines.append(piece.strip())
    return [line for long in lines for line in textwrap.wrap(long, WIDEST + 6, break_long_words=False, break_on_hyphens=False)]


def _width(title: str, lines: list[str], note: str) -> float:
    wide = max((len(re.sub(r"\\[A-Za-z]+|[{}$\\]", "", line)) for line in lines), default=0)
    return max(5.6 * wide + 14, 4.6 * len(title) + 12, 4.4 * len(note) + 14, 34.0)


def _write(ax: Axes, x: float, top: float, card: Card) -> None:
    title, lines, note = card
    _text(ax, x, top + 9.0, title, SMALL, "0.35")
    for place, line in enumerate(lines):
        _text(ax, x, top + 20.0 + LINE * place, line, FONT if line.startswith("$") else 0.9 * FONT, "0.05")
    if note:
        _text(ax, x, top + 16.5 + LINE * len(lines), note, SMALL, "0.35")


def _text(ax: Axes, x: float, y: float, text: str, size: float, color: str) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.transforms import Affine2D

    path = outline(text, size)
    (x0, _), (x1, _) = extent(path)
    move = Affine2D().scale(1.0, -1.0).translate(x - (x0 + x1) / 2, y + 0.25 * size)
    patch = PathPatch(move.transform_path(path), facecolor=color, linewidth=0, zorder=3)
    patch.set_gid(f"text {text}")
    ax.add_artist(patch)


_STATEMENT = re.compile(r"[^\W\d][\w{}^'\\]*(?:#\d+)?\([^()\[\]]*\)")


def formula(text: str) -> str:
    r"""The text of an op as mathematics: ``KL[q(z|x) || p(z)]`` with its bars and scripts; as it is, where that cannot be done.

    >>> formula("z ~ q(z|x)")
    '$z \\sim q(z \\mid x)$'
    """
    drawn, tilde, rest = text.partition(" ~ ")
    named = ", ".join(map(latex_name, drawn.split(", "))) + tilde + rest if tilde else text
    latex = named.replace("||", r"\,\Vert\,").replace("~", r"\sim").replace("->", r"\to")
    latex = re.sub(r"\blog ", r"\\log\\,", latex)
    latex = re.sub(r"\bKL\[", r"\\mathrm{KL}[", latex)
    latex = re.sub(r"\bE_(" + _STATEMENT.pattern + r")", lambda m: rf"\mathrm{{E}}_{{{_statement(m[1])}}}", latex)
    latex = re.sub(r" ?\bsum_(" + _STATEMENT.pattern + r")", lambda m: rf"\,\Sigma_{{{_statement(m[1])}}}", latex)
    latex = _STATEMENT.sub(lambda m: _statement(m[0]), latex)
    latex = re.sub(r"\b(mean|sum|log|exp|max|min|abs)\(", r"\\mathrm{\1}(", latex)
    latex = latex.replace(" * ", r" \cdot ")
    return f"${latex}$" if works(f"${latex}$") else text.replace("$", r"\$")


def _statement(text: str) -> str:
    label, number = text, ""
    found = re.match(r"([^#(]+)#(\d+)(.*)", text)
    if found:
        label, number = found[1] + found[3], found[2]
    try:
        statement = parse(label)
    except StatementError:
        return text
    latex = statement.latex()
    place = latex.index("(")
    return f"{latex[:place]}^{{({number})}}{latex[place:]}" if number else latex
