"""The distribution function of a mixture of logistics as a scalar map (Flow++)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.transforms.elementwise import Elementwise
from probflow.transforms.root import invert
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.transform import Cost, Pair

FLOOR = 1e-3
"""The weight of the part of a mixture that no parameter can move: between distant components the slope does not vanish."""


class LogisticsMap(ScalarMap):
    r"""The distribution function of a mixture of K logistics, then a logit, then an affine map (Flow++, Ho et al.,
    arXiv:1902.00275, section 3.2):

    .. math:: x = \sigma^{-1}\Big(\sum_k \pi_k\, \sigma\big((z - \mu_k)\,e^{-s_k}\big)\Big)\, e^{a} + b,
              \qquad h = (\tilde\pi, \tilde\mu, \tilde s, \tilde a, b).

    K standard logistics are one standard logistic, so h = 0 is the identity.  All is computed with logarithms and stays finite
    far away, where x becomes linear in z.  The inverse is a search, to the precision of the dtype.

    The mixture has one more component, a standard logistic of weight 0.001, which keeps the map well-conditioned for every h;
    s and a are softly clamped to ±2, μ to ±`reach`.  The components' numbers act with fixed factors, different for each:
    equal components would get equal gradients, and stay equal for ever.

    components: K.  reach: the largest ``|μ|``; data should be standardised.
    Errors: ArgumentError for fewer than one component, or a reach that is not positive.

    >>> import torch
    >>> z = torch.tensor([[-30.0, 0.0, 2.0]])
    >>> x, logdet = LogisticsMap(components=2).forward_and_logdet(z, torch.zeros(1, 8, 3))
    >>> bool(torch.allclose(x, z)), bool(logdet.abs().max() < 1e-5)
    (True, True)
    """

    inverse_cost: Cost = "iterative"
    gain: Tensor

    def __init__(self, components: int = 4, reach: float = 10.0) -> None:
        super().__init__()
        if isinstance(components, bool) or not isinstance(components, int) or components < 1:
            raise ArgumentError(f"LogisticsMap: components must be a positive integer, got {components!r}.")
        if not reach > 0:
            raise ArgumentError(f"LogisticsMap: reach must be positive, got {reach!r}.")
        self.components, self.reach = components, reach
        self.width = 3 * components + 2
        self.register_buffer("gain", unequal(3 * components), persistent=False)

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        y, logdet = self._mixture(z, h)
        a, b = self._affine(h)
        return torch.addcmul(b, y, a.exp()), logdet + a

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        a, b = self._affine(h)
        z, logdet = invert(lambda z: self._mixture(z, h), (x - b) * (-a).exp())
        return z, logdet - a

    def _affine(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return soft_clamp(h[:, -2], 2.0), h[:, -1]

    def _mixture(self, z: Tensor, h: Tensor) -> Pair:
        """The logit of the mixture's distribution function, and the logarithm of its derivative."""
        numbers = h[:, :-2] * self.gain.view(-1, *[1] * (h.dim() - 2))
        weight, mean, scale = numbers.chunk(3, 1)
        scale = soft_clamp(scale, 2.0)
        u = (z.unsqueeze(1) - soft_clamp(mean, self.reach)) * (-scale).exp()
        u = torch.cat([u, z.unsqueeze(1)], 1)
        return logit_of_mixture(with_floor(weight, 1), u, torch.cat([-scale, torch.zeros_like(scale[:, :1])], 1), 1)

    def extra_repr(self) -> str:
        return f"components={self.components}, reach={self.reach}"


class MixtureOfLogistics(Elementwise):
    r"""Every element through the distribution function of its own mixture of logistics, then a logit and an affine map.

    The parameters are trained, or computed from a context (see :class:`LogisticsMap`).  z → x is one pass and x → z a search;
    ``MixtureOfLogistics(shape).inv`` has them the other way round, for fast densities.

    >>> import torch
    >>> layer = MixtureOfLogistics(3)
    >>> x, logdet = layer.forward_and_logdet(torch.zeros(2, 3))
    >>> x.shape, logdet.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """

    def __init__(self, shape: int | Shape, components: int = 4, *, context: int | Shape | None = None) -> None:
        super().__init__(LogisticsMap(components), shape, context=context)


def logit_of_mixture(log_weight: Tensor, u: Tensor, log_slope: Tensor, dim: int) -> Pair:
    r""":math:`y = \sigma^{-1}(\sum_k w_k \sigma(u_k))` over `dim`, and log dy/dz, where `log_slope` is log du/dz."""
    below, above = F.logsigmoid(u), F.logsigmoid(-u)
    log_cdf, log_rest = (log_weight + below).logsumexp(dim), (log_weight + above).logsumexp(dim)
    log_density = (log_weight + below + above + log_slope).logsumexp(dim)
    return log_cdf - log_rest, log_density - log_cdf - log_rest


def with_floor(logits: Tensor, dim: int) -> Tensor:
    """Log-weights of a mixture with one component more, of weight `FLOOR`, at the end of `dim`."""
    fixed = torch.full_like(logits.narrow(dim, 0, 1), math.log(FLOOR))
    return torch.cat([logits.log_softmax(dim) + math.log1p(-FLOOR), fixed], dim)


def soft_clamp(value: Tensor, bound: float) -> Tensor:
    """bound · tanh(value / bound)."""
    return torch.tanh(value / bound) * bound


def unequal(width: int) -> Tensor:
    """Factors between 0.5 and 1.5, no two alike (multiples of the golden ratio, modulo 1)."""
    return torch.tensor([0.5 + k * (math.sqrt(5) - 1) / 2 % 1 for k in range(width)])
