"""The table of scalar maps by name: what ``transformer="spline"`` means."""

from __future__ import annotations

from collections.abc import Callable

from probflow.transforms.affine import AdditiveMap, AffineMap
from probflow.transforms.mixture_cdf import LogisticsMap
from probflow.transforms.neural_monotone import DeepDenseSigmoidalMap
from probflow.transforms.piecewise_linear import PiecewiseLinearMap
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.shaping import SinhArcsinhMap
from probflow.transforms.spline import SplineMap

SCALAR_MAPS: dict[str, Callable[[], ScalarMap]] = {
    "additive": AdditiveMap,
    "affine": AffineMap,
    "spline": SplineMap,
    "piecewise-linear": PiecewiseLinearMap,
    "logistics": LogisticsMap,
    "sigmoidal": DeepDenseSigmoidalMap,
    "sinh-arcsinh": SinhArcsinhMap,
}
