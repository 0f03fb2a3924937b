"""How a loss over several batches is averaged over an epoch: every term over the rows of its own batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from probflow._typing import Inputs
from probflow.inference.batch_groups import BatchGroup
from probflow.inference.evaluate import program_for, shown_terms
from probflow.inference.program import BATCH, Program
from probflow.losses import Loss
from probflow.losses.labels import Labels


@dataclass(frozen=True)
class TermRows:
    """The batches of each term of a loss, and its sign: the signed sum of the terms is the loss."""

    signs: tuple[int, ...]
    groups: tuple[tuple[BatchGroup, ...], ...]

    def sizes(self, values: Inputs) -> tuple[int, ...]:
        """The rows of each term; of a term of several batches, such as a product of two means, those of all."""
        return tuple(sum(_rows(group, values) for group in groups) for groups in self.groups)


def term_rows(loss: Loss, values: Inputs) -> TermRows | None:
    """Which batches the terms of `loss` are of; None where there is one batch.

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x)", loc=0.0, scale=1.0)
    >>> loss = pf.log(p).mean() - pf.log(p.replace_var(x="x_u")).mean()
    >>> values = {"x": torch.zeros(2), "x_u": torch.zeros(5)}
    >>> rows = term_rows(loss, values)
    >>> rows.signs, rows.sizes(values)
    ((1, -1), (2, 5))
    """
    program = program_for(loss, values, with_terms=True)
    if len(program.groups) == 1:
        return None
    below = _below(program)
    groups = tuple(
        tuple(group for group in program.groups if group.slot in below.get(slot, ())) or program.groups[:1]
        for name, slot in program.outputs.items()
        if name
    )
    return TermRows(tuple(sign for sign, *_ in shown_terms(loss, Labels(loss))), groups)


def _below(program: Program) -> Mapping[int, frozenset[int]]:
    """Slot -> the batches that its value is computed from, by the slots of their sizes."""
    below = {read.slot: frozenset([program.batch_of.get(read.slot, BATCH)]) for read in program.reads if not read.number}
    for step in program.steps:
        found = frozenset[int]().union(*(below.get(slot, ()) for slot in step.args))
        if step.kind == "params" and step.info is not None and step.info.about[0].fixed_batch is not None:
            found |= {program.batch_of.get(step.out, BATCH)}
        below[step.out] = found
    return below


def _rows(group: BatchGroup, values: Inputs) -> int:
    for read in group.reads:
        value = values.get(read.name)
        if not read.number and isinstance(value, Tensor) and value.dim() > read.lead:
            return value.shape[read.lead]
    return next(iter(group.fixed.values()), 1)
