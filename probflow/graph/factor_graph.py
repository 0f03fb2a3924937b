"""The graph of a product of factors: who depends on whom, in which order to sample, what is independent of what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import networkx as nx

from ..errors import ArgumentError, CycleError, DuplicateVariable, UnknownVariable
from ..printing import did_you_mean
from .statement import Statement, whole


class FactorGraph:
    """The directed acyclic graph of p(x|z) p(z) ...: an edge runs from each conditioning variable to each variable.

    Immutable; `factors`, in the author's order, are its only state. Equality and hash are those of `factors`.

    Errors: DuplicateVariable if two factors define one variable; CycleError if variables depend on each other in a
    circle; UnknownVariable wherever a method is asked about a name that does not occur.

    >>> from probflow.graph import parse
    >>> graph = FactorGraph([parse("p(x|z,y)"), parse("p(z)")])
    >>> print(graph)
    p(x,z|y) = p(x|z,y) p(z)
      y (given) --> x
      z         --> x
    >>> graph.var, graph.cond_var, graph.order
    (('x', 'z'), ('y',), (1, 0))
    """

    __slots__ = ("_cond_var", "_factor_of", "_factors", "_graph", "_order", "_separation", "_var")

    def __init__(self, factors: Iterable[Statement]) -> None:
        self._factors = tuple(factors)
        self._factor_of: dict[str, int] = {}
        for index, factor in enumerate(self._factors):
            if not isinstance(factor, Statement):
                raise ArgumentError(f"a FactorGraph is made of Statements, got {type(factor).__name__}: parse(...) makes one.")
            for v in factor.var:
                if v in self._factor_of:
                    raise DuplicateVariable(
                        f"the variable {v!r} is defined by two factors, {self._factors[self._factor_of[v]]} and {factor}.\n"
                        f'A product has one factor per variable. Rename one of them: .replace_var({v}="...").'
                    )
                self._factor_of[v] = index
        self._var = tuple(self._factor_of)
        self._cond_var = tuple(dict.fromkeys(v for f in self._factors for v in f.cond_var if v not in self._factor_of))
        self._graph: nx.DiGraph[str] = nx.DiGraph()
        self._graph.add_nodes_from(self._var + self._cond_var)
        self._graph.add_edges_from((u, v) for f in self._factors for u in f.cond_var for v in f.var)
        self._check_acyclic()
        self._order = self._ancestral_order()
        self._separation: nx.DiGraph[Any] | None = None

    def _check_acyclic(self) -> None:
        if nx.is_directed_acyclic_graph(self._graph):
            return
        circles = [part for part in nx.strongly_connected_components(self._graph) if len(part) > 1]
        start = next(v for v in self._var if any(v in part for part in circles))
        back = (c for c in self._graph.successors(start) if nx.has_path(self._graph, c, start))
        circle = [start, *min((nx.shortest_path(self._graph, c, start) for c in back), key=len)]
        factors = dict.fromkeys(str(self._factors[self._factor_of[v]]) for v in circle)
        raise CycleError(
            f"the variables depend on each other in a circle: {' -> '.join(circle)}.\n"
            f"  factors: {', '.join(factors)}\n"
            "Each variable needs a factor whose conditioning variables can be known before it."
        )

    def _ancestral_order(self) -> tuple[int, ...]:
        order: nx.DiGraph[int] = nx.DiGraph()
        order.add_nodes_from(range(len(self._factors)))
        for index, factor in enumerate(self._factors):
            order.add_edges_from((self._factor_of[v], index) for v in factor.cond_var if v in self._factor_of)
        return tuple(nx.lexicographical_topological_sort(order))  # the smallest index first among ties

    @property
    def factors(self) -> tuple[Statement, ...]:
        """The factors, in the author's order."""
        return self._factors

    @property
    def var(self) -> tuple[str, ...]:
        """The variables that a factor defines, in the author's order."""
        return self._var

    @property
    def cond_var(self) -> tuple[str, ...]:
        """The variables that are only conditioned on, in the author's order."""
        return self._cond_var

    @property
    def order(self) -> tuple[int, ...]:
        """Indices of `factors` such that parents come first (ancestral sampling); the author's order among ties."""
        return self._order

    def factor_of(self, v: str) -> int | None:
        """The index of the factor that defines `v`; None where no factor does."""
        return self._factor_of.get(v)

    def parents(self, v: str) -> tuple[str, ...]:
        """What `v` is directly conditioned on, in the order of its factor."""
        self._known([v])
        index = self._factor_of.get(v)
        return () if index is None else self._factors[index].cond_var

    def children(self, v: str) -> tuple[str, ...]:
        """The variables directly conditioned on `v`, in the author's order."""
        self._known([v])
        return tuple(self._graph.successors(v))

    def leaves(self) -> tuple[str, ...]:
        """The variables on which no other depends, in the author's order."""
        return tuple(v for v in self._var if self._graph.out_degree(v) == 0)

    def ancestors(self, names: str | Iterable[str]) -> frozenset[str]:
        """All variables on which those named depend, directly or not, without those named.

        >>> from probflow.graph import parse
        >>> sorted(FactorGraph(map(parse, ["p(x|z)", "p(z|w)", "p(w)"])).ancestors("x"))
        ['w', 'z']
        """
        given = self._known(names)
        return frozenset().union(*(nx.ancestors(self._graph, v) for v in given)) - given

    def descendants(self, names: str | Iterable[str]) -> frozenset[str]:
        """All variables that depend on those named, directly or not, without those named."""
        given = self._known(names)
        return frozenset().union(*(nx.descendants(self._graph, v) for v in given)) - given

    def needed_for(self, names: str | Iterable[str]) -> tuple[int, ...]:
        """Indices, in the author's order, of the factors that define these variables or their ancestors.

        A factor p(x,y|...) defines both of its variables: it is needed for each.

        >>> from probflow.graph import parse
        >>> FactorGraph(map(parse, ["p(x|z)", "p(z)", "p(w|x)"])).needed_for("x")
        (0, 1)
        """
        needed, waiting = set[int](), sorted(self._known(names))
        while waiting:
            index = self._factor_of.get(waiting.pop())
            if index is not None and index not in needed:
                needed.add(index)
                waiting.extend(self._factors[index].cond_var)
        return tuple(sorted(needed))

    def d_separated(self, a: str | Iterable[str], b: str | Iterable[str], given: str | Iterable[str] = ()) -> bool:
        """Whether the graph alone implies that `a` and `b` are independent given `given`.

        The variables of one factor p(x,y|...) depend on each other. Conditioning variables are roots like any other:
        name them in `given` where they are held fixed. What is in `given` is known, so it is dropped from `a` and `b`;
        a variable left on both sides is not independent of itself.

        Source: Pearl, *Causality*, section 1.2.3.

        >>> from probflow.graph import parse
        >>> graph = FactorGraph(map(parse, ["p(x)", "p(y)", "p(s|x,y)"]))
        >>> graph.d_separated("x", "y"), graph.d_separated("x", "y", given="s")
        (True, False)
        """
        known = self._known(given)
        left, right = self._known(a) - known, self._known(b) - known
        if left & right:
            return False
        if not left or not right:
            return True
        if self._separation is None:
            self._separation = self._with_common_causes()
        return bool(nx.is_d_separator(self._separation, set(left), set(right), set(known)))

    def _with_common_causes(self) -> nx.DiGraph[Any]:
        """The graph with a hidden node for each joint factor: p(x,y|z) is z -> (hidden) -> x and -> y.

        The hidden node is never observed, so x and y stay dependent whatever is given, as in any p(x|z) p(y|x,z).
        """
        graph: nx.DiGraph[Any] = nx.DiGraph()
        graph.add_nodes_from(self._graph)
        for index, factor in enumerate(self._factors):
            if len(factor.var) > 1:
                graph.add_edges_from((u, index) for u in factor.cond_var)  # an int cannot clash with a name
                graph.add_edges_from((index, v) for v in factor.var)
            else:
                graph.add_edges_from((u, v) for u in factor.cond_var for v in factor.var)
        return graph

    def roles(self, observed: str | Iterable[str] = ()) -> dict[str, str]:
        """What each variable is: "conditioned" if no factor defines it, else "observed" or "latent".

        >>> from probflow.graph import parse
        >>> FactorGraph(map(parse, ["p(x|z,y)", "p(z)"])).roles(observed="x")
        {'x': 'observed', 'z': 'latent', 'y': 'conditioned'}
        """
        seen = self._known(observed)
        roles = {v: "observed" if v in seen else "latent" for v in self._var}
        return roles | dict.fromkeys(self._cond_var, "conditioned")

    def rename(self, mapping: Mapping[str, str]) -> FactorGraph:
        """The same graph under other variable names, all replaced at once (so swaps work).

        Names that do not occur are ignored. Errors: DuplicateVariable if two variables would become one.
        """
        source: dict[str, str] = {}
        for v in self._var + self._cond_var:
            new = mapping.get(v, v)
            if new in source:
                raise DuplicateVariable(
                    f"renaming would make {source[new]!r} and {v!r} of {self._formula()} one variable, {new!r}."
                )
            source[new] = v
        return FactorGraph(factor.rename(mapping) for factor in self._factors)

    def product(self, other: FactorGraph) -> FactorGraph:
        """The graph of both sets of factors, those of `self` first. Errors: DuplicateVariable, CycleError."""
        return FactorGraph(self._factors + other.factors)

    def networkx(self) -> nx.DiGraph[str]:
        """A copy of the graph as a networkx object, its nodes the names in the author's order."""
        return self._graph.copy()

    def _known(self, names: str | Iterable[str]) -> frozenset[str]:
        asked = (names,) if isinstance(names, str) else tuple(names)
        if isinstance(names, set | frozenset):
            asked = tuple(sorted(asked))  # so that the name in the error does not depend on PYTHONHASHSEED
        for v in asked:
            if v not in self._graph:
                known = ", ".join(self._var + self._cond_var) or "none"
                raise UnknownVariable(
                    f"{self._formula()} has no variable {v!r}; its variables: {known}."
                    + did_you_mean(str(v), self._var + self._cond_var)
                )
        return frozenset(asked)

    def _formula(self) -> str:
        if not self._factors:
            return "the empty product"
        product = " ".join(map(str, self._factors))
        if len(self._factors) == 1:
            return product
        return f"{whole(self._factors[0].name, self._var, self._cond_var, self._factors)} = {product}"

    def __str__(self) -> str:
        labels = {v: f"{v} (given)" for v in self._cond_var} | {v: v for v in self._var}
        return "\n".join([self._formula(), *arrows({label: self.children(v) for v, label in labels.items()})])

    def __repr__(self) -> str:
        return f"FactorGraph({' '.join(map(str, self._factors))})"

    def __eq__(self, other: object) -> bool:
        return self._factors == other._factors if isinstance(other, FactorGraph) else NotImplemented

    def __hash__(self) -> int:
        return hash((FactorGraph, self._factors))


def arrows(rows: Mapping[str, Sequence[str]]) -> list[str]:
    """A graph as lines of text, ``from --> to, to``; what has no successor has no line.

    >>> arrows({"z": ["x"], "theta": ["x", "y"], "x": []})
    ['  z     --> x', '  theta --> x, y']
    """
    width = max((len(label) for label, to in rows.items() if to), default=0)
    return [f"  {label:<{width}} --> {', '.join(to)}" for label, to in rows.items() if to]
