"""Glow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from probflow._typing import Shape
from probflow.flows.images import multi_scale
from probflow.flows.ready_made import Common, ReadyMade, as_count, image_shape
from probflow.transforms import Coupling, ScalarMap, Transform
from probflow.transforms.conv1x1 import Conv1x1
from probflow.transforms.normalisation import ActNorm

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Glow(ReadyMade):
    r"""Glow (Kingma & Dhariwal, arXiv:1807.03039, figure 2): `levels` scales of `steps` steps, each an activation normalisation, an
    invertible 1×1 convolution and an affine coupling of the channels; between scales half of the channels are sliced off with a
    Gaussian whose parameters are computed from the other half.  Density and sampling are one pass.

    shape: (channels, height, width).  hidden: the channels inside the couplings' networks.  transformer: "affine" or "additive".
    bits: 8 for pixel values 0 ... 255, which are dequantised and put on the real line (the log-density is then a lower bound, in
    nats per image; :func:`probflow.transforms.bits_per_dim` converts it); None for real values.
    context: labels or images; they reach the network of every coupling and of every slice.

    The first training batch initialises the activation normalisations (section 3.1).

    >>> p = Glow("p(x | y)", shape=(1, 8, 8), levels=2, steps=2, hidden=8, context=10)
    >>> import torch
    >>> p.sample({"y": torch.eye(10)})["x"].shape
    torch.Size([10, 1, 8, 8])
    """

    def __init__(
        self,
        statement: str | None = None,
        shape: Sequence[int] | None = None,
        *,
        levels: int = 3,
        steps: int = 8,
        hidden: int = 128,
        transformer: str | ScalarMap = "affine",
        bits: int | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        **common: Unpack[Common],
    ) -> None:
        event, steps = image_shape(shape, "Glow"), as_count(steps, "Glow: steps")

        def build(context: Shape | None) -> list[Transform]:
            def block(size: Shape) -> list[Transform]:
                made: list[Transform] = []
                for _ in range(steps):
                    made += [
                        ActNorm(size),
                        Conv1x1(size),
                        Coupling(size, transformer, split="channel", hidden=(hidden,), context=context, activation=activation),
                    ]
                return made

            return multi_scale(event, levels, lambda size: [], block, context, bits, "Glow")

        super().__init__(build, event, statement, common)
