"""Coupling layers: one part of the event, and the context, decide how the other part is mapped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from probflow._typing import Shape
from probflow.errors import ArgumentError, NetworkError
from probflow.nn.conditioners import DenseConditioner
from probflow.nn.convolutional import ConvConditioner
from probflow.printing import shape_text
from probflow.transforms.scalar import ScalarMap, as_precise_as, as_scalar_map, fast_density
from probflow.transforms.splits import SplitLike, as_split
from probflow.transforms.transform import Pair, Transform, as_context, as_shape


class Coupling(Transform):
    r"""A coupling layer for every scalar map (Dinh et al., arXiv:1410.8516, eq. 6; Prince, *Understanding Deep Learning*, eq. 16.15):

    .. math:: x_A = z_A, \qquad x_B = \tau\big(z_B;\, h(z_A, c)\big), \qquad
              \log|\det J| = \sum_{i \in B} \log \tau'(z_i; h_i).

    Both directions are one pass.  The conditioner h starts at zero, and with it the layer as the identity.

    shape: the number of features, or (channels, height, width).
    transformer: "affine" (RealNVP), "additive" (NICE), "spline" (NSF), ..., or a :class:`ScalarMap`.
    split: "halves", "alternate", "channel", "checkerboard", a boolean mask (true: untouched), or a list of untouched indices;
    `flip` exchanges the parts.
    conditioner: any module from the untouched part (and the context, if there is one) to ``(N, width * changed features)``, or
    ``(N, width * channels, height, width)``; its first ``changed features`` outputs are the first number of every element's h, and
    so on.  Make its last layer zero to start at the identity.  By default, dense layers of widths `hidden`; for images, Glow's
    convolutions (:class:`~probflow.nn.ConvConditioner`), ``hidden[0]`` channels wide.

    >>> import torch
    >>> layer = Coupling(4, "affine", context=2)
    >>> z, c = torch.randn(5, 4), torch.randn(5, 2)
    >>> x, logdet = layer.forward_and_logdet(z, c)
    >>> torch.equal(x, z), logdet
    (True, tensor([0., 0., 0., 0., 0.], grad_fn=<SumBackward1>))
    """

    def __init__(
        self,
        shape: int | Shape,
        transformer: ScalarMap | str = "affine",
        *,
        split: SplitLike = "halves",
        flip: bool = False,
        conditioner: nn.Module | None = None,
        hidden: Sequence[int] = (128, 128),
        context: int | Shape | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        title = type(self).__name__
        self.shape = as_shape(shape, title)
        self.event_rank = len(self.shape)
        self.context = as_context(context, title)
        self.map = fast_density(as_scalar_map(transformer))
        self.split = as_split(split, self.shape, flip, title)
        self.domain, self.codomain = self.map.domain, self.map.codomain
        self.forward_cost, self.inverse_cost = self.map.forward_cost, self.map.inverse_cost
        self.conditioner = conditioner or self._default(hidden, activation)
        changed = self.split.changed_shape
        self._outputs = (self.map.width * changed[0], *changed[1:])

    def _default(self, hidden: Sequence[int], activation: Callable[[], nn.Module]) -> nn.Module:
        kept, changed = self.split.kept_shape, self.split.changed_shape
        if len(kept) == 3:
            if isinstance(hidden, int) or not hidden:
                raise ArgumentError(
                    f"Coupling: hidden={hidden!r}, expected the width of the convolutions. Write: hidden=(128,)"
                )
            return ConvConditioner(kept[0], hidden[0], self.map.width * changed[0], self.context, activation)
        if len(kept) != 1:
            raise ArgumentError(
                f"Coupling: there is no default network for events of shape {shape_text(self.shape or ())}, only for vectors and "
                f"for images.\nPass conditioner=, from (N, {', '.join(map(str, kept))}) "
                f"to (N, {', '.join(map(str, (self.map.width * changed[0], *changed[1:])))})."
            )
        context = 0 if self.context is None else math.prod(self.context)
        return DenseConditioner(kept[0], hidden, self.map.width * changed[0], context=context, activation=activation)

    def _h(self, kept: Tensor, context: Tensor | None) -> Tensor:
        h = self.conditioner(kept) if context is None else self.conditioner(kept, context)
        if h.dtype is not kept.dtype:
            h = as_precise_as(kept, h)
        if h.shape[1:] != self._outputs:
            raise NetworkError(
                f"{self._title()}: the conditioner gives {shape_text(h.shape)} for {shape_text(kept.shape)}, expected "
                f"{shape_text((kept.shape[0], *self._outputs))}: {self.map.width} number(s) for each of the changed elements."
            )
        if self.map.flat:
            return h
        return h.reshape(h.shape[0], self.map.width, h.shape[1] // self.map.width, *h.shape[2:])

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        kept, changed = self.split.take(z)
        x, logdet = self.map.forward_and_logdet(changed, self._h(kept, context))
        return self.split.join(kept, x), self.split.count(logdet)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        kept, changed = self.split.take(x)
        z, logdet = self.map.inverse_and_logdet(changed, self._h(kept, context))
        return self.split.join(kept, z), self.split.count(logdet)
