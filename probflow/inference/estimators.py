"""How the gradient of an expectation is found: exact sum, pathwise, or score function - never silently zero."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.distributions.base import Factor
from probflow.errors import LossError
from probflow.losses.probability import Estimator

FEW_STATES = 128
"""Up to this many states a finite variable is summed exactly instead of drawn."""

MANY_STATES = 4096
"""Up to this many combinations of the states of several variables."""

MOST_STATES = 65536
"""Where estimator="enumerate" asks for the sum."""

Choice = Literal["enumerate", "pathwise", "score"]


class TooManyStates(Exception):
    """Raised by a running program: this factor turned out too large to sum over; it is planned again as a draw."""

    def __init__(self, origin: int) -> None:
        super().__init__(origin)
        self.origin = origin


def choose(factor: Factor, sample_shape: Shape, estimator: Estimator | None, too_many: frozenset[int]) -> Choice:
    """The estimator for one factor of an expectation.

    Errors: LossError where the one asked for does not exist.
    """
    if estimator == "enumerate":
        if not factor.finite:
            raise LossError(f"{factor.statement} is not finite, so estimator='enumerate' cannot sum over it.")
        return "enumerate"
    if estimator == "pathwise":
        if not factor.reparameterised:
            raise LossError(
                f"{factor.statement} ({factor.describe()}) has no reparameterised draw, so estimator='pathwise' has no gradient.\n"
                "Leave estimator out, or ask for 'score'."
            )
        return "pathwise"
    if estimator == "score":
        return "score"
    count = factor.state_count()
    small = count is None or count <= FEW_STATES
    if factor.finite and not sample_shape and small and id(factor.origin) not in too_many:
        return "enumerate"
    return "pathwise" if factor.reparameterised else "score"


def score_surrogate(cost: Tensor, log_prob: Tensor, sample_dims: tuple[int, ...], batched: bool) -> Tensor:
    r"""A tensor with the value of `cost` and the gradient :math:`\nabla f + (f - b) \nabla \log q`.

    The baseline b is the mean cost of the other samples (leave-one-out; over the batch where there is one sample), which is
    independent of the draw it is subtracted for, so the gradient stays unbiased (Kool et al. 2019; arXiv:1402.0030).
    """
    if not (torch.is_grad_enabled() and log_prob.requires_grad):
        return cost
    if not batched and log_prob.dim() > cost.dim():
        log_prob = log_prob.sum(-1)  # the cost is of the whole batch, so every draw of the batch shares it
    value = cost.detach()
    if log_prob.dim() > value.dim():
        value = value.expand(log_prob.shape)
    centred = _leave_one_out(value, tuple(d - value.dim() for d in sample_dims) if batched else (), batched)
    return cost + centred * (log_prob - log_prob.detach())


def score_logarithm(
    value: Tensor, cost: Tensor, log_prob: Tensor, dims: int, samples: tuple[int, ...], own: tuple[int, ...], batched: bool
) -> Tensor:
    r"""`value` L = log mean_k exp(cost_k), with the gradient :math:`\nabla L + \sum_k (L - L_{-k}) \nabla \log q_k` of its mean.

    L_{-k} is the same of the other samples, independent of the k-th (as in Mnih & Rezende, arXiv:1602.06725, eq. 10); for one
    sample it is the mean over the other rows of the batch.  `dims` counts the dimensions of cost and log_prob once aligned;
    `samples` are those averaged over, `own` those of states that were summed.
    """
    if not (torch.is_grad_enabled() and log_prob.requires_grad):
        return value
    log_prob = log_prob.reshape((1,) * (dims - log_prob.dim()) + log_prob.shape)
    if own:
        log_prob = log_prob.sum(own, keepdim=True)
    cost = cost.detach() if batched else cost.detach().unsqueeze(-1)
    cost = cost.reshape((1,) * (dims - cost.dim()) + cost.shape)
    score = _first(log_prob, samples)  # (K, ..., batch)
    costs = _first(cost, samples)
    count = costs.shape[0]
    total = costs.logsumexp(0) - math.log(count)
    if count > 1:
        up, down = costs.logcumsumexp(0), costs.flip(0).logcumsumexp(0).flip(0)
        others = torch.cat([down[1:2], torch.logaddexp(up[:-2], down[2:]), up[-2:-1]]) - math.log(count - 1)
        centred = total - others
    else:
        centred = _leave_one_out(total, (), batched)[None]
    surrogate = (centred * (score - score.detach())).sum(0)
    if own:
        surrogate = surrogate.squeeze(tuple(o - sum(place < o for place in samples) for o in own))
    return value + (surrogate if batched else surrogate.sum(-1))


def _first(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """These dimensions as one, in front."""
    if not dims:
        return tensor[None]
    return tensor.movedim(dims, tuple(range(len(dims)))).flatten(0, len(dims) - 1)


def _leave_one_out(value: Tensor, dims: tuple[int, ...], batched: bool) -> Tensor:
    if not batched:
        return value
    count = 1
    for dim in dims:
        count *= value.shape[dim]
    if count == 1:
        dims, count = (-1,), value.shape[-1]
    if count == 1:
        return value
    return (value - value.mean(dims, keepdim=True)) * (count / (count - 1))


def weighted_sum(log_weight: Tensor, cost: Tensor, dim: int) -> Tensor:
    """sum_y q(y) f(y) over one dimension; a state of probability 0 contributes 0, whatever its cost."""
    weight = log_weight.exp()
    possible = weight > 0
    return (weight * torch.where(possible, cost, 0.0)).sum(dim)
