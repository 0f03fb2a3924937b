"""Factor graphs as text: DOT, Mermaid, TikZ and SVG can be read back, and say what the picture says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from viz.drawn_models import MODELS, drawn, made, normal, roles

from probflow import viz


@pytest.mark.parametrize("name", MODELS)
def test_dot_can_be_read_back(name: str) -> None:
    picture, _ = drawn(name)
    models, options = made(name)
    text = viz.to_dot(*models, **options)  # type: ignore[arg-type]
    assert text.startswith("digraph {") and text.count("{") == text.count("}")
    quoted = r'"((?:[^"\\]|\\.)*)"'
    plain = [re.sub(r"\\(.)", r"\1", key) for key in re.findall(rf"^\s*{quoted} \[label=<.*>.*\];$", text, re.M)]
    assert sorted(plain) == sorted(node.key for node in picture.nodes)
    found = {
        (re.sub(r"\\(.)", r"\1", a), re.sub(r"\\(.)", r"\1", b), "dashed" in style)
        for a, b, style in re.findall(rf"^  {quoted} -> {quoted}(.*);$", text, re.M)
    }
    assert found == {(edge.source, edge.target, edge.inference) for edge in picture.edges}
    assert text.count("subgraph cluster_") == len(picture.plates)


@pytest.mark.parametrize("name", MODELS)
def test_mermaid_can_be_read_back(name: str) -> None:
    picture, _ = drawn(name)
    models, options = made(name)
    text = viz.to_mermaid(*models, **options)  # type: ignore[arg-type]
    nodes = re.findall(r'^\s*(v\d+)(?:\(+|\[)"([^"]+)"(?:\)+|\])(?::::(\w+))?$', text, re.M)
    assert len(nodes) == len(picture.nodes)
    order = {f"v{place}": node.key for place, node in enumerate(picture.nodes)}
    assert {order[i]: role or "latent" for i, _, role in nodes} == roles(picture)
    edges = {(order[a], order[b], way == "-.->") for a, way, b in re.findall(r"^  (v\d+) (-->|-\.->) (v\d+)$", text, re.M)}
    assert edges == {(edge.source, edge.target, edge.inference) for edge in picture.edges}
    assert len(re.findall(r"^\s*subgraph ", text, re.M)) == len(re.findall(r"^\s*end$", text, re.M)) == len(picture.plates)


@pytest.mark.parametrize("name", MODELS)
def test_tikz_can_be_read_back(name: str) -> None:
    picture, found = drawn(name)
    models, options = made(name)
    text = viz.to_tikz(*models, **options)  # type: ignore[arg-type]
    assert text.startswith(r"\begin{tikzpicture}") and text.endswith(r"\end{tikzpicture}")
    assert text.count("{") == text.count("}") and text.count("$") % 2 == 0
    nodes = re.findall(r"^  \\node\[(.*?)\] \((\S+)\) at \(([\d.-]+), ([\d.-]+)\) \{", text, re.M)
    assert len(nodes) == len(picture.nodes) == len({identifier for _, identifier, _, _ in nodes})
    assert all(re.fullmatch(r"[A-Za-z0-9-]+", identifier) for _, identifier, _, _ in nodes)
    for (_, _, x, y), disc in zip(nodes, found.discs, strict=True):
        assert float(x) == pytest.approx(disc.x, abs=0.06) and float(y) == pytest.approx(found.height - disc.y, abs=0.06)
    known = {identifier: node.key for (_, identifier, _, _), node in zip(nodes, picture.nodes, strict=True)}
    drawn_edges = re.findall(r"^  \\draw\[(inference|generative)\] \((\S+)\) .*\((\S+)\);$", text, re.M)
    assert {(known[a], known[b], style == "inference") for style, a, b in drawn_edges} == {
        (edge.source, edge.target, edge.inference) for edge in picture.edges
    }
    assert text.count(r"\draw[plate]") == len(picture.plates)


@pytest.mark.parametrize("name", MODELS)
def test_svg_is_xml_with_every_node_and_arrow(name: str) -> None:
    picture, _ = drawn(name)
    models, options = made(name)
    root = ElementTree.fromstring(viz.to_svg(*models, **options))  # type: ignore[arg-type]
    space = "{http://www.w3.org/2000/svg}"
    lines = [path for path in root.iter(f"{space}path") if path.get("fill") == "none"]
    assert len(lines) == len(list(root.iter(f"{space}polygon"))) == len(picture.edges)
    assert sum("dasharray" in " ".join(path.keys()) for path in lines) == sum(edge.inference for edge in picture.edges)
    assert len(list(root.iter(f"{space}text"))) == len(picture.nodes) + len(picture.plates)
    assert len(list(root.iter(f"{space}rect"))) == 1 + len(picture.plates)


def test_names_that_other_languages_give_a_meaning_to() -> None:
    p = normal("p(end|graph,node)")
    assert '"end"' in viz.to_dot(p) and 'v0(("end"))' in viz.to_mermaid(p)
