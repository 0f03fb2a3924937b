"""Pictures: image grids, reconstructions, training curves, densities on the plane. Needs the extra `viz` (matplotlib), and only when called."""

from __future__ import annotations

from probflow.viz._matplotlib import save
from probflow.viz.curves import loss_curve
from probflow.viz.densities import (
    WINDOW,
    angles,
    animation,
    density,
    layers_to_draw,
    log_density_grid,
    panels,
    scatter,
    warped_grid,
)
from probflow.viz.images import image_grid, reconstructions

__all__ = [
    "WINDOW",
    "angles",
    "animation",
    "density",
    "image_grid",
    "layers_to_draw",
    "log_density_grid",
    "loss_curve",
    "panels",
    "reconstructions",
    "save",
    "scatter",
    "warped_grid",
]
