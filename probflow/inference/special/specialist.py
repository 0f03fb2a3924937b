"""When a specialised program is made, and what happens where it does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from probflow.checks import LENIENT, compiling
from probflow.distributions.binders import FromNetwork
from probflow.inference.special.seen import form_of, seen
from probflow.inference.special.writer import Specialised, Writer
from probflow.inference.steps import Read, Step

RUNS = 3
"""So many runs with values of new shapes before a program is made for them."""
MOST = 4
"""So many are kept, those that ran last; each one after them is waited for twice as long, so that a loss whose shapes change all
the time stays with the general program."""
PATIENCE = 8
"""So many failed guards in a row before a specialised program is given up."""


@dataclass
class Specialist:
    """The specialised programs of one program, and when the next one is made."""

    reads: Sequence[Read]
    steps: Sequence[Step]
    kept: frozenset[int]
    size: int
    sizes: Sequence[int]
    """The slots of the batch sizes."""
    known: list[Specialised] = field(default_factory=list)
    waited: int = 0
    made: int = 0

    def __call__(self, values: Mapping[str, Any]) -> list[Any] | None:
        """All kept slots, or None: no program for values like these."""
        if compiling():  # which programs there are would be guarded, and each new one be a reason to compile anew
            return None
        for place, program in enumerate(self.known):
            found = program.run(values)
            if found is None:
                continue
            if place and found.__class__ is not tuple:
                self.known = [program, *self._without(program)]
            return self.slots_of(program, found)
        return None

    def slots_of(self, program: Specialised, found: Any) -> list[Any]:
        """All kept slots, of what `program` has returned, which is not None."""
        if found.__class__ is tuple:
            return self._go_on(program, *found)
        program.misses = 0
        return cast("list[Any]", found) if program.alone is None else self._slots(program, {program.alone: found})

    def _slots(self, program: Specialised, results: Mapping[int, Any]) -> list[Any]:
        slots: list[Any] = [None] * self.size
        for slot, value in {**program.rows, **results}.items():
            slots[slot] = value
        return slots

    def _without(self, program: Specialised) -> list[Specialised]:
        """The others; `program` is perhaps gone already, as a network may evaluate the loss."""
        return [other for other in self.known if other is not program]

    def _go_on(self, program: Specialised, place: int, outputs: tuple[Any, ...], handed: tuple[Any, ...]) -> list[Any]:
        """The general program from a failed guard on; `outputs` holds what the network of its step has returned already."""
        program.misses += 1
        if program.misses >= PATIENCE:
            self.known = self._without(program)
        slots = self._slots(program, {})
        for (slot, make), value in zip(program.handed[place], handed, strict=True):
            slots[slot] = value if make is None else make(value)
        with LENIENT:
            if outputs:
                step = self.steps[place]
                inputs = [slots[slot] for slot in step.args]
                flat, front = step.run.folded(inputs)  # type: ignore[attr-defined]
                slots[step.out] = step.run.finish(outputs[0], inputs, flat, front)  # type: ignore[attr-defined]
                place += 1
            for step in self.steps[place:]:
                slots[step.out] = step.run(*(slots[slot] for slot in step.args))
        return slots

    def due(self) -> bool:
        """Whether this run of the general program should be watched, for a specialised one."""
        if compiling():
            return False
        self.waited += 1
        return self.waited >= RUNS << max(0, self.made - MOST + 1)

    def watch(self, slots: list[Any]) -> None:
        """Run the general program, and make a specialised one of what is seen."""
        self.waited = 0
        self.made += 1
        found: dict[int, Any] = {read.slot: seen(slots[read.slot]) for read in self.reads}
        last = {slot: place for place, step in enumerate(self.steps) for slot in step.args}
        for place, step in enumerate(self.steps):
            arguments = [slots[slot] for slot in step.args]
            form: type = dict
            if isinstance(step.run, FromNetwork):
                flat, front = step.run.folded(arguments)
                outputs = step.run.network(*flat)
                slots[step.out] = step.run.finish(outputs, arguments, flat, front)
                form = form_of(outputs, slots[step.out])
                del outputs
            else:
                slots[step.out] = step.run(*arguments)
            found[step.out] = seen(slots[step.out], form)
            del arguments
            for slot in step.args:
                if last[slot] == place and slot not in self.kept:
                    slots[slot] = None
        rows = {slot: slots[slot] for slot in self.sizes}
        program = Writer(self.reads, self.steps, self.kept, self.size, found, rows).program()
        if program is not None:
            self.known = [program, *self.known[: MOST - 1]]
