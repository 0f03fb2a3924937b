"""A default estimator for a whole loss."""

from __future__ import annotations

from collections.abc import Mapping

from probflow.errors import LossError
from probflow.losses.estimators import EstimatorLike, canonical
from probflow.losses.node import Loss, children, walk, with_children
from probflow.losses.probability import Expectation
from probflow.printing import did_you_mean


def with_estimator(loss: Loss, estimator: EstimatorLike) -> Loss:
    """`loss`, rebuilt: every expectation that has no estimator of its own gets this one.

    A dict {variable: estimator} reaches the expectations that draw one of these variables.  As wherever an estimator is asked for, such
    an expectation is computed by sampling or summing, as typed, not by a closed form; ``KL(q, p)`` and ``Entropy(p)`` are no
    expectations, and stay as they are.

    Errors: LossError where there is no expectation to give it to.

    >>> from probflow.distributions import Normal
    >>> from probflow.losses import ELBO
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    >>> loss = -ELBO(p, Normal("q(z | x)", loc="x", scale=1.0)).mean()
    >>> "sticking the landing" in str(with_estimator(loss, "stl").plan())
    True
    """
    if not isinstance(loss, Loss):
        raise LossError(f"with_estimator takes a loss first, got a {type(loss).__name__}.")
    if estimator is None:
        raise LossError('with_estimator takes an estimator, such as "score".')
    drawn = tuple(dict.fromkeys(n for node in walk(loss) if isinstance(node, Expectation) for n in node.q.var))
    if not drawn:
        raise LossError(f"{loss} has no expectation, so an estimator has nothing to do there.")
    unknown = [name for name in estimator if name not in drawn] if isinstance(estimator, Mapping) else []
    if unknown:
        raise LossError(
            f"{loss} draws {', '.join(drawn)}, not {unknown[0]!r}, so estimator={{{unknown[0]!r}: ...}} chooses nothing."
            f"{did_you_mean(str(unknown[0]), drawn)}"
        )
    return _rebuilt(loss, estimator)


def _rebuilt(node: Loss, estimator: EstimatorLike) -> Loss:
    below = children(node)
    new = with_children(node, [_rebuilt(child, estimator) for child in below]) if below else node
    if not isinstance(new, Expectation) or new.estimator is not None:
        return new
    if isinstance(estimator, Mapping):
        estimator = {name: how for name, how in estimator.items() if name in new.q.var}
        if not estimator:
            return new
    return Expectation(new.q, new.f, new.sample_shape, canonical(estimator, new.q.var, f"E_{new.q.statement}"))
