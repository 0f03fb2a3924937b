"""Measurements as a table: ratios to the hand-written program, the target, and whether it is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks import memory
from benchmarks.timing import Workload

COLUMNS = ("probflow", "Model", "Pixyz", "Pyro", "zuko", "nflows", "normflows", "FrEIA")
Peaks = Mapping[str, Mapping[str, float | None]]


def time_rows(workload: Workload, seconds: Mapping[str, float]) -> list[list[str]]:
    """One row of ratios; below it, where there is one, the row of the overhead in microseconds."""
    hand = seconds.get("hand")
    if hand is None:
        return [[workload.title, "", *_cells(seconds, workload.limit, 1e6, "{:.0f} us")]]
    ratios = {name: value / hand for name, value in seconds.items()}
    rows = [[workload.title, _time(hand), *_cells(ratios, workload.targets)]]
    if workload.overhead:
        more = {name: value - hand for name, value in seconds.items()}
        rows.append(["  more than by hand", "", *_cells(more, workload.overhead, 1e6, "{:+.0f} us")])
    return rows


def memory_rows(title: str, peaks: Peaks) -> list[list[str]]:
    """The tensors alive at the worst moment, which decide, and the growth of the process."""
    hand, ours = peaks["hand"], peaks["probflow"]
    rows = []
    for what, label in (("tensors", title), ("resident", "  the process's growth")):
        a, b = hand[what], ours[what]
        if a is None or b is None:
            continue
        target = memory.TARGET if what == "tensors" else None
        rows.append([label, f"{a / 2**20:.1f} MiB", _cell(b / a, target), *[""] * (len(COLUMNS) - 1)])
    return rows


def _cells(values: Mapping[str, float], targets: Mapping[str, float], scale: float = 1.0, shape: str = "") -> list[str]:
    """One cell per column; empty where a library has no program for the workload, or is not installed."""
    return [_cell(scale * values[name], targets.get(name), shape) if name in values else "" for name in COLUMNS]


def _cell(value: float, target: float | None, shape: str = "") -> str:
    shown = shape.format(value) if shape else _number(value)
    return shown if target is None else f"{shown} {'ok  ' if value <= target else 'FAIL'} (<= {target:g})"


def _number(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 3 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} us" if seconds < 1e-2 else f"{1e3 * seconds:.1f} ms"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows below their headings; a library that has no program for any of them has no column."""
    headings = ["workload", "by hand", *COLUMNS]
    shown_columns = [i for i in range(len(headings)) if i < 2 or any(row[i] for row in rows)]
    lines = [[line[i] for i in shown_columns] for line in (headings, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([shown[0], "  ".join("-" * width for width in widths), *shown[1:]])
