"""Conditioners of a user's own: what they give has the one shape that the layer takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from probflow.errors import NetworkError
from probflow.transforms import Coupling, Elementwise, Planar, Transform

WRONG: dict[str, tuple[Callable[[], Transform], str]] = {
    "too narrow": (lambda: Coupling(4, conditioner=nn.Linear(2, 3)), r"gives \(5, 3\) for \(5, 2\), expected \(5, 4\)"),
    "too wide": (lambda: Coupling(4, "additive", conditioner=nn.Linear(2, 4)), r"expected \(5, 2\): 1 number"),
    "of a spline": (lambda: Coupling(4, "spline", conditioner=nn.Linear(2, 4)), r"expected \(5, 46\)"),
    "elementwise": (
        lambda: Elementwise("affine", 4, context=2, conditioner=nn.Linear(2, 3)),
        r"context \(5, 2\), expected \(5, 8\)",
    ),
    "planar": (lambda: Planar(4, context=2, conditioner=nn.Linear(2, 3)), r"expected \(5, 9\)"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_a_conditioner_of_another_width(name: str, direction: str) -> None:
    """Three numbers for two elements would be split into two scales and one shift for both."""
    make, match = WRONG[name]
    layer = make()
    context = None if layer.context is None else torch.randn(5, 2)
    with pytest.raises(NetworkError, match=match):
        getattr(layer, direction)(torch.randn(5, 4), context)


def test_images_need_outputs_of_their_size() -> None:
    layer = Coupling((4, 6, 6), conditioner=nn.Conv2d(2, 4, 3))
    with pytest.raises(NetworkError, match=r"gives \(5, 4, 4, 4\) for \(5, 2, 6, 6\), expected \(5, 4, 6, 6\)"):
        layer.forward(torch.randn(5, 4, 6, 6))
