"""Names for the types that cross module borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

Names: TypeAlias = tuple[str, ...]
NamesLike: TypeAlias = str | Sequence[str]
Values: TypeAlias = Mapping[str, Tensor]
"""The values of variables."""
Inputs: TypeAlias = Mapping[str, Tensor | float]
"""The values of the variables of a loss, and numbers for its parameters."""
Shape: TypeAlias = tuple[int, ...]
