"""What piecewise maps share: a box [-B, B]² cut into bins by unconstrained numbers, and the bin of a value.

The bins are along dimension 0 here, ``(K, N, *event)``: whatever happens bin by bin is then one long contiguous run, which on
CPU is faster by more than the one transposition costs, and a pair (x axis, z axis) comes apart into contiguous halves.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow.errors import ArgumentError


class Cells(NamedTuple):
    """The bin that every value lies in."""

    bin: Tensor
    """Its number k, ``(1, N, *event)``."""
    corner: Tensor
    """Its lower left corner, (x, z) along dimension 0: ``(2, N, *event)``."""
    size: Tensor
    """Its width and height: ``(2, N, *event)``."""
    chosen: Tensor | None = None
    """1 for the bin and 0 for the others, ``(K, N, *event)``: what a compiler is given instead of `bin`."""


def bins_first(h: Tensor) -> Tensor:
    """``(N, width, *event)`` as contiguous ``(width, N, *event)``."""
    return h.transpose(0, 1).contiguous()


def sizes_of_bins(logits: Tensor, bound: float, least: tuple[float, float]) -> Tensor:
    r"""Widths and heights, :math:`2B\,(m + (1 - Km)\operatorname{softmax})`, of K bins that fill [-B, B].

    From ``(2K, N, *event)`` to ``(2, K, N, *event)``; `least` holds m for the widths and for the heights.
    """
    shares = logits.unflatten(0, (2, -1)).softmax(1)
    bins = shares.shape[1]
    if least[0] == least[1]:
        # one kernel for both: m - (-c) share
        return torch.rsub(shares, 2 * bound * least[0], alpha=-2 * bound * (1 - bins * least[0]))
    axes = [share * (2 * bound * (1 - bins * m)) + 2 * bound * m for share, m in zip(shares.unbind(0), least, strict=True)]
    return torch.stack(axes)


def find_cells(sizes: Tensor, value: Tensor, bound: float, axis: int) -> Cells:
    """The bins of `value`, ``(N, *event)`` within [-B, B], along x (`axis` 0) or z (1).

    Only inner knots are compared, so that the last bin ends at B whatever the sizes add up to after rounding.
    """
    knots = sizes.detach()[axis, :-1].cumsum(0)
    below = knots <= value.detach() + bound
    if torch.compiler.is_compiling():  # sums behind masks are fused, forward and backward; an index is not
        passed = along_bins(below.to(sizes.dtype), 0, 1)
        chosen = F.pad(passed[:-1], (0, 0) * (passed.dim() - 1) + (1, 0), value=1.0) - passed
        return Cells(passed, (sizes * passed).sum(1) - bound, (sizes * chosen).sum(1), chosen)
    index = below.sum(0, keepdim=True)
    # A product with a mask has a derivative of one kernel, a cumulative sum one of four.
    corner = (sizes * along_bins(below.to(sizes.dtype), 0, 1)).sum(1) - bound
    return Cells(index, corner, pick(sizes, index.expand(2, *index.shape), 1).squeeze(1))


def ends_of_bins(inner: Tensor, cells: Cells) -> Tensor:
    """What K - 1 inner knots have, ``(K - 1, N, *event)``, at both ends of the bin, ``(2, N, *event)``; 0 at -B and B."""
    if cells.chosen is not None:
        return torch.stack([(inner * cells.chosen[1:]).sum(0), (inner * cells.chosen[:-1]).sum(0)])
    return pick(along_bins(inner, 1, 1), torch.cat([cells.bin, cells.bin + 1]), 0)


def along_bins(table: Tensor, before: int, after: int) -> Tensor:
    """The table with zeros before and after, along dimension 0."""
    return F.pad(table, (0, 0) * (table.dim() - 1) + (before, after))


def pick(table: Tensor, index: Tensor, dim: int) -> Tensor:
    """`gather` along `dim`, where the dimension behind it, the batch, may be 1 in the table: the same for all rows."""
    shape = list(table.shape)
    shape[dim + 1] = index.shape[dim + 1]
    return table.expand(shape).gather(dim, index)


def inside_box(value: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Where a value lies in [-B, B], and the value with 0 elsewhere, so that no derivative of a tail passes through the bins."""
    inside = value.abs() <= bound
    return inside, torch.where(inside, value, 0)


def within(value: Tensor, least: float, most: float) -> Tensor:
    """`value`, a result just computed, without the rounding that took it past a bound; the derivative is that of the exact result.

    A clamp that autograd sees would cost five kernels backward, to make the derivative zero at such places.
    """
    if torch.compiler.is_compiling():
        return value.clamp(least, most)
    F.hardtanh_(value.detach(), least, most)  # clamp_, which torch.func.vmap does not know
    return value


def check_bins(title: str, bins: int, bound: float, **least: float) -> None:
    """ArgumentError where the bins cannot fill the box."""
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise ArgumentError(f"{title}: bins must be an integer of at least 2, got {bins!r}.")
    if not 0 < bound < math.inf:
        raise ArgumentError(f"{title}: bound must be positive and finite (the map is the identity beyond it), got {bound!r}.")
    for name, value in least.items():
        if not 0 < value * bins < 1:
            raise ArgumentError(
                f"{title}: {name} is the least share of the box that a bin has; {bins} bins of {value!r} do not fit.\n"
                f"Write a positive number below 1/{bins} = {1 / bins:.4g}."
            )
