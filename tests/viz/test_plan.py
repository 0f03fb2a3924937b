"""The figure of a plan: every op of the printed plan, and an arrow for everything that one op takes from another."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import networkx as nx
import pytest
import torch
from matplotlib.patches import FancyBboxPatch, Polygon
from viz.drawn_models import cvae, m2

import probflow as pf
from probflow import viz
from probflow.errors import ArgumentError
from probflow.graph.curves import samples
from probflow.graph.flowchart import flowchart
from probflow.viz.plan import formula


def boxes(axes: object) -> dict[str, FancyBboxPatch]:
    patches = axes.patches  # type: ignore[attr-defined]
    return {(p.get_gid() or "").removeprefix("op "): p for p in patches if isinstance(p, FancyBboxPatch)}


@pytest.mark.parametrize("make", [cvae, m2], ids=["CVAE", "M2"])
def test_every_op_and_every_use_is_drawn(make: object) -> None:
    (loss,) = make()  # type: ignore[operator]
    graph = loss.plan().graph
    axes = viz.plan_graph(loss)
    drawn = boxes(axes)
    assert set(drawn) == {str(node) for node in graph}
    assert sum(isinstance(patch, Polygon) for patch in axes.patches) == graph.number_of_edges()
    colours = {
        kind: {drawn[str(n)].get_facecolor() for n in graph if graph.nodes[n]["kind"] == kind}
        for kind in ("draw", "kl", "read")
    }
    assert all(len(found) <= 1 for found in colours.values()) and colours["draw"] != colours["read"]
    for a, b in combinations(drawn.values(), 2):
        assert not a.get_bbox().shrunk(0.999, 0.999).overlaps(b.get_bbox())
    for u, v in graph.edges:
        assert drawn[str(u)].get_bbox().y1 < drawn[str(v)].get_bbox().y0, "what is used stands above (y points down)"


def test_a_plan_with_shapes() -> None:
    (loss,) = cvae()
    plan = loss.plan({"x": torch.zeros(5, 2), "y": torch.zeros(5, 2)})
    gids = [patch.get_gid() or "" for patch in viz.plan_graph(plan).patches]
    texts = [gid for gid in gids if gid.startswith("text")]
    assert any("(5, 2)" in text for text in texts) and any("closed form" in text for text in texts)


def test_arrows_keep_clear_of_the_boxes() -> None:
    (loss,) = cvae()
    graph = loss.plan().graph
    sizes = {node: (60.0 + 40.0 * (place % 2), 15.0 + 60.0 * (place % 3)) for place, node in enumerate(graph)}
    chart = flowchart(graph, sizes)
    for (u, v), (curve, tip) in chart.curves.items():
        assert tip[1] == pytest.approx(chart.places[v][1] - sizes[v][1] / 2)
        for node in set(graph) - {u, v}:
            (x, y), (width, height) = chart.places[node], sizes[node]
            inside = [abs(a - x) < width / 2 and abs(b - y) < height / 2 for a, b in samples(curve, 60)]
            assert not any(inside), f"{u} -> {v} crosses {node}"
    assert chart.width > 0 and max(x for x, _ in chart.places.values()) < chart.width


def test_a_graph_of_one_box_and_of_none() -> None:
    graph: Any = nx.DiGraph()
    assert flowchart(graph, {}).places == {}
    graph.add_node("x")
    assert flowchart(graph, {"x": (20.0, 10.0)}).places == {"x": (14.0, 9.0)}


@pytest.mark.parametrize(
    "text, latex",
    [
        ("z ~ q(z|x)", r"$z \sim q(z \mid x)$"),
        ("z1, z2 ~ q(z1,z2|x)", r"$z_{1}, z_{2} \sim q(z_{1}, z_{2} \mid x)$"),
        ("log p(x|z1)", r"$\log\,p(x \mid z_{1})$"),
        ("KL[q(z|x) || p(z)]", r"$\mathrm{KL}[q(z \mid x) \,\Vert\, p(z)]$"),
        ("E_q(z|x)[log p(x|z)]", r"$\mathrm{E}_{q(z \mid x)}[\log\,p(x \mid z)]$"),
        (
            "log(1/5 sum_q#1(z|x)[exp(log p(x,z))])",
            r"$\mathrm{log}(1/5\,\Sigma_{q^{(1)}(z \mid x)}[\mathrm{exp}(\log\,p(x, z))])$",
        ),
        ("log p#2(x|theta)", r"$\log\,p^{(2)}(x \mid \theta)$"),
        ("a $ b \\nonsense", "a \\$ b \\nonsense"),
    ],
)
def test_formulas(text: str, latex: str) -> None:
    assert formula(text) == latex


def test_errors_and_given_axes() -> None:
    with pytest.raises(ArgumentError, match=r"a loss or its plan, loss.plan\(\); got a Normal"):
        viz.plan_graph(pf.Normal("p(x)", loc=0.0, scale=1.0))  # type: ignore[arg-type]
    axes = viz.panels(1, 2)
    assert viz.plan_graph(cvae()[0], ax=axes[0]) is axes[0]
