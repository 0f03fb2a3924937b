"""Importance sampling: how good is q as a proposal for p, and what is the integral of p?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probflow._typing import Values
from probflow.distributions import Distribution
from probflow.distributions.values import Samples, batch_size, check_mapping, check_missing
from probflow.errors import ArgumentError


@dataclass(frozen=True)
class ImportanceEstimate:
    """What weighted samples say.

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.CustomProb("p(x)", lambda x: -0.5 * x.square().sum(1))  # a Normal without its constant: Z = √(2π)
    >>> found = pf.importance(p, pf.Normal("q(x)", loc=0.0, scale=2.0, features_shape=1), samples=10_000)
    >>> found.log_weights.shape, bool((found.log_evidence - 0.9189).abs() < 5 * found.standard_error)
    (torch.Size([10000, 1]), True)
    """

    log_evidence: Tensor
    r"""log (1/K) Σ w_k, shape (batch,), in nats: an estimate of log p(x), or of log Z where p is not normalised."""

    effective_samples: Tensor
    r"""(Σ w_k)² / Σ w_k², between 1 and K, shape (batch,) (Kong, 1992); 0 where all weights are 0."""

    standard_error: Tensor
    """Of `log_evidence`, by the delta method, shape (batch,); infinite where one sample, or none of any weight, tells nothing."""

    log_weights: Tensor = field(repr=False)
    """log w_k = log p - log q, shape (K, batch)."""


def importance(
    p: Distribution, q: Distribution, values: Values | None = None, samples: int = 1000, chunk: int = 1000
) -> ImportanceEstimate:
    r"""Estimate :math:`\log \int p(x, z)\,\mathrm dz` with K = `samples` draws from q (Burda et al., arXiv:1509.00519, eq. 8):

    .. math:: \log p(x) \approx \log \frac1K \sum_k w_k, \quad w_k = \frac{p(x, z_k)}{q(z_k \mid x)}, \quad z_k \sim q(z \mid x).

    p may be unnormalised, ``CustomProb``: then it is log Z.  `values`: the observed and conditioning variables; others are not
    looked at.  Draws are made in groups of `chunk`, so that memory stays bounded; no gradient is kept.

    The standard error is that of the weights drawn: where q misses a part of p, neither it nor the estimate knows of that part.

    Errors: ArgumentError where q is not over variables of p, or a count is not positive; MissingVariable.

    >>> from probflow.distributions import Normal
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0, features_shape=1)
    >>> q = Normal("q(z | x)", lambda x: {"loc": x / 2, "scale": torch.full_like(x, 0.5**0.5)})
    >>> result = importance(p, q, {"x": torch.ones(1, 1)}, samples=50)   # q is the exact posterior: no spread
    >>> round(result.log_evidence.item(), 4), round(result.effective_samples.item(), 2)
    (-1.5155, 50.0)
    """
    for part in (p, q):
        if not isinstance(part, Distribution):
            raise ArgumentError(f"importance(p, q) takes two distributions, got a {type(part).__name__}.")
    foreign = [n for n in q.var if n not in p.var]
    if foreign:
        raise ArgumentError(
            f"importance(p, q): {', '.join(foreign)} of {q.statement} is not a variable of {p.statement}. The model comes first."
        )
    for name, count in (("samples", samples), ("chunk", chunk)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ArgumentError(f"importance: {name} must be a positive integer, got {count!r}.")
    what = f"importance: {p.statement}"
    known = check_mapping({} if values is None else values, what, [n for n in p.var if n not in q.var])
    if isinstance(known, Samples) and any(known.sample_dims.values()):
        raise ArgumentError(
            f"{what}: the values have sample dimensions of their own; fold them into the batch: .flatten(0, 1)."
        )
    needed = tuple(dict.fromkeys(n for n in (*p.var, *p.cond_var, *q.cond_var) if n not in q.var))
    check_missing(known, needed, what, "importance")
    known = {n: known[n] for n in needed}
    batch = batch_size(known, dict.fromkeys(needed, 0), what) or 1
    with torch.no_grad():
        parts = [_log_weights(p, q, known, batch, min(chunk, samples - start)) for start in range(0, samples, chunk)]
    weights = torch.cat(parts)
    total = weights.logsumexp(0)
    squares = (weights - total).exp().square().sum(0)
    effective = torch.where(squares > 0, 1 / squares, 0.0)  # NaN where no draw has any weight: nothing is known
    error = (1 / effective - 1 / samples).clamp(min=0).sqrt() if samples > 1 else torch.full_like(total, torch.inf)
    return ImportanceEstimate(total - math.log(samples), effective, error, weights)


def _log_weights(p: Distribution, q: Distribution, known: Values, batch: int, count: int) -> Tensor:
    """log p - log q at `count` draws from q, ``(count, batch)``; the density of a flow is had along its draw."""
    values, dims = dict(known), dict.fromkeys(known, 0)
    log_q: Tensor | None = None
    for place in q.graph.order:
        factor = q.factors[place]
        factor.check_sampler()
        bound = factor.bind([values[n] for n in factor.cond_var], [dims[n] for n in factor.cond_var])
        drawn, density = bound.draw_with_log_prob((count,) if bound.lead == 0 else (), batch, False)
        values.update(zip(factor.var, drawn, strict=True))
        dims.update(dict.fromkeys(factor.var, 1))
        log_q = density if log_q is None else log_q + density
    names = p.var + p.cond_var
    log_p = p.log_prob(Samples({n: values[n] for n in names}, {n: dims[n] for n in names}))
    return log_p - (0.0 if log_q is None else log_q)
