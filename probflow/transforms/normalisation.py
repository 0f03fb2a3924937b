"""Normalisation layers: an affine map per channel whose statistics come from the data."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.printing import shape_text
from probflow.transforms.linear import per_row
from probflow.transforms.transform import Pair, Transform, as_shape


class PerChannel(Transform):
    """What normalisations share: numbers per channel, which is dimension 1, over events of one shape."""

    def __init__(self, shape: int | Shape) -> None:
        super().__init__()
        self.shape = as_shape(shape, type(self).__name__)
        self.event_rank = len(self.shape)
        self.channels = self.shape[0]
        self.places = math.prod(self.shape[1:])

    def _wide(self, per_channel: Tensor) -> Tensor:
        """``(channels,)`` as ``(channels, 1, 1)`` for images."""
        return per_channel.reshape(self.channels, *(1 for _ in range(self.event_rank - 1)))

    def _per_channel(self, x: Tensor) -> Tensor:
        """All values of each channel, ``(channels, batch * places)``, in float32 at least."""
        return x.movedim(1, 0).flatten(1).to(torch.promote_types(x.dtype, torch.float32))

    def extra_repr(self) -> str:
        return f"shape={shape_text(self.shape or ())}"


class ActNorm(PerChannel):
    r"""Activation normalisation (Glow, Kingma & Dhariwal, arXiv:1807.03039, section 3.1): per feature, or per channel of an image,

    .. math:: x = z \odot e^{s} + b, \qquad \log|\det J| = h\, w \sum_i s_i,

    with trained s and b that the data initialise: the first batch that goes from x to z **in training mode** sets them so that its
    z has mean 0 and variance 1 per channel.  Before, the layer is the identity.  Nothing is initialised in evaluation mode, nor
    from z to x, nor by an empty batch.  Channels with one value only (a batch of one vector), and constant ones, get their
    shift and keep a scale of 1; values that are not finite are left out.

    ``initialised`` is a buffer: saved, loaded and copied with the weights, so that a loaded layer does not initialise again.

    The initialisation is traced by ``torch.compile`` as well, without a graph break: one compilation for the first batch, another for
    all later ones.  With several processes, initialise before the weights are shared among them.

    shape: the number of features, or (channels, height, width).

    >>> import torch
    >>> layer = ActNorm(3)
    >>> z, logdet = layer.inverse_and_logdet(5 + 2 * torch.randn(100, 3))
    >>> bool(layer.initialised), bool((z.mean(0).abs() < 1e-5).all()), bool((z.var(0, correction=0) - 1 < 1e-5).all())
    (True, True, True)
    """

    initialised: Tensor

    def __init__(self, shape: int | Shape) -> None:
        super().__init__(shape)
        self.log_scale = nn.Parameter(torch.zeros(self.channels))
        self.shift = nn.Parameter(torch.zeros(self.channels))
        self.register_buffer("initialised", torch.tensor(False))
        self._ready = False  # the buffer as Python knows it: asking the buffer at every step would wait for the device
        self.register_load_state_dict_post_hook(_read_flag)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        s = self.log_scale
        return per_row(z * self._wide(s.exp()) + self._wide(self.shift), self.places * s.sum())

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        if self.waits_for(x):
            self._initialise(x)
        s = -self.log_scale
        return per_row((x - self._wide(self.shift)) * self._wide(s.exp()), self.places * s.sum())

    def waits_for(self, x: Tensor) -> bool:
        """Whether the layer would initialise from x."""
        return self.training and not self._ready and x.numel() > 0

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        values = self._per_channel(x)
        finite = values.isfinite()
        values = torch.where(finite, values, 0)
        count = finite.sum(1).clamp_min(1)
        mean = values.sum(1) / count
        mean = mean + torch.where(finite, values - mean.unsqueeze(1), 0).sum(1) / count  # once more: less its own rounding
        std = (torch.where(finite, values - mean.unsqueeze(1), 0).square().sum(1) / count).sqrt()
        # below one rounding of the largest value a spread is noise: the channel is constant
        varied = std > torch.finfo(values.dtype).eps * values.abs().amax(1)
        log_std = torch.where(varied, std, 1).log()
        # the buffer decides: something else than a load (an average of weights) may have set it since
        self.shift.copy_(torch.where(self.initialised, self.shift, mean))
        self.log_scale.copy_(torch.where(self.initialised, self.log_scale, log_std))
        self.initialised.fill_(True)
        self._ready = True


def _read_flag(layer: nn.Module, incompatible_keys: Any) -> None:
    """After a load: does the layer need its first batch?"""
    if isinstance(layer, ActNorm) and not layer.initialised.is_meta:
        layer._ready = bool(layer.initialised)


class BatchNorm(PerChannel):
    r"""Batch normalisation as a bijection (Dinh et al., arXiv:1605.08803, section 3.7 and appendix E; Papamakarios et al.,
    arXiv:1705.07057, section 3.4): per feature, or per channel of an image,

    .. math:: z = (x - m) \odot (v + \epsilon)^{-1/2} \odot e^{\gamma} + \beta, \qquad
              \log\left|\det \frac{\partial z}{\partial x}\right| = h\, w \sum_i \big(\gamma_i - \tfrac12 \log(v_i + \epsilon)\big).

    In training mode a batch that goes from x to z is normalised by its own mean m and variance v (which gradients flow through,
    and which the log-determinant takes as constants, as in both papers), and moves the running statistics.  All else uses the
    running statistics: evaluation, the direction from z to x, and batches with fewer than two values per channel.  The running
    statistics start at m = 0 and v + ε = 1: the identity.

    In training mode the two directions are therefore no exact inverses of each other; in evaluation mode they are.

    shape: the number of features, or (channels, height, width).
    momentum: the weight of a new batch in the running statistics.  eps: ε.

    >>> import torch
    >>> layer = BatchNorm(3).eval()
    >>> torch.allclose(layer(torch.ones(2, 3)), torch.ones(2, 3))
    True
    """

    running_mean: Tensor
    running_var: Tensor

    uses_the_batch = True

    def __init__(self, shape: int | Shape, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(shape)
        if not 0 < momentum <= 1:
            raise ArgumentError(f"BatchNorm: momentum must be in (0, 1], got {momentum!r}.")
        if not 0 < eps < 1:
            raise ArgumentError(f"BatchNorm: eps must be in (0, 1), got {eps!r}.")
        self.momentum, self.eps = momentum, eps
        self.log_gamma = nn.Parameter(torch.zeros(self.channels))
        self.beta = nn.Parameter(torch.zeros(self.channels))
        self.register_buffer("running_mean", torch.zeros(self.channels))
        self.register_buffer("running_var", torch.full((self.channels,), 1.0 - eps))

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        s = (self.running_var + self.eps).log() / 2 - self.log_gamma
        x = (z - self._wide(self.beta)) * self._wide(s.exp()) + self._wide(self.running_mean)
        return per_row(x, self.places * s.sum())

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        mean, var = self._statistics(x) if self.training else (self.running_mean, self.running_var)
        s = self.log_gamma - (var + self.eps).log() / 2
        z = (x - self._wide(mean)) * self._wide(s.exp()) + self._wide(self.beta)
        return per_row(z, self.places * s.sum())

    def _statistics(self, x: Tensor) -> Pair:
        """Mean and variance of this batch, noted in the running ones; those where it is too small to have any."""
        n = x.shape[0] * self.places
        if n < 2:
            return self.running_mean, self.running_var
        var, mean = torch.var_mean(self._per_channel(x), 1, correction=0)
        self._note(mean.detach(), var.detach() * (n / (n - 1)))
        return mean.to(x.dtype), var.to(x.dtype)

    @torch.no_grad()
    def _note(self, mean: Tensor, var: Tensor) -> None:
        # a batch with NaN spoils itself, and must not spoil every later one
        fit = mean.isfinite() & var.isfinite()
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.copy_(torch.where(fit, running + self.momentum * (new - running), running))
