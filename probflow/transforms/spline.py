"""Neural spline maps: monotone rational-quadratic splines with identity tails."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.transforms.bins import bins_first, check_bins, ends_of_bins, find_cells, inside_box, sizes_of_bins, within
from probflow.transforms.elementwise import Elementwise
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.transform import Pair

Many: TypeAlias = tuple[Tensor, ...]


class SplineMap(ScalarMap):
    r"""A monotone rational-quadratic spline on [-B, B], and the identity beyond (Durkan et al., *Neural Spline Flows*,
    arXiv:1906.04032, eq. 4-8).

    The spline maps x to z, as there, so that the direction of a density is a plain evaluation; z to x solves a quadratic
    equation, in about a quarter more time.  In a bin of width w and height h from :math:`(x_0, z_0)`, with slopes
    :math:`d_0, d_1` at its ends, :math:`s = h/w` and :math:`\xi = (x - x_0)/w`:

    .. math:: z = z_0 + h\,\frac{s\xi^2 + d_0\,\xi(1-\xi)}{s + (d_0 + d_1 - 2s)\,\xi(1-\xi)}, \qquad
              \frac{dz}{dx} = s^2\,\frac{d_1\xi^2 + 2s\,\xi(1-\xi) + d_0(1-\xi)^2}{[s + (d_0 + d_1 - 2s)\,\xi(1-\xi)]^2}.

    The parameters are, along dimension 1, K = `bins` widths and K heights (softmax), and the K - 1 slopes at the inner knots
    (softplus, shifted so that 0 means slope 1): `width` = 3K - 1.  The slopes at ±B are 1, as those of the tails, so that the
    derivative is continuous everywhere.

    bound: B.  min_width, min_height: the least share of [-B, B] that a bin has.  min_slope: the least slope at a knot.

    Errors: ArgumentError where the bins cannot fill the box, or min_slope is not between 0 and 1.

    >>> import torch
    >>> x, logdet = SplineMap(bins=4).forward_and_logdet(torch.tensor([[-7.0, 1.0]]), torch.zeros(1, 11, 2))
    >>> x, logdet.abs() < 1e-6
    (tensor([[-7.,  1.]]), tensor([[True, True]]))
    """

    def __init__(
        self, bins: int = 8, bound: float = 5.0, min_width: float = 1e-3, min_height: float = 1e-3, min_slope: float = 1e-3
    ) -> None:
        super().__init__()
        check_bins("SplineMap", bins, bound, min_width=min_width, min_height=min_height)
        if not 0 < min_slope < 1:
            raise ArgumentError(f"SplineMap: min_slope must lie between 0 and 1, the slope of the identity, got {min_slope!r}.")
        self.bins, self.bound, self.min_width, self.min_height, self.min_slope = bins, bound, min_width, min_height, min_slope
        self.width = 3 * bins - 1
        self._shift = math.log(math.expm1(1 - min_slope))  # softplus(0 + shift) + min_slope = 1

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        inside, clipped = inside_box(z, self.bound)
        (x0, z0), (width, height), ratio, (d0, d1) = self._bins(clipped, h, axis=1)
        xi, eta = _solve(within((clipped - z0) / height, 0, 1), d0, d1)
        _, slope = _curve(xi, eta, d0, d1, ratio)
        x = within(x0 + width * xi, -self.bound, self.bound)
        return torch.where(inside, x, z), torch.where(inside, -slope.log(), 0)

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        inside, clipped = inside_box(x, self.bound)
        (x0, z0), (width, height), ratio, (d0, d1) = self._bins(clipped, h, axis=0)
        xi = within((clipped - x0) / width, 0, 1)
        share, slope = _curve(xi, 1 - xi, d0, d1, ratio)
        z = within(z0 + height * share, -self.bound, self.bound)
        return torch.where(inside, z, x), torch.where(inside, slope.log(), 0)

    def _bins(self, value: Tensor, h: Tensor, axis: int) -> tuple[Many, Many, Tensor, Many]:
        """Of every value's bin: the corner, (width, height), width / height, and the slopes at its ends times width / height."""
        logits, raw = bins_first(h).split((2 * self.bins, self.bins - 1))
        cells = find_cells(sizes_of_bins(logits, self.bound, (self.min_width, self.min_height)), value, self.bound, axis)
        # Zeros, which mean slope 1, at ±B; softplus for the two slopes of the bin only.
        ends = ends_of_bins(raw, cells)
        width, height = cells.size.unbind(0)
        ratio = width / height
        slopes = (F.softplus(ends + self._shift) + self.min_slope) * ratio
        return cells.corner.unbind(0), (width, height), ratio, slopes.unbind(0)

    def extra_repr(self) -> str:
        return f"bins={self.bins}, bound={self.bound}"


def _curve(xi: Tensor, eta: Tensor, d0: Tensor, d1: Tensor, ratio: Tensor) -> Pair:
    r"""The share of its height that the curve has reached at :math:`\xi = 1 - \eta` (eq. 4), and its slope there (eq. 5).

    With :math:`a = \xi + d_0\eta` and :math:`b = \eta + d_1\xi`, where :math:`d_i` are the slopes in a bin made square, they are
    :math:`\xi a / (\xi a + \eta b)` and :math:`(h/w)\,(\eta a + \xi b) / (\xi a + \eta b)^2`: sums of positive terms, so that
    nothing cancels however steep the ends are.
    """
    a, b = xi + d0 * eta, eta + d1 * xi
    left = xi * a
    whole = left + eta * b
    return left / whole, (eta * a + xi * b) / (whole * whole * ratio)


def _solve(rho: Tensor, d0: Tensor, d1: Tensor) -> Pair:
    r"""(ξ, 1 - ξ) where the curve has reached the share ρ of its height (eq. 6-8).

    The odds :math:`v = \xi/(1-\xi)` solve :math:`(1-\rho)\,v^2 + \beta v - \rho = 0`, :math:`\beta = (1-\rho)\,d_0 - \rho\,d_1`.
    This discriminant, :math:`\beta^2 + 4\rho(1-\rho)`, is positive term by term, and either branch adds numbers of one sign.
    """
    rest = 1 - rho
    beta = rest * d0 - rho * d1
    half = ((beta * beta + 4 * rho * rest).sqrt() + beta.abs()) / 2
    rising = beta >= 0
    over, under = torch.where(rising, rho, half), torch.where(rising, half, rest)
    whole = over + under
    return over / whole, under / whole


class Spline(Elementwise):
    """Every element through a rational-quadratic spline of its own, trained or computed from a context (:class:`SplineMap`).

    >>> import torch
    >>> x, logdet = Spline(3, bins=4, context=2).forward_and_logdet(torch.randn(5, 3), torch.randn(5, 2))
    >>> x.shape, logdet.shape
    (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(self, shape: int | Shape, bins: int = 8, bound: float = 5.0, context: int | Shape | None = None) -> None:
        super().__init__(SplineMap(bins, bound), shape, context=context)
