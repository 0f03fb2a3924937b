"""Invertible maps with their log-determinants, and the networks that condition them."""

from __future__ import annotations

from probflow.transforms.affine import AdditiveMap, Affine, AffineMap
from probflow.transforms.compose import Compose
from probflow.transforms.coupling import Coupling
from probflow.transforms.elementwise import Elementwise
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.smooth import Sigmoid
from probflow.transforms.torch_transform import TorchTransform
from probflow.transforms.transform import Inverse, Transform

__all__ = [
    "AdditiveMap",
    "Affine",
    "AffineMap",
    "Compose",
    "Coupling",
    "Elementwise",
    "Inverse",
    "ScalarMap",
    "Sigmoid",
    "TorchTransform",
    "Transform",
]
