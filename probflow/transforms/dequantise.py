"""Dequantisation: integer data, such as 8-bit images, as continuous values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.domains import Domain
from probflow.errors import ArgumentError
from probflow.transforms.slice import NoiseMap
from probflow.transforms.transform import Pair, Transform, as_context, as_shape, sum_event


@cache
def integers(levels: int) -> Domain:
    """The integers 0 ... levels - 1, also as floating-point numbers."""

    def holds(t: Tensor) -> Tensor:
        if t.is_floating_point():
            return (t >= 0) & (t < levels) & (t == t.floor())
        # a number that the type cannot hold would wrap around: 256 is 0 to uint8
        most = 1 if t.dtype == torch.bool else torch.iinfo(t.dtype).max
        return (t >= 0) & (t <= min(levels - 1, most))

    return Domain(
        text=f"the integers 0 ... {levels - 1}",
        holds=holds,
        reduce=lambda t: (~holds(t)).sum(),
        accept=lambda count: count == 0,
        hint="pixels scaled to [0, 1] have to be multiplied, and rounded, back",
        made=(integers, (levels,)),
    )


class Dequantise(Transform):
    r"""What both dequantisations share: the generative direction rounds down, x = ⌊z⌋; the inverse adds noise, z = x + u with u
    in [0, 1) drawn from q(u | x), and contributes V = -log q(u | x) to a lower bound (Theis et al., arXiv:1511.01844, section 3.1;
    as a layer: arXiv:2007.02731, table 3, rounding):

    .. math:: \log P(x) \ge \mathbb E_{q(u \mid x)}\left[\log p(x + u) - \log q(u \mid x)\right].

    Integer tensors are taken as they are.  Values that are no integers 0 ... levels - 1 give V = -inf; a z outside [0, levels),
    which no x leads to, gives the nearest level, and -inf.
    """

    stochastic_inverse = True
    differentiable = False

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
            raise ArgumentError(f"{self._title()}: levels must be the number of levels, 256 for 8 bits, got {levels!r}.")
        self.levels = levels
        self.codomain = integers(levels)

    def _rounded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """⌊z⌋, and an elementwise 0, or -inf where z is outside [0, levels)."""
        x = torch.where(z.isnan(), 0, z).floor().clamp(0, self.levels - 1)
        return x, torch.where((z >= 0) & (z < self.levels), torch.zeros_like(x), -torch.inf)

    def _integers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x as floating-point numbers, 0 in place of what is no level, and an elementwise 0, or -inf there."""
        x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        inside = self.codomain.holds(x)
        x = torch.where(inside, x, 0)
        return x, torch.where(inside, torch.zeros_like(x), -torch.inf)

    @staticmethod
    def _sum(x: Tensor, u: Tensor) -> Tensor:
        """x + u, below x + 1: at 255 a u just below 1 would be rounded up to the next integer."""
        level = x.detach()
        return torch.minimum(x + u, torch.nextafter(level + 1, level))

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


class UniformDequantise(Dequantise):
    r"""z = x + u with u uniform on [0, 1), for integers 0 ... levels - 1: V = -log q(u | x) = 0 (Uria et al., arXiv:1306.0186;
    the bound: Theis et al., arXiv:1511.01844, section 3.1).

    z stays in [0, levels); scale it with :class:`~probflow.transforms.LogitPreprocess` or an affine map.  A log-density of the
    chain is then a lower bound of the log-probability of the integers, in nats.

    >>> x = torch.tensor([[0.0, 255.0]])
    >>> layer = UniformDequantise()
    >>> z, contribution = layer.inverse_and_logdet(x)
    >>> contribution, torch.equal(layer.forward(z), x)
    (tensor([0.]), True)
    """

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        x, outside = self._rounded(z)
        return x, sum_event(outside)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        x, outside = self._integers(x)
        return self._sum(x, torch.rand_like(x)), sum_event(outside)


class VariationalDequantise(Dequantise):
    r"""z = x + u with u drawn from a trained q(u | x) (Ho et al., *Flow++*, arXiv:1902.00275, eq. 12 and section 3.1):

    .. math:: u = \sigma(t(\epsilon; x)), \quad \epsilon \sim \mathcal N(0, I), \qquad
              V = -\log q(u \mid x).

    shape: the data's.  transform: t, any transform of that shape that can be computed both ways; its context is x scaled to
    [-1, 1], with `context`, if there is one, appended (as further channels to an image, else flattened).  By default affine
    with one zero convolution, or linear map; `hidden` puts layers in front.

    Errors: ArgumentError where t cannot be computed both ways, ShapeError where it does not fit.

    >>> x = torch.randint(0, 256, (5, 3, 8, 8))
    >>> layer = VariationalDequantise((3, 8, 8))
    >>> z, contribution = layer.inverse_and_logdet(x)
    >>> contribution.shape, torch.equal(layer.forward(z), x.float())
    (torch.Size([5]), True)
    """

    def __init__(
        self,
        shape: int | Shape,
        transform: Transform | None = None,
        levels: int = 256,
        *,
        context: int | Shape | None = None,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__(levels)
        title = "VariationalDequantise"
        self.shape = as_shape(shape, title)
        self.event_rank = len(self.shape)
        self.context = as_context(context, title)
        self.noise = NoiseMap(self.shape, self.shape, self.context, transform, hidden, 1.0, title)
        inner = self.noise.transform
        if "absent" in (inner.forward_cost, inner.inverse_cost):
            raise ArgumentError(
                f"{title}: {inner._title()} cannot be computed in both directions; q(u | x) has to be drawn and evaluated."
            )
        self.forward_cost, self.inverse_cost = inner.inverse_cost, inner.forward_cost

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        x, outside = self._rounded(z)
        margin = torch.finfo(z.dtype).eps  # at u = 0 the logit is infinite
        v = torch.where(outside == 0, z - x, 0.5).clamp(margin, 1 - margin).logit()
        _, log_prob = self.noise.pull(v, self._scaled(x), context)
        return x, log_prob - _log_slope(v) + sum_event(outside)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        x, outside = self._integers(x)
        v, log_prob = self.noise.sample(self._scaled(x), context)
        return self._sum(x, v.sigmoid()), _log_slope(v) - log_prob + sum_event(outside)

    def _scaled(self, x: Tensor) -> Tensor:
        return x * (2 / (self.levels - 1)) - 1


def _log_slope(v: Tensor) -> Tensor:
    """log σ'(v), summed over the event."""
    return sum_event(F.logsigmoid(v) + F.logsigmoid(-v))
