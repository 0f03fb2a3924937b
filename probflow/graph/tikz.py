"""A drawing as a TikZ picture: for papers."""

from __future__ import annotations

import re

from ..printing import latex_name
from .curves import Point, arc
from .layout import Arrow, Disc, layout
from .picture import Picture

HEADER = r"""\begin{tikzpicture}[x=1pt, y=1pt, >=stealth,
  variable/.style={circle, draw, minimum size=34pt, inner sep=0pt},
  observed/.style={variable, fill=black!17},
  partly/.style={variable, path picture={\fill[black!17] (path picture bounding box.south) rectangle
    (path picture bounding box.north east);}},
  summed/.style={variable, dotted},
  conditioned/.style={circle, inner sep=1pt, minimum size=34pt},
  inference/.style={->, dashed}, generative/.style={->},
  plate/.style={draw, rounded corners=5pt}]"""


def to_tikz(picture: Picture) -> str:
    r"""The drawing as a ``tikzpicture`` that needs ``\usepackage{tikz}`` and no library; nodes keep their names, to go on from.

    >>> from probflow.graph import parse
    >>> from probflow.graph.picture import Part, picture_of
    >>> text = to_tikz(picture_of([Part(parse("p(x|z)")), Part(parse("p(z)"))], observed=["x"]))
    >>> print(*[line for line in text.splitlines() if line.startswith((r"  \node", r"  \draw"))], sep="\n")
      \node[observed] (x) at (21, 21) {$x$};
      \node[variable] (z) at (21, 87) {$z$};
      \draw[generative] (z) -- (x);
    """
    drawn = layout(picture)
    ids = _identifiers(picture)
    lines = [HEADER]

    def at(point: Point) -> str:
        return f"({_n(point[0])}, {_n(drawn.height - point[1])})"

    for box in drawn.boxes:
        lines.append(f"  \\draw[plate] {at((box.left, box.bottom))} rectangle {at((box.right, box.top))};")
        place, side = at((box.left if box.label_left else box.right, box.bottom)), "west" if box.label_left else "east"
        lines.append(f"  \\node[anchor=south {side}, inner sep=4pt, font=\\small] at {place} {{${_tex(box.plate.label)}$}};")
    lines += [_node(disc, ids[disc.node.key], at((disc.x, disc.y))) for disc in drawn.discs]
    for arrow in drawn.arrows:
        style = "inference" if arrow.edge.inference else "generative"
        lines.append(f"  \\draw[{style}] {_way(arrow, ids, at)};")
    return "\n".join([*lines, r"\end{tikzpicture}"])


def _node(disc: Disc, identifier: str, place: str) -> str:
    style: str = "variable" if disc.node.role == "latent" else disc.node.role
    if disc.node.deterministic and disc.node.role != "conditioned":
        style += ", double, double distance=1.5pt"
    if abs(2 * disc.r - 34) > 0.5:
        style += f", minimum size={_n(2 * disc.r)}pt"
    label = f"${_tex(disc.node.name)}$"
    if disc.font < 9:
        label = r"\scriptsize " + label if disc.font < 8 else r"\footnotesize " + label
    return f"  \\node[{style}] ({identifier}) at {place} {{{label}}};"


def _way(arrow: Arrow, ids: dict[str, str], at: object) -> str:
    place = at if callable(at) else str
    source, target = f"({ids[arrow.edge.source]})", f"({ids[arrow.edge.target]})"
    whole = arrow.whole
    if len(whole) == 4 and _straight(arrow):
        return f"{source} -- {target}"
    text = source
    for index in range(1, len(whole), 3):
        last = index + 3 == len(whole)
        end = target if last else place(whole[index + 2])
        text += f" .. controls {place(whole[index])} and {place(whole[index + 1])} .. {end}"
    return text


def _straight(arrow: Arrow) -> bool:
    straight = arc(arrow.whole[0], arrow.whole[-1], 0.0)
    return all(abs(a - b) < 1e-6 for p, q in zip(straight, arrow.whole, strict=True) for a, b in zip(p, q, strict=True))


def _identifiers(picture: Picture) -> dict[str, str]:
    """Names that TikZ takes: letters, digits and hyphens, each once."""
    ids: dict[str, str] = {}
    for node in picture.nodes:
        name = re.sub(r"[^A-Za-z0-9]+", "-", node.name.replace("'", "-prime")).strip("-") or "v"
        while name in ids.values():
            name += "-"
        ids[node.key] = name
    return ids


def _tex(name: str) -> str:
    return latex_name(name).replace(r"\text{", r"\mbox{")


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".").replace("-0", "0") if abs(value) < 0.05 else f"{value:.1f}".removesuffix(".0")
