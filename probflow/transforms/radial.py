"""Radial layers: a vector is moved towards a centre, or away from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probflow._typing import Shape
from probflow.transforms.amortised import Amortised
from probflow.transforms.fixed_point import above_minus_one
from probflow.transforms.mixture_cdf import soft_clamp
from probflow.transforms.transform import Pair


class Radial(Amortised):
    r"""A radial layer around a centre z₀ (Rezende & Mohamed, arXiv:1505.05770, eq. 14), with :math:`r = \lVert z - z_0 \rVert`:

    .. math:: x = z + \hat\beta\, \frac{z - z_0}{\alpha + r}, \qquad
              \log|\det J| = (D - 1) \log\left(1 + \frac{\hat\beta}{\alpha + r}\right)
                             + \log\left(1 + \frac{\hat\beta \alpha}{(\alpha + r)^2}\right).

    It is invertible for all weights (their appendix A.2 asks for :math:`\hat\beta \ge -\alpha`): :math:`\hat\beta = \alpha\, m(\beta)`
    with an m that is the identity for positive numbers and stays above -0.99.  Both directions are one pass: the radius of z is the
    positive root of :math:`r^2 + (\alpha + \hat\beta - R)\, r - \alpha R = 0`, with :math:`R = \lVert x - z_0 \rVert`.

    z₀, β and α are trained; with a context, those of every row are these plus the output of a conditioner network on the context,
    ``(N, features + 2)`` numbers in the order z₀, β, log-scale of α.  It starts as the identity, β = 0, with a random centre and
    :math:`\alpha = \sqrt D`, the length of typical noise; log α is softly clamped to ±5 around that.

    conditioner, hidden: the network, or the widths of the default one.

    Shapes: z and x are ``(batch, features)``; the log-determinant, in nats, ``(batch,)``.
    Errors: ArgumentError for a conditioner without a context.

    >>> import torch
    >>> layer = Radial(3)
    >>> x, logdet = layer.forward_and_logdet(torch.ones(5, 3))
    >>> torch.equal(x, torch.ones(5, 3)), logdet.shape
    (True, torch.Size([5]))
    """

    def __init__(
        self,
        features: int,
        *,
        context: int | Shape | None = None,
        conditioner: nn.Module | None = None,
        hidden: Sequence[int] = (128,),
    ) -> None:
        super().__init__(features, context)
        self.centre = nn.Parameter(torch.randn(features))
        self.beta = nn.Parameter(torch.zeros(()))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self._condition(features + 2, conditioner, hidden)

    def _constants(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """z₀, α and m = β̂ / α > -1."""
        centre, beta, log_alpha = self._rows(context, self.centre, self.beta, self.log_alpha)
        return centre, math.sqrt(centre.shape[-1]) * soft_clamp(log_alpha, 5.0).exp(), above_minus_one(beta)

    def _stretch(self, r: Tensor, alpha: Tensor, m: Tensor) -> Pair:
        """β̂ / (α + r), and the log-determinant."""
        near = alpha / (alpha + r)
        stretch = m * near
        return stretch, (stretch * near).log1p() + (self.centre.shape[0] - 1) * stretch.log1p()

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        centre, alpha, m = self._constants(context)
        away = z - centre
        stretch, logdet = self._stretch(torch.linalg.vector_norm(away, dim=1), alpha, m)
        return z + stretch.unsqueeze(1) * away, logdet

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        centre, alpha, m = self._constants(context)
        away = x - centre
        far = torch.linalg.vector_norm(away, dim=1)
        linear = alpha * (1 + m) - far
        inside = linear >= 0
        # of the two forms of the root, the one that does not cancel
        total = (linear * linear + 4 * alpha * far).sqrt() + torch.where(inside, linear, -linear)
        r = torch.where(inside, 2 * alpha * far / total, total / 2)
        stretch, logdet = self._stretch(r, alpha, m)
        return x - (stretch / (1 + stretch)).unsqueeze(1) * away, -logdet

    def extra_repr(self) -> str:
        return f"features={self.centre.shape[0]}"
