"""straight-through and gumbel-softmax: draws of Bernoulli and Categorical variables that have a gradient, a biased one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.distributions import Bernoulli, Categorical
from probflow.distributions.base import Factor
from probflow.distributions.bound import Bound
from probflow.distributions.family import FamilyBound, sum_event
from probflow.errors import LossError
from probflow.losses.estimators import GumbelSoftmax

_TINY = 1e-30


def relaxable(factor: Factor) -> bool:
    """Whether the values of `factor` can lie between its states: Bernoulli and Categorical."""
    return factor.kind is Bernoulli.family or factor.kind is Categorical.family


def family_bound(bound: Bound) -> FamilyBound:
    """A bound Bernoulli or Categorical; the plan has looked at the factor already."""
    if not isinstance(bound, FamilyBound):
        raise LossError(f"{bound.statement} is no Bernoulli and no Categorical, and cannot be relaxed.")
    return bound


def is_binary(bound: FamilyBound) -> bool:
    """Bernoulli, not Categorical."""
    return bound.family is Bernoulli.family


def logits_of(bound: FamilyBound, sample_shape: Shape, batch: int) -> Tensor:
    """log(π / (1 - π)), or log π of every class, with the whole shape of the draw: ``(*sample_shape, *lead, batch, *event)``."""
    params = bound.full
    if is_binary(bound):
        logits = params["logits"] if "logits" in params else params["probs"].logit()
    else:
        logits = (
            params["logits"].log_softmax(-1) if "logits" in params else params["probs"].clamp_min(_TINY).log().log_softmax(-1)
        )
    return logits.expand(*sample_shape, *bound.front[:-1], batch, *bound.event)


def straight_through_draw(bound: Bound, sample_shape: Shape, batch: int) -> tuple[Tensor, ...]:
    """z + π - sg(π)."""
    dist = family_bound(bound)
    (state,) = dist.draw(sample_shape, batch, False)
    logits = logits_of(dist, sample_shape, batch)
    probs = logits.sigmoid() if is_binary(dist) else logits.exp()
    return (state.detach() + (probs - probs.detach()),)


def gumbel_softmax_draw(bound: Bound, sample_shape: Shape, batch: int, how: GumbelSoftmax) -> tuple[Tensor, ...]:
    """softmax((log π + g) / τ); for two states the sigmoid of the logit plus logistic noise."""
    dist = family_bound(bound)
    logits = logits_of(dist, sample_shape, batch)
    noisy = logits + (logistic(torch.rand_like(logits)) if is_binary(dist) else gumbel(torch.rand_like(logits)))
    soft = soften(noisy, how.temperature, dist)
    return (soft if not how.hard else harden(noisy, dist) + (soft - soft.detach()),)


def logistic(uniform: Tensor) -> Tensor:
    """log u - log(1 - u), finite also where u is 0."""
    return uniform.clamp(torch.finfo(uniform.dtype).tiny, 1 - torch.finfo(uniform.dtype).eps).logit()


def gumbel(uniform: Tensor) -> Tensor:
    """-log(-log u), finite also where u is 0 or 1."""
    return -log_exponential(uniform)


def log_exponential(uniform: Tensor) -> Tensor:
    """log(-log u): the logarithm of an exponential variable."""
    return (-uniform.clamp(torch.finfo(uniform.dtype).tiny, 1 - torch.finfo(uniform.dtype).eps).log()).log()


def soften(noisy: Tensor, temperature: float, bound: FamilyBound) -> Tensor:
    """The relaxed value of noisy logits."""
    return (noisy / temperature).sigmoid() if is_binary(bound) else (noisy / temperature).softmax(-1)


def harden(noisy: Tensor, bound: FamilyBound) -> Tensor:
    """The state that noisy logits stand for."""
    if is_binary(bound):
        return (noisy > 0).to(noisy.dtype)
    return F.one_hot(noisy.argmax(-1), noisy.shape[-1]).to(noisy.dtype)


def relaxed_log_prob(bound: Bound, value: Tensor, lead: int) -> Tensor:
    """log p at a value between the states, linear in it: Σ_k y_k log π_k.  At a state it is log p, and it has a gradient there."""
    dist = family_bound(bound)
    if is_binary(dist):
        return dist.log_prob((value,), (lead,), False)
    params = dist.full
    table = (
        params["logits"].log_softmax(-1)
        if "logits" in params
        else (params["probs"].log() - params["probs"].sum(-1, True).log())
    )
    possible = value != 0
    return sum_event(torch.where(possible, value * torch.where(possible, table, 0.0), 0.0).sum(-1), dist.extra)
