"""A data set in two parts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Split:
    """`train` and `test`, each a dict name -> tensor whose dimension 0 is the batch: what `Batches` and a loss take.

    >>> import torch
    >>> halves = Split({"x": torch.zeros(4, 2)}, {"x": torch.ones(1, 2)})
    >>> halves.train["x"].shape, halves.test["x"].shape
    (torch.Size([4, 2]), torch.Size([1, 2]))
    """

    train: dict[str, Tensor]
    test: dict[str, Tensor]
