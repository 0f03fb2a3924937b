"""Which variables share a batch: those that meet before a reduction over it.  Every such group has a batch size of its own.

A mean or a sum over the batch leaves one number, and numbers of different batches can be added: of
``log_p_x.mean() + log_p_u.mean()`` the two terms may have 100 and 1,000 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from probflow.inference.axes import Slot
from probflow.inference.steps import BATCH, Read, Step


@dataclass(frozen=True)
class BatchGroup:
    """Variables with one batch size, and the slot of that size."""

    slot: int
    reads: tuple[Read, ...]
    fixed: Mapping[str, int] = field(default_factory=dict)
    """Statement -> batch size of the values that were given to it at construction."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its variables."""
        return tuple(read.name for read in self.reads if not read.number)


@dataclass(frozen=True)
class Fixed:
    """Values given at construction: how many rows, and the slot of the distribution that has them."""

    rows: int
    slot: int


Grouped = tuple[tuple[Step, ...], tuple[BatchGroup, ...], dict[int, int]]
"""The steps, each with the batch size of its group; the groups; slot -> slot of its batch size, where that is not the first."""


def grouped(
    steps: tuple[Step, ...],
    reads: Sequence[Read],
    batched_numbers: frozenset[str],
    fixed: Mapping[str, Fixed],
    planned: Sequence[Step],
    new: Callable[[], int],
) -> Grouped:
    """Find the groups of `steps`; `planned` are all steps that were made, `new` makes a slot.

    The first group is that of the first variable.  A draw that meets no variable, and whatever else has no size of its own,
    has the size of the first group.
    """
    whole = BatchGroup(BATCH, tuple(reads), {name: entry.rows for name, entry in fixed.items()})
    if sum(not read.number for read in reads) + len(fixed) < 2:
        return steps, (whole,), {}
    found = _Meetings(reads, batched_numbers, fixed)
    for step in steps:
        found.take(step)
    used = {slot for step in steps for slot in step.args} | {step.out for step in steps}
    sized = [read.slot for read in reads if not read.number] + [entry.slot for entry in fixed.values()]
    roots = list(dict.fromkeys(found.root(slot) for slot in sized if slot in used))
    if len(roots) < 2:
        return steps, (whole,), {}
    size_of = {root: new() if place else BATCH for place, root in enumerate(roots)}

    def at(slot: int) -> int:
        source = found.source.get(slot)
        return BATCH if source is None or slot not in used else size_of.get(found.root(source), BATCH)

    batch_of = {read.slot: at(read.slot) for read in reads} | {entry.slot: at(entry.slot) for entry in fixed.values()}
    for step in steps:
        like = step.info.like if step.info is not None else None
        sources = [step.out] if like is None else row_sources(like, planned, found.own)
        batch_of[step.out] = next((at(slot) for slot in sources if slot in used), BATCH)
    steps = tuple(
        replace(step, args=tuple(batch_of[step.out] if slot == BATCH else slot for slot in step.args)) for step in steps
    )
    groups = tuple(
        BatchGroup(
            size,
            tuple(read for read in reads if batch_of[read.slot] == size),
            {name: entry.rows for name, entry in fixed.items() if batch_of[entry.slot] == size},
        )
        for size in size_of.values()
    )
    return steps, groups, {slot: size for slot, size in batch_of.items() if size != BATCH}


def where_they_meet(
    steps: Sequence[Step], reads: Sequence[Read], batched_numbers: frozenset[str], sizes: Mapping[int, int]
) -> str:
    """The first step that brings rows of different batch sizes together; `sizes`: slot of a variable -> its batch size."""
    given = (step for step in steps if step.kind == "params" and step.info and step.info.about[0].fixed_batch is not None)
    fixed = {step.text: Fixed(step.info.about[0].fixed_batch, step.out) for step in given if step.info}
    found, known = _Meetings(reads, batched_numbers, fixed), dict(sizes)  # known: a root's size
    for step in steps:
        roots = {found.root(found.source[slot]) for slot in step.args if slot in found.rows}
        mine = {known[root] for root in roots if root in known}
        if len(mine) > 1:
            return step.text
        found.take(step)
        if mine:
            known[found.root(found.source[step.out])] = mine.pop()
    return ""


class _Meetings:
    """A union-find over what has rows of its own: variables, draws, values given at construction."""

    def __init__(self, reads: Sequence[Read], batched_numbers: frozenset[str], fixed: Mapping[str, Fixed]) -> None:
        self.own = {entry.slot for entry in fixed.values()}
        self._parent: dict[int, int] = {}
        self.source: dict[int, int] = {}  # slot -> one of those whose rows it has; a constant has none
        self.rows: set[int] = set()  # slots that still have a batch
        for read in reads:
            if not read.number or read.name in batched_numbers:
                self.source[read.slot] = read.slot
                self.rows.add(read.slot)

    def root(self, slot: int) -> int:
        """The one that stands for all that `slot` has met."""
        while (above := self._parent.get(slot, slot)) != slot:
            slot = above
        return slot

    def take(self, step: Step) -> None:
        """What a step brings together."""
        met = [self.source[slot] for slot in step.args if slot in self.rows]
        if step.kind == "draw" or step.out in self.own:
            met.append(step.out)
        if not met:
            return
        first = self.root(met[0])
        for other in met[1:]:
            self._parent[self.root(other)] = first
        self.source[step.out] = met[0]
        if step.info is None or step.info.batched:
            self.rows.add(step.out)


def row_sources(slot: Slot, planned: Sequence[Step], fixed: Collection[int]) -> Iterator[int]:
    """The slots whose rows `slot` has: variables, draws, and distributions in `fixed`.  A constant has none."""
    made = {step.out: step for step in planned}
    left, seen = [slot], set()
    while left:
        slot = left.pop()
        if not slot.batched or slot.index in seen:
            continue
        seen.add(slot.index)
        step = made.get(slot.index)
        if step is None or step.kind == "draw" or step.out in fixed:
            yield slot.index
        if step is not None and step.info is not None:
            left += step.info.args
