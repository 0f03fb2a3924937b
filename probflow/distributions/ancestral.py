"""Ancestral sampling: parents before children."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from probflow._typing import Shape, Values
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.diagnose import of_a_draw
from probflow.distributions.shapes import broadcast
from probflow.distributions.values import Samples
from probflow.errors import ArgumentError, NetworkError


def ancestral(
    p: Distribution,
    known: Values,
    leads: Mapping[str, int],
    batch: int,
    sample_shape: Shape,
    reparam: bool,
    use_mean: bool,
) -> Samples:
    """All variables of `p`: those of `known` kept, the others drawn in topological order."""
    values, dims = dict(known), dict(leads)
    base: Shape = ()
    for name, value in known.items():  # sample dimensions that the given values already have
        base = broadcast(base, value.shape[: leads[name]])
    order = p.graph.order if len(p.factors) > 1 else (0,)
    to_draw = [p.factors[i] for i in order if not all(v in known for v in p.factors[i].var)]
    to_draw = [factor for factor in to_draw if factor.var]
    for factor in p.factors:
        factor.check_sampler() if factor in to_draw or not factor.var else None
    drawn: set[str] = set()
    for factor in to_draw:
        _check_drawable(factor, known, reparam)
        try:
            bound = factor.bind([values[n] for n in factor.cond_var], [dims[n] for n in factor.cond_var])
        except NetworkError as error:
            raise of_a_draw(error, to_draw) from error.__cause__
        if use_mean:
            outcome, lead = _means(bound.mean(), bound.lead, batch), bound.lead
        else:
            from_drawn = any(n in drawn for n in factor.cond_var)
            missing = () if from_drawn else sample_shape + base[: len(base) - bound.lead]
            outcome, lead = bound.draw(missing, batch, reparam), len(missing) + bound.lead
        for name, value in zip(factor.var, outcome, strict=True):
            values[name], dims[name] = value, lead
            drawn.add(name)
    return Samples(values, dims)


def _means(means: tuple[Tensor, ...], lead: int, batch: int) -> tuple[Tensor, ...]:
    return tuple(m.expand(*m.shape[:lead], batch, *m.shape[lead + 1 :]) if m.shape[lead] != batch else m for m in means)


def _check_drawable(factor: Factor, known: Values, reparam: bool) -> None:
    given = [v for v in factor.var if v in known]
    if given:
        raise ArgumentError(
            f"{factor.statement}: {', '.join(given)} is given, but this factor draws {', '.join(factor.var)} together.\n"
            "Give all of them, or none."
        )
    if reparam and not factor.reparameterised:
        raise ArgumentError(
            f"{factor.statement} ({type(factor.origin).__name__}) has no reparameterised draw: reparam=True is in vain.\n"
            f"Use an expectation, which finds an unbiased gradient: E({factor.name})[...]."
        )
