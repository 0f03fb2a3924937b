"""Invertible maps with their log-determinants, and the networks that condition them."""

from __future__ import annotations

from probflow.transforms.affine import AdditiveMap, Affine, AffineMap
from probflow.transforms.autoregressive import Autoregressive
from probflow.transforms.compose import Compose
from probflow.transforms.conv1x1 import Conv1x1
from probflow.transforms.coupling import Coupling
from probflow.transforms.dequantise import UniformDequantise, VariationalDequantise
from probflow.transforms.elementwise import Elementwise
from probflow.transforms.inverse import Inverse
from probflow.transforms.linear import LU, Diagonal, LUWeight, Triangular
from probflow.transforms.mixture_cdf import LogisticsMap, MixtureOfLogistics
from probflow.transforms.monotone import MonotoneMap
from probflow.transforms.neural_monotone import DeepDenseSigmoidal, DeepDenseSigmoidalMap
from probflow.transforms.normalisation import ActNorm, BatchNorm
from probflow.transforms.orthogonal import Householder, Orthogonal
from probflow.transforms.permutation import Permute, RandomPermutation, Reverse
from probflow.transforms.piecewise_linear import PiecewiseLinear, PiecewiseLinearMap
from probflow.transforms.planar import Planar
from probflow.transforms.preprocess import LogitPreprocess, bits_per_dim
from probflow.transforms.radial import Radial
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.shaping import Power, SinhArcsinh, SinhArcsinhMap
from probflow.transforms.slice import Augment, Slice
from probflow.transforms.smooth import Exp, LeakyReLU, LeakyTanh, Logit, Sigmoid, SneakyReLU, Softplus, Tanh
from probflow.transforms.spline import Spline, SplineMap
from probflow.transforms.squeeze import Squeeze
from probflow.transforms.sylvester import Sylvester
from probflow.transforms.torch_transform import TorchTransform
from probflow.transforms.transform import Transform

__all__ = [
    "ActNorm",
    "AdditiveMap",
    "Affine",
    "AffineMap",
    "Augment",
    "Autoregressive",
    "BatchNorm",
    "Compose",
    "Conv1x1",
    "Coupling",
    "DeepDenseSigmoidal",
    "DeepDenseSigmoidalMap",
    "Diagonal",
    "Elementwise",
    "Exp",
    "Householder",
    "Inverse",
    "LU",
    "LUWeight",
    "LeakyReLU",
    "LeakyTanh",
    "LogisticsMap",
    "Logit",
    "LogitPreprocess",
    "MixtureOfLogistics",
    "MonotoneMap",
    "Orthogonal",
    "Permute",
    "PiecewiseLinear",
    "PiecewiseLinearMap",
    "Planar",
    "Power",
    "Radial",
    "RandomPermutation",
    "Reverse",
    "ScalarMap",
    "Sigmoid",
    "SinhArcsinh",
    "SinhArcsinhMap",
    "Slice",
    "SneakyReLU",
    "Softplus",
    "Spline",
    "SplineMap",
    "Squeeze",
    "Sylvester",
    "Tanh",
    "TorchTransform",
    "Transform",
    "Triangular",
    "UniformDequantise",
    "VariationalDequantise",
    "bits_per_dim",
]
