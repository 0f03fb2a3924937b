"""Fixed elementwise maps between sets of numbers: exp, softplus, sigmoid, tanh, and activations onto the whole real line."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow import domains
from probflow.errors import ArgumentError
from probflow.transforms.inverse import Inverse
from probflow.transforms.transform import Pair, Transform, sum_event


class Exp(Transform):
    """x = e^z, from the real line to the positive numbers; ``Exp().inv`` is the logarithm.

    >>> import torch
    >>> x, logdet = Exp().forward_and_logdet(torch.tensor([[0.0, 1.0]]))
    >>> x, logdet
    (tensor([[1.0000, 2.7183]]), tensor([1.]))
    """

    codomain = domains.positive

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z.exp(), sum_event(z)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        inside = (x > 0) & (x < torch.inf)
        z = torch.where(inside, x, 1).log()
        return z, sum_event(torch.where(inside, -z, -torch.inf))


class Softplus(Transform):
    r""":math:`x = \log(1 + e^z)`, from the real line to the positive numbers; for large z it is z itself.

    >>> import torch
    >>> Softplus().inverse(Softplus().forward(torch.tensor([[-5.0, 0.0, 1000.0]])))
    tensor([[  -5.,    0., 1000.]])
    """

    codomain = domains.positive

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        # not F.softplus, which drops e^-z above 20: too early for float64
        return -F.logsigmoid(-z), sum_event(F.logsigmoid(z))

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        inside = (x > 0) & (x < torch.inf)
        x = torch.where(inside, x, 1)
        log_slope = (-torch.expm1(-x)).log()  # log(1 - e^-x) = log σ(z)
        return x + log_slope, sum_event(torch.where(inside, -log_slope, -torch.inf))


class Sigmoid(Transform):
    r""":math:`x = 1 / (1 + e^{-z})`, from the real line to (0, 1); ``Sigmoid().inv`` is the logit.

    >>> import torch
    >>> Sigmoid().inverse(torch.tensor([[0.5]]))
    tensor([[0.]])
    """

    codomain = domains.open_unit_interval

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z.sigmoid(), sum_event(F.logsigmoid(z) + F.logsigmoid(-z))

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        inside = (x > 0) & (x < 1)
        x = torch.where(inside, x, 0.5)
        z = x.logit()
        return z, sum_event(torch.where(inside, -x.log() - (-x).log1p(), -torch.inf))


class Logit(Inverse):
    r""":math:`x = \log z - \log(1 - z)`, from (0, 1) to the real line: ``Sigmoid().inv``.

    >>> import torch
    >>> Logit().forward(torch.tensor([[0.5, 0.9]]))
    tensor([[0.0000, 2.1972]])
    """

    def __init__(self) -> None:
        super().__init__(Sigmoid())

    def _title(self) -> str:
        return "Logit"


class Tanh(Transform):
    r""":math:`x = \tanh z`, from the real line to (-1, 1).

    >>> import torch
    >>> x, logdet = Tanh().forward_and_logdet(torch.tensor([[0.0, 50.0]]))
    >>> x, logdet                                               # log 4 - 100, though 1 - tanh² is 0 in floating point
    (tensor([[0., 1.]]), tensor([-98.6137]))
    """

    codomain = domains.interval(-1.0, 1.0, open_low=True, open_high=True)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z.tanh(), sum_event(_log_sech_squared(z))

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        inside = (x > -1) & (x < 1)
        x = torch.where(inside, x, 0)
        up, down = x.log1p(), (-x).log1p()
        return (up - down) / 2, sum_event(torch.where(inside, -up - down, -torch.inf))


class LeakyReLU(Transform):
    """x = z for z ≥ 0 and x = slope · z below, from the real line onto itself.

    Errors: ArgumentError where the slope is not a positive number.

    >>> import torch
    >>> x, logdet = LeakyReLU(0.5).forward_and_logdet(torch.tensor([[-2.0, 3.0]]))
    >>> x, logdet
    (tensor([[-1.,  3.]]), tensor([-0.6931]))
    """

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        if not 0 < slope < math.inf:
            raise ArgumentError(f"LeakyReLU: the slope must be a positive number, got {slope!r}.")
        self.slope = slope

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return self._bend(z, self.slope)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return self._bend(x, 1 / self.slope)

    def _bend(self, value: Tensor, slope: float) -> Pair:
        logdet = torch.where(value >= 0, torch.zeros_like(value), math.log(slope))
        return torch.where(value >= 0, value, value * slope), sum_event(logdet)

    def extra_repr(self) -> str:
        return f"{self.slope:g}"


class SneakyReLU(Transform):
    r"""A smooth leaky ReLU onto the whole real line, with a closed inverse:

    .. math:: x = \frac{z + \alpha(\sqrt{1 + z^2} - 1)}{1 + \alpha}, \qquad \alpha = \frac{1 - \text{slope}}{1 + \text{slope}}

    (Finzi et al., *Invertible convolutional networks*, ICML workshop on invertible neural networks, 2019).  Its derivative goes
    from `slope` far left to 1 far right.  The ELU, whose shape it resembles, ends at -1 and so is no bijection of the real line.

    Errors: ArgumentError where the slope is not between 0 and 1.

    >>> import torch
    >>> x = SneakyReLU(0.1).forward(torch.tensor([[-1000.0, 0.0, 1000.0]]))
    >>> x
    tensor([[-100.4498,    0.0000,  999.5502]])
    """

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        if not 0 < slope < 1:
            raise ArgumentError(f"SneakyReLU: the slope must be between 0 and 1, got {slope!r}.")
        self.slope = slope
        self._alpha = (1 - slope) / (1 + slope)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        root = _hypot(z, 1.0)
        return (z + self._alpha * (root - 1)) / (1 + self._alpha), sum_event(self._log_slope(z, root))

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        # b = z + α √(1 + z²), solved for z; each side of 0 has the form that does not cancel
        a = self._alpha
        rest = 1 - a * a
        b = (1 + a) * x + a
        root = a * _hypot(b, math.sqrt(rest))
        right = b > 0
        z = torch.where(right, (b - a) * ((b + a) / torch.where(right, b + root, 1)), (b - root) / rest)
        return z, -sum_event(self._log_slope(z, _hypot(z, 1.0)))

    def _log_slope(self, z: Tensor, root: Tensor) -> Tensor:
        return torch.log1p(self._alpha * (z / root)) - math.log1p(self._alpha)

    def extra_repr(self) -> str:
        return f"{self.slope:g}"


class LeakyTanh(Transform):
    r"""tanh z for \|z\| ≤ `limit`, continued by its tangents: from the real line onto itself.

    For data that mostly lie in (-1, 1): as good as tanh there, but a value on the border or beyond has a density too.

    Errors: ArgumentError where the limit is not a positive number, or so large that the tangents are flat.

    >>> import torch
    >>> LeakyTanh(3.0).inverse(torch.tensor([[0.0, 1.0]]))
    tensor([[0.0000, 3.5012]])
    """

    def __init__(self, limit: float = 3.0) -> None:
        super().__init__()
        if not 0 < limit <= 9:
            raise ArgumentError(
                f"LeakyTanh: the limit must be positive and at most 9 (where the slope is 6e-8), got {limit!r}. "
                "Without tangents: Tanh()."
            )
        self.limit = limit
        self._edge, self._slope = math.tanh(limit), 1 / math.cosh(limit) ** 2

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        near = z.clamp(-self.limit, self.limit)
        return near.tanh() + self._slope * (z - near), sum_event(_log_sech_squared(near))

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        inside = x.abs() < self._edge
        near = torch.where(inside, x, 0)
        up, down = near.log1p(), (-near).log1p()
        beyond = x.sign() * (self.limit + (x.abs() - self._edge) / self._slope)
        logdet = torch.where(inside, -up - down, -math.log(self._slope))
        return torch.where(inside, (up - down) / 2, beyond), sum_event(logdet)

    def extra_repr(self) -> str:
        return f"{self.limit:g}"


def _log_sech_squared(z: Tensor) -> Tensor:
    """log(1 - tanh² z), far from 0 too."""
    return F.logsigmoid(2 * z) + F.logsigmoid(-2 * z) + 2 * math.log(2)


def _hypot(value: Tensor, other: float) -> Tensor:
    """√(value² + other²) without overflow."""
    return torch.hypot(value, torch.full_like(value, other))
