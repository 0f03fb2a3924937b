"""Where the nodes of ordered rows stand from left to right: close to their neighbours, and never closer than they may."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import networkx as nx

from ..errors import ArgumentError

ROUNDS = 60
CORRECTIONS = 25
STEP = 0.6
BACKBONE = 3.0

Gap = tuple[str, str, float]
"""The second stands at least so far to the right of the first."""


def spread(keys: Sequence[str], near: Mapping[str, Sequence[str]], gaps: Sequence[Gap]) -> dict[str, float]:
    """Places that draw every key to the middle of those it is connected with, while all gaps are kept.

    Gaps may name other things than `keys`, such as the side of a box that keys stand in or out of.

    Errors: ArgumentError where the gaps contradict each other.

    >>> places = spread(["a", "b", "c"], {"c": ["a", "b"]}, [("a", "b", 10.0)])
    >>> round(places["b"] - places["a"], 6), round(places["c"] - places["a"], 3)
    (10.0, 5.0)
    """
    gaps = [(left, right, gap) for (left, right), gap in _direct(keys, gaps).items()]
    order = _order(keys, gaps)
    x = dict.fromkeys(keys, 0.0)
    _enforce(x, order, gaps)
    _centre(x)
    for _ in range(ROUNDS):
        wanted = {key: sum(x[other] for other in near[key]) / len(near[key]) for key in keys if near.get(key)}
        for key, to in wanted.items():
            x[key] += STEP * (to - x[key])
        for _ in range(CORRECTIONS):
            moved = False
            for left, right, gap in gaps:
                lacking = gap - (x[right] - x[left])
                if lacking > 1e-9:
                    x[left] -= lacking / 2
                    x[right] += lacking / 2
                    moved = True
            if not moved:
                break
    _enforce(x, order, gaps)
    _aligned(x, near, order, gaps)
    return x


def _direct(keys: Sequence[str], gaps: Sequence[Gap]) -> dict[tuple[str, str], float]:
    """The gaps between `keys`: what follows from gaps to anything else (the sides of boxes) is said directly."""
    known = set(keys)
    after: dict[str, list[tuple[str, float]]] = {}
    for left, right, gap in gaps:
        after.setdefault(left, []).append((right, gap))
    _order([*known, *({end for gap in gaps for end in gap[:2]} - known)], gaps)  # no circles
    found: dict[tuple[str, str], float] = {}
    for key in keys:
        waiting = list(after.get(key, ()))
        while waiting:
            reached, total = waiting.pop()
            if reached in known:
                found[key, reached] = max(total, found.get((key, reached), 0.0))
            else:
                waiting += [(further, total + gap) for further, gap in after.get(reached, ())]
    return found


def _aligned(x: dict[str, float], near: Mapping[str, Sequence[str]], order: Sequence[str], gaps: Sequence[Gap]) -> None:
    """Small slants are taken out: columns of connected nodes move as one, where the sum of all offsets becomes less.

    What is in the way is pushed aside.  An edge between two nodes that lead on counts more than one to a leaf.
    """
    edges = {(u, v): BACKBONE if min(len(near[u]), len(near[v])) > 1 else 1.0 for u in near for v in near[u] if u < v}
    for _ in range(3 * len(x)):
        moved = next((found for column in _columns(x, edges) for found in _moves(x, column, edges, order, gaps)), None)
        if moved is None:
            return
        x.update(moved)


def _moves(
    x: Mapping[str, float], column: set[str], edges: Mapping[tuple[str, str], float], order: Sequence[str], gaps: Sequence[Gap]
) -> Iterator[dict[str, float]]:
    """Places with the column under one of its neighbours, or as near to it as the others let it, that are better."""
    shifts = sorted({x[v] - x[u] for e in edges for u, v in (e, e[::-1]) if u in column and v not in column}, key=abs)
    before = _offsets(x, edges)
    for shift in shifts:
        free = [
            abs(x[right] - x[left]) - gap for left, right, gap in gaps if (left if shift > 0 else right) in column
            and (right if shift > 0 else left) not in column
        ]  # fmt: skip
        for part in {shift, math.copysign(min([abs(shift), *(max(room, 0.0) for room in free)]), shift)}:
            tried = {key: place + part * (key in column) for key, place in x.items()}
            _push(tried, order, gaps, rightwards=part > 0)
            if _offsets(tried, edges) < before - 1e-6:
                yield tried


def _push(x: dict[str, float], order: Sequence[str], gaps: Sequence[Gap], rightwards: bool) -> None:
    """Whatever is too close on one side is moved on."""
    place = {key: index for index, key in enumerate(order)}
    if rightwards:
        for left, right, gap in sorted(gaps, key=lambda g: place[g[0]]):
            x[right] = max(x[right], x[left] + gap)
    else:
        for left, right, gap in sorted(gaps, key=lambda g: -place[g[1]]):
            x[left] = min(x[left], x[right] - gap)


def _offsets(x: Mapping[str, float], edges: Mapping[tuple[str, str], float]) -> float:
    return sum(weight * abs(x[u] - x[v]) for (u, v), weight in edges.items())


def _columns(x: Mapping[str, float], edges: Mapping[tuple[str, str], float]) -> list[set[str]]:
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(x)
    graph.add_edges_from(edge for edge in edges if abs(x[edge[0]] - x[edge[1]]) < 1e-6)
    return list(nx.connected_components(graph))


def _order(keys: Sequence[str], gaps: Sequence[Gap]) -> list[str]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(keys)
    graph.add_edges_from((left, right) for left, right, _ in gaps)
    try:
        return list(nx.topological_sort(graph))
    except nx.NetworkXUnfeasible:
        raise ArgumentError(
            "these plates cannot be drawn as boxes that hold their variables and no others.\n"
            "Draw fewer of them, or let one hold the other."
        ) from None


def _enforce(x: dict[str, float], order: Sequence[str], gaps: Sequence[Gap]) -> None:
    """Whatever gap is still too small is made wide enough, from left to right."""
    to_the_left: dict[str, list[tuple[str, float]]] = {}
    for left, right, gap in gaps:
        to_the_left.setdefault(right, []).append((left, gap))
    for key in order:
        for left, gap in to_the_left.get(key, ()):
            x[key] = max(x[key], x[left] + gap)


def _centre(x: dict[str, float]) -> None:
    middle = (min(x.values(), default=0.0) + max(x.values(), default=0.0)) / 2
    for key in x:
        x[key] -= middle
