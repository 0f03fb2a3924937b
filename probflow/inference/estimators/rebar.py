"""rebar: the score function with a relaxed control variate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.checks import differentiated
from probflow.distributions.bound import Bound
from probflow.inference.estimators.relaxed import (
    family_bound,
    gumbel,
    harden,
    is_binary,
    log_exponential,
    logistic,
    logits_of,
    soften,
)
from probflow.inference.estimators.score import leave_one_out
from probflow.losses.estimators import Rebar


def rebar_draw(bound: Bound, sample_shape: Shape, batch: int, how: Rebar) -> tuple[Tensor, Tensor, Tensor]:
    r"""b = H(z), and the differentiable :math:`\sigma_\lambda(z)` and :math:`\sigma_\lambda(\tilde z)`, :math:`\tilde z \sim p(z \mid b)`.

    arXiv:1703.07370, appendix C: z is the logit plus logistic noise, or the log-probabilities plus Gumbel noise; z̃ has the same noise
    given its outcome.
    """
    dist = family_bound(bound)
    logits = logits_of(dist, sample_shape, batch)
    u, v = torch.rand_like(logits), torch.rand_like(logits)
    if is_binary(dist):
        noisy = logits + logistic(u)
        state = harden(noisy.detach(), dist)
        # z̃ = log(v / ((1 - v)(1 - π)) + 1) for b = 1, and -log(v / ((1 - v) π) + 1) for b = 0
        above, below = F.softplus(logistic(v) + F.softplus(logits)), -F.softplus(logistic(v) + F.softplus(-logits))
        given = torch.where(state > 0, above, below)
    else:
        noisy = logits + gumbel(u)
        state = harden(noisy.detach(), dist)
        log_e = log_exponential(v)
        top = (log_e * state).sum(-1, keepdim=True)  # the winner: -log(-log v_b)
        given = torch.where(state > 0, -top, -torch.logaddexp(log_e - logits, top))  # below it: -log(-log v_i / π_i - log v_b)
    return state, soften(noisy, how.temperature, dist), soften(given, how.temperature, dist)


def rebar_surrogate(
    value: Tensor,
    cost: Tensor,
    soft: Tensor,
    given: Tensor,
    log_prob: Tensor,
    sample_dims: tuple[int, ...],
    eta: float,
) -> Tensor:
    r"""`value`, with :math:`(f(b) - \eta c(\tilde z)) \nabla \log q(b) + \eta \nabla c(z) - \eta \nabla c(\tilde z)` added to its gradient (eq. 3).

    What multiplies the score is centred by the other samples, or the other rows of the batch, as in "score".
    """
    if not differentiated(log_prob):
        return value
    weight = cost.detach() - eta * given.detach()
    if log_prob.dim() > weight.dim():
        weight = weight.expand(log_prob.shape)
    weight = leave_one_out(weight, tuple(d - weight.dim() for d in sample_dims), True)
    control = eta * (soft - given)
    return value + weight * (log_prob - log_prob.detach()) + (control - control.detach())
