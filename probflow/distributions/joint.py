"""Products of distributions: p(x|z) p(z) = p(x,z)."""

from __future__ import annotations

import weakref

from probflow._typing import Names
from probflow.distributions.base import Distribution, Factor
from probflow.errors import ArgumentError
from probflow.graph import FactorGraph, Statement
from probflow.graph.statement import whole


def product(factors: tuple[Factor, ...]) -> Distribution:
    """The product of factors; a single factor is itself."""
    return factors[0] if len(factors) == 1 else Joint(factors)


def part(factors: tuple[Factor, ...]) -> Distribution:
    """The same, one object for the same factors: a part of a product is met again wherever the product is rewritten."""
    if len(factors) == 1:
        return factors[0]
    key = tuple(map(id, factors))
    found = _PARTS.get(key)
    if found is None:
        found = _PARTS[key] = Joint(factors)
    return found


class Joint(Distribution):
    r"""A product of factors, :math:`p(x, z) = p(x \mid z)\,p(z)`.  Its factors are its only state.

    Errors: DuplicateVariable, CycleError at construction.  The weights are stored once per network, under keys that do not
    depend on the order of the product.

    >>> import probflow as pf
    >>> p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
    >>> print(type(p).__name__, p.statement, [str(factor.statement) for factor in p.factors])
    Joint p(x,z) ['p(x|z)', 'p(z)']
    """

    def __init__(self, factors: tuple[Factor, ...]) -> None:
        super().__init__()
        for factor in factors:
            if not isinstance(factor, Factor):
                raise ArgumentError(f"A product is made of distributions, got a {type(factor).__name__}.")
        self._graph = FactorGraph(factor.statement for factor in factors)
        self._factors = factors
        owners: dict[str, Factor] = {}
        for factor in sorted(factors, key=lambda f: str(f.statement)):
            if all(factor.origin is not other for other in owners.values()):
                label = str(factor.statement)  # two observed factors may read the same, p(x=x*|z)
                alike = sum(name == label or name.startswith(label + "#") for name in owners)
                owners[f"{label}#{alike + 1}" if alike else label] = factor.origin
        for label, origin in owners.items():
            self.add_module(label, origin)

    @property
    def factors(self) -> tuple[Factor, ...]:
        return self._factors

    @property
    def graph(self) -> FactorGraph:
        return self._graph

    def _for(self, known: frozenset[str]) -> Distribution:
        parts = [factor._for(known | frozenset(self.var)) for factor in self._factors]
        if all(part is factor for part, factor in zip(parts, self._factors, strict=True)):
            return self
        return product(tuple(factor for part in parts for factor in part.factors))

    @property
    def statement(self) -> Statement:
        name = joint_name(tuple(f.name for f in self._factors))
        return whole(name, self.var, self.cond_var, (f.statement for f in self._factors))


_PARTS: weakref.WeakValueDictionary[tuple[int, ...], Joint] = weakref.WeakValueDictionary()
"""By the identity of their factors, which live as long as the product does."""


def joint_name(names: Names) -> str:
    """The common name; ``p`` and ``p_{prior}`` share the letter p; else the names in a row."""
    unique = list(dict.fromkeys(names))
    if len(unique) == 1:
        return unique[0]
    letters = list(dict.fromkeys(name.split("_")[0] for name in unique))
    return letters[0] if len(letters) == 1 else "".join(unique)
