"""The flow of ``probflow demo glow``: p(x|y), an image given its label, exact density in both directions.

Source: Kingma & Dhariwal, Glow: Generative flow with invertible 1x1 convolutions, arXiv:1807.03039.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probflow.distributions import Flow, Normal
from probflow.flows import Glow


def build(side: int, classes: int, levels: int, steps: int, hidden: int, bits: int) -> Flow:
    """Glow whose couplings, slices and base know the label y; pixels are 0 ... 2^bits - 1."""
    noise = (4 * 2 ** (levels - 1), side // 2**levels, side // 2**levels)
    base = Normal("p(z | y)", Prototypes(classes, noise), features_shape=noise)
    return Glow(
        "p(x | y)", shape=(1, side, side), levels=levels, steps=steps, hidden=hidden, bits=bits, base=base, context=classes
    )


FASTER = 3.0  # than Adam's rate: means of images lie several units apart


class Prototypes(nn.Module):
    """A mean and a standard deviation of the coarsest noise for each label: 0 and 1 at the start (Glow's trained prior)."""

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.loc, self.log_scale = (nn.Parameter(torch.zeros(classes, *shape)) for _ in range(2))

    def forward(self, y: Tensor) -> dict[str, Tensor]:
        return {"loc": FASTER * torch.tensordot(y, self.loc, 1), "scale": torch.tensordot(y, self.log_scale, 1).exp()}
