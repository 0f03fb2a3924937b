"""Image layers: convolutional couplings, squeezing, 1×1 convolutions, slicing and augmenting, dequantisation, preprocessing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transforms.registry import Case

from probflow.nn.convolutional import ResidualConditioner
from probflow.transforms import Affine, Compose, Coupling
from probflow.transforms.conv1x1 import Conv1x1
from probflow.transforms.dequantise import UniformDequantise, VariationalDequantise
from probflow.transforms.normalisation import ActNorm
from probflow.transforms.preprocess import LogitPreprocess
from probflow.transforms.slice import Augment, Slice
from probflow.transforms.squeeze import Squeeze

IMAGE = (4, 4, 4)


def pixels(*shape: int) -> Callable[[int], Tensor]:
    def draw(n: int) -> Tensor:
        return 256 * torch.rand(n, *shape)

    return draw


def residual() -> Coupling:
    return Coupling(IMAGE, conditioner=ResidualConditioner(2, 8, 2, 4))


def multi_scale() -> Compose:
    """Two scales, conditional in every layer, from z of shape (6, 2, 2) to images (3, 4, 4)."""
    return Compose(
        [
            Coupling((6, 2, 2), hidden=(8,), context=2),
            Conv1x1((6, 2, 2)),
            Slice((12, 2, 2), 6, context=2),
            Coupling((12, 2, 2), hidden=(8,), context=2, flip=True),
            Squeeze((3, 4, 4)),
        ]
    )


def glow_step() -> Compose:
    """One step of Glow: normalisation and 1×1 convolution side by side are computed as one."""
    return Compose([Coupling(IMAGE, hidden=(8,), context=3), Conv1x1(IMAGE), ActNorm(IMAGE)])


CASES = {
    "glow step | c": Case(glow_step, IMAGE, (3,)),
    "coupling image": Case(lambda: Coupling(IMAGE, hidden=(8,)), IMAGE, identity=True),
    "coupling image, odd": Case(lambda: Coupling((3, 3, 5), hidden=(8,), flip=True), (3, 3, 5), identity=True),
    "coupling image additive": Case(lambda: Coupling(IMAGE, "additive", hidden=(8,)), IMAGE, identity=True),
    "coupling image alternate": Case(lambda: Coupling(IMAGE, split="alternate", hidden=(8,)), IMAGE, identity=True),
    "coupling checkerboard": Case(lambda: Coupling((1, 4, 4), split="checkerboard", hidden=(8,)), (1, 4, 4), identity=True),
    "coupling checkerboard, flipped | c": Case(
        lambda: Coupling((2, 3, 4), split="checkerboard", flip=True, hidden=(8,), context=3), (2, 3, 4), (3,), identity=True
    ),
    "coupling image | c": Case(lambda: Coupling(IMAGE, hidden=(8,), context=3), IMAGE, (3,), identity=True),
    "coupling image | image": Case(lambda: Coupling(IMAGE, hidden=(8,), context=(2, 8, 8)), IMAGE, (2, 8, 8), identity=True),
    "coupling image | small image": Case(
        lambda: Coupling(IMAGE, hidden=(8,), context=(1, 2, 1)), IMAGE, (1, 2, 1), identity=True
    ),
    "coupling image, residual": Case(residual, IMAGE, identity=True),
    "squeeze": Case(lambda: Squeeze((3, 4, 6)), (12, 2, 3)),
    "squeeze by 3": Case(lambda: Squeeze((1, 6, 3), factor=3), (9, 2, 1)),
    "conv1x1": Case(lambda: Conv1x1((4, 3, 2)), (4, 3, 2)),
    "conv1x1 identity": Case(lambda: Conv1x1((4, 3, 2), start="identity"), (4, 3, 2), identity=True),
    "conv1x1 of vectors": Case(lambda: Conv1x1(5), (5,)),
    # a second draw of u is another x, so that z → x → z is exact but not x → z → x: see test_stochastic.py
    "slice": Case(lambda: Slice(5, 2), (2,)),
    "slice, deeper": Case(lambda: Slice(5, 2, hidden=(8,)), (2,)),
    "slice | c": Case(lambda: Slice(5, 2, context=3), (2,), (3,)),
    "slice, by a chain": Case(lambda: Slice(5, 2, Compose([Affine(3, context=2), Coupling(3, hidden=(8,), context=2)])), (2,)),
    "slice, unconditional": Case(lambda: Slice(5, 2, Affine(3)), (2,)),
    "slice image": Case(lambda: Slice(IMAGE, 3), (3, 4, 4)),
    "slice image, deeper | c": Case(lambda: Slice(IMAGE, 2, context=3, hidden=(8,)), (2, 4, 4), (3,)),
    "slice image | image": Case(lambda: Slice(IMAGE, 2, context=(1, 8, 8)), (2, 4, 4), (1, 8, 8)),
    "multi-scale | c": Case(multi_scale, (6, 2, 2), (2,)),
    # an augmented or dequantised x belongs to many z
    "augment": Case(lambda: Augment(3, 2), (5,)),
    "augment | c": Case(lambda: Augment(3, 2, context=2, hidden=(8,)), (5,), (2,)),
    "augment image": Case(lambda: Augment(IMAGE, 2), (6, 4, 4)),
    # stiff: beyond [0, 256) there is no level, and the log-determinant is -inf
    "uniform dequantise": Case(UniformDequantise, draw=pixels(3), stiff=True),
    "uniform dequantise image": Case(UniformDequantise, (1, 4, 4), draw=pixels(1, 4, 4), stiff=True),
    "variational dequantise": Case(lambda: VariationalDequantise(3), draw=pixels(3), stiff=True),
    "variational dequantise image | c": Case(
        lambda: VariationalDequantise((1, 4, 4), context=2, hidden=(8,)),
        (1, 4, 4),
        (2,),
        draw=pixels(1, 4, 4),
        stiff=True,
    ),
    "logit preprocess": Case(LogitPreprocess),
    "logit preprocess image": Case(lambda: LogitPreprocess(levels=8, alpha=1e-6), (1, 2, 2)),
}
