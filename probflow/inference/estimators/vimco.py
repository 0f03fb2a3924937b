"""vimco: the score function of log-mean-exp, a function of all samples together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from probflow.checks import differentiated
from probflow.inference.estimators.score import leave_one_out


def score_logarithm(
    value: Tensor,
    cost: Tensor,
    log_prob: Tensor,
    dims: int,
    samples: tuple[int, ...],
    own: tuple[int, ...],
    batched: bool,
    baseline: str = "arithmetic",
) -> Tensor:
    r"""`value` L = log mean_k exp(cost_k), with the gradient :math:`\nabla L + \sum_k (L - L_{-k}) \nabla \log q_k` of its mean.

    L_{-k} is L with the k-th cost replaced by a mean of the others, independent of the k-th (Mnih & Rezende, arXiv:1602.06725, eq.
    7-10): `baseline` is "arithmetic" (which leaves the log-mean-exp of the others), "geometric" or "none".  For one sample it is
    the mean over the other rows of the batch.  `dims` counts the dimensions of cost and log_prob once aligned; `samples` are those
    averaged over, `own` those of states that were summed.
    """
    if not differentiated(log_prob):
        return value
    log_prob = log_prob.reshape((1,) * (dims - log_prob.dim()) + log_prob.shape)
    if own:
        log_prob = log_prob.sum(own, keepdim=True)
    cost = cost.detach() if batched else cost.detach().unsqueeze(-1)
    cost = cost.reshape((1,) * (dims - cost.dim()) + cost.shape)
    score = first_dims(log_prob, samples)  # (K, ..., batch)
    costs = first_dims(cost, samples)
    count = costs.shape[0]
    total = costs.logsumexp(0) - math.log(count)
    if baseline == "none":
        centred = total[None]
    elif count > 1:
        rest = others(costs)
        if baseline == "geometric":  # eq. 9-10: the mean of the other costs in the place of the k-th
            mean = (costs.sum(0, keepdim=True) - costs) / (count - 1)
            centred = total - (torch.logaddexp(rest, mean) - math.log(count))
        else:
            centred = total - (rest - math.log(count - 1))
    else:
        centred = leave_one_out(total, (), batched)[None]
    surrogate = (centred * (score - score.detach())).sum(0)
    if own:
        surrogate = surrogate.squeeze(tuple(o - sum(place < o for place in samples) for o in own))
    return value + (surrogate if batched else surrogate.sum(-1))


def others(costs: Tensor) -> Tensor:
    """log Σ_{j≠k} exp(cost_j) for every k, without taking one back out of a sum that it may dominate."""
    up, down = costs.logcumsumexp(0), costs.flip(0).logcumsumexp(0).flip(0)
    return torch.cat([down[1:2], torch.logaddexp(up[:-2], down[2:]), up[-2:-1]])


def first_dims(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """These dimensions as one, in front."""
    if not dims:
        return tensor[None]
    return tensor.movedim(dims, tuple(range(len(dims)))).flatten(0, len(dims) - 1)
