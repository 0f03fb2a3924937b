"""Pictures: image grids, reconstructions, training curves. Needs the extra `viz` (matplotlib), and only when called."""

from __future__ import annotations

from probflow.viz._matplotlib import save
from probflow.viz.curves import loss_curve
from probflow.viz.images import image_grid, reconstructions

__all__ = ["image_grid", "loss_curve", "reconstructions", "save"]
