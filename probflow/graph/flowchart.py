"""Where the boxes of a data-flow chart go: inputs on top, every box below what it uses, in points from the upper left corner."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import networkx as nx

from .curves import Curve, Point
from .layers import ordered
from .spacing import Gap, spread

BESIDE, BETWEEN, DUMMY, MARGIN = 16.0, 26.0, 5.0, 4.0
HEAD = 6.0


@dataclass(frozen=True)
class Chart:
    """Centres of boxes, curves with the tips of their arrows, and the size of the whole; y points down."""

    places: Mapping[Any, Point]
    curves: Mapping[tuple[Any, Any], tuple[Curve, Point]]
    width: float
    height: float


def flowchart(graph: nx.DiGraph[Any], sizes: Mapping[Any, tuple[float, float]]) -> Chart:
    """The layered drawing of an acyclic graph whose nodes are boxes of `sizes` (width, height).

    >>> import networkx as nx
    >>> chart = flowchart(nx.DiGraph([("x", 1), (1, 2)]), {"x": (20, 10), 1: (40, 10), 2: (40, 10)})
    >>> [round(chart.places[node][1]) for node in ("x", 1, 2)]
    [9, 45, 81]
    """
    keys: dict[Any, str] = {node: f"{place}" for place, node in enumerate(graph)}
    rows = _rows(graph, keys)
    places, segments, chains = dict(rows), [], {}
    for u, v in graph.edges:
        chain = [f"{keys[u]}\n{keys[v]}\n{row}" for row in range(rows[keys[u]] + 1, rows[keys[v]])]
        places.update({key: rows[keys[u]] + 1 + index for index, key in enumerate(chain)})
        segments += list(zip([keys[u], *chain], [*chain, keys[v]], strict=True))
        chains[u, v] = chain
    order = ordered(places, segments, [], frozenset(places) - frozenset(rows))
    half = {keys[node]: sizes[node][0] / 2 for node in graph}
    near: dict[str, list[str]] = {key: [] for key in places}
    for a, b in segments:
        near[a].append(b)
        near[b].append(a)
    gaps: list[Gap] = [
        (left, right, half.get(left, DUMMY) + half.get(right, DUMMY) + BESIDE) for row in order for left, right in pairwise(row)
    ]
    x = spread(list(places), near, gaps)
    tall = [max((sizes[node][1] for node in graph if rows[keys[node]] == row), default=0.0) for row in range(len(order))]
    y = [sum(tall[:row]) + BETWEEN * row + tall[row] / 2 for row in range(len(order))]
    left = min((x[keys[node]] - sizes[node][0] / 2 for node in graph), default=0.0)
    left = min(left, *(x[key] for key in places), 0.0 if not places else left)

    def at(key: str) -> Point:
        return x[key] - left + MARGIN, y[places[key]] + MARGIN

    boxes = {node: at(keys[node]) for node in graph}
    sides = {
        (u, v): [(at(chains[u, v][-end]) if chains[u, v] else boxes[(v, u)[end]])[0] for end in (0, 1)] for u, v in graph.edges
    }
    ports = _ports(graph, boxes, sizes, sides)
    curves = {}
    for u, v in graph.edges:
        start = (ports[u, v][0], boxes[u][1] + sizes[u][1] / 2)
        tip = (ports[u, v][1], boxes[v][1] - sizes[v][1] / 2)
        middle = [(at(key)[0], at(key)[1] + share * tall[places[key]]) for key in chains[u, v] for share in (-0.5, 0.5)]
        curves[u, v] = (_falling([start, *middle, (tip[0], tip[1] - HEAD)]), tip)
    right = max((x[keys[node]] + sizes[node][0] / 2 for node in graph), default=0.0)
    right = max([right, *x.values()])
    return Chart(boxes, curves, right - left + 2 * MARGIN, sum(tall) + BETWEEN * (len(tall) - 1) + 2 * MARGIN)


def _rows(graph: nx.DiGraph[Any], keys: Mapping[Hashable, str]) -> dict[str, int]:
    """The row of each node: one below the lowest of what it uses; inputs as low as their first use lets them."""
    rows: dict[str, int] = {}
    for node in nx.topological_sort(graph):
        rows[keys[node]] = max((rows[keys[above]] + 1 for above in graph.predecessors(node)), default=0)
    for node in reversed(list(nx.topological_sort(graph))):
        if not graph.in_degree(node) and graph.out_degree(node):
            rows[keys[node]] = min(rows[keys[below]] for below in graph.successors(node)) - 1
    top = min(rows.values(), default=0)
    return {keys[node]: rows[keys[node]] - top for node in graph}


def _falling(points: list[Point]) -> Curve:
    """A curve from top to bottom through points, vertical in each of them."""
    curve: Curve = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        half = (y1 - y0) * 0.5
        curve += [(x0, y0 + half), (x1, y1 - half), (x1, y1)]
    return curve


def _ports(
    graph: nx.DiGraph[Any],
    boxes: Mapping[Any, Point],
    sizes: Mapping[Any, tuple[float, float]],
    sides: Mapping[tuple[Any, Any], list[float]],
) -> dict[tuple[Any, Any], tuple[float, float]]:
    """Where every edge leaves and reaches its boxes, from left to right as they come (`sides`: where each goes, comes from)."""
    ports: dict[tuple[Any, Any], list[float]] = {edge: [0.0, 0.0] for edge in graph.edges}
    for node in graph:
        for end, edges in ((0, list(graph.out_edges(node))), (1, list(graph.in_edges(node)))):
            edges.sort(key=lambda edge, end=end: sides[edge][end])  # type: ignore[misc]
            room = min(sizes[node][0] - 12.0, 16.0 * (len(edges) - 1))
            for place, edge in enumerate(edges):
                share = place / (len(edges) - 1) - 0.5 if len(edges) > 1 else 0.0
                ports[edge][end] = boxes[node][0] + share * room
    return {edge: (both[0], both[1]) for edge, both in ports.items()}
