"""A drawing in the language of Mermaid, which many Markdown pages and README files show as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from ..printing import latex_name
from .picture import Node, Picture, Plate, boxed
from .symbols import plain

CLASSES = {
    "latent": "",
    "observed": "fill:#d5d5d5,stroke:#1a1a1a",
    "partly": "fill:#ececec,stroke:#1a1a1a",
    "summed": "stroke:#1a1a1a,stroke-dasharray:2 3",
    "conditioned": "fill:none,stroke:none",
}


def to_mermaid(picture: Picture) -> str:
    """The drawing as a Mermaid flowchart.

    >>> from probflow.graph import parse
    >>> from probflow.graph.picture import Part, picture_of
    >>> print(to_mermaid(picture_of([Part(parse("p(x|z1)")), Part(parse("p(z1)"))], [Part(parse("q(z1|x)"))], observed="x")))
    flowchart TD
      v0(("x")):::observed
      v1(("z₁"))
      v1 --> v0
      v0 -.-> v1
      classDef observed fill:#d5d5d5,stroke:#1a1a1a
    """
    ids = {node.key: f"v{place}" for place, node in enumerate(picture.nodes)}
    lines = ["flowchart TD", *_inside(picture.nodes, picture.plates, ids, "  ", [0])]
    for edge in picture.edges:
        lines.append(f"  {ids[edge.source]} {'-.->' if edge.inference else '-->'} {ids[edge.target]}")
    used = dict.fromkeys(node.role for node in picture.nodes if CLASSES[node.role])
    return "\n".join([*lines, *(f"  classDef {role} {CLASSES[role]}" for role in used)])


def _inside(nodes: Sequence[Node], plates: Sequence[Plate], ids: dict[str, str], indent: str, number: list[int]) -> list[str]:
    lines: list[str] = []
    boxes, left = boxed(nodes, plates)
    for plate, members, inner in boxes:
        lines.append(f"{indent}subgraph plate{number[0]} [{_text(plate.label)}]")
        number[0] += 1
        lines += [*_inside(members, inner, ids, indent + "  ", number), f"{indent}end"]
    return lines + [indent + _node(node, ids[node.key]) for node in left]


def _node(node: Node, identifier: str) -> str:
    if node.role == "conditioned":
        shape = f"[{_text(node.name)}]"
    elif node.deterministic:
        shape = f"((({_text(node.name)})))"
    else:
        shape = f"(({_text(node.name)}))"
    return identifier + shape + (f":::{node.role}" if CLASSES[node.role] else "")


def _text(name: str) -> str:
    """The name in Unicode, in quotes; a quote within is an entity."""
    shown = plain(latex_name(name)).replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;")
    return f'"{shown}"'
