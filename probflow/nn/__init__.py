"""Plain networks without probability in them."""

from __future__ import annotations

from probflow.nn.conditioners import DenseConditioner, zero_
from probflow.nn.convolutional import ConvConditioner, ResidualConditioner
from probflow.nn.masked import MADE, MaskedLinear
from probflow.nn.mlp import MLP

__all__ = ["MADE", "MLP", "ConvConditioner", "DenseConditioner", "MaskedLinear", "ResidualConditioner", "zero_"]
