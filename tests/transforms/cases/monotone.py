"""Scalar maps whose inverse is a root search: mixtures of logistics, monotone networks, functions of one's own."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from transforms.registry import Case

from probflow.transforms import Coupling, Elementwise
from probflow.transforms.mixture_cdf import LogisticsMap, MixtureOfLogistics
from probflow.transforms.monotone import MonotoneMap
from probflow.transforms.neural_monotone import DeepDenseSigmoidal, DeepDenseSigmoidalMap


class Wave(MonotoneMap):
    """x = z + a sin z, |a| < 0.9; the derivative by autograd."""

    width = 1

    def forward(self, z: Tensor, h: Tensor) -> Tensor:
        return z + 0.9 * h[:, 0].tanh() * z.sin()


class Bend(MonotoneMap):
    """x = z + a (softplus(z + b) - softplus(b)), a > -0.9; the derivative by hand."""

    width = 2

    def _numbers(self, h: Tensor) -> tuple[Tensor, Tensor]:
        a, b = h.unbind(1)
        return 0.9 * a.tanh(), b

    def forward(self, z: Tensor, h: Tensor) -> Tensor:
        a, b = self._numbers(h)
        return z + a * (F.logsigmoid(-b) - F.logsigmoid(-z - b))

    def log_derivative(self, z: Tensor, h: Tensor) -> Tensor:
        a, b = self._numbers(h)
        return (a * (z + b).sigmoid()).log1p()


CASES = {
    "mixture of logistics": Case(lambda: MixtureOfLogistics(3), identity=True),
    "mixture of 1 logistic, 1 feature": Case(lambda: MixtureOfLogistics(1, components=1), (1,), identity=True),
    "mixture of logistics, inverse": Case(lambda: MixtureOfLogistics(3).inv, identity=True),
    "mixture of logistics, images": Case(lambda: MixtureOfLogistics((2, 2, 3)), (2, 2, 3), identity=True),
    "mixture of logistics | c": Case(lambda: MixtureOfLogistics(3, context=2), context=(2,), identity=True),
    "coupling mixture of logistics": Case(lambda: Coupling(4, LogisticsMap(), hidden=(16,)), (4,), identity=True),
    "coupling mixture of logistics | c": Case(
        lambda: Coupling(5, LogisticsMap(3), hidden=(16,), context=2, flip=True), (5,), (2,), identity=True
    ),
    "coupling mixture of logistics, checkerboard": Case(
        lambda: Coupling((1, 2, 2), LogisticsMap(2), hidden=(4,), split="checkerboard"), (1, 2, 2), identity=True
    ),
    "ddsf": Case(lambda: DeepDenseSigmoidal(3), identity=True),
    "ddsf, 1 layer, 1 feature": Case(lambda: DeepDenseSigmoidal(1, hidden=4, layers=1), (1,), identity=True),
    "ddsf, 3 layers": Case(lambda: DeepDenseSigmoidal(2, hidden=3, layers=3), (2,), identity=True),
    "ddsf | c": Case(lambda: DeepDenseSigmoidal(3, hidden=4, context=2), context=(2,), identity=True),
    "coupling ddsf | c": Case(
        lambda: Coupling(4, DeepDenseSigmoidalMap(hidden=4), hidden=(16,), context=2), (4,), (2,), identity=True
    ),
    "monotone": Case(lambda: Elementwise(Wave(), 3), identity=True),
    "monotone, own derivative": Case(lambda: Elementwise(Bend(), 3), identity=True),
    "monotone, 1 feature": Case(lambda: Elementwise(Wave(), 1), (1,), identity=True),
    "monotone | c": Case(lambda: Elementwise(Wave(), 3, context=2), context=(2,), identity=True),
    "coupling monotone | c": Case(lambda: Coupling(4, Bend(), hidden=(16,), context=2), (4,), (2,), identity=True),
}
