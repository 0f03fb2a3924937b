"""What is drawn of a loss: its generative and its inference model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from probflow.distributions import Factor
from probflow.distributions.drawing import is_inference, parts
from probflow.graph.picture import Picture, picture_of
from probflow.losses.free import free_variables, named_distributions
from probflow.losses.node import Loss, walk
from probflow.losses.probability import CrossEntropy, Expectation, KullbackLeibler


def picture(
    loss: Loss, observed: str | Iterable[str] = (), plates: Mapping[str, str | Iterable[str]] | None = None
) -> Picture | None:
    """The drawing of a loss; None where it has no distribution.

    What the loss needs from the data is shaded; by half, where another part of the loss draws it from the inference model (a
    label that is known for some of the data).

    >>> from probflow.distributions import Normal
    >>> from probflow.losses import ELBO
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    >>> drawn = picture(ELBO(p, Normal("q(z | x)", loc="x", scale=1.0)))
    >>> [(node.name, node.role) for node in drawn.nodes], [edge.inference for edge in drawn.edges]
    ([('x', 'observed'), ('z', 'latent')], [False, True])
    """
    generative, inference = models(loss)
    if not generative and not inference:
        return None
    drawn = [[part for factor in model for part in parts(factor)] for model in (generative, inference)]
    free = free_variables(loss)
    guessed = {name for q in _sampled(loss) if q in inference for name in q.var}
    return picture_of(drawn[0], drawn[1], observed, plates, free, [name for name in free if name in guessed], merge=True)


def models(loss: Loss) -> tuple[list[Factor], list[Factor]]:
    """The factors of the generative and of the inference model, each once.

    Those named q are inference.  So is, where the names do not say it, what the loss takes expectations under, if another
    factor gives the same variable a density.
    """
    factors = list({_identity(f): f for p in named_distributions(loss) for f in p.factors}.values())
    if any(map(is_inference, factors)):
        return [f for f in factors if not is_inference(f)], [f for f in factors if is_inference(f)]
    drawn = {_identity(f) for p in _sampled(loss) for f in p.factors}
    others = {name for f in factors if _identity(f) not in drawn for name in f.var}
    inference = [f for f in factors if _identity(f) in drawn and f.cond_var and set(f.var) & others]
    return [f for f in factors if f not in inference], inference


def _sampled(loss: Loss) -> list[Factor]:
    found: list[Factor] = []
    for node in walk(loss):
        if isinstance(node, (Expectation, KullbackLeibler, CrossEntropy)):
            found += node.q.factors
    return found


def _identity(factor: Factor) -> tuple[object, int]:
    return factor.statement, id(factor.origin)
