"""Pictures of densities on the plane: that what is drawn is the density, the samples and the grid, and errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from probflow import flows, viz
from probflow.distributions import Flow, Normal, Uniform
from probflow.errors import ArgumentError, MissingVariable, ShapeError, SupportError
from probflow.transforms import Affine


def shifted() -> Flow:
    """N((1, -1), diag(2, 0.5)²) as a flow."""
    layer = Affine(2)
    with torch.no_grad():
        layer.h.copy_(torch.tensor([[2.0, 0.5], [1.0, -1.0]]).mul(torch.ones(2, 2)))
        layer.h[0].log_()
    return Flow(Normal("p(z)", loc=0.0, scale=1.0, features_shape=2), [layer], "p(x)")


def test_the_grid_holds_the_density_row_by_row_from_below() -> None:
    p = shifted()
    field = viz.log_density_grid(p, window=(-8.0, 10.0, -4.0, 2.0), resolution=90)
    assert_close(field.exp().sum() * (18 / 90) * (6 / 90), torch.tensor(1.0), atol=1e-3, rtol=0)
    row, column = divmod(int(field.argmax()), 90)
    assert abs(-8 + (column + 0.5) * 0.2 - 1) < 0.2 and abs(-4 + (row + 0.5) * 6 / 90 + 1) < 0.1
    point = torch.tensor([[-8 + 10.5 * 0.2, -4 + 20.5 * 6 / 90]])
    assert_close(field[20, 10], p.log_prob({"x": point})[0].detach())


def test_a_conditional_density() -> None:
    p = Normal("p(x | y)", loc="y", scale=1.0)
    field = viz.log_density_grid(p, {"y": torch.tensor([[2.0, -2.0]])}, resolution=45)
    row, column = divmod(int(field.argmax()), 45)
    assert (column, row) == (32, 12)


def test_a_density_that_is_zero_somewhere_can_be_drawn(tmp_path: Path) -> None:
    class Half(Affine):
        """-inf where x_1 > 0."""

        def _inverse_and_logdet(self, x, context):
            z, logdet = super()._inverse_and_logdet(x, context)
            return z, torch.where(x[:, 0] > 0, -torch.inf, logdet)

    p = Flow(Normal("p(z)", loc=0.0, scale=1.0, features_shape=2), [Half(2)], "p(x)")
    axes = viz.panels(1, 2, title="zero on the right")
    viz.density(p, ax=axes[0], resolution=20)
    viz.density(p, ax=axes[1], resolution=20, log=True, samples=torch.zeros(3, 2))
    for ax in axes:
        assert np.isfinite(np.asarray(ax.get_images()[0].get_array(), dtype=float)).all()
    assert viz.save(axes[0], tmp_path / "picture.png").stat().st_size > 0


def test_a_window_beyond_the_support_is_an_error_that_says_so() -> None:
    p = Uniform("p(x)", low=torch.tensor([-1.0, -1.0]), high=torch.tensor([1.0, 1.0]))
    assert_close(viz.log_density_grid(p, window=(-1, 1, -1, 1), resolution=3), torch.full((3, 3), 0.25).log())
    with pytest.raises(SupportError, match="support"):
        viz.density(p)


def test_layers_to_draw() -> None:
    p = flows.NICE("p(x)", features=2, layers=4)  # 5 layers
    assert viz.layers_to_draw(p, 6) == viz.layers_to_draw(p, 9) == [0, 1, 2, 3, 4, 5]
    assert viz.layers_to_draw(p, 2) == [0, 5]
    assert viz.layers_to_draw(shifted(), 5) == [0, 1]


def test_the_grid_is_bent_by_the_layers() -> None:
    p = shifted()
    before, after = (viz.warped_grid(p, layers, lines=3, reach=2.0) for layers in (0, None))
    straight, moved = (
        torch.stack([torch.as_tensor(line.vertices) for line in ax.collections[0].get_paths()]) for ax in (before, after)
    )
    assert straight.abs().max() == 2.0
    assert_close(moved, straight * torch.tensor([2.0, 0.5]) + torch.tensor([1.0, -1.0]))


def test_the_grid_of_a_conditional_flow() -> None:
    p = flows.NSF("p(x | y)", features=2, context=3, layers=2, hidden=(8,))
    axes = viz.warped_grid(p, values={"y": torch.zeros(1, 3)}, lines=3)
    assert len(axes.collections) == 2


def test_angles() -> None:
    found = viz.angles(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    assert_close(found, torch.tensor([0.5, 0.75, 0.25], dtype=torch.float32))


def test_an_animation_is_a_gif(tmp_path: Path) -> None:
    path = viz.animation([torch.rand(8, 8), torch.rand(8, 8)], tmp_path / "new" / "film.gif", per_second=1)
    assert path.read_bytes().startswith(b"GIF8")


def test_errors() -> None:
    two = Normal("p(x)", loc=0.0, scale=1.0, features_shape=2) * Normal("p(y)", loc=0.0, scale=1.0, features_shape=2)
    with pytest.raises(ArgumentError, match="one variable"):
        viz.density(two)
    with pytest.raises(ShapeError, match=r"\(N, 2\)"):
        viz.scatter(torch.zeros(4, 3))
    with pytest.raises(ArgumentError, match="4 points, but 3 colours"):
        viz.scatter(torch.zeros(4, 2), colors=torch.zeros(3))
    with pytest.raises(ShapeError, match="two features"):
        viz.warped_grid(flows.NICE("p(x)", features=3))
    with pytest.raises(ArgumentError, match=r"layer by layer, got p\(x\)"):
        viz.warped_grid(Normal("p(x)", loc=0.0, scale=1.0, features_shape=2))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no frames"):
        viz.animation([], "film.gif")


DRAWINGS: dict[str, tuple[int, Callable[..., object]]] = {
    "density_1d": (1, viz.density_1d),
    "change_of_variables": (1, viz.change_of_variables),
    "log_density_grid": (2, viz.log_density_grid),
    "density": (2, viz.density),
    "warped_grid": (2, viz.warped_grid),
    "warped_steps": (2, viz.warped_steps),
}


@pytest.mark.parametrize("who", DRAWINGS)
def test_a_conditional_density_asks_for_a_row_of_its_conditions(who: str) -> None:
    features, draw = DRAWINGS[who]
    p = flows.MAF("p(x | y, c)", features=features, context=2, layers=1, hidden=(4,))
    known = {"y": torch.zeros(1, 1), "c": torch.zeros(1, 1)}
    for values in (None, {"y": known["y"]}):
        with pytest.raises(MissingVariable) as error:
            draw(p, values=values)
        lacking = "'c'" if values else "'y', 'c'"
        assert str(error.value) == (
            f"{who}: p(x|y,c) needs a value for {lacking}.\nPass a row of it: {who}(p, values={{'y': y[:1], 'c': c[:1]}})."
        )
    assert draw(p, values=known) is not None
