"""What is to be drawn of a model: its variables, its arrows, its plates. Where they go is the business of `layout`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..errors import ArgumentError, UnknownVariable
from ..printing import did_you_mean, latex_name
from .statement import Statement

Role = Literal["latent", "observed", "partly", "summed", "conditioned"]


@dataclass(frozen=True)
class Part:
    """One factor as it is drawn.

    roles: what is known of its variables besides the statement ("observed", "summed").  local: variables that only the factors
    with the same `owner` have, such as what was summed out, or the noise of a flow.
    """

    statement: Statement
    deterministic: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict)
    local: frozenset[str] = frozenset()
    owner: int = 0

    def rename(self, mapping: Mapping[str, str]) -> Part:
        """The part under other names; local names are out of reach."""
        table = {old: new for old, new in mapping.items() if old not in self.local}
        roles = {table.get(name, name): role for name, role in self.roles.items()}
        return replace(self, statement=self.statement.rename(table), roles=roles)


@dataclass(frozen=True)
class Node:
    """A variable. `key` tells it from all others, `label` is its LaTeX."""

    key: str
    name: str
    role: Role = "latent"
    deterministic: bool = False

    @property
    def label(self) -> str:
        """Its name in LaTeX, without dollar signs."""
        return latex_name(self.name)


@dataclass(frozen=True)
class Edge:
    """An arrow from a conditioning variable to a variable; dashed where it belongs to the inference model."""

    source: str
    target: str
    inference: bool = False


@dataclass(frozen=True)
class Plate:
    """A box around variables that are repeated: `label` says how often."""

    label: str
    members: frozenset[str]


@dataclass(frozen=True)
class Picture:
    """Nodes, edges and plates, in the author's order.

    >>> from probflow.graph import parse
    >>> picture = picture_of([Part(parse("p(x|z)")), Part(parse("p(z)"))], [Part(parse("q(z|x)"))], observed=["x"])
    >>> [(node.name, node.role) for node in picture.nodes]
    [('x', 'observed'), ('z', 'latent')]
    >>> picture.edges
    (Edge(source='z', target='x', inference=False), Edge(source='x', target='z', inference=True))
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    plates: tuple[Plate, ...] = ()


def picture_of(
    generative: Sequence[Part],
    inference: Sequence[Part] = (),
    observed: str | Iterable[str] = (),
    plates: Mapping[str, str | Iterable[str]] | None = None,
    supplied: Iterable[str] = (),
    partly: Iterable[str] = (),
    merge: bool = False,
) -> Picture:
    """One node for every variable of the parts, one edge for every "conditioned on", solid from `generative`, dashed else.

    observed: shaded variables.  supplied: what a loss needs from the data; of these, those that a factor defines are shaded too, and those in
    `partly` by half.
    plates: label -> names.
    merge: a local variable that is defined outside in the same words is that one; else it is another.
    A variable is deterministic where no other than deterministic factors define it.

    Errors: UnknownVariable for names that do not occur, ArgumentError for an empty plate.
    """
    parts = _with_keys([(part, False) for part in generative] + [(part, True) for part in inference], merge)
    nodes: dict[str, Node] = {}
    defined: dict[str, list[bool]] = {}
    for part, keys, _ in parts:
        for name in part.statement.var + part.statement.cond_var:
            node = nodes.setdefault(keys[name], Node(keys[name], name))
            if name in part.roles:
                nodes[keys[name]] = replace(node, role=part.roles[name])
        for name in part.statement.var:
            defined.setdefault(keys[name], []).append(part.deterministic)
    seen = {nodes[key].key for key in _keys((observed,) if isinstance(observed, str) else observed, nodes, "observed")}
    given, half = set(supplied), set(partly)
    for key, node in nodes.items():
        role = node.role
        if key in seen:
            role = "observed"
        elif role == "latent" and key not in defined:
            role = "conditioned"
        elif role == "latent" and key in given:
            role = "partly" if key in half else "observed"
        nodes[key] = replace(node, role=role, deterministic=bool(defined.get(key)) and all(defined[key]))
    edges = dict.fromkeys(
        Edge(keys[source], keys[target], dashed)
        for part, keys, dashed in parts
        for target in part.statement.var
        for source in part.statement.cond_var
    )
    return Picture(tuple(nodes.values()), tuple(edges), _plates(plates or {}, nodes))


def _plates(plates: Mapping[str, str | Iterable[str]], nodes: Mapping[str, Node]) -> tuple[Plate, ...]:
    made = []
    for label, names in plates.items():
        members = frozenset(_keys((names,) if isinstance(names, str) else names, nodes, f"the plate {label!r}"))
        if not members:
            raise ArgumentError(f"the plate {label!r} is empty: name its variables, plates={{{label!r}: ['x']}}.")
        made.append(Plate(label, members))
    return tuple(made)


def _keys(names: Iterable[str], nodes: Mapping[str, Node], what: str) -> list[str]:
    found = []
    known = tuple(dict.fromkeys(node.name for node in nodes.values()))
    for name in names:
        keys = [key for key, node in nodes.items() if node.name == name]
        if not keys:
            raise UnknownVariable(
                f"{what}: there is no variable {name!r} in the drawing; its variables: {', '.join(known) or 'none'}."
                + did_you_mean(str(name), known)
            )
        found += keys
    return found


def _with_keys(parts: Sequence[tuple[Part, bool]], merge: bool) -> list[tuple[Part, dict[str, str], bool]]:
    """Each part with the key of each of its names: a local variable is another one than a variable of the same name elsewhere."""
    common = {name for part, _ in parts for name in (*part.statement.var, *part.statement.cond_var) if name not in part.local}
    stated = {part.statement for part, _ in parts if not set(part.statement.var) & part.local}
    taken: dict[str, list[int]] = {}
    made = []
    for part, dashed in parts:
        keys = {}
        for name in part.statement.var + part.statement.cond_var:
            keys[name] = name
            if name in part.local and not (merge and _elsewhere(parts, part, name, stated)):
                owners = taken.setdefault(name, [])
                if part.owner not in owners:
                    owners.append(part.owner)
                place = owners.index(part.owner) + (name in common)
                keys[name] = name if place == 0 else f"{name}#{place}"
        made.append((part, keys, dashed))
    return made


def _elsewhere(parts: Sequence[tuple[Part, bool]], part: Part, name: str, stated: set[Statement]) -> bool:
    """Whether the local variable `name` of `part` is defined outside in the same words."""
    return any(other.statement in stated for other, _ in parts if other.owner == part.owner and name in other.statement.var)


def boxed(nodes: Sequence[Node], plates: Sequence[Plate]) -> tuple[list[tuple[Plate, list[Node], list[Plate]]], list[Node]]:
    """The outermost plates, the larger ones first, each with its nodes and the plates inside it; and the nodes in none."""
    boxes: list[tuple[Plate, list[Node], list[Plate]]] = []
    left, waiting = list(nodes), sorted(plates, key=lambda plate: -len(plate.members))
    while waiting:
        plate = waiting.pop(0)
        members = [node for node in left if node.key in plate.members]
        inner = [other for other in waiting if other.members <= plate.members]
        waiting = [other for other in waiting if other not in inner]
        left = [node for node in left if node not in members]
        boxes.append((plate, members, inner))
    return boxes, left
