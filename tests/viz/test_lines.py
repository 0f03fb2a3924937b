"""Densities on the line, and the panels of flows: that curves are the densities and histograms the samples."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import probflow as pf
from probflow import flows, viz
from probflow.distributions import Flow
from probflow.errors import ArgumentError, ShapeError
from probflow.transforms import Affine, Exp


def line(axes: object, place: int = 0) -> tuple[Tensor, Tensor]:
    drawn = axes.lines[place]  # type: ignore[attr-defined]
    return torch.tensor(list(drawn.get_xdata())), torch.tensor(list(drawn.get_ydata()))


def affine(features: int, scale: float = 2.0, shift: float = 1.0) -> Flow:
    """N(shift, scale²) as a flow."""
    layer = Affine(features)
    with torch.no_grad():
        layer.h.copy_(torch.tensor([[math.log(scale)] * features, [shift] * features]))
    return Flow(pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=features), [layer], "p(x)")


def lognormal() -> Flow:
    return Flow(pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=1), [Exp()], "p(x)")


# ---------------------------------------------------------------------- density_1d


def test_the_curve_is_the_density_and_the_bars_are_the_samples() -> None:
    p = pf.Normal("p(x)", loc=1.0, scale=2.0, features_shape=1)
    x = p.sample(batch_n=4000)["x"]
    axes = viz.density_1d(p, samples=x, window=(-5.0, 7.0), bins=24)
    at, height = line(axes)
    assert_close(height, torch.distributions.Normal(1.0, 2.0).log_prob(at).exp(), atol=1e-5, rtol=0, check_dtype=False)
    bars = axes.containers[0]
    area = sum(bar.get_width() * bar.get_height() for bar in bars)
    assert area == pytest.approx(((x >= -5) & (x <= 7)).double().mean().item(), abs=1e-6)
    assert len(bars) == 24 and axes.get_xlim() == (-5.0, 7.0)


def test_the_window_follows_the_draws_and_uses_up_no_random_numbers() -> None:
    before = torch.get_rng_state()
    axes = viz.density_1d(pf.Normal("p(x)", loc=100.0, scale=0.1, features_shape=1))
    assert torch.equal(before, torch.get_rng_state())
    left, right = axes.get_xlim()
    assert 99.3 < left < 99.8 and 100.2 < right < 100.7
    at, height = line(axes)
    assert torch.trapezoid(height, at) == pytest.approx(1.0, abs=0.01)


def test_one_curve_for_every_row_of_the_conditions() -> None:
    p = pf.Normal("p(x | y)", loc="y", scale=1.0)
    axes: Any = viz.density_1d(p, {"y": torch.tensor([[0.0], [3.0]])})
    for place, mean in enumerate((0.0, 3.0)):
        at, height = line(axes, place)
        assert abs(at[height.argmax()] - mean) < 0.05
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["$y$ = 0", "$y$ = 3"]


def test_outside_of_its_support_the_density_is_zero() -> None:
    p = pf.Gamma("p(x)", concentration=2.0, rate=1.0, features_shape=1)
    at, height = line(viz.density_1d(p, window=(-2.0, 6.0)))
    assert (height[at < 0] == 0).all() and (height[at > 0.1] > 0).all()


def test_distributions_of_every_kind_on_the_line() -> None:
    mixture = pf.MixtureModel(
        [pf.Normal("p(x)", loc=m, scale=0.3, features_shape=1) for m in (-2.0, 2.0)],
        pf.Categorical("p(c)", probs=torch.tensor([0.5, 0.5])),
    )
    for p in (mixture, affine(1), lognormal(), pf.Normal("p(x)", loc=0.0, scale=1.0)):
        at, height = line(viz.density_1d(p))
        assert torch.trapezoid(height, at) == pytest.approx(1.0, abs=0.02)
    energy = pf.CustomProb("p(x)", lambda x: -x.square().sum(1))
    with pytest.raises(ArgumentError, match=r"cannot be sampled, so say where to draw it: window="):
        viz.density_1d(energy)
    assert line(viz.density_1d(energy, window=(-2.0, 2.0)))[1].max() == pytest.approx(1.0, abs=1e-3)


def test_density_1d_errors() -> None:
    p = pf.Normal("p(x)", loc=0.0, scale=1.0, features_shape=1)
    for discrete in (
        pf.Bernoulli("p(x)", probs=torch.tensor([0.3])),
        pf.Poisson("p(x)", rate=4.0, features_shape=1),
        pf.Categorical("p(x)", probs=torch.tensor([0.3, 0.7])),
    ):
        with pytest.raises((ArgumentError, ShapeError), match="discrete|events of the shape"):
            viz.density_1d(discrete)
    with pytest.raises(ArgumentError, match="is discrete: it has probabilities"):
        viz.density_1d(pf.Poisson("p(x)", rate=4.0, features_shape=1))
    with pytest.raises(ShapeError, match=r"events of the shape \(3,\)"):
        viz.density_1d(pf.Normal("p(x)", loc=0.0, scale=1.0, features_shape=3))
    with pytest.raises(ArgumentError, match="the marginal of one of them"):
        viz.density_1d(p * pf.Normal("p(y)", loc=0.0, scale=1.0, features_shape=1))
    with pytest.raises(ArgumentError, match="left must be less than right"):
        viz.density_1d(p, window=(1.0, 1.0))
    with pytest.raises(ShapeError, match=r"\(N,\) or \(N, 1\), got \(4, 2\)"):
        viz.density_1d(p, samples=torch.zeros(4, 2))


# ---------------------------------------------------------------------- level sets


def test_level_sets_hold_their_share() -> None:
    """The region of N(0, I) that holds the share s is a disc of radius sqrt(-2 log(1 - s))."""
    p = pf.Normal("p(x)", loc=0.0, scale=1.0, features_shape=2)
    axes = viz.density(p, window=(-5.0, 5.0, -5.0, 5.0), levels=(0.5, 0.9), resolution=120)
    lines = next(found for found in axes.collections if hasattr(found, "levels"))
    for level, path in zip((0.9, 0.5), lines.get_paths(), strict=True):  # the lowest density first
        radius = torch.tensor(path.vertices).norm(dim=1)
        assert_close(radius.mean(), torch.tensor(math.sqrt(-2 * math.log(1 - level))), atol=0.08, rtol=0)
        assert radius.std() < 0.1
    with pytest.raises(ArgumentError, match="between 0 and 1, got 50"):
        viz.density(p, levels=[50], resolution=10)


# ---------------------------------------------------------------------- flows


def panel(figure: object, title: str) -> object:
    return next(ax for ax in figure.axes if ax.get_title() == title)  # type: ignore[attr-defined]


def test_change_of_variables_of_an_affine_map() -> None:
    figure = viz.change_of_variables(affine(1, scale=2.0, shift=1.0), samples=3000)
    z, x = line(panel(figure, "the map"))
    assert_close(x, 2 * z + 1, atol=1e-4, rtol=0)
    _, slope = line(panel(figure, "Jacobian term"))
    assert_close(slope, torch.full_like(slope, math.log(2.0)), atol=1e-5, rtol=0)
    before, after = panel(figure, "density before"), panel(figure, "density after")
    curves = {ax: next(li for li in ax.lines if len(li.get_xdata()) > 2) for ax in (before, after)}  # type: ignore[attr-defined]
    height, at = torch.tensor(list(curves[after].get_xdata())), torch.tensor(list(curves[after].get_ydata()))
    expected = torch.distributions.Normal(1.0, 2.0).log_prob(at).exp()
    assert_close(height, expected, atol=1e-5, rtol=0, check_dtype=False)
    at, height = torch.tensor(list(curves[before].get_xdata())), torch.tensor(list(curves[before].get_ydata()))
    assert_close(height, torch.distributions.Normal(0.0, 1.0).log_prob(at).exp(), atol=1e-5, rtol=0, check_dtype=False)


def test_the_panels_are_aligned_and_the_histograms_are_normalised() -> None:
    figure = viz.change_of_variables(flows.NSF("p(x)", features=1, layers=2, hidden=(8,)), samples=3000, title="spline")
    figure.draw_without_rendering()
    across, up = panel(figure, "the map"), panel(figure, "density after")
    for title in ("density before", "Jacobian term"):
        assert panel(figure, title).get_xlim() == across.get_xlim()  # type: ignore[attr-defined]
        assert panel(figure, title).get_position().x0 == pytest.approx(across.get_position().x0, abs=0.01)  # type: ignore[attr-defined]
    assert up.get_ylim() == across.get_ylim()  # type: ignore[attr-defined]
    for ax in (panel(figure, "density before"), up):
        area = sum(bar.get_width() * bar.get_height() for bar in ax.containers[0])  # type: ignore[attr-defined]
        assert area == pytest.approx(1.0, abs=0.01)
    assert len([li for li in across.lines if li.get_marker() == "o"]) == 5  # type: ignore[attr-defined]


def test_a_map_onto_a_half_line_and_a_conditional_one() -> None:
    figure = viz.change_of_variables(lognormal(), samples=500)
    z, x = line(panel(figure, "the map"))
    assert_close(x, z.exp(), atol=1e-4, rtol=1e-4)
    p = flows.NSF("p(x | y)", features=1, layers=1, context=2, hidden=(8,))
    before = torch.get_rng_state()
    shown = [
        line(panel(viz.change_of_variables(p, {"y": y}, samples=100), "the map"))[1]
        for y in (torch.zeros(1, 2), torch.ones(1, 2))
    ]
    assert torch.equal(before, torch.get_rng_state())
    weights = list(p.parameters())
    assert len(shown) == 2 and weights


def test_warped_steps_draws_the_grid_after_every_layer() -> None:
    figure = viz.warped_steps(affine(2), lines=5, samples=40, title="steps")
    noise: Any
    after: Any
    noise, after = figure.axes[:2]
    assert [noise.get_title(), after.get_title()] == ["noise", "1 of 1 layers"]
    straight, moved = (
        torch.stack([torch.as_tensor(li.vertices) for li in ax.collections[0].get_paths()]) for ax in (noise, after)
    )
    assert_close(moved, 2 * straight + 1, atol=1e-5, rtol=0)
    assert_close(
        torch.tensor(after.collections[1].get_array().tolist()),
        torch.full((40,), 2 * math.log(2.0)),
        atol=1e-5,
        rtol=0,
        check_dtype=False,
    )
    assert not noise.collections[1].get_array().any()


def test_warped_steps_accumulates_the_log_determinant() -> None:
    torch.manual_seed(0)
    p = flows.RealNVP("p(x)", features=2, layers=4, hidden=(8,))
    with torch.no_grad():
        for weight in p.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    figure = viz.warped_steps(p, most=3, lines=3, samples=30)
    last: Any = figure.axes[2].collections[1]
    x = torch.tensor(last.get_offsets().tolist(), dtype=next(p.parameters()).dtype)
    noise = p.to_noise({"x": x})
    base = p.base.log_prob(noise)
    expected = base - p.log_prob({"x": x})
    assert_close(torch.tensor(last.get_array().tolist()), expected.detach(), atol=1e-3, rtol=1e-3, check_dtype=False)


def test_the_rounding_of_an_untrained_flow_is_not_magnified() -> None:
    slope = panel(viz.change_of_variables(flows.NSF("p(x)", features=1, layers=2, hidden=(8,)), samples=100), "Jacobian term")
    assert slope.get_ylim() == (-1.0, 1.0)  # type: ignore[attr-defined]
    points = viz.warped_steps(flows.NSF("p(x)", features=2, layers=2, hidden=(8,)), samples=30).axes[0].collections[1]
    assert points.get_clim() == (-1.0, 1.0)
    assert viz.warped_steps(affine(2, scale=1.01), samples=30).axes[0].collections[1].get_clim()[1] < 0.1


def test_flow_panel_errors() -> None:
    with pytest.raises(ShapeError, match=r"with one feature; p\(x\) has events of the shape \(3,\)"):
        viz.change_of_variables(flows.NICE("p(x)", features=3))
    with pytest.raises(ShapeError, match="with two features"):
        viz.warped_steps(flows.NICE("p(x)", features=3))
    with pytest.raises(ArgumentError, match="draws a flow, got p"):
        viz.warped_steps(pf.Normal("p(x)", loc=0.0, scale=1.0))  # type: ignore[arg-type]
