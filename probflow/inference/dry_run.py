"""One evaluation with example values, to see the shape of every result; it leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from probflow._typing import Names, Shape
from probflow.distributions.bound import Bound
from probflow.distributions.family import FamilyBound
from probflow.distributions.networked import Networked
from probflow.distributions.values import fold
from probflow.printing import shape_text

if TYPE_CHECKING:
    from probflow.inference.program import Program, Step


@dataclass(frozen=True)
class Seen:
    """What one slot held."""

    text: str
    shape: Shape | None = None
    dtype: torch.dtype | None = None
    form: str = ""
    """How a network returned its parameters: "dict", "tuple" or "tensor"."""

    returned: Names = ()
    """The names of those parameters, where it said them."""

    params: Mapping[str, Shape] = field(default_factory=dict)
    extra: int | None = None
    event: Shape | None = None


Example = Mapping[int, Seen]
"""By slot."""


def dry_run(program: Program, values: Mapping[str, Any], parts: Sequence[nn.Module]) -> Example:
    """Run `program` once, without gradient; the random state and the state of `parts` are put back."""
    found: dict[int, Seen] = {}
    devices = sorted({v.device.index or 0 for v in values.values() if isinstance(v, Tensor) and v.is_cuda})
    with torch.no_grad(), torch.random.fork_rng(devices), _unchanged(parts):
        slots = program.inputs.load(values)
        for read in program.reads:
            found[read.slot] = _seen(slots[read.slot])
        for step in program.steps:
            arguments = [slots[slot] for slot in step.args]
            slots[step.out] = step.run(*arguments)
            found[step.out] = replace(_seen(slots[step.out]), **_returned(step, arguments))
    return found


@contextmanager
def _unchanged(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Running statistics of batch normalisation and the like are put back."""
    tensors = {id(t): t for part in parts for t in (*part.parameters(), *part.buffers()) if not t.is_inference()}.values()
    before = [(t, t.detach().clone()) for t in tensors]
    try:
        yield
    finally:
        for tensor, kept in before:
            if not torch.equal(tensor, kept):
                tensor.copy_(kept)


def _returned(step: Step, arguments: list[Any]) -> dict[str, Any]:
    """What the network of this op returned, if it has one."""
    factor = step.info.about[0].origin if step.kind == "params" and step.info is not None else None
    if not isinstance(factor, Networked) or not factor._source or step.info is None:
        return {}
    outputs = factor.call(fold(arguments, [len(slot.axes) for slot in step.info.args])[0])
    if isinstance(outputs, dict):
        return {"form": "dict", "returned": tuple(outputs)}
    return {"form": "tensor" if isinstance(outputs, Tensor) else "tuple"}


def _seen(value: Any) -> Seen:
    if isinstance(value, Tensor):
        return Seen(shape_text(value.shape), tuple(value.shape), value.dtype)
    if isinstance(value, (tuple, list)):
        return Seen(", ".join(_seen(entry).text for entry in value))
    if isinstance(value, FamilyBound):
        shapes = {name: tuple(tensor.shape) for name, tensor in value.params.items()}
        text = ", ".join(f"{name} {shape_text(shape)}" for name, shape in shapes.items())
        return Seen(text, params=shapes, extra=value.extra, event=tuple(value.event))
    if isinstance(value, Bound):
        return Seen(f"batch {shape_text(value.front)}")
    return Seen("()")
