"""Measurements as a table: ratios to the hand-written program, the target, and whether it is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks import memory
from benchmarks.timing import Workload

COLUMNS = ("probflow", "Model", "Pixyz", "Pyro")
Peaks = Mapping[str, Mapping[str, float | None]]


def time_rows(workload: Workload, seconds: Mapping[str, float]) -> list[list[str]]:
    """One row of ratios; below it, where there is one, the row of the overhead in microseconds."""
    hand = seconds.get("hand")
    if hand is None:
        cells = [_with_mark(_time(seconds[n]), 1e6 * seconds[n], workload.limit.get(n), _microseconds) if n in seconds else "" for n in COLUMNS]
        return [[workload.title, "", *cells]]
    rows = [[workload.title, _time(hand), *(_ratio(n, seconds, hand, workload.targets.get(n)) for n in COLUMNS)]]
    if workload.overhead:
        more = {name: 1e6 * (value - hand) for name, value in seconds.items()}
        cells = [_with_mark(f"{more[n]:+.0f} us", more[n], workload.overhead.get(n), _microseconds) if n in more else "" for n in COLUMNS]
        rows.append(["  more than by hand", "", *cells])
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
        rows.append([label, f"{a / 2**20:.1f} MiB", _with_mark(f"{b / a:.3f}", b / a, target, "{:.2f}".format), "", "", ""])
    return rows


def _ratio(name: str, seconds: Mapping[str, float], hand: float, target: float | None) -> str:
    if name not in seconds:
        return ""
    ratio = seconds[name] / hand
    shown = f"{ratio:.3f}" if ratio < 3 else f"{ratio:,.1f}" if ratio < 100 else f"{ratio:,.0f}"
    return _with_mark(shown, ratio, target, "{:.2f}".format)


def _with_mark(shown: str, value: float, target: float | None, text: object) -> str:
    if target is None:
        return shown
    return f"{shown} {'ok  ' if value <= target else 'FAIL'} (<= {text(target)})"  # type: ignore[operator]


def _microseconds(value: float) -> str:
    return f"{value:.0f} us"


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} us" if seconds < 1e-2 else f"{1e3 * seconds:.1f} ms"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows below their headings."""
    lines = [["workload", "by hand", *COLUMNS], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([shown[0], "  ".join("-" * width for width in widths), *shown[1:]])
