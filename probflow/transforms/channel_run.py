"""An activation normalisation beside an invertible 1×1 convolution: together one affine map of the channels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from probflow.transforms.conv1x1 import Conv1x1
from probflow.transforms.coupling_run import CouplingRun
from probflow.transforms.linear import precise
from probflow.transforms.normalisation import ActNorm
from probflow.transforms.transform import Pair, Transform, added


class ChannelRun:
    r"""`first` and then `second`, one an :class:`ActNorm` of images and the other a :class:`Conv1x1`, with its scale in the weight.

    From data to noise, with the normalisation on the side of the data as in Glow, :math:`W\big((x - b) \odot e^{-s}\big) =
    \big(W \mathrm{diag}(e^{-s})\big)(x - b)`.  One pass over the images less, and in the backward pass three.  The log-determinant is a
    number, the same for all rows.
    """

    context = None

    def __init__(self, first: Transform, second: Transform, norm: ActNorm, mix: Conv1x1) -> None:
        self.parts, self.norm, self.mix = (first, second), norm, mix
        self.norm_is_first = first is norm

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        norm, mix = self.norm, self.mix
        if z.dtype != norm.log_scale.dtype:
            return self._one_by_one(z, inverse=False)
        weight, scale = mix.inverse_weight().to(z.dtype), norm.log_scale.exp()
        if self.norm_is_first:
            x = _affine(weight * scale, precise(torch.mv, weight, norm.shift), z)
        else:
            x = _affine(scale.unsqueeze(1) * weight, norm.shift, z)
        return x, -self._logdet(mix.lu.logabsdet)

    def _forward(self, z: Tensor, context: Tensor | None) -> Tensor:
        return self._forward_and_logdet(z, context)[0]

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        norm, mix = self.norm, self.mix
        if x.dtype != norm.log_scale.dtype or norm.waits_for(x):
            return self._one_by_one(x, inverse=True)
        weight, logabsdet = mix.lu()
        weight, scale = weight.to(x.dtype), (-norm.log_scale).exp()
        if self.norm_is_first:
            z = _affine(scale.unsqueeze(1) * weight, -scale * norm.shift, x)
        else:  # x - b before the product: where b is large beside the scale, W b and W x would cancel
            z = mix.mix(weight * scale, x + (-norm.shift).reshape(-1, 1, 1))
        return z, self._logdet(logabsdet)

    def _logdet(self, logabsdet: Tensor) -> Tensor:
        """From data to noise, for log|det W|."""
        return (self.mix.pixels * (logabsdet - self.norm.log_scale.sum())).to(self.norm.log_scale.dtype)

    def _one_by_one(self, value: Tensor, inverse: bool) -> Pair:
        total: Tensor | None = None
        for part in reversed(self.parts) if inverse else self.parts:
            value, logdet = part._inverse_and_logdet(value, None) if inverse else part._forward_and_logdet(value, None)
            total = added(total, logdet)
        return value, total  # type: ignore[return-value]


def _affine(weight: Tensor, shift: Tensor, value: Tensor) -> Tensor:
    """W v + t at every pixel."""
    weight = weight.expand(value.shape[0], -1, -1)
    return precise(torch.baddbmm, shift.unsqueeze(1), weight, value.flatten(2)).view(value.shape)


Run = Transform | CouplingRun | ChannelRun
"""What a chain goes through: a layer, or several as one."""


def with_channel_runs(layers: Iterable[Transform | CouplingRun]) -> list[Run]:
    """The same, with a normalisation and a convolution that stand side by side as one."""
    found: list[Run] = []
    for layer in layers:
        before = found[-1] if found else None
        if type(before) is ActNorm and type(layer) is Conv1x1 and layer.event_rank == 3:
            found[-1] = ChannelRun(before, layer, before, layer)
        elif type(before) is Conv1x1 and type(layer) is ActNorm and layer.event_rank == 3:
            found[-1] = ChannelRun(before, layer, layer, before)
        else:
            found.append(layer)
    return found
