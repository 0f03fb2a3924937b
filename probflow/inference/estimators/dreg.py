"""dreg: the gradient through a draw, times its share of the bound."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from probflow.checks import forward_mode
from probflow.errors import LossError


def double_reparameterisation(log_weight: Tensor, draws: tuple[Tensor, ...], samples: tuple[int, ...], power: float) -> Tensor:
    r"""`log_weight`; what comes back through the `draws` is multiplied by :math:`1 - c + c\,\tilde w_k`.

    The gradient of log-mean-exp brings the other factor :math:`\tilde w_k`, so that altogether it is :math:`\tilde w_k^2` for c = 1
    (arXiv:1810.04152, eq. 8), and :math:`(1 - c) \tilde w_k + c \tilde w_k^2` for a power c of the weight (section 6).  The draws are views
    that nothing outside the expectation uses; `samples` are the dimensions of the K samples.
    """
    if forward_mode() and not any(draw.requires_grad for draw in draws):
        raise LossError(
            "estimator='dreg' weighs what comes back through the draws, which forward-mode differentiation (jvp, jacfwd) never does.\n"
            "Ask for 'pathwise', or differentiate in reverse."
        )
    if not torch.is_grad_enabled():
        return log_weight
    flat = log_weight.detach().movedim(samples, tuple(range(len(samples))))
    share = flat.flatten(0, len(samples) - 1).softmax(0).reshape(flat.shape).movedim(tuple(range(len(samples))), samples)
    factor = 1 - power + power * share
    for draw in draws:
        if draw.requires_grad:
            draw.register_hook(_times(factor.reshape(*factor.shape, *[1] * (draw.dim() - factor.dim()))))
    return log_weight


def _times(factor: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * factor
