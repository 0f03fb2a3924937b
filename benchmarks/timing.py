"""Contestants take turns step by step in one process; what counts is the median of each, and its ratio to the first.

Machines slow down and speed up for seconds at a time: programs timed one after the other meet different machines.  Turns are
shuffled anew in every round, so that nobody always runs after the same neighbour, with the caches that it left.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor
from torch import distributions as td

CHECKED: bool = td.Distribution._validate_args
"""Whether torch.distributions checks arguments in this process before any peer is imported."""

PATIENCE = 4.0
"""A contestant this many times slower than the first one sits out rounds, so that it does not take all the time."""

SLOW = 2.0
"""A step of this many seconds is warmed up once only."""


@dataclass(frozen=True)
class Contestant:
    """A program for the workload: `step` does all of it once and gives its loss (or value).

    `checked` is whether torch.distributions checks arguments in a process of its own: every step is timed in that state.
    `prepare` runs before every step, untimed.
    """

    name: str
    step: Callable[[], Tensor]
    checked: bool = CHECKED
    prepare: Callable[[], None] | None = None

    def once(self) -> Tensor:
        """One step, prepared."""
        if self.prepare is not None:
            self.prepare()
        return self.step()


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    make: the contestants, all with the same weights; the first is the hand-written one.
    agree: raises `Disagreement` unless all contestants (made for this and then thrown away) compute the same thing.
    targets: the ratio to the first that each contestant must reach.
    overhead: by how many microseconds more than the first each contestant must stay below.
    limit: the microseconds that each contestant must stay below, where there is no hand-written program.
    """

    name: str
    title: str
    make: Callable[[], list[Contestant]]
    agree: Callable[[Sequence[Contestant]], None]
    steps: int
    targets: dict[str, float] = field(default_factory=dict)
    overhead: dict[str, float] = field(default_factory=dict)
    limit: dict[str, float] = field(default_factory=dict)


class Disagreement(AssertionError):
    """Two contestants do not compute the same thing: their times must not be compared."""


@contextmanager
def argument_checks(on: bool) -> Iterator[None]:
    """torch.distributions with or without argument checks: a switch of the whole process, put back afterwards."""
    before = td.Distribution._validate_args
    td.Distribution.set_default_validate_args(on)
    try:
        yield
    finally:
        td.Distribution.set_default_validate_args(before)


def same_losses(contestants: Sequence[Contestant], steps: int = 3, tolerance: float = 1e-3) -> None:
    """The same seed must give the same losses over a few steps: value, gradient and optimizer are then the same.

    All contestants draw the same noise, in the same order, from torch's generator, so nothing is left to chance.
    """
    found: dict[str, list[float]] = {}
    for contestant in contestants:
        torch.manual_seed(0)
        with argument_checks(contestant.checked):
            found[contestant.name] = [float(contestant.once().detach().mean()) for _ in range(steps)]
    first, *others = found
    for other in others:
        for a, b in zip(found[first], found[other], strict=True):
            if not abs(a - b) <= tolerance * abs(a):
                raise Disagreement(f"{first} and {other} differ: losses {found[first]} and {found[other]}")


def time_turns(contestants: Sequence[Contestant], rounds: int, seed: int = 0) -> dict[str, float]:
    """The median seconds of one step of each contestant, over `rounds` interleaved rounds."""
    shuffle = random.Random(seed).shuffle
    warm = max(2, min(20, rounds // 10))
    once = {}
    for contestant in contestants:
        with argument_checks(contestant.checked):
            first = _seconds(contestant)
            # what takes seconds needs no more warming up
            once[contestant.name] = min([first, *(_seconds(contestant) for _ in range(warm if first < SLOW else 0))])
    shortest = once[contestants[0].name]
    pause = {name: max(1, int(seconds / shortest / PATIENCE)) for name, seconds in once.items()}
    times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    order = list(contestants)
    for turn in range(rounds):
        shuffle(order)
        for contestant in order:
            if turn % pause[contestant.name] == 0:
                with argument_checks(contestant.checked):
                    times[contestant.name].append(_seconds(contestant))
    return {name: median(column) for name, column in times.items()}


def _seconds(contestant: Contestant) -> float:
    step = contestant.step
    if contestant.prepare is not None:
        contestant.prepare()
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
