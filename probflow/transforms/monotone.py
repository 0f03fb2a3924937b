"""Scalar maps from any increasing function: the derivative by autograd, the inverse by a root search."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from probflow.transforms.root import invert
from probflow.transforms.scalar import ScalarMap
from probflow.transforms.transform import Cost, Pair


class MonotoneMap(ScalarMap):
    r"""A scalar map :math:`x = f(z; h)` of your own, from nothing but an increasing function, `forward`.

    :math:`\log f'` comes from forward-mode automatic differentiation, unless you write `log_derivative` yourself (faster, and
    needed where a function has no forward mode).  The inverse is a search (:mod:`probflow.transforms.root`): to the precision
    of the dtype, in a bracket that grows until it holds the root, with exact gradients for x, for h and for the map's own
    parameters.  It works in Elementwise, Coupling and Autoregressive like any other scalar map.

    `width` says how many numbers h has per element.  Three promises are yours: f acts on every element by itself, f increases
    in z for **every** h (bound what must be bounded), and f(z; 0) = z, so that a new layer starts as the identity.

    A value that f never reaches, or that is outside `codomain`, has the log-derivative -inf.

    >>> import torch
    >>> from probflow.transforms import Elementwise
    >>> class Wave(MonotoneMap):
    ...     "x = z + a sin z with |a| < 0.9, so that the slope is at least 0.1"
    ...     width = 1
    ...     def forward(self, z, h):
    ...         return z + 0.9 * h[:, 0].tanh() * z.sin()
    >>> wave = Wave()
    >>> h = torch.ones(1, 1, 3)
    >>> x, logdet = wave.forward_and_logdet(torch.tensor([[1.0, 2.0, 3.0]]), h)
    >>> z, back = wave.inverse_and_logdet(x, h)
    >>> bool(torch.allclose(z, torch.tensor([[1.0, 2.0, 3.0]]))), bool(torch.allclose(back, -logdet, atol=1e-5))
    (True, True)
    >>> layer = Elementwise(Wave(), 3, context=2)
    """

    inverse_cost: Cost = "iterative"

    @abstractmethod
    def forward(self, z: Tensor, h: Tensor) -> Tensor:
        """f(z; h) elementwise: z is ``(N, *event)``, h is ``(N or 1, width, *event)``."""

    def log_derivative(self, z: Tensor, h: Tensor) -> Tensor:
        """log ∂f/∂z, of the shape of z."""
        return self._both(z, h)[1]

    def _both(self, z: Tensor, h: Tensor) -> Pair:
        x, slope = torch.func.jvp(lambda value: self.forward(value, h), (z,), (torch.ones_like(z),))[:2]
        return x, slope.log()

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        if type(self).log_derivative is MonotoneMap.log_derivative:
            return self._both(z, h)
        return self.forward(z, h), self.log_derivative(z, h)

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        return invert(lambda z: self.forward_and_logdet(z, h), x, self.codomain)
