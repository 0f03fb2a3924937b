"""Bounds on log p(x) beyond the ELBO, as expressions made of logarithms, exponentials and expectations."""

from __future__ import annotations

import math

from probflow.distributions import Distribution
from probflow.errors import LossError
from probflow.losses.arithmetic import Elementwise, Product, Sum
from probflow.losses.estimators import Canonical, EstimatorLike, asked
from probflow.losses.node import Loss, intern
from probflow.losses.probability import ELBO, Expectation, LogProb, check_model
from probflow.losses.scalars import Constant

__all__ = ["ELBO", "IWAE", "Renyi"]


def IWAE(p: Distribution, q: Distribution, samples: int, estimator: EstimatorLike | Canonical = None) -> Loss:
    r"""Importance-weighted bound (Burda et al., arXiv:1509.00519, eq. 8), in nats, shape (batch,):

    .. math:: \mathcal L_K = \mathbb E_{z_1..z_K \sim q}\left[\log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)}\right] \le \log p(x).

    K = 1 is the ELBO; it grows with K, to log p(x).  All samples are computed at once, in log space.  The mean over the K draws is
    printed as such, because the logarithm of an expectation would be log p(x) itself.  estimator: "dreg" keeps the signal of q's
    gradient as K grows (arXiv:1810.04152), "vimco" is for a discrete q; "stl" would be biased.

    Errors: LossError when q is not over variables of p, for samples < 1, and for "stl" with several samples.

    >>> from probflow.distributions import Normal
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    >>> print(IWAE(p, Normal("q(z | x)", loc="x", scale=1.0), samples=5))
    log(1/5 sum_q(z|x)[exp(log p(x,z) - log q(z|x))])
    """
    return _power_mean(p, q, samples, estimator, 1.0, "IWAE")


def Renyi(p: Distribution, q: Distribution, alpha: float, samples: int, estimator: EstimatorLike | Canonical = None) -> Loss:
    r"""Variational Rényi bound (Li & Turner, arXiv:1602.02311, eq. 6 and its Monte Carlo form), in nats, shape (batch,):

    .. math:: \mathcal L_\alpha = \frac{1}{1 - \alpha} \log \mathbb E_q\left[\left(\frac{p(x, z)}{q(z \mid x)}\right)^{1 - \alpha}\right].

    alpha = 1 is its limit, the ELBO; alpha = 0 is IWAE; it falls as alpha grows.  Below 0 it is an upper bound on log p(x), which a
    finite number of samples estimates from below.

    Errors: as for `IWAE`; LossError where alpha is no finite number.

    >>> from probflow.distributions import Normal
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    >>> print(Renyi(p, Normal("q(z | x)", loc="x", scale=1.0), alpha=0.5, samples=5))
    2 * log(1/5 sum_q(z|x)[exp(0.5 * (log p(x,z) - log q(z|x)))])
    """
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise LossError(f"Renyi takes a finite number alpha, got {alpha!r}.\nalpha=1 is the ELBO, alpha=0 is IWAE.")
    if alpha == 1:
        check_model(p, q, "Renyi")
        return ELBO(p, q, _count(samples, "Renyi"), estimator)
    return _power_mean(p, q, samples, estimator, 1.0 - alpha, "Renyi")


def _power_mean(
    p: Distribution, q: Distribution, samples: int, estimator: EstimatorLike | Canonical, power: float, who: str
) -> Loss:
    """1/c log E_q[exp(c (log p - log q))]."""
    check_model(p, q, who)
    count = _count(samples, who)
    ratio: Loss = intern(Sum, (1, -1), (LogProb(p), LogProb(q)))
    body = ratio if power == 1 else intern(Product, (Constant(power), ratio))
    inside = Expectation(q, Elementwise("exp", body), count, estimator)
    if count > 1 and any(getattr(asked(inside.estimator, (name,)), "name", "") == "stl" for name in q.var):
        raise LossError(
            f"{who}(..., samples={count}, estimator='stl') is biased.\nAsk for 'dreg', the same idea without the bias."
        )
    bound = Elementwise("log", inside)
    return bound if power == 1 else intern(Product, (Constant(1 / power), bound))


def _count(samples: int, who: str) -> int:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise LossError(f"{who}(..., samples=K) takes a positive number of samples, got {samples!r}.")
    return samples
