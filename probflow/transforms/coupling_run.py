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
        return self._through(z, context, inverse=False)  # type: ignore[return-value]

    def _forward(self, z: Tensor, context: Tensor | None) -> Tensor:
        return self._through(z, context, inverse=False, logdets=False)[0]

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return self._through(x, context, inverse=True)  # type: ignore[return-value]

    def _through(
        self, value: Tensor, context: Tensor | None, inverse: bool, logdets: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """The value after all layers, and the sum of their log-determinants where it is wanted."""
        first, second = value.split(self.sizes, 1)
        total: Tensor | None = None
        for layer in reversed(self.layers) if inverse else self.layers:
            flip, map = layer.split.flip, layer.map
            h = layer._h(second if flip else first, None if layer.context is None else context)
            run = map.inverse_and_logdet if inverse else map.forward_and_logdet
            if flip:
                first, logdet = run(first, h)
            else:
                second, logdet = run(second, h)
            if logdets:
                total = added(total, logdet)
        return torch.cat([first, second], 1), total


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
