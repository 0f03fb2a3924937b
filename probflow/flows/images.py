"""The multi-scale architecture that image flows share, and pixels."""

from __future__ import annotations

from collections.abc import Callable

from probflow._typing import Shape
from probflow.errors import ArgumentError, ShapeError
from probflow.printing import shape_text
from probflow.transforms import Transform
from probflow.transforms.dequantise import UniformDequantise
from probflow.transforms.preprocess import LogitPreprocess
from probflow.transforms.slice import Slice
from probflow.transforms.squeeze import Squeeze

Block = Callable[[Shape], list[Transform]]
"""The layers at one shape, from the data's side to the noise's."""


def multi_scale(
    shape: Shape, levels: int, before: Block, after: Block, context: Shape | None, bits: int | None, title: str
) -> list[Transform]:
    """At every level: `before`, a squeeze, `after`, and half of the channels sliced off, save at the last level
    (Dinh et al., arXiv:1605.08803, figure 4; Kingma & Dhariwal, arXiv:1807.03039, figure 2b).

    In the generative order, from noise to data; with `bits`, pixels 0 ... 2^bits - 1 are dequantised and put on the real line.
    """
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
        raise ArgumentError(f"{title}: levels must be a positive integer, got {levels!r}.")
    factor = 2**levels
    if shape[1] % factor or shape[2] % factor:
        raise ShapeError(
            f"{title}: {levels} levels halve height and width {levels} times, but the images are {shape_text(shape)}: "
            f"pad them to multiples of {factor}, or take fewer levels."
        )
    layers: list[Transform] = []  # from data to noise
    if bits is not None:
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
            raise ArgumentError(f"{title}: bits must be the number of bits per value, 8 for 0 ... 255, got {bits!r}.")
        layers += [UniformDequantise(2**bits), LogitPreprocess(2**bits)]
    for level in range(levels):
        layers += before(shape)
        squeeze = Squeeze(shape)
        layers.append(squeeze)
        shape = squeeze.inverse_shape(shape)
        layers += after(shape)
        if level < levels - 1:
            keep = shape[0] // 2
            layers.append(Slice(shape, keep=keep, context=context))
            shape = (keep, *shape[1:])
    return layers[::-1]
