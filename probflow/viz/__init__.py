"""Pictures: factor graphs, plans, image grids, training curves, latents, densities on the line and on the plane, flows layer by layer.

Every function takes and returns `Axes` (or a `Figure` with several).  Needs the extra `viz` (matplotlib), and only when called;
`to_svg`, `to_dot`, `to_mermaid` and `to_tikz` do without.
"""

from __future__ import annotations

from probflow.viz._matplotlib import save
from probflow.viz.curves import loss_curve, loss_panels, loss_terms
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
from probflow.viz.factor_graph import factor_graph, picture, to_dot, to_mermaid, to_svg, to_tikz
from probflow.viz.flow_panels import change_of_variables, warped_steps
from probflow.viz.images import image_grid, reconstructions
from probflow.viz.latents import interpolation, latent_scatter, latent_traversal
from probflow.viz.lines import density_1d
from probflow.viz.plan import plan_graph

__all__ = [
    "WINDOW",
    "angles",
    "animation",
    "change_of_variables",
    "density",
    "density_1d",
    "factor_graph",
    "image_grid",
    "interpolation",
    "latent_scatter",
    "latent_traversal",
    "layers_to_draw",
    "log_density_grid",
    "loss_curve",
    "loss_panels",
    "loss_terms",
    "panels",
    "picture",
    "plan_graph",
    "reconstructions",
    "save",
    "scatter",
    "to_dot",
    "to_mermaid",
    "to_svg",
    "to_tikz",
    "warped_grid",
    "warped_steps",
]
