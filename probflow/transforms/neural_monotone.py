"""A monotone neural network as a scalar map (neural autoregressive flows)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.transforms.elementwise import Elementwise
from probflow.transforms.mixture_cdf import logit_of_mixture, soft_clamp, unequal, with_floor
from probflow.transforms.root import invert
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.transform import Cost, Pair


class DeepDenseSigmoidalMap(ScalarMap):
    r"""The deep dense sigmoidal flow (DDSF) of neural autoregressive flows (Huang et al., arXiv:1804.00779, section 3.2):
    a network of one number, with positive weights,

    .. math:: y^{(l+1)} = \sigma^{-1}\Big(w^{(l+1)}\, \sigma\big(a^{(l+1)} \odot u^{(l+1)} y^{(l)} + b^{(l+1)}\big)\Big),
              \qquad y^{(0)} = z, \quad y^{(L)} = x,

    where the rows of u and w are probability vectors (softmax) and a is positive; h holds all of them.  At h = 0 all units of
    a layer are equal, and every layer, and so the network, is the identity.

    The derivative is the product of the layers' Jacobians, all positive, in logarithms: exact for the function that is
    computed.  Unconstrained monotonic networks (arXiv:1908.05164) integrate a positive network instead; there the integrand is
    the derivative only up to the error of the quadrature, which is why they are not offered.

    log a is softly clamped to ±2, b to ±10, and every layer lets the mean of its input through with weight 0.001, so that the
    map is well-conditioned for every h.  The numbers act with fixed factors, different for each, so that units do not get equal
    gradients.  One layer is a mixture of logistics (:class:`LogisticsMap`).  The inverse is a search, to the precision of the
    dtype.

    hidden: the units of a layer.  layers: L.
    Errors: ArgumentError for sizes below 1.

    >>> import torch
    >>> net = DeepDenseSigmoidalMap(hidden=4)
    >>> z = torch.tensor([[-30.0, 0.0, 2.0]])
    >>> x, logdet = net.forward_and_logdet(z, torch.zeros(1, net.width, 3))
    >>> bool(torch.allclose(x, z, atol=1e-5)), bool(logdet.abs().max() < 1e-5)
    (True, True)
    """

    inverse_cost: Cost = "iterative"
    gain: Tensor

    def __init__(self, hidden: int = 8, layers: int = 2) -> None:
        super().__init__()
        for name, size in (("hidden", hidden), ("layers", layers)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ArgumentError(f"DeepDenseSigmoidalMap: {name} must be a positive integer, got {size!r}.")
        self.hidden, self.layers = hidden, layers
        ins, outs = [1, *[hidden] * (layers - 1)], [*[hidden] * (layers - 1), 1]
        # of each layer: u (hidden × in), a and b (hidden), w (out × hidden)
        self._sizes = [
            size for n, m in zip(ins, outs, strict=True) for size in (hidden * n if n > 1 else 0, hidden, hidden, m * hidden)
        ]
        self.width = sum(self._sizes)
        self.register_buffer("gain", unequal(self.width), persistent=False)

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        numbers = (h * self.gain.view(-1, *[1] * (h.dim() - 2))).split(self._sizes, 1)
        y = z.unsqueeze(1)
        log_slope = torch.zeros_like(y)
        for place in range(0, len(numbers), 4):
            y, log_slope = self._layer(y, log_slope, *numbers[place : place + 4])
        return y.squeeze(1), log_slope.squeeze(1)

    def _layer(self, y: Tensor, log_slope: Tensor, u: Tensor, a: Tensor, b: Tensor, w: Tensor) -> Pair:
        """The next y and log dy/dz, both (N, out, *event)."""
        n = y.shape[1]
        mean, log_mean_slope = y.mean(1, keepdim=True), log_slope.logsumexp(1, keepdim=True) - math.log(n)
        inner, log_inner = y, log_slope
        if n > 1:
            log_u = u.unflatten(1, (self.hidden, n)).log_softmax(2)
            inner = (log_u.exp() * y.unsqueeze(1)).sum(2)
            log_inner = (log_u + log_slope.unsqueeze(1)).logsumexp(2)
        log_a = soft_clamp(a, 2.0)
        units = torch.cat([inner * log_a.exp() + soft_clamp(b, 10.0), mean], 1)
        log_units = torch.cat([log_inner + log_a, log_mean_slope], 1)
        log_w = with_floor(w.unflatten(1, (-1, self.hidden)), 2)
        return logit_of_mixture(log_w, units.unsqueeze(1), log_units.unsqueeze(1), 2)

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        return invert(lambda z: self.forward_and_logdet(z, h), x)

    def extra_repr(self) -> str:
        return f"hidden={self.hidden}, layers={self.layers}"


class DeepDenseSigmoidal(Elementwise):
    r"""Every element through its own small monotone network, with weights that are trained or computed from a context.

    See :class:`DeepDenseSigmoidalMap`.  z → x is one pass and x → z a search; ``.inv`` has them the other way round.

    >>> import torch
    >>> x, logdet = DeepDenseSigmoidal(3, hidden=4).forward_and_logdet(torch.zeros(2, 3))
    >>> x.shape, logdet.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """

    def __init__(self, shape: int | Shape, hidden: int = 8, layers: int = 2, *, context: int | Shape | None = None) -> None:
        super().__init__(DeepDenseSigmoidalMap(hidden, layers), shape, context=context)
