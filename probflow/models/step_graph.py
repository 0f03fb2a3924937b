"""The graph of one step of training: what the compiler sees, and what is handed to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from probflow.inference.boundary import Boundary
from probflow.inference.compiled import compiled_function
from probflow.inference.steps import PartOfPlan
from probflow.models.updates import UPDATES, Columns, Update, clipped, columns_of


@dataclass(frozen=True)
class Row(PartOfPlan):
    """A group of the optimizer: its options, the weights that are trained, the names of their state."""

    options: Mapping[str, Any]
    weights: list[Tensor]
    names: tuple[str, ...]


class StepGraph:
    """A compiled step for one plan, one set of trained weights, one set of the optimizer's options."""

    def __init__(self, edge: Boundary, rows: Sequence[Row], step: Callable[..., tuple[Tensor, ...]]) -> None:
        from torch._dynamo.exc import Unsupported  # here, because the compiler takes a second to import

        self.edge, self.rows, self.run, self.ran, self._uncompiled = edge, rows, step, False, Unsupported
        self._flat: list[Tensor] | None = None
        self.columns: list[Columns] = []
        """The optimizer's tensors."""
        self._kinds: list[Any] = []

    def __call__(self, *arguments: Any) -> tuple[Tensor, ...]:
        """One step.  The compiler's settings are changed where it has something to compile only, for that takes time."""
        if self.ran:
            try:
                return self.run(*arguments)
            except self._uncompiled:  # compiling anew, for values of another kind: nothing has run
                pass
        with _as_one_step():
            result = self.run(*arguments)
        self.ran = True
        return result

    def fits(self, optimizer: Optimizer) -> bool:
        """Look up the optimizer's tensors; False where they are not like those that the graph was made for.

        Anew in every step, for loading a checkpoint replaces them.  The compiler's guards leave them out: the optimizer makes
        them and no user sees them, while guards on each take longer than a small step's kernels.
        """
        state = optimizer.state
        flat = [state[weight][name] for row in self.rows for name in row.names for weight in row.weights]
        if self._flat is not None and len(flat) == len(self._flat) and all(map(is_, flat, self._flat)):
            return True
        kinds = [(t.shape, t.stride(), t.dtype, t.device, t.requires_grad) for t in flat]
        if self._flat is not None and kinds != self._kinds:
            return False
        self._kinds, self._flat = kinds, flat
        self.columns = [[[state[weight][name] for weight in row.weights] for name in row.names] for row in self.rows]
        return True

    @staticmethod
    def make(
        edge: Boundary, optimizer: Optimizer, clip: tuple[float | None, float | None], options: Mapping[str, Any]
    ) -> StepGraph | None:
        """None while the optimizer has no state yet."""
        rows: list[Row] = []
        for group in optimizer.param_groups:
            names = columns_of(optimizer, group)
            trained = [weight for weight in group["params"] if weight.requires_grad]
            ready = [w for w in trained if all(isinstance(optimizer.state.get(w, {}).get(n), Tensor) for n in names)]
            if trained and not ready:
                return None
            rows.append(Row({k: _plain(v) for k, v in group.items() if k not in ("params", "lr")}, ready, names))
        if not any(row.weights for row in rows):  # eager evaluation says so
            return None
        step = _Step(edge, rows, UPDATES[type(optimizer)], clip)

        def run(inputs: Mapping[str, Tensor], state: list[Columns], rates: list[Tensor]) -> tuple[Tensor, ...]:
            return step(inputs, state, rates)

        graph = StepGraph(edge, rows, compiled_function(run, options, known="state"))
        graph.fits(optimizer)
        return graph


def _plain(option: Any) -> Any:
    """An option with Python's own numbers: of numpy's the compiler would make tensors, and could not ask whether they are 0."""
    if isinstance(option, (list, tuple)):
        return tuple(map(_plain, option))
    return float(option) if isinstance(option, Real) and not isinstance(option, int) else option


class _Step(PartOfPlan):
    """What the compiler sees."""

    def __init__(self, edge: Boundary, rows: Sequence[Row], update: Update, clip: tuple[float | None, float | None]) -> None:
        self.edge, self.rows, self.update, self.clip = edge, tuple(rows), update, clip

    def __call__(self, inputs: Mapping[str, Tensor], state: list[Columns], rates: list[Tensor]) -> tuple[Tensor, ...]:
        *values, fine = self.edge.trace(inputs)
        weights = [weight for row in self.rows for weight in row.weights]
        gradients = list(torch.autograd.grad(values[0], weights, allow_unused=True))
        values = [value.detach() for value in values]
        with torch.no_grad():
            gradients = clipped(gradients, *self.clip)
            touched = [*weights, *(tensor for columns in state for column in columns for tensor in column)]
            before = [tensor.clone() for tensor in touched]
            start = 0
            for row, columns, rate in zip(self.rows, state, rates, strict=True):
                own = row.weights
                found = gradients[start : start + len(own)]
                start += len(own)
                used = [place for place, gradient in enumerate(found) if gradient is not None]
                if used:
                    kept = [[column[place] for place in used] for column in columns]
                    self.update(row.options, [own[place] for place in used], [found[place] for place in used], kept, rate)
            for tensor, old in zip(touched, before, strict=True):
                tensor.copy_(torch.where(fine, tensor, old))
        return *values, fine


_SETTINGS = {"trace_autograd_ops": True, "use_lamba_guard_for_object_aliasing": False}
"""Of the compiler: that it follows ``torch.autograd.grad``; and that the guards which find every trained weight where the optimizer
has it are no Python."""


@contextmanager
def _as_one_step() -> Iterator[None]:
    import torch._dynamo.config as config

    known = {name: getattr(config, name) for name in _SETTINGS if hasattr(config, name)}
    for name in known:
        setattr(config, name, _SETTINGS[name])
    try:
        yield
    finally:
        for name, before in known.items():
            setattr(config, name, before)
