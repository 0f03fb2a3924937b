"""Rational-quadratic splines and piecewise linear maps: elementwise, conditional, in couplings."""

from __future__ import annotations

import torch
from transforms.registry import Case

from probflow.transforms import Coupling, Elementwise
from probflow.transforms.piecewise_linear import PiecewiseLinear, PiecewiseLinearMap
from probflow.transforms.spline import Spline, SplineMap

# Normal values of standard deviation 3 lie in every bin and in both tails, |z| > 5.
wide = {d: (lambda n, d=d: 3 * torch.randn(n, d)) for d in (1, 3, 4)}

CASES = {
    "spline": Case(lambda: Spline(3), identity=True, draw=wide[3]),
    "spline, 1 feature": Case(lambda: Spline(1, bins=2), (1,), identity=True, draw=wide[1]),
    "spline, image": Case(lambda: Spline((2, 4, 4), bins=3), (2, 4, 4), identity=True),
    "spline | c": Case(lambda: Spline(3, bins=5, context=2), context=(2,), identity=True, draw=wide[3]),
    "spline, uneven floors": Case(
        lambda: Elementwise(SplineMap(5, bound=2.0, min_width=0.1, min_height=0.01, min_slope=0.1), 3), identity=True
    ),
    "coupling spline": Case(lambda: Coupling(4, SplineMap(), hidden=(16,)), (4,), identity=True, draw=wide[4]),
    "coupling spline | c": Case(
        lambda: Coupling(4, SplineMap(4), hidden=(16,), context=2), (4,), (2,), identity=True, draw=wide[4]
    ),
    "piecewise linear": Case(lambda: PiecewiseLinear(3), identity=True, draw=wide[3]),
    "piecewise linear | c": Case(lambda: PiecewiseLinear(3, context=2), context=(2,), identity=True, draw=wide[3]),
    "coupling piecewise linear": Case(
        lambda: Coupling(4, PiecewiseLinearMap(4), hidden=(16,)), (4,), identity=True, draw=wide[4]
    ),
}
