"""Integrals of a density in one and two dimensions, and how well draws fit it, without anything but torch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from probflow.errors import SupportError

Density = Callable[[Tensor], Tensor]
"""log p at points ``(G, dimensions)``: ``(G,)``."""

SIGMAS = 5.0
"""How many standard errors are chance: one false alarm in a million."""


def inside(log_density: Density, ends: Tensor, draws: Tensor, axis: int) -> Tensor:
    """Those of the ends of cells between which the distribution takes values, along an axis through the median of the draws."""
    middle = draws.median(0).values

    def refused(values: Tensor) -> bool:
        points = middle.repeat(len(values), 1)
        points[:, axis] = values
        try:
            log_density(points)
        except SupportError:
            return True
        return False

    def reach(outwards: Tensor) -> Tensor:
        """As many of these values as are taken: the support has no holes, so halving finds the last."""
        low, high = 0, len(outwards)
        while low < high:
            k = (low + high + 1) // 2
            low, high = (low, k - 1) if refused(outwards[k - 1 : k]) else (k, high)
        return outwards[:low]

    below, between, above = _split(ends, draws[:, axis])
    return torch.cat([reach(below.flip(0)).flip(0), between, reach(above)])


def _split(ends: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = draws.min(), draws.max()
    return ends[ends < low], ends[(ends >= low) & (ends <= high)], ends[ends > high]


def edges(draws: Tensor, count: int, own: int) -> Tensor:
    """Ends of cells that cover the line: `count` of them closer where the draws are, and `own` of the draws (or all)."""
    low, middle, high = draws.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=draws.dtype))
    width = (high - low).clamp(min=1e-6)
    angle = torch.pi * ((torch.arange(count, dtype=draws.dtype) + 0.5) / count - 0.5)
    ordered = draws.sort().values
    if own < len(draws):
        ordered = ordered[torch.linspace(0, len(draws) - 1, own).long()]
    return torch.cat([middle + width * angle.tan(), ordered]).unique()


def cells(ends: Tensor) -> tuple[Tensor, Tensor]:
    """Middles and widths."""
    return (ends[1:] + ends[:-1]) / 2, ends.diff()


def line(log_density: Density, draws: Tensor) -> tuple[float, float]:
    """The integral over the line, and the Kolmogorov-Smirnov distance of the draws ``(N, 1)`` times √N."""
    x = draws[:, 0]
    ends = inside(log_density, edges(x, 10_000, len(x)), draws, 0)
    middle, width = cells(ends)
    mass = log_density(middle[:, None]).exp() * width
    total = float(mass.sum())
    below = torch.cat([torch.zeros(1, dtype=x.dtype), mass.cumsum(0)]) / total
    ordered = x.sort().values
    at = below[torch.searchsorted(ends, ordered)]
    steps = (torch.arange(len(x), dtype=x.dtype) + 0.5) / len(x)
    return total, float((at - steps).abs().max()) * math.sqrt(len(x))


def plane(log_density: Density, draws: Tensor, coarse: int = 12) -> tuple[float, float]:
    """The integral over the plane, and how many standard deviations χ² of the draws ``(N, 2)`` is above its mean."""
    both = [inside(log_density, edges(draws[:, i], 200, 1 + coarse * 10), draws, i) for i in range(2)]
    (x, a), (y, b) = (cells(ends) for ends in both)
    mass = log_density(torch.cartesian_prod(x, y)).exp().reshape(len(x), len(y)) * a[:, None] * b
    levels = torch.linspace(0, 1, coarse + 1, dtype=draws.dtype)[1:-1]
    cuts = [draws[:, i].contiguous().quantile(levels) for i in range(2)]
    rows, cols = (torch.searchsorted(cut, middle) for cut, middle in zip(cuts, (x, y), strict=True))
    where = (rows[:, None] * coarse + cols).flatten()
    expected = torch.zeros(coarse**2, dtype=draws.dtype).index_add(0, where, mass.flatten())
    seen = sum(torch.searchsorted(cut, draws[:, i].contiguous()) * coarse ** (1 - i) for i, cut in enumerate(cuts))
    observed = torch.bincount(torch.as_tensor(seen), minlength=coarse**2).to(draws.dtype)
    total = float(mass.sum())
    return total, chi_squared(observed, expected / total * len(draws))


def listed(log_density: Density, draws: Tensor) -> tuple[float, float, float]:
    """Of a discrete density: the sum over all values that were drawn, the share of values that were probably missed (Good and
    Turing: those seen once), and χ² in standard deviations above its mean."""
    points, counts = draws.unique(dim=0, return_counts=True)
    mass = log_density(points).exp()
    missed = float((counts == 1).sum()) / len(draws)
    return float(mass.sum()), missed, chi_squared(counts.to(mass.dtype), mass * len(draws))


def chi_squared(observed: Tensor, expected: Tensor) -> float:
    """(χ² - f) / √(2f) over cells with five expected draws or more; the others are one cell."""
    enough = expected >= 5
    rest_seen, rest = observed[~enough].sum()[None], expected[~enough].sum()[None]
    if float(rest) >= 5 or float(rest_seen) > 5 + SIGMAS * math.sqrt(5):
        rest = rest.clamp(min=1e-9)
        observed, expected = torch.cat([observed[enough], rest_seen]), torch.cat([expected[enough], rest])
    else:
        observed, expected = observed[enough], expected[enough]
    freedom = max(1, len(observed) - 1)
    return (float(((observed - expected).square() / expected).sum()) - freedom) / math.sqrt(2 * freedom)
