"""A data set in two parts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from probflow.printing import shape_text


@dataclass(frozen=True, repr=False)
class Split:
    """`train` and `test`, each a dict name -> tensor whose dimension 0 is the batch: what `Batches` and a loss take.

    >>> import torch
    >>> halves = Split({"x": torch.zeros(4, 2)}, {"x": torch.ones(1, 2)})
    >>> halves.train["x"].shape, halves.test["x"].shape
    (torch.Size([4, 2]), torch.Size([1, 2]))
    >>> halves
    Split(train: x (4, 2); test: x (1, 2))
    """

    train: dict[str, Tensor]
    test: dict[str, Tensor]

    def __repr__(self) -> str:
        parts = {"train": self.train, "test": self.test}
        return f"Split({'; '.join(f'{name}: {_shapes(part)}' for name, part in parts.items())})"


def _shapes(part: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {shape_text(value.shape)}" for name, value in part.items())
