"""The parts of a drawing: symbols, rows, places, curves. No torch, no matplotlib."""

from __future__ import annotations

import math
import random

import networkx as nx
import pytest

from probflow.errors import ArgumentError
from probflow.graph import parse
from probflow.graph.curves import arc, at, clearance, clipped, samples, through
from probflow.graph.layers import crossings, ordered, rows_of
from probflow.graph.layout import layout
from probflow.graph.picture import Part, Picture, picture_of
from probflow.graph.spacing import spread
from probflow.graph.symbols import plain, runs, symbol_width


def picture(*statements: str, q: tuple[str, ...] = (), **options: object) -> Picture:
    generative, inference = ([Part(parse(text)) for text in texts] for texts in (statements, q))
    return picture_of(generative, inference, **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- symbols


@pytest.mark.parametrize(
    "latex, text",
    [
        ("z", "z"),
        ("z_{1}", "z₁"),
        (r"\theta", "θ"),
        (r"\Gamma_{0}'", "Γ₀′"),
        ("x_{t-1}", "xₜ₋₁"),
        ("z^{(2)}", "z⁽²⁾"),
        (r"\mathrm{label}", "label"),
        (r"\text{画像}_{1}", "画像₁"),
        (r"p_{\mathrm{data}}", "p_data"),
        (r"\mathbf{x}", "x"),
        (r"\hat{x}", "x\u0302"),
        (r"{z^{1}}'", "z¹′"),
        (r"\unknown", "unknown"),
        (r"x_", "x"),
        (r"\frac", "frac"),
        ("{", ""),
    ],
)
def test_names_as_unicode(latex: str, text: str) -> None:
    assert plain(latex) == text


def test_styles() -> None:
    assert [(run.text, run.level, run.italic, run.bold) for run in runs(r"\mathbf{z}_{t}")] == [
        ("z", 0, True, True),
        ("t", -1, True, False),
    ]
    assert not runs(r"\mathrm{data}")[0].italic and not runs("3")[0].italic
    assert symbol_width("i") < symbol_width("x") < symbol_width("m") < symbol_width(r"\text{画像}")


# ---------------------------------------------------------------------- rows


def test_parents_stand_above_their_children_and_no_higher_than_they_must() -> None:
    rows = rows_of(picture("p(x|z1,c)", "p(z1|z2)", "p(z2)"))
    assert rows == {"x": 2, "z1": 1, "c": 1, "z2": 0}


def test_inference_edges_have_no_say_unless_nothing_else_connects() -> None:
    assert rows_of(picture("p(x|z)", "p(z)", q=("q(z|x,w)",))) == {"x": 1, "z": 0, "w": 1}
    assert rows_of(picture(q=("q(z|x)",))) == {"z": 1, "x": 0}
    assert rows_of(picture("p(x|y)", "p(y|x)")) == {"x": 1, "y": 0}


def test_random_rows_are_ordered_with_fewer_crossings() -> None:
    random.seed(0)
    for _ in range(20):
        rows = {f"{row}.{k}": row for row in range(3) for k in range(4)}
        edges = [(f"{row}.{random.randrange(4)}", f"{row + 1}.{random.randrange(4)}") for row in (0, 1) for _ in range(5)]
        start = [[key for key in rows if rows[key] == row] for row in range(3)]
        found = ordered(rows, edges, [])
        assert [sorted(row) for row in found] == [sorted(row) for row in start]
        assert crossings(found, rows, edges) <= crossings(start, rows, edges)
        tree = nx.Graph(edges)
        if nx.is_forest(tree) and all(degree <= 2 for _, degree in tree.degree):
            assert crossings(found, rows, edges) == 0


def test_members_of_a_plate_stand_together() -> None:
    rows = dict.fromkeys("abcd", 0)
    found = ordered(rows, [], [frozenset("ac")])[0]
    assert abs(found.index("a") - found.index("c")) == 1


# ---------------------------------------------------------------------- places


def test_gaps_are_kept_and_a_parent_of_two_stands_between_them() -> None:
    places = spread(["a", "b", "c"], {"c": ["a", "b"], "a": ["c"], "b": ["c"]}, [("a", "b", 10.0)])
    assert places["b"] - places["a"] == pytest.approx(10.0)
    assert places["c"] == pytest.approx((places["a"] + places["b"]) / 2, abs=0.1)


def test_a_chain_is_a_straight_column_whatever_hangs_on_it() -> None:
    found = layout(picture("p(a)", "p(b|a)", "p(x|a)", "p(c|b)", "p(y|b)", "p(d|c)", "p(w|c)"))
    x = {disc.node.key: disc.x for disc in found.discs}
    assert len({round(x[key], 3) for key in "abc"}) == 1


def test_gaps_go_through_what_is_no_key() -> None:
    """The side of a box: a stands out of it, b in it."""
    places = spread(["a", "b"], {"a": [], "b": []}, [("a", "side", 7.0), ("side", "b", 5.0)])
    assert places["b"] - places["a"] == pytest.approx(12.0)
    with pytest.raises(ArgumentError, match="cannot be drawn as boxes"):
        spread(["a", "b"], {"a": [], "b": []}, [("a", "b", 1.0), ("b", "side", 1.0), ("side", "a", 1.0)])


def test_random_graphs_keep_their_gaps() -> None:
    random.seed(1)
    for _ in range(20):
        keys = [f"k{i}" for i in range(8)]
        near = {key: random.sample([k for k in keys if k != key], 2) for key in keys}
        near = {key: sorted({*near[key], *(k for k in keys if key in near[k])}) for key in keys}
        gaps = [(keys[i], keys[j], random.uniform(1, 30)) for i in range(8) for j in range(i + 1, 8) if random.random() < 0.3]
        places = spread(keys, near, gaps)
        assert all(places[right] - places[left] >= gap - 1e-4 for left, right, gap in gaps)


# ---------------------------------------------------------------------- curves


def test_arcs_bend_to_the_left_and_back() -> None:
    curve = arc((0.0, 0.0), (0.0, 100.0), 0.5)
    assert curve[0] == (0.0, 0.0) and curve[-1] == (0.0, 100.0)
    assert at(curve, 0.5)[0] == pytest.approx(0.5 * 50 * 1.5, rel=0.4) and at(curve, 0.5)[0] > 0
    assert at(arc((0.0, 100.0), (0.0, 0.0), 0.5), 0.5)[0] < 0


def test_a_clipped_curve_is_a_part_of_the_curve() -> None:
    whole = through([(0.0, 0.0), (40.0, 60.0), (0.0, 120.0)])
    kept, head = clipped(whole, (0.0, 0.0, 17.0), (0.0, 120.0, 17.0))
    assert math.hypot(*kept[0]) == pytest.approx(17.0, abs=1e-6)
    assert math.dist(head[0], (0.0, 120.0)) == pytest.approx(18.0, abs=1e-6)
    along = samples(whole, 4000)
    for point in samples(kept, 30):
        assert min(math.dist(point, other) for other in along) < 0.05


def test_clearance() -> None:
    straight = arc((0.0, 0.0), (100.0, 0.0), 0.0)
    assert clearance(straight, [(50.0, 30.0, 10.0)]) == pytest.approx(20.0, abs=0.2)
    assert clearance(straight, []) == math.inf


def test_an_arrow_over_a_row_goes_round_what_stands_there() -> None:
    found = layout(picture("p(x|z1,z2,z3)", "p(z1|z2)", "p(z2|z3)", "p(z3)"))
    discs = {disc.node.key: disc for disc in found.discs}
    (skip,) = (arrow for arrow in found.arrows if (arrow.edge.source, arrow.edge.target) == ("z3", "x"))
    assert clearance(skip.curve, [(discs[key].x, discs[key].y, discs[key].r) for key in ("z1", "z2")]) > 4


def test_nothing_to_draw() -> None:
    found = layout(picture_of([]))
    assert found.discs == () and found.arrows == ()


def test_a_large_graph_is_drawn() -> None:
    steps = [text for t in range(1, 25) for text in (f"p(x_{t}|x_{t - 1})", f"p(y_{t}|x_{t})")]
    found = layout(picture("p(x_0)", *steps))
    assert len(found.discs) == 49 and len(found.arrows) == 48
