"""What a run has shown of a value: all but its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probflow._typing import Names, Shape
from probflow.distributions.family import Family, FamilyBound
from probflow.distributions.flow_bound import FlowBound


@dataclass(frozen=True)
class Parameters:
    """What was seen of a bound distribution: all of it but the numbers."""

    family: Family
    names: Names
    shape: Shape
    dtype: torch.dtype
    make: Callable[[dict[str, Tensor]], FamilyBound]
    front: Shape
    extra: int
    event: Shape
    form: type
    """See `form_of`."""


def form_of(outputs: Any, bound: Any) -> type:
    """What a network returned: dict, tuple, or one Tensor; `object` where the distribution has parameters besides."""
    count = 1 if isinstance(outputs, Tensor) else len(outputs)
    return type(outputs) if isinstance(bound, FamilyBound) and len(bound.params) == count else object


def seen(value: Any, form: type = dict) -> Any:
    """What is to be known of a value: a tensor's type, shape and dtype, a distribution's parameters, a number's type."""
    if isinstance(value, Tensor):
        return type(value), value.shape, value.dtype, value.is_cpu
    if isinstance(value, FamilyBound):
        tensors = list(value.params.values())
        first = tensors[0]
        if any(type(t) is not Tensor or t.shape != first.shape or t.dtype != first.dtype or not t.is_cpu for t in tensors):
            return value if all(t.dim() == 0 for t in tensors) else None
        if first.dim() == 0:
            return value  # constants: single numbers, kept as they are
        names, front, extra, event = tuple(value.params), value.front, value.extra, value.event
        return Parameters(value.family, names, tuple(first.shape), first.dtype, maker(value), front, extra, event, form)
    if isinstance(value, FlowBound):
        return value
    if isinstance(value, (int, float)):
        return type(value)
    return None


def maker(bound: FamilyBound) -> Callable[[dict[str, Tensor]], FamilyBound]:
    """A function that makes a distribution like this one from other parameters."""
    family, statement, front, extra, event = bound.family, bound.statement, bound.front, bound.extra, bound.event

    def make(params: dict[str, Tensor]) -> FamilyBound:
        return FamilyBound(family, statement, params, front, extra, event)

    return make
