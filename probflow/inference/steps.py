"""The steps of a program, and what each is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from probflow.inference.axes import Axes, Slot

BATCH = 0
"""The slot of the batch size."""


class PartOfPlan:
    """What a plan is made of: once made it never changes, only the networks that it runs do."""


@dataclass(frozen=True)
class Info:
    """What an op means, for those who read a plan instead of running it."""

    key: Any
    """What tells it from other ops of its kind: dimensions, signs, places."""

    args: tuple[Slot, ...]
    """Its arguments with their axes."""

    axes: Axes
    batched: bool
    about: tuple[Any, ...] = ()
    """The factors, the function or the tensor that it is about."""

    like: Slot | None = None
    """The value whose batch size it counts with, where its arguments do not say which."""


@dataclass(frozen=True)
class Step(PartOfPlan):
    """One op: ``slots[out] = run(*(slots[i] for i in args))``."""

    kind: str
    args: tuple[int, ...]
    out: int
    run: Callable[..., Any] = field(repr=False)
    text: str = ""
    note: str = ""
    info: Info | None = field(default=None, repr=False, compare=False)
    total: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    """``total(*arguments, batch)``: the sum of its result over the batch, where that is had for less than its rows."""


@dataclass(frozen=True)
class Read(PartOfPlan):
    """A free variable and where its value goes; `number` where a bare number will do."""

    name: str
    slot: int
    lead: int = 0
    number: bool = False


def needed(steps: Sequence[Step], outputs: Sequence[int]) -> tuple[Step, ...]:
    """The steps that an output depends on, in order."""
    wanted = set(outputs)
    kept = []
    for step in reversed(steps):
        if step.out in wanted:
            kept.append(step)
            wanted.update(step.args)
    return tuple(reversed(kept))
