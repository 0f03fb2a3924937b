"""A drawing in the language of Graphviz."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..printing import latex_name
from .picture import Node, Picture, Plate, boxed
from .symbols import runs

STYLES = {
    "latent": "",
    "observed": ', style=filled, fillcolor="gray85"',
    "partly": ', style=wedged, fillcolor="gray85:white"',
    "summed": ", style=dotted",
    "conditioned": ", shape=none, width=0.3, height=0.3",
}


def to_dot(picture: Picture) -> str:
    """The drawing as DOT; Graphviz finds the places: ``dot -Tpdf``.

    A variable in two plates that do not hold one another stands in the first: Graphviz has no overlapping clusters.

    >>> from probflow.graph import parse
    >>> from probflow.graph.picture import Part, picture_of
    >>> print(to_dot(picture_of([Part(parse("p(x|z)"))], [Part(parse("q(z|x)"))], plates={"N": ["x", "z"]})))
    digraph {
      node [shape=circle, fixedsize=false, width=0.5, margin=0.02, fontname="Times"];
      edge [arrowsize=0.7];
      subgraph cluster_0 {
        label="N"; labelloc=b; labeljust=r; style=rounded;
        "x" [label=<<i>x</i>>];
        "z" [label=<<i>z</i>>];
      }
      "z" -> "x";
      "x" -> "z" [style=dashed, constraint=false];
    }
    """
    lines = [
        "digraph {",
        '  node [shape=circle, fixedsize=false, width=0.5, margin=0.02, fontname="Times"];',
        "  edge [arrowsize=0.7];",
    ]
    lines += _inside(picture.nodes, picture.plates, "  ", [0])
    generative = any(not edge.inference for edge in picture.edges)
    dashed = " [style=dashed, constraint=false]" if generative else " [style=dashed]"
    for edge in picture.edges:
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)}{dashed if edge.inference else ''};")
    return "\n".join([*lines, "}"])


def _inside(nodes: Sequence[Node], plates: Sequence[Plate], indent: str, number: list[int]) -> list[str]:
    """Nodes in their plates, the larger plates first; what is in none follows."""
    lines: list[str] = []
    boxes, left = boxed(nodes, plates)
    for plate, members, inner in boxes:
        label = f"label={_quoted(plate.label)}; labelloc=b; labeljust=r; style=rounded;"
        lines += [f"{indent}subgraph cluster_{number[0]} {{", f"{indent}  {label}"]
        number[0] += 1
        lines += [*_inside(members, inner, indent + "  ", number), indent + "}"]
    return lines + [indent + _node(node) for node in left]


def _node(node: Node) -> str:
    double = ", peripheries=2" if node.deterministic and node.role != "conditioned" else ""
    return f"{_quoted(node.key)} [label=<{html_name(node.name)}>{STYLES[node.role]}{double}];"


def html_name(name: str) -> str:
    """A name with HTML tags for italics and scripts: ``<i>z</i><sub>1</sub>``."""
    text = ""
    for run in runs(latex_name(name)):
        shown = f"<i>{escape(run.text)}</i>" if run.italic and not run.level else escape(run.text)
        shown = f"<b>{shown}</b>" if run.bold else shown
        tag = {0: "", -1: "sub", 1: "sup"}[run.level]
        text += f"<{tag}>{shown}</{tag}>" if tag else shown
    return text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
