"""The table of scalar maps by name: what ``transformer="spline"`` means."""

from __future__ import annotations

from collections.abc import Callable

from probflow.transforms.affine import AdditiveMap, AffineMap
from probflow.transforms.scalar import ScalarMap

SCALAR_MAPS: dict[str, Callable[[], ScalarMap]] = {
    "additive": AdditiveMap,
    "affine": AffineMap,
}
