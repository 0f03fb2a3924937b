"""What a value is in generated code: an expression, and the symbolic sizes of the dimensions in front of its event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from probflow.inference.codegen.families import atom

Front: TypeAlias = tuple[str, ...]
"""Sizes as expressions: sample dimensions, then the batch.  "1" broadcasts."""


@dataclass(frozen=True)
class Code:
    """A tensor (or a number) in the generated function.

    An empty front says that nothing stands in front of the event: a number, or a constant with the shape of one event.
    """

    code: str
    front: Front = ()

    @property
    def lead(self) -> int:
        """Its sample dimensions, where it has a batch."""
        return len(self.front) - 1

    def inserted(self, place: int) -> Code:
        """With a singleton dimension at `place`."""
        return Code(f"{atom(self.code)}.unsqueeze({place})", (*self.front[:place], "1", *self.front[place:]))

    def aligned(self, depths: Sequence[int]) -> Code:
        """With singleton sample dimensions at `depths`, counted from the batch outwards (see `axes.align`)."""
        value = self
        for depth in depths:
            if value.lead > depth:
                value = value.inserted(value.lead - depth)
        return value


def common(*fronts: Front) -> Front:
    """The broadcast of symbolic fronts, aligned from the right."""
    result: Front = ()
    for front in fronts:
        short, long = (front, result) if len(front) <= len(result) else (result, front)
        first = len(long) - len(short)
        result = (*long[:first], *(b if a == "1" else a for a, b in zip(short, long[first:], strict=True)))
    return result


def tuple_code(sizes: Sequence[str]) -> str:
    """``(10, batch)``."""
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def spread(value: Code, front: Front) -> Code:
    """The value with this front, whatever of it is missing repeated."""
    if value.front == front:
        return value
    own = len(value.front)
    if own and value.front == front[len(front) - own :]:
        sizes = [*front[: len(front) - own], f"*{value.code}.shape"]
    else:
        sizes = [*front, f"*{value.code}.shape[{own}:]"]
    return Code(f"{atom(value.code)}.expand({', '.join(sizes)})", front)


def number_code(value: float | int) -> str:
    """A literal for a number."""
    if value != value or value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)


def constant_code(tensor: Tensor, most: int = 16) -> str | None:
    """A literal for a small tensor; None for a large one."""
    if tensor.dim() == 0:
        value = tensor.item()
        if tensor.dtype is torch.float32:  # the shortest decimal that is this number in single precision
            value = next(
                (v for digits in range(1, 17) if torch.tensor(v := float(f"{value:.{digits}g}"), dtype=tensor.dtype) == tensor),
                value,
            )
        return number_code(value)
    if tensor.numel() > most:
        return None
    default = tensor.dtype is torch.get_default_dtype()
    return f"torch.tensor({tensor.tolist()!r}{'' if default else f', dtype={tensor.dtype}'})"


def renamed(value: Code, code: str) -> Code:
    """The same value under a name."""
    return replace(value, code=code)
