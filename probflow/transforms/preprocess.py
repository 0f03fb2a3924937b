"""Between pixel values and the real line, and the unit in which image models are compared."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.domains import interval
from probflow.errors import ArgumentError
from probflow.transforms.transform import Pair, Transform, as_shape, sum_event


class LogitPreprocess(Transform):
    r"""Pixel values on the real line, in the direction x → z, with the log-determinant of the whole map, rescaling included
    (RealNVP, Dinh et al., arXiv:1605.08803, section 4.1; MAF, Papamakarios et al., arXiv:1705.07057, section 4.3):

    .. math:: z = \operatorname{logit}(y), \quad y = \alpha + (1 - 2\alpha)\, x / L, \qquad
              \log\left|\frac{\mathrm dz}{\mathrm dx}\right| = \log\frac{1 - 2\alpha}{L} - \log y - \log(1 - y).

    Densities are those of x in [0, L), L = `levels`, so that :func:`bits_per_dim` needs no correction.  Values that belong to
    y in (0, 1), a little wider, have a density too; others give -inf.  Put it before a dequantisation:
    ``Compose([..., LogitPreprocess(), UniformDequantise()])``.

    Errors: ArgumentError where alpha is outside [0, 0.5).

    >>> z, logdet = LogitPreprocess().inverse_and_logdet(torch.tensor([[128.0]]))
    >>> z, logdet
    (tensor([[0.]]), tensor([-4.2642]))
    """

    def __init__(self, levels: float = 256, alpha: float = 0.05) -> None:
        super().__init__()
        if not levels > 0:
            raise ArgumentError(f"LogitPreprocess: levels must be positive, got {levels!r}.")
        if not 0 <= alpha < 0.5:
            raise ArgumentError(f"LogitPreprocess: alpha must be in [0, 0.5), got {alpha!r}.")
        self.levels, self.alpha = levels, alpha
        self.slope = (1 - 2 * alpha) / levels
        margin = alpha / self.slope
        self.codomain = interval(-margin, levels + margin, open_low=True, open_high=True)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        logdet = F.logsigmoid(z) + F.logsigmoid(-z) - math.log(self.slope)
        return (z.sigmoid() - self.alpha) / self.slope, sum_event(logdet)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        y = self.alpha + self.slope * x
        inside = (y > 0) & (y < 1)
        y = torch.where(inside, y, 0.5)
        logdet = math.log(self.slope) - y.log() - (-y).log1p()
        return y.logit(), sum_event(torch.where(inside, logdet, -torch.inf))

    def extra_repr(self) -> str:
        return f"levels={self.levels}, alpha={self.alpha}"


def bits_per_dim(log_prob: Tensor, shape: int | Shape) -> Tensor:
    r"""Bits per dimension, :math:`-\log p(x) / (D \ln 2)` with D the number of elements of an event of `shape` (Theis et al.,
    arXiv:1511.01844, section 3.1).

    `log_prob` is in **nats** (base e), as everywhere in this library; dividing base-2 logarithms by ln 2 again gives 1.44 times
    too much.  It belongs to the integers 0 ... 255, or to x in [0, 256): the density of pixels scaled to [0, 1] is larger by
    ln 256 per element, which makes 8 bits too few.

    >>> bits_per_dim(torch.tensor([-3072 * math.log(256.0)]), (3, 32, 32))
    tensor([8.])
    """
    return -log_prob / (math.prod(as_shape(shape, "bits_per_dim: shape")) * math.log(2))
