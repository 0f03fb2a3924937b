"""Factor graphs: that the picture says what the model says, and that it can be read."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from viz.drawn_models import MODELS, cvae, drawn, m2, made, mixture, normal, product, roles

import probflow as pf
from probflow import KL, E, log, viz
from probflow.errors import ArgumentError, UnknownVariable
from probflow.graph.curves import GAP, distance, samples
from probflow.graph.picture import Picture


def arrows(picture: Picture, inference: bool) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in picture.edges if edge.inference == inference}


# ---------------------------------------------------------------------- what is drawn


def test_a_loss_has_the_edges_of_both_models_and_one_node_for_each_variable() -> None:
    picture = viz.picture(*cvae())
    assert roles(picture) == {"x": "observed", "z": "latent", "y": "conditioned"}
    assert arrows(picture, inference=False) == {("z", "x"), ("y", "x")}
    assert arrows(picture, inference=True) == {("x", "z"), ("y", "z")}


def test_distributions_are_told_apart_by_their_names() -> None:
    p, q = product("p(x|z)", "p(z)"), normal("q_phi(z|x)")
    picture = viz.picture(q, p, observed="x")
    assert arrows(picture, inference=True) == {("x", "z")} and arrows(picture, inference=False) == {("z", "x")}
    assert roles(picture) == {"x": "observed", "z": "latent"}


def test_without_a_q_what_a_loss_samples_from_is_the_inference_model() -> None:
    guide, p = normal("g(z|x)"), product("p(x|z)", "p(z)")
    picture = viz.picture(pf.ELBO(p, guide))
    assert arrows(picture, inference=True) == {("x", "z")}
    generator = product("p(x|z)", "p(z)")
    picture = viz.picture(E(generator)[pf.Function(lambda x: x.sum(1), ["x"], "D")])
    assert arrows(picture, inference=False) == {("z", "x")}, "a GAN's generator is no inference model"


def test_two_bounds_of_one_model_are_two_drawings_beside_each_other() -> None:
    picture = viz.picture(*m2())
    assert roles(picture) == {
        "x": "observed", "y": "observed", "z": "latent", "x_u": "observed", "y_u": "latent", "z_u": "latent",
    }  # fmt: skip
    assert arrows(picture, inference=True) == {
        ("x", "y"), ("x", "z"), ("y", "z"), ("x_u", "y_u"), ("x_u", "z_u"), ("y_u", "z_u"),
    }  # fmt: skip


def test_a_variable_that_is_known_for_some_of_the_data_is_shaded_by_half() -> None:
    q = pf.Categorical("q(y|x)", pf.nn.MLP(2, [3], {"logits": 3}))
    p = pf.Normal("p(x|y)", pf.nn.MLP(3, [3], {"loc": 2, "scale": 2}))
    assert roles(viz.picture(E(q)[log(p)] + log(p)))["y"] == "partly"
    assert roles(viz.picture(E(q)[log(p)]))["y"] == "latent"


def test_what_was_integrated_out_is_dotted() -> None:
    picture, _ = drawn("marginal")
    assert roles(picture) == {"x": "latent", "y": "summed", "z": "latent"}
    assert arrows(picture, inference=False) == {("y", "x"), ("z", "x")}


def test_two_variables_of_one_name_stay_two_where_one_is_integrated_out() -> None:
    hidden = product("p(x|z)", "p(z)").marginalize_var("z")
    picture = viz.picture(hidden * normal("p(z)"))
    assert sorted(roles(picture).values()) == ["latent", "latent", "summed"]
    joint = product("p(x|z)", "p(z)")
    assert [n.key for n in viz.picture(log(joint) - log(joint.replace_var(x="w").marginalize_var("z"))).nodes].count("z") == 1


def test_the_index_of_a_mixture_chooses_the_component() -> None:
    picture = viz.picture(mixture())
    assert roles(picture) == {"x": "latent", "c": "summed"} and arrows(picture, inference=False) == {("c", "x")}
    renamed = viz.picture(mixture().replace_var(x="y"))
    assert roles(renamed) == {"y": "latent", "c": "summed"}


def test_a_flow_is_a_deterministic_function_of_its_noise() -> None:
    flow = pf.flows.RealNVP("p(x | y)", features=2, layers=2, context=3)
    picture = viz.picture(flow)
    (noise,) = flow.base.var
    assert arrows(picture, inference=False) == {(noise, "x"), ("y", "x")}
    assert {node.key for node in picture.nodes if node.deterministic} == {"x"}
    assert {node.key for node in drawn("flow prior")[0].nodes if node.deterministic} == set(), "q(z|x) makes z random"
    assert arrows(drawn("flow posterior")[0], inference=True) == {("x", "z"), (noise_of("flow posterior"), "z")}


def noise_of(name: str) -> str:
    return next(node.key for node in drawn(name)[0].nodes if node.key not in ("x", "z"))


def test_deterministic_data_and_observed_variables() -> None:
    assert {node.key for node in drawn("deterministic")[0].nodes if node.deterministic} == {"h"}
    assert roles(drawn("data")[0]) == {"x": "observed"}
    picture, _ = drawn("observed")
    assert roles(picture) == {"x": "observed", "z": "latent", "y": "conditioned"}
    assert arrows(picture, inference=False) == {("z", "x"), ("y", "x")}
    assert roles(viz.picture(pf.Data("p_{data}(x)", torch.zeros(4, 2)) * normal("p(y|x)"))) == {"x": "observed", "y": "latent"}


def test_a_renamed_distribution_is_drawn_under_its_new_names() -> None:
    picture = viz.picture(product("p(x|z)", "p(z)").replace_var(x="z", z="x"))
    assert arrows(picture, inference=False) == {("x", "z")}


# ---------------------------------------------------------------------- that it can be read


@pytest.mark.parametrize("name", MODELS)
def test_no_two_nodes_touch(name: str) -> None:
    _, found = drawn(name)
    for a, b in combinations(found.discs, 2):
        assert math.dist((a.x, a.y), (b.x, b.y)) > a.r + b.r + 4, f"{a.node.key} and {b.node.key}"
    for disc in found.discs:
        assert disc.r <= disc.x <= found.width - disc.r and disc.r <= disc.y <= found.height - disc.r


@pytest.mark.parametrize("name", MODELS)
def test_no_arrow_passes_through_a_foreign_node(name: str) -> None:
    _, found = drawn(name)
    for arrow in found.arrows:
        for disc in found.discs:
            if disc.node.key not in (arrow.edge.source, arrow.edge.target):
                nearest = min(distance(point, (disc.x, disc.y, disc.r)) for point in samples(arrow.curve, 60))
                assert nearest > disc.r + 1, f"{arrow.edge.source} -> {arrow.edge.target} runs into {disc.node.key}"


@pytest.mark.parametrize("name", MODELS)
def test_arrows_begin_and_end_at_the_borders(name: str) -> None:
    _, found = drawn(name)
    discs = {disc.node.key: disc for disc in found.discs}
    for arrow in found.arrows:
        source, target = discs[arrow.edge.source], discs[arrow.edge.target]
        assert math.dist(arrow.curve[0], (source.x, source.y)) == pytest.approx(source.r, abs=0.01)
        assert math.dist(arrow.head[0], (target.x, target.y)) == pytest.approx(target.r + GAP, abs=0.01)
        assert all(math.dist(corner, (target.x, target.y)) > target.r for corner in arrow.head)


@pytest.mark.parametrize("name", MODELS)
def test_two_arrows_between_the_same_nodes_are_apart(name: str) -> None:
    _, found = drawn(name)
    for one, other in combinations(found.arrows, 2):
        if {one.edge.source, one.edge.target} == {other.edge.source, other.edge.target}:
            middles = [samples(arrow.whole, 2)[1] for arrow in (one, other)]
            assert math.dist(*middles) > 8


@pytest.mark.parametrize("name", MODELS)
def test_generative_arrows_point_down(name: str) -> None:
    picture, found = drawn(name)
    y = {disc.node.key: disc.y for disc in found.discs}
    against = [edge for edge in picture.edges if not edge.inference and y[edge.source] >= y[edge.target]]
    assert len(against) == (1 if name == "both directions" else 0)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name]()[1].get("plates")])
def test_plates_hold_their_nodes_and_no_others(name: str) -> None:
    _, found = drawn(name)
    for box in found.boxes:
        for disc in found.discs:
            across = min(disc.x - box.left, box.right - disc.x)
            down = min(disc.y - box.top, box.bottom - disc.y)
            inside = min(across, down)
            if disc.node.key in box.plate.members:
                assert inside > disc.r + 4, f"{disc.node.key} in {box.plate.label}"
            else:
                assert inside < -disc.r, f"{disc.node.key} out of {box.plate.label}"
    for one, other in combinations(found.boxes, 2):
        if one.plate.members < other.plate.members:
            assert other.left < one.left and one.right < other.right and other.top < one.top and one.bottom < other.bottom
        elif not one.plate.members & other.plate.members:
            assert one.right < other.left or other.right < one.left or one.bottom < other.top or other.bottom < one.top


def test_few_arrows_cross() -> None:
    from probflow.graph.layers import crossings, ordered

    rows = {f"{letter}{k}": row for row, letter in enumerate("ab") for k in range(5)}
    edges = [(f"a{k}", f"b{(3 * k) % 5}") for k in range(5)]
    start = [[key for key in rows if rows[key] == row] for row in (0, 1)]
    assert crossings(start, rows, edges) > 0 and crossings(ordered(rows, edges, []), rows, edges) == 0


# ---------------------------------------------------------------------- figure


def gids(axes: object, prefix: str) -> set[str]:
    patches = axes.patches  # type: ignore[attr-defined]
    return {patch.get_gid().removeprefix(prefix + " ") for patch in patches if (patch.get_gid() or "").startswith(prefix + " ")}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:Glyph .* missing")
def test_the_figure_has_every_node_arrow_and_plate(name: str) -> None:
    models, options = made(name)
    picture = viz.picture(*models, **options)  # type: ignore[arg-type]
    axes = viz.factor_graph(*models, **options)  # type: ignore[arg-type]
    assert gids(axes, "node") == {node.key for node in picture.nodes if node.role != "conditioned"}
    assert gids(axes, "label") == {node.key for node in picture.nodes}
    assert gids(axes, "edge") == {f"{edge.source} -> {edge.target}" for edge in picture.edges}
    assert gids(axes, "plate") == {plate.label for plate in picture.plates}


def test_shading_and_lines() -> None:
    axes = viz.factor_graph(*cvae())
    by_gid: dict[str | None, Any] = {patch.get_gid(): patch for patch in axes.patches if patch.get_gid()}
    shade, white = by_gid["node x"].get_facecolor(), by_gid["node z"].get_facecolor()
    assert shade[0] < 0.9 < white[0]
    assert by_gid["edge z -> x"].get_linestyle() in ("-", "solid") != by_gid["edge x -> z"].get_linestyle()


def test_labels_lie_within_their_circles() -> None:
    axes = viz.factor_graph(*MODELS["long names"]()[0])
    by_gid: dict[str | None, Any] = {patch.get_gid(): patch for patch in axes.patches if patch.get_gid()}
    for name in gids(axes, "node"):
        label = by_gid[f"label {name}"].get_path().get_extents()
        circle = by_gid[f"node {name}"]
        assert math.hypot(label.width, label.height) < 2 * circle.get_radius()


def test_draws_into_given_axes() -> None:
    axes = viz.panels(1, 2)
    assert viz.factor_graph(*cvae(), ax=axes[1]) is axes[1]


# ---------------------------------------------------------------------- errors


def test_errors() -> None:
    p = product("p(x|z)", "p(z)")
    with pytest.raises(UnknownVariable, match="no variable 'w' in the drawing; its variables: x, z"):
        viz.factor_graph(p, observed=["w"])
    with pytest.raises(UnknownVariable, match="the plate 'N': there is no variable 'X'.*Did you mean 'x'"):
        viz.to_dot(p, plates={"N": ["X"]})
    with pytest.raises(ArgumentError, match="the plate 'N' is empty"):
        viz.to_svg(p, plates={"N": []})
    with pytest.raises(ArgumentError, match="something to draw"):
        viz.factor_graph()
    with pytest.raises(ArgumentError, match="takes distributions.*got a str"):
        viz.factor_graph("p(x)")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="one of them a loss"):
        viz.factor_graph(p, log(p))
    with pytest.raises(ArgumentError, match="has no distribution"):
        viz.factor_graph(pf.Parameter("beta"))


def test_plates_that_no_boxes_can_show_are_an_error() -> None:
    """Three variables in one row, and a plate for each two: one of the three plates would hold the third variable too."""
    with pytest.raises(ArgumentError, match="cannot be drawn as boxes"):
        viz.to_svg(product("p(a)", "p(b)", "p(c)"), plates={"A": ["a", "b"], "B": ["b", "c"], "C": ["a", "c"]})


def test_kl_of_two_models_without_common_edges() -> None:
    assert arrows(viz.picture(KL(normal("q(z|x)"), normal("p(z|y)"))), inference=True) == {("x", "z")}
