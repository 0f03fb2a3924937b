"""Plain networks without probability in them."""

from __future__ import annotations

from probflow.nn.mlp import MLP

__all__ = ["MLP"]
