"""Planar layers: a vector is moved along one direction, by an amount that depends on its projection onto another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from probflow._typing import Shape
from probflow.transforms.amortised import Amortised
from probflow.transforms.fixed_point import above_minus_one, as_activation
from probflow.transforms.transform import Pair


class Planar(Amortised):
    r"""A planar layer (Rezende & Mohamed, *Variational Inference with Normalizing Flows*, arXiv:1505.05770, eq. 10-12):

    .. math:: x = z + \hat u\, h(w^\top z + b), \qquad \log|\det J| = \log\left(1 + h'(w^\top z + b)\, w^\top \hat u\right).

    It is invertible for all weights: as in their appendix A.1, only the part of u along w is changed,
    :math:`\hat u = u + (m(w^\top u) - w^\top u)\, w / \lVert w \rVert^2`, here with an m that is the identity for positive numbers
    and stays above -0.99.  Both directions are exact and differentiable.  z → x is one pass; for x → z, the projection
    :math:`a = w^\top z` solves :math:`a + w^\top \hat u\, h(a + b) = w^\top x`: Newton's method for tanh, a formula for leaky_relu.

    u, w and b are trained; with a context, those of every row are these plus the output of a conditioner network on the context,
    ``(N, 2 * features + 1)`` numbers in the order u, w, b.  It starts as the identity, u = 0, with a random w.

    activation: h, "tanh" or "leaky_relu" (slope 0.01 below zero).
    conditioner, hidden: the network, or the widths of the default one.

    Shapes: z and x are ``(batch, features)``; the log-determinant, in nats, ``(batch,)``.
    Errors: ArgumentError for an unknown activation, or a conditioner without a context.

    >>> import torch
    >>> layer = Planar(4, context=2)
    >>> x, logdet = layer.forward_and_logdet(torch.ones(5, 4), torch.randn(5, 2))
    >>> torch.equal(x, torch.ones(5, 4)), logdet.shape
    (True, torch.Size([5]))
    """

    def __init__(
        self,
        features: int,
        *,
        activation: Literal["tanh", "leaky_relu"] = "tanh",
        context: int | Shape | None = None,
        conditioner: nn.Module | None = None,
        hidden: Sequence[int] = (128,),
    ) -> None:
        super().__init__(features, context)
        self.activation = activation
        self.h = as_activation(activation, self._title())
        self.inverse_cost = self.h.cost
        self.u = nn.Parameter(torch.zeros(features))
        self.w = nn.Parameter(torch.randn(features) / math.sqrt(features))
        self.b = nn.Parameter(torch.zeros(()))
        self._condition(2 * features + 1, conditioner, hidden)

    def _u_hat(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """û, w, b and k = wᵀû > -1."""
        u, w, b = self._rows(context, self.u, self.w, self.b)
        along, norm = (w * u).sum(-1), (w * w).sum(-1)
        k = above_minus_one(along)
        change = (k - along) / torch.where(norm > 0, norm, 1)  # of second order in w: 0 at w = 0
        return u + change.unsqueeze(-1) * w, w, b, k

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        u, w, b, k = self._u_hat(context)
        h, slope = self.h((z * w).sum(1) + b)
        return z + u * h.unsqueeze(1), (k * slope).log1p()

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        u, w, b, k = self._u_hat(context)
        h, slope = self.h(self.h.solve(k, (x * w).sum(1) + b))
        return x - u * h.unsqueeze(1), -(k * slope).log1p()

    def extra_repr(self) -> str:
        return f"features={self.u.shape[0]}, activation={self.activation!r}"
