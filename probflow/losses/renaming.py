"""A loss under other variable names: the same factors, functions and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import singledispatch
from typing import Any

from probflow._typing import Names
from probflow.distributions import Distribution, Factor
from probflow.distributions.joint import product
from probflow.distributions.renamed import rename
from probflow.distributions.values import check_unknown
from probflow.errors import ArgumentError, DuplicateVariable
from probflow.graph import names
from probflow.losses.estimators import Canonical, Score, canonical
from probflow.losses.free import named_distributions
from probflow.losses.node import Loss, intern, walk
from probflow.losses.probability import Expectation
from probflow.losses.scalars import Function, Parameter


def replace_var(loss: Loss, mapping: Mapping[str, str] | None, renames: Mapping[str, str]) -> Loss:
    """`loss` with its variables renamed, all at once; those that an expectation draws are variables like the others.

    Errors: UnknownVariable for a name that does not occur, DuplicateVariable where two variables would become one.
    """
    what = f"replace_var: {loss}"
    if mapping is not None and not isinstance(mapping, Mapping):
        raise ArgumentError(f'{what}: write loss.replace_var(x="x_u"), or give a dict, got a {type(mapping).__name__}.')
    table = {**(mapping or {}), **renames}
    known = every_name(loss)
    check_unknown(table, known, what)
    for old, new in table.items():
        if not isinstance(new, str):
            raise ArgumentError(f"{what}: the new name of {old!r} must be a string, got {new!r}.")
        names(new, what)
    after: dict[str, str] = {}
    for name in known:
        new = table.get(name, name)
        if new in after:
            raise DuplicateVariable(
                f"{what}: {after[new]!r} and {name!r} would become one variable, {new!r}.\n"
                f"  its variables: {', '.join(known)}\n"
                "Choose a name that is free, or rename both; swaps are allowed."
            )
        after[new] = name
    return _Renaming(table)(loss)


def every_name(loss: Loss) -> Names:
    """All variables that occur in `loss`, free or drawn, in order of appearance."""
    found: dict[str, None] = {}
    for p in named_distributions(loss):
        found.update(dict.fromkeys(p.var + p.cond_var))
    for node in walk(loss):
        if isinstance(node, Parameter):
            found[node.name] = None
        elif isinstance(node, Function):
            found.update(dict.fromkeys(node.variables))
    return tuple(found)


class _Renaming:
    """Renames the nodes, distributions and factors of one loss, each once: what was one object is one object afterwards."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self.table = table
        self.done: dict[int, Any] = {}

    def __call__(self, part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(map(self, part))
        if not isinstance(part, (Loss, Distribution)):
            return part
        found = self.done.get(id(part))
        if found is None:
            found = self.done[id(part)] = renamed(part, self)
        return found

    def names(self, old: Names) -> Names:
        return tuple(self.table.get(name, name) for name in old)


@singledispatch
def renamed(part: Any, new: _Renaming) -> Any:
    """`part` of a loss, with `new` names; a node is rebuilt from its fields."""
    return intern(type(part), *(new(getattr(part, name)) for name in type(part).fields))


@renamed.register
def _(part: Parameter, new: _Renaming) -> Loss:
    return Parameter(*new.names((part.name,)))


@renamed.register
def _(part: Function, new: _Renaming) -> Loss:
    return Function(part.function, new.names(part.variables), part.name)


@renamed.register
def _(part: Expectation, new: _Renaming) -> Loss:
    return Expectation(new(part.q), new(part.f), part.sample_shape, _estimator(part.estimator, part.q.var, new))


@renamed.register
def _(part: Distribution, new: _Renaming) -> Distribution:
    factors = new(part.factors)
    return part if factors == part.factors else product(factors)


@renamed.register
def _(part: Factor, new: _Renaming) -> Distribution:
    return rename(part, new.table)


def _estimator(how: Canonical, var: Names, new: _Renaming) -> Canonical:
    """What was asked for, with the names of variables and baselines."""
    if isinstance(how, tuple):
        return canonical({new.names((name,))[0]: _estimator(one, var, new) for name, one in how}, new.names(var), "replace_var")
    if isinstance(how, Score) and isinstance(how.baseline, Function):
        return replace(how, baseline=new(how.baseline))
    return how
