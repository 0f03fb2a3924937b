"""Counts: Binomial, Geometric, Poisson, NegativeBinomial, Multinomial."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch import distributions as td
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.distributions.families.dependent import count_vectors, counts_up_to
from probflow.distributions.families.exact import x_log_1m_y, x_log_y
from probflow.distributions.families.noise import uniform
from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric
from probflow.domains import (
    Domain,
    interval,
    logit_vector,
    natural,
    nonnegative,
    positive,
    real,
    simplex,
    unit_interval,
)


def _log_successes(p: Params, wins: Tensor, losses: Tensor) -> Tensor:
    """wins · log π + losses · log(1 - π), exact at saturated logits and at probs of 0 and 1 (0 log 0 = 0)."""
    if "logits" in p:
        return wins * F.logsigmoid(p["logits"]) + losses * F.logsigmoid(-p["logits"])
    return x_log_y(wins, p["probs"]) + x_log_1m_y(losses, p["probs"])


def _log_choose(total: Tensor, x: Tensor) -> Tensor:
    return torch.lgamma(total + 1) - torch.lgamma(x + 1) - torch.lgamma(total - x + 1)


# ---------------------------------------------------------------------- Binomial


def _binomial_log_prob(p: Params, x: Tensor) -> Tensor:
    total = p["total_count"]
    return _log_choose(total, x) + _log_successes(p, x, total - x)


def _binomial_support(p: Params) -> Domain:
    return counts_up_to(p["total_count"])


def _binomial_states(p: Params) -> Tensor | None:
    total = p["total_count"]
    if total.numel() == 0 or bool((total != total.flatten()[0]).any()):
        return None
    return torch.arange(int(total.flatten()[0]) + 1, dtype=total.dtype, device=total.device)


class _Binomial(td.Binomial):
    """torch's, with an entropy for unequal total counts."""

    def entropy(self) -> Tensor:
        most = int(self.total_count.max()) if self.total_count.numel() else 0
        x = torch.arange(most + 1, dtype=self._param.dtype, device=self._param.device).reshape(-1, *[1] * self._param.dim())
        key = "logits" if "logits" in self.__dict__ else "probs"
        log_prob = _binomial_log_prob({"total_count": self.total_count, key: self._param}, x.clamp(max=self.total_count))
        log_prob = torch.where(x <= self.total_count, log_prob, -torch.inf)
        return -torch.where(log_prob > -torch.inf, log_prob.exp() * log_prob, 0.0).sum(0)


class Binomial(
    Parametric,
    family=Family(
        _Binomial,
        params={"total_count": natural, "probs": unit_interval, "logits": real},
        either=(("probs", "logits"),),
        support=_binomial_support,
        states=_binomial_states,
        log_prob=_binomial_log_prob,
    ),
):
    r"""Binomial distribution, elementwise: the number of successes in ``total_count`` :math:`n` trials.

    .. math:: \log p(x) = \log\binom nx + x\log\pi + (n - x)\log(1 - \pi)

    Parameters: ``total_count`` (a number, or a tensor with one per element), and ``probs`` :math:`\pi` or ``logits``.
    It is summed out exactly where all total counts are equal.

    >>> p = Binomial("p(x)", total_count=2, logits=torch.tensor([0.0, 1000.0]))
    >>> p.log_prob({"x": torch.tensor([[1.0, 2.0]])}).exp()
    tensor([0.5000])
    """


# ---------------------------------------------------------------------- Geometric


def _geometric_log_prob(p: Params, x: Tensor) -> Tensor:
    return _log_successes(p, torch.ones_like(x), x)


def _geometric_draw(p: Params, shape: Shape) -> Tensor:
    like = next(iter(p.values()))
    log_failure = F.logsigmoid(-p["logits"]) if "logits" in p else torch.log1p(-p["probs"])
    # probability 0 of failure: log u / -inf = -0 is the count 0
    return (uniform(shape, like).log() / log_failure).floor().abs()


class _Geometric(td.Geometric):
    """torch's, with moments that do not cancel: (1 - π) / π, not 1 / π - 1."""

    @property
    def mean(self) -> Tensor:
        return (-self.logits).exp() if "logits" in self.__dict__ else (1 - self.probs) / self.probs

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 + self.mean)


class Geometric(
    Parametric,
    family=Family(
        _Geometric,
        params={"probs": interval(0, 1, open_low=True), "logits": real},
        either=(("probs", "logits"),),
        support=natural,
        log_prob=_geometric_log_prob,
        rsample=_geometric_draw,
        reparameterised=False,
    ),
):
    r"""Geometric distribution, elementwise: failures before the first success, :math:`\log p(x) = \log\pi + x\log(1 - \pi)`.

    Parameters: ``probs`` :math:`\pi \in (0, 1]` or ``logits``; x is 0, 1, 2, ...

    >>> Geometric("p(x)", probs=0.5).log_prob({"x": torch.tensor([0.0, 2.0])}).exp()
    tensor([0.5000, 0.1250])
    """


# ---------------------------------------------------------------------- Poisson, NegativeBinomial


def _poisson_log_prob(p: Params, x: Tensor) -> Tensor:
    return x_log_y(x, p["rate"]) - p["rate"] - torch.lgamma(x + 1)


class Poisson(
    Parametric,
    family=Family(td.Poisson, params={"rate": nonnegative}, support=natural, log_prob=_poisson_log_prob, entropy=False),
):
    r"""Poisson distribution of counts: :math:`\log p(x) = x \log\lambda - \lambda - \log x!`, with ``rate`` :math:`\lambda`.

    >>> Poisson("p(x)", rate=2.0).log_prob({"x": torch.tensor([0.0])})
    tensor([-2.])
    """


