"""RealNVP, for vectors and for images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.flows.couplings import couplings
from probflow.flows.images import multi_scale
from probflow.flows.ready_made import Common, ReadyMade, as_count, image_shape, one_shape
from probflow.transforms import Coupling, Transform
from probflow.transforms.normalisation import ActNorm

if TYPE_CHECKING:
    from typing_extensions import Unpack


class RealNVP(ReadyMade):
    r"""Affine couplings (Dinh et al., arXiv:1605.08803, eq. 7-8).  Density and sampling are one pass.

    Vectors, ``features=D``: `layers` couplings (8) that take turns with the halves, conditioners of widths `hidden`; mixing: "lu",
    "permute" or "reverse" puts such a layer behind each.

    Images, ``shape=(channels, height, width)``: the multi-scale architecture of section 3.6: at each of `levels` scales (2) three
    checkerboard couplings, a squeeze, three channel couplings, and half of the channels sliced off.  Activation normalisation in
    place of batch normalisation, so that training and evaluation agree; convolutions ``hidden[0]`` channels wide.
    bits: 8 for pixel values 0 ... 255, which are dequantised and put on the real line; None for real values.

    >>> p = RealNVP("p(x | y)", features=4, context=3, layers=4, hidden=(32,))
    >>> import torch
    >>> p.sample({"y": torch.zeros(5, 3)})["x"].shape
    torch.Size([5, 4])
    >>> RealNVP("p(x)", shape=(1, 8, 8), levels=2, hidden=(8,)).sample(batch_n=2)["x"].shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        statement: str | None = None,
        features: int | None = None,
        *,
        shape: Sequence[int] | None = None,
        layers: int | None = None,
        levels: int | None = None,
        hidden: Sequence[int] = (128, 128),
        mixing: str | None = None,
        bits: int | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        **common: Unpack[Common],
    ) -> None:
        if shape is None:
            _refuse("images, shape=(channels, height, width)", levels=levels, bits=bits)
            event = one_shape(features, "RealNVP")
            count = as_count(8 if layers is None else layers, "RealNVP: layers")
            super().__init__(
                lambda c: couplings(event, lambda: "affine", count, hidden, c, activation, mixing), event, statement, common
            )
            return
        if features is not None:
            raise ArgumentError("RealNVP: give features= for vectors or shape= for images, not both.")
        _refuse("vectors, features=...", layers=layers, mixing=mixing)
        event = image_shape(shape, "RealNVP")
        scales = 2 if levels is None else levels

        def build(context: Shape | None) -> list[Transform]:
            def block(split: str) -> Callable[[Shape], list[Transform]]:
                def made(size: Shape) -> list[Transform]:
                    found: list[Transform] = []
                    for place in range(3):
                        found.append(
                            Coupling(
                                size,
                                "affine",
                                split=split,
                                flip=place % 2 == 1,
                                hidden=hidden,
                                context=context,
                                activation=activation,
                            )
                        )
                        found.append(ActNorm(size))
                    return found

                return made

            return multi_scale(event, scales, block("checkerboard"), block("channel"), context, bits, "RealNVP")

        super().__init__(build, event, statement, common)


def _refuse(of: str, **given: object) -> None:
    """An argument that only the other kind of data has would be ignored silently."""
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(f"RealNVP: {name}= is for {of}; here it would do nothing. Leave it out.")
