"""Binary variables: Bernoulli."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributions as td
from torch.nn import functional as F

from probflow.distributions.family import Family, Params, sum_event
from probflow.distributions.parametric import Parametric
from probflow.distributions.shapes import broadcast
from probflow.domains import boolean, real, unit_interval


def _cross_entropy(p: Params, x: Tensor) -> Tensor:
    """Cross-entropy elementwise; from logits it is exact however large they are."""
    if "logits" in p:
        logits, x = _same_shape(p["logits"], x)
        return F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    probs, x = _same_shape(p["probs"], x)
    if not bool(torch.is_autocast_enabled(probs.device.type)):
        return F.binary_cross_entropy(probs, x, reduction="none")  # torch bounds log 0 at -100, and its gradient
    with torch.autocast(probs.device.type, enabled=False):
        return F.binary_cross_entropy(probs, x, reduction="none")


_SIGNS = {t: tuple(torch.tensor(n, dtype=t, device="cpu") for n in (-1, 2)) for t in (torch.float32, torch.float64)}
"""-1 and 2: as tensors they need not be made of numbers every time, which takes longer than the sum."""
_CACHED = 2**17
"""So many elements stay near the processor between two passes over them."""


def _mean_log_prob(p: Params, x: Tensor, lead: int, dims: int) -> Tensor:
    """Of few elements the samples first, that is the smaller sum; without a gradient log σ(±logits), + where x is 1, in two
    passes less.  Of many the cross-entropy: log σ writes as much again beside its result."""
    logits, axes = p.get("logits"), 0 if lead == 1 else tuple(range(lead))
    if logits is None or logits.numel() > _CACHED:
        return -sum_event(_cross_entropy(p, x), dims).mean(axes)
    signs = _SIGNS.get(x.dtype)
    if signs is not None and x.dtype == logits.dtype and x.is_cpu and not torch.is_grad_enabled():
        low, step = signs
        return sum_event(F.logsigmoid(torch.addcmul(low, x, step).mul(logits)).mean(axes), dims)
    return -sum_event(_cross_entropy(p, x).mean(axes), dims)


def _event_nll(p: Params, x: Tensor, dims: int) -> Tensor:
    if "logits" in p and p["logits"].shape == x.shape and dims == x.dim() and p["logits"].dtype == x.dtype:
        return F.binary_cross_entropy_with_logits(p["logits"], x, reduction="sum")
    return sum_event(_cross_entropy(p, x), dims)


def _same_shape(p: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    if x.dtype != p.dtype:
        x = x.to(p.dtype)
    if p.shape == x.shape:
        return p, x
    if x.dim() <= p.dim() and x.shape == p.shape[p.dim() - x.dim() :]:  # one value for all samples of the parameters
        return p, x.expand(p.shape)
    shape = broadcast(p.shape, x.shape)
    return p.expand(shape), x.expand(shape)


def _states(p: Params) -> Tensor:
    like = next(iter(p.values()))
    return torch.tensor([0.0, 1.0], dtype=like.dtype, device=like.device)


class Bernoulli(
    Parametric,
    family=Family(
        td.Bernoulli,
        params={"probs": unit_interval, "logits": real},
        either=(("probs", "logits"),),
        support=boolean,
        states=_states,
        event_nll=_event_nll,
        mean_log_prob=_mean_log_prob,
    ),
):
    r"""Bernoulli distribution of 0/1 values, elementwise: :math:`\log p(x) = x \log \pi + (1 - x) \log(1 - \pi)`.

    Parameters: ``probs`` :math:`\pi`, or ``logits`` :math:`\log\frac{\pi}{1-\pi}` (exact at any size; prefer it).
    An impossible value of ``probs`` (0 or 1 exactly) counts as -100, torch's bound on log 0, so that training goes on.
    Grey pixels are not in the support: binarise them, or use ContinuousBernoulli (arXiv:1907.06845) or DiscretizedLogistic.

    >>> p = Bernoulli("p(x)", logits=torch.tensor([0.0, 200.0]))
    >>> p.log_prob({"x": torch.tensor([[1.0, 1.0], [0.0, 0.0]])})
    tensor([  -0.6931, -200.6931])
    """