def _negative_binomial_log_prob(p: Params, x: Tensor) -> Tensor:
    r = p["total_count"]
    return torch.lgamma(r + x) - torch.lgamma(x + 1) - torch.lgamma(r) + _log_successes(p, x, r)


class NegativeBinomial(
    Parametric,
    family=Family(
        td.NegativeBinomial,
        params={"total_count": positive, "probs": interval(0, 1, open_high=True), "logits": real},
        either=(("probs", "logits"),),
        support=natural,
        log_prob=_negative_binomial_log_prob,
    ),
):
    r"""Negative binomial distribution, elementwise: successes before the r-th failure; a Poisson with spread.

    .. math:: \log p(x) = \log\frac{\Gamma(r + x)}{\Gamma(r)\, x!} + x\log\pi + r\log(1 - \pi)

    Parameters: ``total_count`` :math:`r > 0` (any positive number) and the probability of success ``probs``
    :math:`\pi \in [0, 1)` or ``logits``, as in torch; the mean is :math:`r\pi/(1-\pi)`.

    >>> NegativeBinomial("p(x)", total_count=1.0, probs=0.5).log_prob({"x": torch.tensor([2.0])}).exp()
    tensor([0.1250])
    """


# ---------------------------------------------------------------------- Multinomial


def _log_probs(p: Params) -> Tensor:
    if "logits" in p:
        return p["logits"].log_softmax(-1)
    return (p["probs"] / p["probs"].sum(-1, keepdim=True)).log()


def _multinomial_log_prob(p: Params, x: Tensor) -> Tensor:
    arrangements = torch.lgamma(p["total_count"] + 1) - torch.lgamma(x + 1).sum(-1)
    if "logits" in p:
        # a log-probability of -inf does not count where x is 0
        return arrangements + (x * torch.where(x == 0, 0.0, _log_probs(p))).sum(-1)
    return arrangements + x_log_y(x, p["probs"]).sum(-1) - p["total_count"] * p["probs"].sum(-1).log()


def _multinomial_support(p: Params) -> Domain:
    return count_vectors(p["total_count"])


class TorchMultinomial(td.Distribution):
    """The multinomial with a total count of its own for each batch element, which torch's cannot sample."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = td.constraints.dependent(is_discrete=True, event_dim=1)

    def __init__(
        self, total_count: Tensor, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        log_probs = _log_probs({"logits": logits} if logits is not None else {"probs": probs})  # type: ignore[dict-item]
        batch = torch.broadcast_shapes(total_count.shape, log_probs.shape[:-1])
        self.total_count, self.log_probs = total_count.expand(batch), log_probs.expand(*batch, log_probs.shape[-1])
        super().__init__(batch, log_probs.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TorchMultinomial:
        return TorchMultinomial(
            self.total_count.expand(batch_shape), logits=self.log_probs.expand(*batch_shape, -1), validate_args=False
        )

    @property
    def mean(self) -> Tensor:
        return self.total_count[..., None] * self.log_probs.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean * -torch.expm1(self.log_probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            front, classes = (*sample_shape, *self._batch_shape), self.log_probs.shape[-1]
            x = self.log_probs.new_zeros(*front, classes)
            most = int(self.total_count.max()) if x.numel() else 0
            if most == 0:
                return x
            weights = self.log_probs.exp().reshape(-1, classes)
            draws = math.prod(sample_shape) * most
            index = torch.multinomial(weights, draws, replacement=True)  # (rows, draws)
            index = index.reshape(*self._batch_shape, math.prod(sample_shape), most).movedim(-2, 0).reshape(*front, most)
            counted = torch.arange(most, device=x.device) < self.total_count[..., None]
            return x.scatter_add(-1, index, counted.to(x.dtype).expand(*front, most))

    def log_prob(self, value: Tensor) -> Tensor:
        return _multinomial_log_prob({"total_count": self.total_count, "logits": self.log_probs}, value)

    def entropy(self) -> Tensor:
        # each count is binomial: H = -log n! - n Σ π log π + Σ E[log x_k!]
        total, log_probs = self.total_count[..., None], self.log_probs
        most = int(total.max()) if total.numel() else 0
        x = torch.arange(most + 1, dtype=log_probs.dtype, device=log_probs.device).reshape(-1, *[1] * log_probs.dim())
        mass = _binomial_log_prob({"total_count": total, "probs": log_probs.exp()}, torch.minimum(x, total)).exp()
        log_factorials = torch.where(x <= total, mass * torch.lgamma(x + 1), 0.0).sum(0)
        surprise = total * torch.where(log_probs > -torch.inf, -log_probs.exp() * log_probs, 0.0)
        return (surprise + log_factorials).sum(-1) - torch.lgamma(self.total_count + 1)


class Multinomial(
    Parametric,
    family=Family(
        TorchMultinomial,
        params={"total_count": natural, "probs": simplex, "logits": logit_vector},
        either=(("probs", "logits"),),
        support=_multinomial_support,
        event_rank=1,
        log_prob=_multinomial_log_prob,
    ),
):
    r"""Multinomial distribution: how often each of K classes came up in ``total_count`` :math:`n` trials; events are (K,).

    .. math:: \log p(x) = \log n! - \sum_k \log x_k! + \sum_k x_k \log \pi_k

    Parameters: ``total_count`` (a number, or one per batch element), and ``probs`` :math:`\pi` (batch, K) or ``logits``.

    >>> p = Multinomial("p(x)", total_count=2, probs=torch.tensor([0.5, 0.5]))
    >>> p.log_prob({"x": torch.tensor([[1.0, 1.0]])}).exp()
    tensor([0.5000])
    """
