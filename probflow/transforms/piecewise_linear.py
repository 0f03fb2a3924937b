"""Monotone piecewise linear maps with identity tails."""

from __future__ import annotations

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.transforms.bins import bins_first, check_bins, find_cells, inside_box, sizes_of_bins
from probflow.transforms.elementwise import Elementwise
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.transform import Pair


class PiecewiseLinearMap(ScalarMap):
    r"""A monotone piecewise linear map on [-B, B], and the identity beyond: :math:`z = z_0 + (x - x_0)\,h/w` in a bin of width w
    and height h from :math:`(x_0, z_0)`.

    The cumulative distribution function of a histogram, after Müller et al., *Neural Importance Sampling* (arXiv:1808.03856,
    section 4.2), stretched from [0, 1] to [-B, B] and with widths that are free too.  The parameters are, along dimension 1,
    K = `bins` widths and K heights (softmax): `width` = 2K.  The density jumps at the knots; :class:`SplineMap` has none of that.

    bound: B.  min_width, min_height: the least share of [-B, B] that a bin has.

    Errors: ArgumentError where the bins cannot fill the box.

    >>> import torch
    >>> x, logdet = PiecewiseLinearMap(bins=4).forward_and_logdet(torch.tensor([[-7.0, 1.0]]), torch.zeros(1, 8, 2))
    >>> x, logdet
    (tensor([[-7.,  1.]]), tensor([[0., 0.]]))
    """

    def __init__(self, bins: int = 8, bound: float = 5.0, min_width: float = 1e-3, min_height: float = 1e-3) -> None:
        super().__init__()
        check_bins("PiecewiseLinearMap", bins, bound, min_width=min_width, min_height=min_height)
        self.bins, self.bound, self.min_width, self.min_height = bins, bound, min_width, min_height
        self.width = 2 * bins

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        return self._run(z, h, 1)

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        return self._run(x, h, 0)

    def _run(self, value: Tensor, h: Tensor, axis: int) -> Pair:
        """From x (`axis` 0) or z (1) to the other."""
        inside, clipped = inside_box(value, self.bound)
        sizes = sizes_of_bins(bins_first(h), self.bound, (self.min_width, self.min_height))
        cells = find_cells(sizes, clipped, self.bound, axis)
        start, end = cells.corner[axis], cells.corner[1 - axis]
        slope = cells.size[1 - axis] / cells.size[axis]
        result = (end + (clipped - start) * slope).clamp(-self.bound, self.bound)
        return torch.where(inside, result, value), torch.where(inside, slope.log(), 0)

    def extra_repr(self) -> str:
        return f"bins={self.bins}, bound={self.bound}"


class PiecewiseLinear(Elementwise):
    """Every element through a piecewise linear map of its own, trained or computed from a context (:class:`PiecewiseLinearMap`).

    >>> import torch
    >>> x, logdet = PiecewiseLinear(3, bins=4).forward_and_logdet(torch.randn(5, 3))
    >>> x.shape, logdet.shape
    (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(self, shape: int | Shape, bins: int = 8, bound: float = 5.0, context: int | Shape | None = None) -> None:
        super().__init__(PiecewiseLinearMap(bins, bound), shape, context=context)
