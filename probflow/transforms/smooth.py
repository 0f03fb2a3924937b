"""Fixed smooth elementwise maps between sets of numbers: exp, softplus, sigmoid, tanh, ..."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow import domains
from probflow.transforms.transform import Pair, Transform, sum_event


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
