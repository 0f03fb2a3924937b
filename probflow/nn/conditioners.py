"""Conditioner networks: from the untouched part, and the context, to parameters.  Their last layer starts at zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from probflow.errors import ArgumentError
from probflow.nn.activation import made


def zero_(layer: nn.Module) -> nn.Module:
    """The same layer with weights and bias zero, so that what it parameterises starts as the identity.

    >>> import torch
    >>> zero_(torch.nn.Linear(2, 1)).weight
    Parameter containing:
    tensor([[0., 0.]], requires_grad=True)
    """
    with torch.no_grad():
        for parameter in layer.parameters(recurse=False):
            parameter.zero_()
    return layer


class OverwritingReLU(nn.ReLU):
    """max(0, x) in the memory of x; not of a view, which autograd forbids where a layer has a backward hook."""

    def forward(self, input: Tensor) -> Tensor:
        overwrites = self.inplace and not torch.compiler.is_compiling() and not input._is_view()
        return torch.relu_(input) if overwrites else torch.relu(input)


def behind(activation: Callable[[], nn.Module]) -> nn.Module:
    """An activation behind a layer of ours, whose result nobody else reads: ReLU writes over it, which saves a pass over memory.

    >>> behind(nn.ReLU), behind(nn.SiLU)
    (OverwritingReLU(inplace=True), SiLU())
    """
    return OverwritingReLU(inplace=True) if activation is nn.ReLU else made(activation)


class DenseConditioner(nn.Module):
    """Linear layers with an activation between them, from ``(N, in_features)`` and a context ``(N, context)`` to ``(N, out)``.

    The output is zero at the start.

    >>> net = DenseConditioner(4, [32, 32], 6, context=2)
    >>> tuple(net(torch.randn(5, 4), torch.randn(5, 2)).shape)
    (5, 6)
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out: int,
        context: int = 0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        if isinstance(hidden, int):
            raise ArgumentError(f"hidden={hidden}: expected the widths of the hidden layers. Write: hidden=({hidden},)")
        for width in hidden:
            if isinstance(width, bool) or not isinstance(width, int) or width < 1:
                raise ArgumentError(f"hidden={hidden!r}: every width must be a positive integer. Write: hidden=(128, 128)")
        widths = [in_features + context, *hidden]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), behind(activation)]
        self.layers = nn.Sequential(*layers, zero_(nn.Linear(widths[-1], out)))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.layers(x if context is None else torch.cat([x, context.flatten(1)], 1))
