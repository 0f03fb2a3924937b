"""What is drawn of a distribution: its factors, and what stands behind some of them."""

from __future__ import annotations

from functools import singledispatch

from probflow.distributions.base import Distribution, Factor
from probflow.distributions.deterministic import Deterministic
from probflow.distributions.empirical import EmpiricalDistribution
from probflow.distributions.flow import Flow
from probflow.distributions.given import Given
from probflow.distributions.marginal import Marginal
from probflow.distributions.mixture import MixtureModel
from probflow.distributions.renamed import Renamed
from probflow.graph import Statement
from probflow.graph.picture import Part, Picture, picture_of


def is_inference(p: Distribution) -> bool:
    """Whether a factor belongs to the inference model: it is named q, as in ``q(z|x)``, ``q_phi(z|x)``."""
    return p.name == "q" or p.name.startswith("q_")


def picture(p: Distribution) -> Picture:
    """The drawing of one distribution.

    >>> from probflow.distributions import Normal
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    >>> [(edge.source, edge.target) for edge in picture(p).edges]
    [('z', 'x')]
    """
    inference = [part for factor in p.factors if is_inference(factor) for part in parts(factor)]
    return picture_of([part for factor in p.factors if not is_inference(factor) for part in parts(factor)], inference)


@singledispatch
def parts(factor: Factor) -> list[Part]:
    """A factor as it is drawn: usually its statement."""
    return [Part(factor.statement)]


@parts.register
def _(factor: Deterministic) -> list[Part]:
    return [Part(factor.statement, deterministic=True)]


@parts.register
def _(factor: EmpiricalDistribution) -> list[Part]:
    return [Part(factor.statement, roles=dict.fromkeys(factor.var, "observed"))]


@parts.register
def _(factor: Renamed) -> list[Part]:
    old, new = factor.origin.statement, factor.statement
    table = dict(zip(old.var + old.cond_var, new.var + new.cond_var, strict=True))
    return [part.rename(table) for part in parts(factor.origin)]


@parts.register
def _(factor: Given) -> list[Part]:
    """All edges of the factor; what is fixed keeps its place, an observed variable is shaded."""
    observed = {name: "observed" for name in factor.factor.var if name not in factor.var}
    return [
        Part(p.statement, p.deterministic, {**p.roles, **observed}, p.local, p.owner)  # type: ignore[dict-item]
        for p in parts(factor.factor)
    ]


@parts.register
def _(factor: Marginal) -> list[Part]:
    """The joint, with what was integrated out dotted."""
    gone = dict.fromkeys(factor.gone, "summed")
    return [
        Part(p.statement, p.deterministic, {**p.roles, **gone}, p.local | frozenset(factor.gone), id(factor))  # type: ignore[dict-item]
        for inner in factor.joint.factors
        for p in parts(inner)
    ]


@parts.register
def _(factor: MixtureModel) -> list[Part]:
    """The index, summed out, and the variable that it chooses the component of."""
    prior, index = factor._prior.statement, factor.hidden_var
    conditions = dict.fromkeys(n for component in factor.distributions for n in component.cond_var)
    chosen = Statement(factor.name, factor.var, (*index, *(n for n in conditions if n not in index)))
    local, owner = frozenset(index), id(factor)
    return [Part(chosen, False, {}, local, owner), Part(prior, False, dict.fromkeys(index, "summed"), local, owner)]


@parts.register
def _(factor: Flow) -> list[Part]:
    """The noise, and the variable as a deterministic function of it."""
    base = factor.base.statement
    conditions = tuple(n for n in factor._context if n not in base.var)
    noise = frozenset(base.var)
    taken = set(factor.var + factor.cond_var) & noise
    if taken:  # the base is called as the flow is: one variable in the statement, so one in the drawing
        return [Part(factor.statement, deterministic=False)]
    moved = Part(Statement(factor.name, factor.var, base.var + conditions), True, {}, noise, id(factor))
    return [moved, Part(base, False, {}, noise, id(factor))]
