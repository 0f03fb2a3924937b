"""Whether two random gradients have the same mean: compared along a few directions, so that many weights are no lottery."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Gradient = Callable[[], Sequence[Tensor | None]]


def disagreement(
    first: Gradient, second: Gradient, named: Sequence[tuple[str, Tensor]], repeats: int
) -> tuple[float, str, float, float, float]:
    """The largest distance of the two means in standard errors, the name of the tensor where it is, the two means there along the
    direction that shows it, and the standard error of their difference.

    Each tensor is projected on two directions: where its two means differ most, as a third of the calls says, and a random one.  The
    other calls, `repeats` in all for each gradient, are independent of both, so that a standard error means what it says.
    """
    pilot = max(1, repeats // 3)
    gaps = [torch.zeros(w.numel(), dtype=w.dtype, device=w.device) for _, w in named]
    for _ in range(pilot):
        for gap, a, b in zip(gaps, first(), second(), strict=True):
            for sign, found in ((1, a), (-1, b)):
                if found is not None:
                    gap += sign * found.detach().flatten().to(gap.dtype)
    ways = [torch.stack([_unit(gap), _unit(torch.randn_like(gap))]) for gap in gaps]
    runs = [(_projected(first(), ways), _projected(second(), ways)) for _ in range(repeats - pilot)]

    worst = (0.0, named[0][0], 0.0, 0.0, 0.0)
    for place, (name, _) in enumerate(named):
        a, b = (torch.stack([run[side][place] for run in runs]) for side in (0, 1))
        error = ((a.var(0) + b.var(0)) / len(runs)).sqrt()
        gap = (a.mean(0) - b.mean(0)).abs()
        size = 1e-6 + 1e-6 * torch.maximum(a.abs().amax(0), b.abs().amax(0))  # rounding, where nothing is random
        distance = torch.where(gap > size, gap / torch.maximum(error, size / 5), torch.zeros_like(gap))
        way = int(distance.argmax())
        if float(distance[way]) > worst[0]:
            worst = (float(distance[way]), name, float(a.mean(0)[way]), float(b.mean(0)[way]), float(error[way]))
    return worst


def _unit(vector: Tensor) -> Tensor:
    """Of length 1, and the one number itself where there is only one."""
    if vector.numel() == 1 or not bool(vector.any()):
        return torch.ones_like(vector)
    return vector / vector.norm()


def _projected(gradients: Sequence[Tensor | None], ways: list[Tensor]) -> list[Tensor]:
    return [
        way.new_zeros(len(way)) if g is None else way @ g.detach().flatten().to(way.dtype)
        for g, way in zip(gradients, ways, strict=True)
    ]
