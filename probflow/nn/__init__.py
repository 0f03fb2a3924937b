"""Plain networks without probability in them."""

from __future__ import annotations

from probflow.nn.conditioners import DenseConditioner, zero_
from probflow.nn.mlp import MLP

__all__ = ["MLP", "DenseConditioner", "zero_"]
