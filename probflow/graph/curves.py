"""The curves of arrows: cubic Bézier splines that end at the borders of circles and keep clear of all others.

A curve is a list of 3n + 1 points: a start, then two control points and an end for each piece.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

Point = tuple[float, float]
Curve = list[Point]
Circle = tuple[float, float, float]
"""x, y, radius."""

HEAD = 7.0  # length of an arrow head
HALF_WIDTH = 2.7
GAP = 1.0  # between the tip of an arrow head and the border
CLEARANCE = 5.0  # from the border of a circle that the curve does not belong to
SAMPLES = 24


def arc(start: Point, end: Point, bend: float) -> Curve:
    """From start to end, bent to the left of its direction (y points down) by `bend` times half its length, roughly.

    >>> arc((0.0, 0.0), (9.0, 0.0), 0.0)
    [(0.0, 0.0), (3.0, 0.0), (6.0, 0.0), (9.0, 0.0)]
    """
    (x0, y0), (x1, y1) = start, end
    dx, dy = (x1 - x0) / 3, (y1 - y0) / 3
    nx, ny = dy * bend * 2, -dx * bend * 2
    return [start, (x0 + dx + nx, y0 + dy + ny), (x1 - dx + nx, y1 - dy + ny), end]


def through(points: Sequence[Point]) -> Curve:
    """A smooth curve through points from top to bottom, or from bottom to top, that stays vertical between its ends."""
    curve: Curve = [points[0]]
    for index in range(len(points) - 1):
        (x0, y0), (x1, y1) = points[index], points[index + 1]
        first, last = index == 0, index == len(points) - 2
        third = (y1 - y0) / 2.2
        leave = (x0 + (x1 - x0) * 0.45, y0 + third * 0.8) if first else (x0, y0 + third)
        reach = (x1 - (x1 - x0) * 0.45, y1 - third * 0.8) if last else (x1, y1 - third)
        curve += [leave, reach, (x1, y1)]
    return curve


def samples(curve: Curve, count: int = SAMPLES) -> list[Point]:
    """Points along the curve, ends included, evenly in its parameter."""
    pieces = (len(curve) - 1) // 3
    return [at(curve, pieces * index / count) for index in range(count + 1)]


def at(curve: Curve, t: float) -> Point:
    """The point at parameter t, from 0 to the number of pieces."""
    piece = min(int(t), (len(curve) - 1) // 3 - 1)
    u = t - piece
    p, q, r, s = curve[3 * piece : 3 * piece + 4]
    a, b, c, d = (1 - u) ** 3, 3 * u * (1 - u) ** 2, 3 * u * u * (1 - u), u**3
    return a * p[0] + b * q[0] + c * r[0] + d * s[0], a * p[1] + b * q[1] + c * r[1] + d * s[1]


def clipped(curve: Curve, source: Circle, target: Circle, gap: float = GAP) -> tuple[Curve, list[Point]]:
    """The part between two circles, without the last bit, which the arrow head takes; and the head, a triangle.

    >>> curve, head = clipped(arc((0.0, 0.0), (100.0, 0.0), 0.0), (0.0, 0.0, 10.0), (100.0, 0.0, 10.0), gap=0.0)
    >>> [round(x, 3) for x, _ in (curve[0], curve[-1], head[0])]
    [10.0, 84.05, 90.0]
    """
    pieces = (len(curve) - 1) // 3
    leave = _where(curve, source, source[2], 0.0, float(pieces))
    reach = _where(curve, target, target[2] + gap + 0.85 * HEAD, float(pieces), 0.0)
    kept = _between(curve, leave, max(reach, leave))
    bx, by = kept[-1]
    dx, dy = target[0] - bx, target[1] - by
    length = math.hypot(dx, dy) or 1.0
    dx, dy = dx / length, dy / length
    tx, ty = target[0] - dx * (target[2] + gap), target[1] - dy * (target[2] + gap)
    ax, ay = tx - dx * HEAD, ty - dy * HEAD
    side = (-dy * HALF_WIDTH, dx * HALF_WIDTH)
    return kept, [(tx, ty), (ax + side[0], ay + side[1]), (ax - side[0], ay - side[1])]


def _where(curve: Curve, circle: Circle, radius: float, inside: float, outside: float) -> float:
    """The parameter at which the curve passes the circle (with another radius), nearest to the parameter `inside` it."""
    steps = 40
    last = inside
    for index in range(1, steps + 1):
        t = inside + (outside - inside) * index / steps
        if distance(at(curve, t), circle) > radius:
            low, high = last, t
            for _ in range(30):
                middle = (low + high) / 2
                if distance(at(curve, middle), circle) > radius:
                    high = middle
                else:
                    low = middle
            return high
        last = t
    return outside


def _between(curve: Curve, start: float, end: float) -> Curve:
    """The part of a curve between two parameters, by de Casteljau's construction."""
    pieces = (len(curve) - 1) // 3
    first, last = min(int(start), pieces - 1), min(int(end), pieces - 1)
    kept: Curve = []
    for piece in range(first, last + 1):
        part = curve[3 * piece : 3 * piece + 4]
        low = start - piece if piece == first else 0.0
        high = end - piece if piece == last else 1.0
        part = _split(part, high)[0]
        if high > 0:
            part = _split(part, low / high)[1]
        kept += part if not kept else part[1:]
    return kept


def _split(part: Curve, u: float) -> tuple[Curve, Curve]:
    left, right, points = [part[0]], [part[-1]], part
    while len(points) > 1:
        points = [((1 - u) * a[0] + u * b[0], (1 - u) * a[1] + u * b[1]) for a, b in pairwise(points)]
        left.append(points[0])
        right.insert(0, points[-1])
    return left, right


def distance(point: Point, circle: Circle) -> float:
    """From a point to the centre of a circle."""
    return math.hypot(point[0] - circle[0], point[1] - circle[1])


def clearance(curve: Curve, circles: Sequence[Circle]) -> float:
    """The least distance from the curve to the borders of circles; infinite without circles."""
    points = samples(curve)
    return min((distance(point, circle) - circle[2] for circle in circles for point in points), default=math.inf)
