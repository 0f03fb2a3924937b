"""8-bit images: DiscretizedLogistic, DiscretizedLogisticMixture; pixel values are k/255 in [0, 1], k = 0, ..., 255."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch import distributions as td
from torch.nn import functional as F

from probflow.distributions.families.noise import gumbel, logistic
from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric
from probflow.domains import Domain, logit_vector, positive, real
from probflow.errors import NoClosedForm, ParameterError
from probflow.printing import shape_text

STEPS = 255  # between the 256 levels


def _on_grid(x: Tensor) -> Tensor:
    level = x.float() * STEPS
    return ((level - level.round()).abs() < 0.05) & (level > -0.5) & (level < STEPS + 0.5)


def _pixels(rank: int) -> Domain:
    def holds(x: Tensor) -> Tensor:
        return _on_grid(x).flatten(-rank).all(-1) if rank else _on_grid(x)

    return Domain(
        "8-bit pixel values {0, 1/255, ..., 1}",
        holds,
        lambda x: (~_on_grid(x)).sum(),
        lambda count: count == 0,
        rank,
        hint="write x.float() / 255 for pixels 0 to 255; dequantised values belong to a continuous density",
    )


def _log_bin(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """The log-mass of the bin around x under a logistic distribution; the outer bins reach to infinity.

    σ(b) - σ(a) = σ(b) σ(-a) (1 - e^{a-b}): each factor has an exact logarithm, however far the bin is from loc, or small.
    """
    level = (x * STEPS).round()
    lower, upper = (level - 0.5) / STEPS, (level + 0.5) / STEPS
    below = F.logsigmoid((upper - loc) / scale)
    above = F.logsigmoid((loc - lower) / scale)
    inside = below + above + (-torch.expm1(-1 / (STEPS * scale))).log()
    return torch.where(level <= 0, below, torch.where(level >= STEPS, above, inside))


def _draw_bin(loc: Tensor, scale: Tensor, shape: tuple[int, ...]) -> Tensor:
    return ((loc + scale * logistic(shape, loc)).clamp(0, 1) * STEPS).round() / STEPS


def _sum_of_tails(loc: Tensor, scale: Tensor, weight: Callable[[int], float]) -> Tensor:
    """Σ_k weight(k) P(x > k/255), one level at a time: an image times 255 would not fit."""
    total = torch.zeros_like(loc + scale)
    for k in range(STEPS):
        total = total + weight(k) * torch.sigmoid((loc - (k + 0.5) / STEPS) / scale)
    return total


def _mean_bin(loc: Tensor, scale: Tensor) -> Tensor:
    return _sum_of_tails(loc, scale, lambda k: 1 / STEPS)


def _mean_square_bin(loc: Tensor, scale: Tensor) -> Tensor:
    return _sum_of_tails(loc, scale, lambda k: (2 * k + 1) / STEPS**2)


# ---------------------------------------------------------------------- DiscretizedLogistic


class TorchDiscretizedLogistic(td.Distribution):
    """The discretized logistic as a ``torch.distributions`` class."""

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": td.constraints.real, "scale": td.constraints.positive}
    support = td.constraints.unit_interval

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TorchDiscretizedLogistic:
        return TorchDiscretizedLogistic(self.loc.expand(batch_shape), self.scale.expand(batch_shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return _mean_bin(self.loc, self.scale)

    @property
    def variance(self) -> Tensor:
        return _mean_square_bin(self.loc, self.scale) - self.mean.square()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return _draw_bin(self.loc, self.scale, tuple(self._extended_shape(torch.Size(sample_shape))))

    def log_prob(self, value: Tensor) -> Tensor:
        return _log_bin(value, self.loc, self.scale)


def _log_prob(p: Params, x: Tensor) -> Tensor:
    return _log_bin(x, p["loc"], p["scale"])


def _states(p: Params) -> Tensor:
    return torch.arange(STEPS + 1, dtype=p["loc"].dtype, device=p["loc"].device) / STEPS


class DiscretizedLogistic(
    Parametric,
    family=Family(
        TorchDiscretizedLogistic,
        params={"loc": real, "scale": positive},
        support=_pixels(0),
        states=_states,
        log_prob=_log_prob,
    ),
):
    r"""Logistic distribution rounded to the 256 levels k/255 of an 8-bit pixel, elementwise: a probability, not a density.

    .. math:: p(x) = \sigma\Big(\frac{x + h - \mu}{s}\Big) - \sigma\Big(\frac{x - h - \mu}{s}\Big), \qquad h = \frac{1}{510}

    with the lower end at -inf for x = 0 and the upper end at +inf for x = 1, so that the 256 levels sum to 1.
    Parameters: ``loc`` :math:`\mu` and ``scale`` :math:`s`, in units of x (the paper's live on [-1, 1] and are twice as large).
    Source: arXiv:1606.04934, appendix; arXiv:1701.05517, eq. 2.

    >>> p = DiscretizedLogistic("p(x)", loc=0.5, scale=0.1)
    >>> x = torch.arange(256) / 255
    >>> p.log_prob({"x": x}).exp().sum().round(decimals=4)
    tensor(1.)
    """


# ---------------------------------------------------------------------- DiscretizedLogisticMixture


def _pairs(channels: int) -> int:
    return channels * (channels - 1) // 2


def _shifted(p: Params, channel: int, before: list[Tensor]) -> Tensor:
    """loc of `channel`, plus the coefficients times the channels before it (each without the component dimension)."""
    loc, coeffs = p["loc"], p["coeffs"]
    mean = loc[..., channel, :, :, :]
    if coeffs.shape[-4] != _pairs(loc.shape[-4]):  # left out: 0
        return mean
    for earlier, value in enumerate(before):
        mean = mean + coeffs[..., _pairs(channel) + earlier, :, :, :] * value[..., None]
    return mean


def _mixture_log_prob(p: Params, x: Tensor) -> Tensor:
    channels = [x[..., c, :, :] for c in range(x.shape[-3])]
    total = p["logits"].log_softmax(-1)
    for c, value in enumerate(channels):
        total = total + _log_bin(value[..., None], _shifted(p, c, channels[:c]), p["scale"][..., c, :, :, :])
    return total.logsumexp(-1).flatten(-2).sum(-1)


def _mixture_draw(p: Params, shape: tuple[int, ...]) -> Tensor:
    *front, channels, height, width = shape
    logits = p["logits"]
    score = logits + gumbel((*front, height, width, logits.shape[-1]), logits)
    chosen = F.one_hot(score.argmax(-1), logits.shape[-1]).to(logits.dtype)
    drawn: list[Tensor] = []
    for c in range(channels):
        loc = (_shifted(p, c, drawn) * chosen).sum(-1)
        scale = (p["scale"][..., c, :, :, :] * chosen).sum(-1)
        drawn.append(_draw_bin(loc, scale, (*front, height, width)))
    return torch.stack(drawn, dim=-3)


class TorchDiscretizedLogisticMixture(td.Distribution):
    """Shapes and moments of the mixture; an event is an image (C, H, W)."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = td.constraints.independent(td.constraints.unit_interval, 3)

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, coeffs: Tensor, validate_args: bool | None = None) -> None:
        self.params: Params = {"logits": logits, "loc": loc, "scale": scale, "coeffs": coeffs}
        event = torch.broadcast_shapes(loc.shape[-4:-1], scale.shape[-4:-1], (1, *logits.shape[-3:-1]))
        batch = torch.broadcast_shapes(logits.shape[:-3], loc.shape[:-4], scale.shape[:-4], coeffs.shape[:-4])
        super().__init__(batch, event, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self._average(_mean_bin)

    @property
    def variance(self) -> Tensor:
        return self._average(_mean_square_bin) - self.mean.square()

    def _average(self, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        if bool((self.params["coeffs"] != 0).any()):
            raise NoClosedForm("with coefficients, a channel's mean is an integral over those before it")
        weights = self.params["logits"].softmax(-1).unsqueeze(-4)
        return (weights * of(self.params["loc"], self.params["scale"])).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        return _mixture_log_prob(self.params, value)


def _check_shapes(p: Params, label: str) -> None:
    channels, coeffs = p["loc"].shape[-4], p["coeffs"]
    components = {name: p[name].shape[-1] for name in ("logits", "loc", "scale")}
    if len(set(components.values())) > 1:
        raise ParameterError(
            f"{label}: logits, loc and scale need the same number of components in the last dimension, got "
            f"{', '.join(f'{name} {size}' for name, size in components.items())}."
        )
    if coeffs.shape[-4] != _pairs(channels) and not (coeffs.shape[-4] == 1 and coeffs.numel() == 1):
        raise ParameterError(
            f"{label}: coeffs must have C(C-1)/2 = {_pairs(channels)} coefficients for {channels} channels, in dimension -4; "
            f"got shape {shape_text(coeffs.shape)}."
        )


_component_logits = Domain(
    "real numbers of shape (height, width, components)", logit_vector.holds, logit_vector.reduce, logit_vector.accept, rank=3
)
_real_4d = Domain("real numbers of shape (channels, height, width, components)", real.holds, real.reduce, real.accept, rank=4)
_positive_4d = Domain(
    "positive numbers of shape (channels, height, width, components)", positive.holds, positive.reduce, positive.accept, rank=4
)


class DiscretizedLogisticMixture(
    Parametric,
    family=Family(
        TorchDiscretizedLogisticMixture,
        params={"logits": _component_logits, "loc": _real_4d, "scale": _positive_4d, "coeffs": _real_4d},
        defaults={"coeffs": 0.0},
        support=_pixels(3),
        event_rank=3,
        log_prob=_mixture_log_prob,
        rsample=_mixture_draw,
        reparameterised=False,
        entropy=False,
        check=_check_shapes,
    ),
):
    r"""Mixture of K discretized logistics for 8-bit images (C, H, W): the likelihood of PixelCNN++.

    .. math:: p(x) = \prod_{h,w} \sum_{k=1}^K \pi_k \prod_{c=1}^C
              \mathrm{DL}\Big(x_c;\, \mu_{kc} + \sum_{c' < c} \alpha_{kcc'}\, x_{c'},\; s_{kc}\Big)

    A pixel's component is shared by its channels. Parameters, the component last: ``logits`` (batch, H, W, K); ``loc`` and
    ``scale`` (batch, C, H, W, K); ``coeffs`` :math:`\alpha` (batch, C(C-1)/2, H, W, K), 0 if left out, in the order
    (2,1), (3,1), (3,2): for RGB green on red, blue on red, blue on green.  Values are k/255
    in [0, 1], and the coefficients multiply them as they are.  Grey images have C = 1; a vector of D elements is (1, 1, D).
    The mean is known without coefficients (NoClosedForm with them).  Source: arXiv:1701.05517, eq. 2-3.

    >>> p = DiscretizedLogisticMixture(
    ...     "p(x)", logits=torch.zeros(1, 1, 2), loc=torch.tensor([[[[0.2, 0.7]]]]), scale=torch.full((1, 1, 1, 2), 0.05)
    ... )
    >>> p.log_prob({"x": torch.arange(256).reshape(256, 1, 1, 1) / 255}).exp().sum().round(decimals=4)
    tensor(1.)
    """
