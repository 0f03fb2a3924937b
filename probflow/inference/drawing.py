"""A program as a list of ops, and as a graph: which op feeds which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import networkx as nx

from probflow.graph.factor_graph import arrows
from probflow.inference.estimators.states import EVERY_STATE, FEW_STATES

if TYPE_CHECKING:
    from probflow.inference.program import Program, Read
    from probflow.inference.steps import Step

HIDDEN = ("item", "align", "constant")
"""Kinds that move data without computing: they are not listed."""

WIDEST = 90
"""A longer formula runs over its column, so that the notes of the others stay in sight."""


def listed(program: Program) -> str:
    """The ops in order, each with its note; with example values also the shape of its result."""
    seen = program.example or {}
    rows = []
    if program.reads:
        groups = _read_groups(program)
        shapes = "; ".join(
            filter(None, (", ".join(f"{r.name} {seen[r.slot].text}" for r in reads if r.slot in seen) for reads in groups))
        )
        several = f"{len(program.groups)} batches, each of its own size" if len(program.groups) > 1 else ""
        rows.append(("read", "; ".join(", ".join(read.name for read in reads) for reads in groups), shapes, several))
    for step in program.steps:
        if step.kind not in HIDDEN:
            rows.append((step.kind, step.text, seen[step.out].text if seen else "", _note(step, program)))
    width = max((len(row[1]) for row in rows if len(row[1]) <= WIDEST), default=0)
    wide = max((len(row[2]) for row in rows), default=0)
    lines = [f"plan of {program.formula}"]
    for number, (kind, text, shape, note) in enumerate(rows, start=1):
        column = f"  {shape:<{wide}}" if wide else ""
        lines.append(f"  {number:>2}  {kind:<9} {text:<{width}}{column}  {note}".rstrip())
    return "\n".join(lines)


def _note(step: Step, program: Program) -> str:
    """What a step says of itself; how many states a variable has shows in its parameters, that is, with values only."""
    if step.note == EVERY_STATE and program.example is None:
        return f"{step.note} (drawn if more than {FEW_STATES})"
    return step.note


def _read_groups(program: Program) -> list[Sequence[Read]]:
    """The variables by batch; where there are several batches, numbers stand by themselves."""
    if len(program.groups) == 1:
        return [program.reads]
    groups = [*([read for read in group.reads if not read.number] for group in program.groups), program.inputs.numbers]
    return [reads for reads in groups if reads]


def data_flow(program: Program) -> nx.DiGraph[str | int]:
    """Variables (by name) and ops (by their number in the printed plan); an edge runs from what is used to what uses it."""
    graph: nx.DiGraph[str | int] = nx.DiGraph(formula=program.formula)
    shapes = {slot: seen.text for slot, seen in (program.example or {}).items()}
    sources: dict[int, tuple[str | int, ...]] = {}
    for read in program.reads:
        graph.add_node(read.name, kind="read", text=read.name, note="", shape=shapes.get(read.slot, ""))
        sources[read.slot] = (read.name,)
    number = 1 if program.reads else 0
    for step in program.steps:
        below = tuple(dict.fromkeys(node for slot in step.args for node in sources.get(slot, ())))
        if step.kind in HIDDEN:
            sources[step.out] = below
            continue
        number += 1
        graph.add_node(number, kind=step.kind, text=step.text, note=_note(step, program), shape=shapes.get(step.out, ""))
        graph.add_edges_from((node, number) for node in below)
        sources[step.out] = (number,)
    return graph


def drawn(program: Program) -> str:
    """The graph as text, an arrow from every op to those that use it."""
    graph = data_flow(program)
    labels = {node: node if isinstance(node, str) else f"{node} {graph.nodes[node]['kind']}" for node in graph}
    long = {node: label if isinstance(node, str) else f"{label} {graph.nodes[node]['text']}" for node, label in labels.items()}
    rows = {long[node]: [labels[other] for other in graph.successors(node)] for node in graph}
    return "\n".join([f"plan of {program.formula}", *arrows(rows), *(f"  {long[n]}" for n in graph if not graph.out_degree(n))])
