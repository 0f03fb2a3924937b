"""Models: a loss with an optimizer, training loops, checkpoints, and short forms for the usual objectives."""

from __future__ import annotations

from probflow.models.model import Model
from probflow.models.short_forms import ML, VAE, VI

__all__ = ["ML", "VAE", "VI", "Model"]
