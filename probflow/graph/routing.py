"""Which way an arrow takes: straight where that is free, else the smoothest curve that keeps clear of other circles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .curves import CLEARANCE, Circle, Curve, Point, arc, clearance, distance, samples, through
from .picture import Edge

BENDS = (0.0, 0.14, 0.24, 0.36, 0.5, 0.7, 0.95, 1.3)
TWINS = (9.0, 14.0)  # how far, in points, each of two arrows between the same circles is bent aside
NEAR = 7.0  # two arrows closer than this look like one
CURVED, PASSING = 6.0, 6.0  # the price of a bend, and of a way through the rows between


class Way(NamedTuple):
    """A curve, what it costs, and on which side of the straight line it lies: 1 is left of the upper end's view of the lower."""

    price: float
    side: int
    curve: Curve


def routed(
    edges: Sequence[Edge], circles: Mapping[str, Circle], vias: Mapping[tuple[str, str], Sequence[Point]]
) -> list[Curve]:
    """A curve from centre to centre for every edge, in their order.

    vias: places that are kept free for an edge over several rows, by (upper node, lower node), from top to bottom.
    """
    together: dict[frozenset[str], list[int]] = {}
    for edge in edges:
        together.setdefault(frozenset((edge.source, edge.target)), [])
    count = {pair: sum(pair == {edge.source, edge.target} for edge in edges) for pair in together}
    done: list[Curve] = []
    laid: list[tuple[Edge, list[Point]]] = []
    for edge in edges:
        pair = frozenset((edge.source, edge.target))
        taken = together[pair]
        ways = sorted(_ways(edge, circles, vias, count[pair] > 1), key=lambda way: way.price)
        if len(taken) == 1:  # the second of two goes on the other side
            ways = [way for way in ways if way.side != taken[0]] or ways
        best = min(ways, key=lambda way: way.price + _troubles(edge, way.curve, circles, laid))
        taken.append(best.side)
        done.append(best.curve)
        laid.append((edge, samples(best.curve, 12)))
    return done


def _ways(edge: Edge, circles: Mapping[str, Circle], vias: Mapping[tuple[str, str], Sequence[Point]], twin: bool) -> list[Way]:
    start, end = circles[edge.source][:2], circles[edge.target][:2]
    if edge.source == edge.target:
        return [Way(0.0, 1, _loop(circles[edge.source]))]
    turn = 1 if edge.source < edge.target else -1
    bends = _bends(distance(start, (*end, 0.0)), twin)
    ways = [Way(CURVED * abs(bend), turn if bend > 0 else -turn, arc(start, end, bend)) for bend in bends]
    for key, points in vias.items():
        if set(key) == {edge.source, edge.target}:
            down = key[0] == edge.source
            for side in (1, -1) if twin else (0,):
                middle = [(x + TWINS[0] * side, y) for x, y in (points if down else reversed(points))]
                left = side * (1 if down else -1) * turn
                ways.append(Way(PASSING, left, through([start, *middle, end])))
    return ways


def _bends(length: float, twin: bool) -> list[float]:
    sizes: tuple[float, ...] = BENDS
    if twin:
        least = [2 * aside / max(length, 1.0) for aside in TWINS]
        sizes = (*least, *(bend for bend in BENDS if bend > least[-1]))
    return [sign * bend for bend in sizes for sign in ((1, -1) if bend else (1,))]


def _troubles(edge: Edge, curve: Curve, circles: Mapping[str, Circle], laid: Sequence[tuple[Edge, list[Point]]]) -> float:
    """What speaks against a curve: circles in its way, other arrows along it."""
    ends = (edge.source, edge.target)
    foreign = [circle for key, circle in circles.items() if key not in ends]
    free = clearance(curve, foreign)
    cost = 0.0 if free >= CLEARANCE else 100.0 + 20.0 * (CLEARANCE - free)
    points = samples(curve, 12)
    for other, others in laid:
        close = 0
        for point in points[1:-1]:
            if any(distance(point, (*circles[key][:2], 0.0)) < circles[key][2] + 7.0 for key in ends):
                continue
            close += min(abs(point[0] - x) + abs(point[1] - y) for x, y in others) < NEAR
        shared = bool({other.source, other.target} & set(ends))
        cost += 3.0 * max(close - 1 - shared, 0)  # once is a crossing, and arrows to one circle come close there
    return cost


def _loop(circle: Circle) -> Curve:
    x, y, r = circle
    return [(x, y), (x + 4 * r, y - 2.5 * r), (x + 4 * r, y + 2.5 * r), (x, y)]
