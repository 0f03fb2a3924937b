"""Averages of a loss and its terms over an epoch, and the watch for numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from probflow.errors import ModelError
from probflow.losses import Loss
from probflow.printing import value_text


class Averages:
    """Averages weighted by batch size; with several batches, each term by that of its own, and the loss is the sum of its terms.

    With `immediate` every step is read at once, so a loss that is not finite is an error before its gradient is taken; else the
    numbers stay on their device until `result` is asked for, as reading one waits for the device.
    """

    def __init__(self, loss: Loss, where: str, immediate: bool, names: Sequence[str] = ()) -> None:
        self.loss, self.where, self.immediate = loss, where, immediate
        self.names = tuple(names)
        """What the terms are called.  Kept from earlier epochs, so that the curves go on."""
        self._sums: list[float] = []
        self._weight = 0
        self._step = 0
        self._size: int | tuple[int, ...] = 0
        self._pending: list[tuple[int, int | tuple[int, ...], Tensor]] = []
        self._signs: tuple[int, ...] = ()
        self._weights: list[int] = []  # of each term, where there are several batches

    def start(self, size: int) -> None:
        """The next step, on a batch of `size`."""
        self._step += 1
        self._size = size
        self._open = True

    def start_several(self, sizes: tuple[int, ...], signs: tuple[int, ...]) -> None:
        """The next step, on several batches: the rows of each term, and its sign in the loss."""
        self.start(0)
        self._size, self._signs = sizes, signs

    def add(self, value: Tensor, terms: Mapping[str, Tensor]) -> None:
        """The loss and its terms in this step; only the first time, as some optimizers evaluate it again and again."""
        if not self._open:
            return
        self._open = False
        if len(self.names) != len(terms):
            self.names = tuple(terms)
        row = [value.detach(), *terms.values()]
        if self.immediate:
            self._take(self._step, self._size, [t.item() if t.dim() == 0 else t.mean().item() for t in row])
        else:
            self._pending.append((self._step, self._size, torch.stack([t.to(value.dtype).mean() for t in row])))

    def result(self) -> dict[str, float]:
        """The averages so far; empty without a step."""
        if self._pending:
            rows = torch.stack([row for _, _, row in self._pending]).tolist()
            taken, self._pending = self._pending, []
            for (step, size, _), row in zip(taken, rows, strict=True):
                self._take(step, size, row)
        if self._weights:
            terms = [total / max(weight, 1) for total, weight in zip(self._sums[1:], self._weights, strict=True)]
            loss = sum(sign * term for sign, term in zip(self._signs, terms, strict=True))
            return dict(zip(("loss", *self.names), (loss, *terms), strict=True))
        return {name: total / max(self._weight, 1) for name, total in zip(("loss", *self.names), self._sums, strict=False)}

    def _take(self, step: int, size: int | tuple[int, ...], row: list[float]) -> None:
        if not math.isfinite(row[0]):
            raise ModelError(self._not_finite(step, row))
        if not self._sums:
            self._sums = [0.0] * len(row)
        if isinstance(size, tuple):
            self._weights = [a + b for a, b in zip(self._weights or [0] * len(size), size, strict=True)]
            self._sums = [0.0, *(total + n * number for total, n, number in zip(self._sums[1:], size, row[1:], strict=True))]
            return
        for place, number in enumerate(row):
            self._sums[place] += size * number
        self._weight += size

    def _not_finite(self, step: int, row: list[float]) -> str:
        entries = list(zip(self.names, row[1:], strict=True))
        width = max((len(name) for name, _ in entries), default=0)
        terms = "".join(
            f"\n  {name:<{width}}  {value_text(number)}" + ("" if math.isfinite(number) else "   <- not finite")
            for name, number in entries
        )
        kept = "The weights are those before this step." if self.immediate else "The weights have been changed by steps since."
        return (
            f"{self.where}, step {step}: the loss {self.loss} is {value_text(row[0])}.{terms}\n{kept} "
            "Look at the data of this batch for NaN and extreme values; try a smaller learning rate or clip_grad_norm=1.0."
        )
