"""A drawing as SVG: for notebooks and web pages. It needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..printing import latex_name
from .curves import Curve, Point
from .layout import Arrow, Box, Disc, layout
from .picture import Picture
from .symbols import SMALLER, runs

INK, SHADE, PAPER, FAINT = "#1a1a1a", "#d5d5d5", "#ffffff", "#666666"
FONTS = "'STIX Two Math','STIX Two Text','Latin Modern Math','Cambria Math','Times New Roman','Nimbus Roman',serif"


def to_svg(picture: Picture, scale: float = 1.35) -> str:
    """The drawing as one ``<svg>`` element, `scale` pixels to the point.

    >>> from probflow.graph import parse
    >>> from probflow.graph.picture import Part, picture_of
    >>> text = to_svg(picture_of([Part(parse("p(x|z)")), Part(parse("p(z)"))], observed=["x"]))
    >>> text.startswith("<svg "), text.count("<circle"), text.count("<path"), text.count("<polygon")
    (True, 2, 1, 1)
    """
    drawn = layout(picture)
    width, height = drawn.width, drawn.height
    title = "factor graph of " + ", ".join(node.name for node in picture.nodes)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width * scale)}" height="{_n(height * scale)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" aria-label="{escape(title)}">',
        f'<rect width="{_n(width)}" height="{_n(height)}" rx="3" fill="{PAPER}"/>',
    ]
    lines += [_box(box) for box in drawn.boxes]
    lines += [line for arrow in drawn.arrows for line in _arrow(arrow)]
    lines += [line for disc in drawn.discs for line in _disc(disc)]
    return "\n".join([*lines, "</svg>"])


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def svg_path(curve: Curve) -> str:
    """A curve as the ``d`` of a path.

    >>> svg_path([(0.0, 0.0), (1.0, 0.0), (2.0, 0.5), (3.0, 0.5)])
    'M0,0 C1,0 2,0.5 3,0.5'
    """
    pieces = [f"C{_points(curve[place : place + 3])}" for place in range(1, len(curve), 3)]
    return f"M{_points(curve[:1])} {' '.join(pieces)}"


def _arrow(arrow: Arrow) -> list[str]:
    dashed = ' stroke-dasharray="4.5 3"' if arrow.edge.inference else ""
    ends = f"{arrow.edge.source} to {arrow.edge.target}".replace("#", " ")
    return [
        f'<path d="{svg_path(arrow.curve)}" fill="none" stroke="{INK}" stroke-width="1.1"{dashed}>'
        f"<title>{escape(ends)}</title></path>",
        f'<polygon points="{_points(arrow.head)}" fill="{INK}"/>',
    ]


def _disc(disc: Disc) -> list[str]:
    role, lines = disc.node.role, []
    if role != "conditioned":
        at = f'cx="{_n(disc.x)}" cy="{_n(disc.y)}"'
        fill = SHADE if role == "observed" else PAPER
        dotted = ' stroke-dasharray="0.1 3.2" stroke-linecap="round"' if role == "summed" else ""
        lines.append(f'<circle {at} r="{_n(disc.r)}" fill="{fill}" stroke="{INK}" stroke-width="1.1"{dotted}/>')
        if role == "partly":
            d = f"M{_points([(disc.x, disc.y - disc.r)])} A{_n(disc.r)} {_n(disc.r)} 0 0 1 {_points([(disc.x, disc.y + disc.r)])} Z"
            lines.append(f'<path d="{d}" fill="{SHADE}" stroke="none"/>')
            lines.append(f'<circle {at} r="{_n(disc.r)}" fill="none" stroke="{INK}" stroke-width="1.1"/>')
        if disc.node.deterministic:
            lines.append(f'<circle {at} r="{_n(disc.r - 3)}" fill="none" stroke="{INK}" stroke-width="0.9"/>')
    return [*lines, _text(disc.node.label, disc.x, disc.y, disc.font, "middle", FAINT if role == "summed" else INK)]


def _box(box: Box) -> str:
    size = f'width="{_n(box.right - box.left)}" height="{_n(box.bottom - box.top)}"'
    place = f'x="{_n(box.left)}" y="{_n(box.top)}"'
    rectangle = f'<rect {place} {size} rx="6" fill="none" stroke="{INK}" stroke-width="0.9"/>'
    return (
        rectangle
        + "\n"
        + _text(latex_name(box.plate.label), *label_place(box), 11.5, "start" if box.label_left else "end", INK)
    )


def label_place(box: Box) -> Point:
    """Where the label of a plate stands: its end, or where `box.label_left` its beginning."""
    return (box.left + 6 if box.label_left else box.right - 6), box.bottom - 8


def _text(latex: str, x: float, y: float, size: float, anchor: str, color: str) -> str:
    """A name in mathematical italics, with raised and lowered scripts."""
    spans, shift = [], 0.0
    for run in runs(latex):
        to = {0: 0.0, -1: 0.24, 1: -0.36}[run.level] * size
        style = ' font-style="italic"' if run.italic else ""
        style += ' font-weight="bold"' if run.bold else ""
        style += f' font-size="{_n(size * SMALLER)}"' if run.level else ""
        move = f' dy="{_n(to - shift)}"' if to != shift else ""
        shift = to
        spans.append(f"<tspan{move}{style}>{escape(run.text)}</tspan>")
    return (
        f'<text x="{_n(x)}" y="{_n(y + 0.32 * size)}" text-anchor="{anchor}" font-family="{FONTS}" font-size="{_n(size)}" '
        f'fill="{color}">{"".join(spans)}</text>'
    )
