"""What a program is given: values by name, looked at before anything runs, with the words for what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from probflow.checks import compiling
from probflow.distributions.diagnose import of_a_draw
from probflow.distributions.values import check_mapping, check_missing
from probflow.errors import NetworkError, ParameterError, ProbflowError, ShapeError, ValuesError
from probflow.inference.batch_groups import BatchGroup, where_they_meet
from probflow.inference.steps import PartOfPlan, Read, Step
from probflow.printing import shape_text

DRAWN = ("draw", "states")
"""The kinds of steps that give values to variables."""


class Inputs(PartOfPlan):
    """The free variables of `formula`, in groups that share a batch size; `steps` say where variables meet, `size` counts slots."""

    def __init__(
        self, formula: str, reads: Sequence[Read], groups: Sequence[BatchGroup], steps: Sequence[Step], size: int
    ) -> None:
        self.formula, self.reads, self.groups, self.steps, self.size = formula, tuple(reads), tuple(groups), tuple(steps), size
        self.numbers = tuple(read for read in self.reads if read.number)

    def load(self, values: Mapping[str, Any]) -> list[Any]:
        """The slots of a run: the values, and the batch size of every group."""
        slots: list[Any] = [None] * self.size
        for group in self.groups:
            batch: int | None = None
            for read in group.reads:
                value = values.get(read.name)
                if read.number:
                    slots[read.slot] = self._number(read.name, values)
                    continue
                if not isinstance(value, Tensor):
                    self._bad_values(values)
                lead = read.lead
                if value.dim() <= lead:
                    raise ShapeError(
                        f"{self.formula}: {read.name!r} has shape {shape_text(value.shape)}, but dimension 0 must be the batch.\n"
                        f"For a single data point write {read.name}[None]."
                    )
                size = value.shape[lead]
                if batch is None:
                    batch = size
                elif size != batch:
                    raise ShapeError(self._batches(values, group))
                slots[read.slot] = value
            if group.fixed:
                batch = self._with_fixed(batch, group)
            slots[group.slot] = 1 if batch is None else batch
            if self.numbers:
                self._check_numbers(slots, group)
        return slots

    def _with_fixed(self, batch: int | None, group: BatchGroup) -> int | None:
        """The batch size, where some values were given at construction."""
        for statement, size in group.fixed.items():
            if batch not in (None, size):
                raise ShapeError(
                    f"{self.formula}: {statement} is given {size} rows, but the other values have batch {batch}.{self._apart()}"
                )
            batch = size
        return batch

    def _check_numbers(self, slots: list[Any], group: BatchGroup) -> None:
        for read in group.reads:
            if read.number:
                self._check_number(read.name, slots[read.slot], slots[group.slot])

    def _check_number(self, name: str, value: object, batch: int) -> None:
        if isinstance(value, Tensor) and value.dim() and tuple(value.shape) != (batch,):
            raise ShapeError(
                f"{self.formula}: the parameter {name!r} has shape {shape_text(value.shape)}, but it must be one number, or one per "
                f"batch element, ({batch},)."
            )

    def _number(self, name: str, values: Mapping[str, Any]) -> float | Tensor:
        if name not in values:
            self._bad_values(values)
        value = values[name]
        if isinstance(value, (int, float, Tensor)) and not isinstance(value, bool):
            return value
        raise ValuesError(f"{self.formula}: the parameter {name!r} must be a number or a tensor, got a {type(value).__name__}.")

    def _bad_values(self, values: Mapping[str, Any]) -> NoReturn:
        names = tuple(read.name for read in self.reads)
        check_missing(values, names, self.formula, "loss.eval")
        check_mapping({r.name: values[r.name] for r in self.reads if not r.number}, self.formula, names)
        raise ValuesError(f"{self.formula}: the values of {', '.join(names)} cannot be used.")

    def _batches(self, values: Mapping[str, Any], group: BatchGroup) -> str:
        shapes = "\n".join(f"  {r.name}: {shape_text(values[r.name].shape)}" for r in group.reads if not r.number)
        place = ""
        if sum(step.kind == "reduce" for step in self.steps) > 1:  # not all that is in the loss has to fit
            sizes = {
                r.slot: values[r.name].shape[r.lead] for r in group.reads if not r.number and r.lead < values[r.name].dim()
            }
            numbers = frozenset(r.name for r in self.numbers if isinstance(values.get(r.name), Tensor) and values[r.name].dim())
            place = f"\nThey meet in {where_they_meet(self.steps, self.reads, numbers, sizes)}."
        return (
            f"{self.formula}: the batch sizes differ.\n{shapes}\n"
            f"Dimension 0 of every variable is the batch; a single data point is x[None].{place}{self._apart()}"
        )

    def _apart(self) -> str:
        """Which variables have one batch size, where not all of them have."""
        if len(self.groups) == 1:
            return ""
        return "\nVariables that meet before .mean() or .sum() have one batch size: " + "; ".join(
            ", ".join([*group.names, *group.fixed]) for group in self.groups
        )

    def unfit(self, values: Mapping[str, Any], said: object, graph: bool = False) -> ValuesError | None:
        """What is wrong with data of a kind that densities, or with `graph` the compiler, do not take, where torch has `said` that
        something is; None where it is nothing of that."""
        words = str(said).lower()
        for read in self.reads:
            value, what = values.get(read.name), f"{self.formula}: the value of {read.name!r} is"
            if not isinstance(value, Tensor):
                continue
            if value.is_meta:
                return ValuesError(
                    f"{what} on the meta device, where tensors have shapes but no numbers.\nPass it on a real one."
                )
            if value.layout is not torch.strided:
                kind = "torch.compile takes" if graph else "densities are of"
                return ValuesError(f"{what} sparse ({value.layout}), but {kind} dense tensors.\nWrite {read.name}.to_dense().")
            if value.is_complex() and "complex" in words:
                return ValuesError(
                    f"{what} complex ({value.dtype}), but densities are of real numbers.\n"
                    f"Pass its parts: torch.view_as_real({read.name})."
                )
            if value.dtype is torch.bool and "bool" in words:
                return ValuesError(
                    f"{what} boolean (torch.bool), but it is computed with as a number.\nWrite {read.name}.float()."
                )
        return None

    def explain(self, error: ProbflowError, values: Mapping[str, Any]) -> ProbflowError:
        """NaN parameters usually come from NaN data, and a draw has the dtype of what it was drawn from: say so where it is true."""
        if isinstance(error, NetworkError) and error.dtypes is not None and error.dtypes[0] not in values:
            return of_a_draw(error, (step.info.about[0] for step in self.steps if step.kind in DRAWN and step.info is not None))
        if (isinstance(error, ParameterError) or "nan" in str(error)) and not compiling():
            for read in self.reads:
                value = values[read.name]
                if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
                    place = (~value.isfinite()).nonzero()[0].tolist()
                    bad = value[tuple(place)].item()
                    return ValuesError(
                        f"{self.formula}: the data contain {bad} in {read.name!r}, at {place}.\n"
                        f"Remove or replace such rows first: {read.name}.isfinite().all() must hold."
                    )
        return error
