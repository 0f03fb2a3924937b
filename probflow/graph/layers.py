"""Who stands in which row of a drawing, and in which order: the first two steps of a layered layout.

Source: Sugiyama, Tagawa & Toda, "Methods for visual understanding of hierarchical system structures", 1981.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import networkx as nx

from .picture import Picture

FOREIGN = 1000  # what it costs to stand inside a plate without belonging there, in crossings
SWEEPS = 12
FEW = 40  # up to so many places every one is tried for every node


def rows_of(picture: Picture) -> dict[str, int]:
    """The row of every node, 0 on top: below all of its parents, and no higher above its children than it must.

    Inference edges have no say, except between parts of the drawing that no generative edge connects.

    >>> from probflow.graph import parse
    >>> from probflow.graph.picture import Part, picture_of
    >>> rows_of(picture_of(map(Part, map(parse, ["p(x|z,y)", "p(z)"])), [Part(parse("q(z|x,y)"))]))
    {'x': 1, 'z': 0, 'y': 0}
    """
    order: nx.DiGraph[str] = nx.DiGraph()
    order.add_nodes_from(node.key for node in picture.nodes)
    generative = [edge for edge in picture.edges if not edge.inference]
    together = nx.utils.UnionFind(order)
    for edge in generative:
        _add(order, edge.source, edge.target)
        together.union(edge.source, edge.target)
    for edge in picture.edges:
        if edge.inference and (not generative or together[edge.source] != together[edge.target]):
            above, below = (edge.target, edge.source) if generative else (edge.source, edge.target)
            _add(order, above, below)
            if generative:
                together.union(above, below)
    rows: dict[str, int] = {}
    for key in nx.topological_sort(order):
        rows[key] = max((rows[above] + 1 for above in order.predecessors(key)), default=0)
    for key in reversed(list(nx.topological_sort(order))):
        if order.out_degree(key):
            rows[key] = min(rows[below] for below in order.successors(key)) - 1
    top = min(rows.values(), default=0)
    return {node.key: rows[node.key] - top for node in picture.nodes}


def _add(order: nx.DiGraph[str], above: str, below: str) -> None:
    """The edge, unless it would close a circle (two models of opposite directions)."""
    if above != below and not nx.has_path(order, below, above):
        order.add_edge(above, below)


Rows = list[list[str]]
Segment = tuple[str, str]


def ordered(
    rows: Mapping[str, int], edges: Sequence[Segment], plates: Sequence[frozenset[str]], dummies: frozenset[str] = frozenset()
) -> Rows:
    """Rows from left to right with few crossings: sweeps of barycentres, then every single move that helps.

    edges: pairs in neighbouring rows or in one.  plates: sets that must stand together.  dummies: places that only an edge
    passes, which belong to no plate and disturb none.

    >>> ordered({"a": 0, "b": 0, "c": 1, "d": 1}, [("a", "d"), ("b", "c")], [])
    [['a', 'b'], ['d', 'c']]
    """
    start: Rows = [[] for _ in range(max(rows.values(), default=-1) + 1)]
    for key, row in rows.items():
        start[row].append(key)

    def cost(order: Rows) -> float:
        return crossings(order, rows, edges) + FOREIGN * _intruders(order, plates, dummies)

    best, lowest = start, cost(start)
    near: dict[str, list[str]] = {key: [] for key in rows}
    for u, v in edges:
        near[u].append(v)
        near[v].append(u)
    current = start
    for sweep in range(SWEEPS):
        current = _swept(current, rows, near, downwards=sweep % 2 == 0)
        if (found := cost(current)) < lowest:
            best, lowest = current, found
    return _moved(best, cost) if len(rows) <= FEW and lowest else best


def crossings(order: Rows, rows: Mapping[str, int], edges: Sequence[Segment]) -> float:
    """How many pairs of edges cross; an edge within a row counts 2 for every node that it has to pass."""
    place = {key: index for row in order for index, key in enumerate(row)}
    total = 0.0
    between: dict[int, list[tuple[int, int]]] = {}
    for u, v in edges:
        if rows[u] == rows[v]:
            total += 2 * (abs(place[u] - place[v]) - 1)
        else:
            upper, lower = (u, v) if rows[u] < rows[v] else (v, u)
            between.setdefault(rows[upper], []).append((place[upper], place[lower]))
    for pairs in between.values():
        total += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(pairs, 2))
    return total


def _intruders(order: Rows, plates: Sequence[frozenset[str]], dummies: frozenset[str]) -> int:
    """How often a node stands between the members of a plate, or two plates stand in different order in different rows."""
    count = 0
    for members in plates:
        for row in order:
            places = [index for index, key in enumerate(row) if key in members]
            if places:
                count += sum(key not in members and key not in dummies for key in row[places[0] : places[-1]])
    for one, other in combinations(plates, 2):
        if not one & other:
            sides = {row.index(a) < row.index(b) for row in order for a in one & set(row) for b in other & set(row)}
            count += len(sides) == 2
    return count


def _swept(order: Rows, rows: Mapping[str, int], near: Mapping[str, Sequence[str]], downwards: bool) -> Rows:
    """Every row sorted by the mean place of its neighbours in the row before."""
    new = [list(row) for row in order]
    numbers = range(1, len(new)) if downwards else range(len(new) - 2, -1, -1)
    for number in numbers:
        fixed = number - 1 if downwards else number + 1
        at = {key: index for index, key in enumerate(new[fixed])}
        scale = len(new[fixed]) / max(len(new[number]), 1)

        def middle(key: str, at: dict[str, int] = at, scale: float = scale, number: int = number) -> float:
            found = [at[other] + 0.5 for other in near[key] if other in at]
            return sum(found) / len(found) if found else (new[number].index(key) + 0.5) * scale

        wanted = {key: middle(key) for key in new[number]}
        new[number] = sorted(new[number], key=wanted.__getitem__)
    return new


def _moved(order: Rows, cost: Callable[[Rows], float]) -> Rows:
    """The order after every single move of one node within its row that lowers the cost."""
    best, lowest = order, cost(order)
    improved = True
    while improved and lowest:
        improved = False
        for number, row in enumerate(best):
            for key in row:
                for place in range(len(row)):
                    others = [other for other in best[number] if other != key]
                    tried = [*best[:number], [*others[:place], key, *others[place:]], *best[number + 1 :]]
                    if (found := cost(tried)) < lowest:
                        best, lowest, improved = tried, found, True
    return best
