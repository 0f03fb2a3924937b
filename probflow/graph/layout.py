"""Where everything of a picture goes, in points (1/72 inch) from the upper left corner: circles, arrows, boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from .curves import Curve, Point, clipped
from .layers import Rows, ordered, rows_of
from .picture import Edge, Node, Picture, Plate
from .routing import routed
from .spacing import Gap, spread
from .symbols import symbol_width

RADIUS = 17.0
MOST = 34.0  # the radius of a circle with a long name; a longer one is set smaller
FONT = 15.0
SMALLEST = 6.0
BARE = 12.0  # the radius of a name without border
BESIDE = 26.0  # between the borders of neighbours in a row
BETWEEN = 32.0  # between the borders of rows
DUMMY = 6.0
PAD, LABEL = 10.0, 14.0  # inside a plate: at its sides, and for its label below
OVERLAP = 5.0
APART = 6.0  # between the borders of plates, and of a plate and a node outside
MARGIN = 4.0


@dataclass(frozen=True)
class Disc:
    """A node with its circle; `font` is the size of its name."""

    node: Node
    x: float
    y: float
    r: float
    font: float


@dataclass(frozen=True)
class Arrow:
    """An edge: the curve up to the arrow head, the head as a triangle, and the whole curve from centre to centre."""

    edge: Edge
    curve: Curve
    head: list[Point]
    whole: Curve


@dataclass(frozen=True)
class Box:
    """A plate."""

    plate: Plate
    left: float
    top: float
    right: float
    bottom: float
    label_left: bool = False
    """Whether its label stands in the left corner, as another plate takes the right one."""


@dataclass(frozen=True)
class Layout:
    """What the renderers draw; y points down."""

    discs: tuple[Disc, ...]
    arrows: tuple[Arrow, ...]
    boxes: tuple[Box, ...]
    width: float
    height: float


def layout(picture: Picture) -> Layout:
    """The layered drawing of a picture: parents above children, arrows from border to border, plates around their nodes.

    Errors: ArgumentError for plates that no boxes can show.

    >>> from probflow.graph import parse
    >>> from probflow.graph.picture import Part, picture_of
    >>> drawn = layout(picture_of([Part(parse("p(x|z)")), Part(parse("p(z)"))]))
    >>> [(disc.node.name, round(disc.x), round(disc.y)) for disc in drawn.discs]
    [('x', 21, 87), ('z', 21, 21)]
    """
    rows = rows_of(picture)
    size = {node.key: _size(node) for node in picture.nodes}
    radius = {key: r for key, (r, _) in size.items()}
    places, segments, chains = _with_dummies(rows, picture.edges)
    plates = [plate.members for plate in picture.plates]
    dummies = frozenset(places) - frozenset(rows)
    order = ordered(places, segments, plates, dummies)
    x = _across(order, places, segments, radius, picture.plates, dummies)
    y = _down(order, places, radius, picture.plates)
    circles = {key: (x[key], y[places[key]], radius[key]) for key in rows}
    vias = {pair: [(x[key], y[places[key]]) for key in chain] for pair, chain in chains.items()}
    curves = routed(picture.edges, circles, vias)
    boxes = [_box(plate, picture.plates, circles) for plate in picture.plates]
    arrows = []
    for edge, whole in zip(picture.edges, curves, strict=True):
        curve, head = clipped(whole, circles[edge.source], circles[edge.target])
        arrows.append(Arrow(edge, curve, head, whole))
    discs = [Disc(node, *circles[node.key], size[node.key][1]) for node in picture.nodes]
    return _shifted(discs, arrows, boxes)


def _size(node: Node) -> tuple[float, float]:
    """Radius and font size: the circle grows with its name up to a limit, then the name shrinks."""
    room = 3.5 + 3.0 * node.deterministic
    width = symbol_width(node.label) * FONT
    if node.role == "conditioned":  # no border: the arrows begin close to the name
        return max(min(width / 2 + 5.0, MOST), BARE), min(FONT, FONT * 2 * (MOST - 5.0) / max(width, 1e-9))
    radius = min(max(RADIUS, width / 2 + room), MOST)
    return radius, max(min(FONT, FONT * 2 * (radius - room) / max(width, 1e-9)), SMALLEST)


def _with_dummies(
    rows: Mapping[str, int], edges: Sequence[Edge]
) -> tuple[dict[str, int], list[tuple[str, str]], dict[tuple[str, str], list[str]]]:
    """A place in every row that an edge passes; edges in pieces; the places of every long edge, from top to bottom."""
    places = dict(rows)
    segments: dict[tuple[str, str], None] = {}
    chains: dict[tuple[str, str], list[str]] = {}
    for edge in edges:
        upper, lower = sorted((edge.source, edge.target), key=rows.__getitem__)
        if (upper, lower) in chains or edge.source == edge.target:
            continue
        chain = [f"{upper}\n{lower}\n{row}" for row in range(rows[upper] + 1, rows[lower])]
        places.update({key: rows[upper] + 1 + index for index, key in enumerate(chain)})
        segments.update(dict.fromkeys(zip([upper, *chain], [*chain, lower], strict=True)))
        if chain:
            chains[upper, lower] = chain
    return places, list(segments), chains


def _across(
    order: Rows,
    places: Mapping[str, int],
    segments: Sequence[tuple[str, str]],
    radius: Mapping[str, float],
    plates: Sequence[Plate],
    dummies: frozenset[str],
) -> dict[str, float]:
    near = _neighbours(places, segments, [plate.members for plate in plates])
    gaps: list[Gap] = []
    for row in order:
        for left, right in pairwise(row):
            gaps.append((left, right, radius.get(left, DUMMY) + radius.get(right, DUMMY) + BESIDE))
    first = spread(list(places), near, gaps)
    if not plates:
        return first
    for number, plate in enumerate(plates):
        gaps += _fence(number, plate.members, order, places, radius, dummies, first)
    for a, b in combinations(range(len(plates)), 2):
        gaps += _beside(a, b, plates, places, first)
    return spread(list(places), near, gaps)


def _neighbours(
    places: Mapping[str, int], segments: Sequence[tuple[str, str]], plates: Sequence[frozenset[str]]
) -> dict[str, list[str]]:
    """What draws each node to its place: those that it is connected with, of these first those in the same plates."""
    near: dict[str, list[str]] = {key: [] for key in places}
    for u, v in segments:
        if places[u] != places[v]:
            near[u].append(v)
            near[v].append(u)
    home = {key: [key in members for members in plates] for key in places}
    return {key: [o for o in others if home[o] == home[key]] or others for key, others in near.items()}


def _span(members: frozenset[str], places: Mapping[str, int]) -> range:
    rows = [places[key] for key in members]
    return range(min(rows), max(rows) + 1)


def _fence(
    number: int,
    members: frozenset[str],
    order: Rows,
    places: Mapping[str, int],
    radius: Mapping[str, float],
    dummies: frozenset[str],
    x: Mapping[str, float],
) -> list[Gap]:
    """The two sides of a plate: members between them, all others in its rows outside."""
    left, right = f"L\n{number}", f"R\n{number}"
    pad = PAD + APART
    gaps = [gap for key in members for gap in ((left, key, radius[key] + pad), (key, right, radius[key] + pad))]
    middle = sum(x[key] for key in members) / len(members)
    for row in _span(members, places):
        own = [index for index, key in enumerate(order[row]) if key in members]
        for index, key in enumerate(order[row]):
            if key not in members and key not in dummies:
                before = index < own[0] if own else x[key] < middle
                gaps.append((key, left, radius[key] + APART) if before else (right, key, radius[key] + APART))
    return gaps


def _beside(a: int, b: int, plates: Sequence[Plate], places: Mapping[str, int], x: Mapping[str, float]) -> list[Gap]:
    """Two plates: one inside the other, or beside each other where they share rows and no members."""
    one, other = plates[a].members, plates[b].members
    if other < one or one <= other:
        inner, outer = (b, a) if other < one else (a, b)
        step = PAD
        return [(f"L\n{outer}", f"L\n{inner}", step), (f"R\n{inner}", f"R\n{outer}", step)]
    spans = _span(one, places), _span(other, places)
    if one & other or not set(spans[0]) & set(spans[1]):
        return []
    middles = [sum(x[key] for key in members) / len(members) for members in (one, other)]
    left, right = (a, b) if middles[0] < middles[1] else (b, a)
    return [(f"R\n{left}", f"L\n{right}", APART)]


def _depth(plate: Plate, plates: Sequence[Plate]) -> int:
    """How many plates lie within this one; of equal ones, the earlier within the later."""
    here = next(index for index, other in enumerate(plates) if other is plate)
    inner = [
        other
        for index, other in enumerate(plates)
        if index != here and (other.members < plate.members or (other.members == plate.members and index < here))
    ]
    return max((_depth(other, plates) + 1 for other in inner), default=0)


def _shift(plate: Plate, plates: Sequence[Plate]) -> float:
    """How much higher a box begins than it would, so that its lines do not run along those of an earlier one it overlaps."""
    here = next(index for index, other in enumerate(plates) if other is plate)
    return OVERLAP * sum(bool(other.members & plate.members) and not _nested(other, plate) for other in plates[:here])


def _pads(plate: Plate, plates: Sequence[Plate]) -> tuple[float, float]:
    """What a plate takes beyond the borders of its nodes: at three sides, and below with its label."""
    depth, shift = _depth(plate, plates), _shift(plate, plates)
    return PAD + depth * PAD + shift, PAD + LABEL / 2 + depth * (PAD + LABEL / 2) + shift


def _down(order: Rows, places: Mapping[str, int], radius: Mapping[str, float], plates: Sequence[Plate]) -> list[float]:
    """The height of every row: further apart where a plate ends or begins between them."""
    tallest = [max((radius.get(key, 0.0) for key in row), default=0.0) for row in order]
    y: list[float] = []
    for row in range(len(order)):
        if not row:
            y.append(tallest[0])
            continue
        ends = [_pads(p, plates)[1] for p in plates if _span(p.members, places)[-1] == row - 1]
        begins = [_pads(p, plates)[0] for p in plates if _span(p.members, places)[0] == row]
        extra = max(ends, default=0.0) + max(begins, default=0.0)
        y.append(y[-1] + tallest[row - 1] + tallest[row] + max(BETWEEN, extra + 2 * APART + (14.0 if extra else 0.0)))
    return y


def _box(plate: Plate, plates: Sequence[Plate], circles: Mapping[str, tuple[float, float, float]]) -> Box:
    side, below = _pads(plate, plates)
    inside = [circles[key] for key in plate.members]
    left, right = min(x - r for x, _, r in inside) - side, max(x + r for x, _, r in inside) + side
    top, bottom = min(y - r for _, y, r in inside) - side, max(y + r for _, y, r in inside) + below
    across = [other.members for other in plates if other.members & plate.members and not _nested(other, plate)]
    crowded = any(max(circles[key][0] + circles[key][2] for key in other) > right for other in across)
    return Box(plate, left, top, right, bottom, crowded)


def _nested(one: Plate, other: Plate) -> bool:
    return one.members <= other.members or other.members <= one.members


def _shifted(discs: Sequence[Disc], arrows: Sequence[Arrow], boxes: Sequence[Box]) -> Layout:
    """Everything moved so that it begins at the margin."""
    from .curves import samples

    xs = [v for d in discs for v in (d.x - d.r, d.x + d.r)] + [v for b in boxes for v in (b.left, b.right)]
    ys = [v for d in discs for v in (d.y - d.r, d.y + d.r)] + [v for b in boxes for v in (b.top, b.bottom)]
    along = [point for arrow in arrows for point in samples(arrow.curve)]
    xs, ys = xs + [x for x, _ in along], ys + [y for _, y in along]
    dx, dy = MARGIN - min(xs, default=0.0), MARGIN - min(ys, default=0.0)

    def move(points: Sequence[Point]) -> list[Point]:
        return [(x + dx, y + dy) for x, y in points]

    return Layout(
        tuple(Disc(d.node, d.x + dx, d.y + dy, d.r, d.font) for d in discs),
        tuple(Arrow(a.edge, move(a.curve), move(a.head), move(a.whole)) for a in arrows),
        tuple(Box(b.plate, b.left + dx, b.top + dy, b.right + dx, b.bottom + dy, b.label_left) for b in boxes),
        max(xs, default=0.0) + dx + MARGIN,
        max(ys, default=0.0) + dy + MARGIN,
    )
