"""Couplings in a row that share their halves: the halves are taken apart before the first and joined after the last."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow.transforms.coupling import Coupling
from probflow.transforms.splits import Halves
from probflow.transforms.transform import Pair, Transform, added


class CouplingRun:
    """Two or more couplings of the same halves, applied to the pair."""

    def __init__(self, layers: list[Coupling], sizes: tuple[int, int]) -> None:
        self.layers, self.sizes = layers, sizes
        self.context = next((layer.context for layer in layers if layer.context is not None), None)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        first, second = z.split(self.sizes, 1)
        total: Tensor | None = None
        for layer in self.layers:
            h = layer._h(second if layer.split.flip else first, None if layer.context is None else context)
            if layer.split.flip:
                first, logdet = layer.map.forward_and_logdet(first, h)
            else:
                second, logdet = layer.map.forward_and_logdet(second, h)
            total = added(total, logdet)
        return torch.cat([first, second], 1), total  # type: ignore[return-value]

    def _forward(self, z: Tensor, context: Tensor | None) -> Tensor:
        first, second = z.split(self.sizes, 1)
        for layer in self.layers:
            h = layer._h(second if layer.split.flip else first, None if layer.context is None else context)
            if layer.split.flip:
                first, _ = layer.map.forward_and_logdet(first, h)
            else:
                second, _ = layer.map.forward_and_logdet(second, h)
        return torch.cat([first, second], 1)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        first, second = x.split(self.sizes, 1)
        total: Tensor | None = None
        for layer in reversed(self.layers):
            h = layer._h(second if layer.split.flip else first, None if layer.context is None else context)
            if layer.split.flip:
                first, logdet = layer.map.inverse_and_logdet(first, h)
            else:
                second, logdet = layer.map.inverse_and_logdet(second, h)
            total = added(total, logdet)
        return torch.cat([first, second], 1), total  # type: ignore[return-value]


def runs_of(parts: tuple[Transform, ...]) -> list[Transform | CouplingRun]:
    """The layers in order, with every maximal run of such couplings as one."""
    found: list[Transform | CouplingRun] = []
    pending: list[Coupling] = []

    def close() -> None:
        if len(pending) > 1:
            found.append(CouplingRun(list(pending), _sizes(pending[0]) or (0, 0)))
        else:
            found.extend(pending)
        pending.clear()

    for part in parts:
        sizes = _sizes(part)
        if pending and sizes != _sizes(pending[0]):
            close()
        if sizes is not None and isinstance(part, Coupling):
            pending.append(part)
        else:
            found.append(part)
    close()
    return found


def _sizes(part: Transform) -> tuple[int, int] | None:
    """The widths of the two halves; None for anything but a coupling of halves."""
    if type(part) is Coupling and isinstance(part.split, Halves):
        return part.split.first, part.split.second
    return None
