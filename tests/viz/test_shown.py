"""A picture that is the last value of a notebook cell shows itself, whoever imported what before."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from probflow import Normal, viz

pytest.importorskip("matplotlib")
PNG = b"\x89PNG\r\n"


def test_axes_and_figures_have_a_picture() -> None:
    axes: Any = viz.density_1d(Normal("p(x)", loc=0.0, scale=1.0, features_shape=1))
    assert axes._repr_png_().startswith(PNG)
    assert axes.figure._repr_png_().startswith(PNG)
    panels: Any = viz.panels(1, 2)
    assert panels[1]._repr_png_().startswith(PNG)
    axes = viz.image_grid(torch.zeros(4, 16), 2, 2)
    assert axes._repr_png_().startswith(PNG)


def test_axes_of_a_figure_that_is_gone_have_none() -> None:
    axes: Any = viz.image_grid(torch.zeros(4, 16), 2, 2)
    axes.remove()
    assert axes._repr_png_() is None
