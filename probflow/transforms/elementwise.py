"""Elementwise transforms: a scalar map with parameters of its own, or computed from the context."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from probflow._typing import Shape
from probflow.nn.conditioners import DenseConditioner
from probflow.transforms.scalar import ScalarMap, as_precise_as, as_scalar_map
from probflow.transforms.transform import Pair, Transform, as_context, as_shape, check_width, sum_event


class Elementwise(Transform):
    r"""Every element through its own scalar map: :math:`x_i = \tau(z_i; h_i)`.

    Without a context h are trained parameters, one set per element of `shape`, and start at the identity.  With a context they
    are the output of a conditioner network, which starts at zero: the identity again.

    >>> import torch
    >>> layer = Elementwise("affine", 3, context=2)
    >>> x, logdet = layer.forward_and_logdet(torch.randn(5, 3), torch.randn(5, 2))
    >>> x.shape, logdet.shape
    (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self,
        transformer: ScalarMap | str,
        shape: int | Shape,
        *,
        context: int | Shape | None = None,
        conditioner: nn.Module | None = None,
        hidden: Sequence[int] = (128,),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        title = type(self).__name__
        self.map = as_scalar_map(transformer)
        self.shape = as_shape(shape, title)
        self.context = as_context(context, title)
        self.domain, self.codomain = self.map.domain, self.map.codomain
        self.forward_cost, self.inverse_cost = self.map.forward_cost, self.map.inverse_cost
        if self.context is None:
            self.h = nn.Parameter(torch.zeros(self.map.width, *self.shape))
            self.conditioner: nn.Module | None = None
        else:
            width = self.map.width * math.prod(self.shape)
            self.conditioner = conditioner or DenseConditioner(math.prod(self.context), hidden, width, activation=activation)

    def _h(self, context: Tensor | None) -> Tensor:
        """h, of shape (N or 1, width, *event)."""
        if self.conditioner is None or context is None:
            return self.h.unsqueeze(0)
        h: Tensor = self.conditioner(context.flatten(1))
        check_width(h, self.map.width * math.prod(self.shape or ()), context, self._title())
        return h.unflatten(1, (self.map.width, *(self.shape or ())))

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        x, logdet = self.map.forward_and_logdet(z, as_precise_as(z, self._h(context)))
        return x, sum_event(logdet)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        z, logdet = self.map.inverse_and_logdet(x, as_precise_as(x, self._h(context)))
        return z, sum_event(logdet)
