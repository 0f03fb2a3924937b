"""What layers of vectors share whose few parameters are trained, or computed from the context."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.nn.conditioners import DenseConditioner
from probflow.transforms.linear import as_features
from probflow.transforms.transform import Transform, as_context, check_width


class Amortised(Transform):
    """A map of vectors with trained parameters; with a context, those of every row are these plus a conditioner's output.

    The conditioner is a network from the flattened context to all parameters side by side, zero at the start.  By default its
    hidden layers have the widths `hidden`.
    """

    event_rank = 1

    def __init__(self, features: int, context: int | Shape | None) -> None:
        super().__init__()
        title = type(self).__name__
        self.shape = (as_features(features, title),)
        self.context = as_context(context, title)
        self.conditioner: nn.Module | None = None

    def _condition(self, width: int, conditioner: nn.Module | None, hidden: Sequence[int]) -> None:
        """Make the conditioner, or take the one given, for `width` parameters."""
        if self.context is not None:
            self.conditioner = conditioner or DenseConditioner(math.prod(self.context), hidden, width)
        elif conditioner is not None:
            raise ArgumentError(f"{self._title()}: a conditioner needs a context to look at: pass context=<its width> as well.")

    def _rows(self, context: Tensor | None, *trained: Tensor) -> tuple[Tensor, ...]:
        """The parameters: as they are, or with a context one set per row, behind a batch dimension."""
        if self.conditioner is None or context is None:
            return trained
        given: Tensor = self.conditioner(context.flatten(1))
        sizes = [parameter.numel() for parameter in trained]
        check_width(given, sum(sizes), context, self._title())
        offsets = given.split(sizes, 1)
        return tuple(
            parameter + offset.reshape(offset.shape[0], *parameter.shape)
            for parameter, offset in zip(trained, offsets, strict=True)
        )
