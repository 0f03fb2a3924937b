"""A data set in two parts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Split:
    """`train` and `test`, each a dict name -> tensor whose dimension 0 is the batch: what `Batches` and a loss take."""

    train: dict[str, Tensor]
    test: dict[str, Tensor]
