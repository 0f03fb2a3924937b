"""Which elements a coupling leaves untouched, and which it changes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.printing import did_you_mean, shape_text

SplitLike: TypeAlias = "str | Tensor | Sequence[int] | Split"
NAMES = ("halves", "alternate", "channel", "checkerboard")


class Split(nn.Module):
    """Two parts of an event: `take` gives (kept, changed), `join` puts them back; exact inverses of each other."""

    kept_shape: Shape
    changed_shape: Shape
    whole: bool = False
    """Whether both parts have the shape of the event, and the mask says which elements count."""

    @abstractmethod
    def take(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(kept, changed)."""

    @abstractmethod
    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        """The event again."""

    def count(self, logdet: Tensor) -> Tensor:
        """Elementwise log-derivatives, with those of the untouched elements left out."""
        return logdet


class Halves(Split):
    """The first and the second half along dimension 1 (channels, for images); views, no copies."""

    def __init__(self, shape: Shape, first: int, flip: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.flip = first, shape[0] - first, flip
        a, b = (first, *shape[1:]), (self.second, *shape[1:])
        self.kept_shape, self.changed_shape = (b, a) if flip else (a, b)

    def take(self, z: Tensor) -> tuple[Tensor, Tensor]:
        a, b = z.split((self.first, self.second), 1)
        return (b, a) if self.flip else (a, b)

    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([changed, kept] if self.flip else [kept, changed], 1)


class Picked(Split):
    """Any choice of indices along dimension 1."""

    kept: Tensor
    changed: Tensor
    back: Tensor

    def __init__(self, shape: Shape, kept: Sequence[int]) -> None:
        super().__init__()
        left = sorted(set(kept))
        right = [i for i in range(shape[0]) if i not in set(kept)]
        self.kept_shape, self.changed_shape = (len(left), *shape[1:]), (len(right), *shape[1:])
        self.register_buffer("kept", torch.tensor(left), persistent=False)
        self.register_buffer("changed", torch.tensor(right), persistent=False)
        self.register_buffer("back", torch.tensor(left + right).argsort(), persistent=False)

    def take(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z.index_select(1, self.kept), z.index_select(1, self.changed)

    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([kept, changed], 1).index_select(1, self.back)


class Masked(Split):
    """A mask over the whole event: where it is true the element is untouched; the conditioner sees zeros elsewhere."""

    mask: Tensor
    whole = True

    def __init__(self, shape: Shape, mask: Tensor) -> None:
        super().__init__()
        self.kept_shape = self.changed_shape = shape
        self.register_buffer("mask", mask, persistent=False)

    def take(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(self.mask, z, 0), z

    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.where(self.mask, kept, changed)

    def count(self, logdet: Tensor) -> Tensor:
        return torch.where(self.mask, 0, logdet)


def as_split(value: SplitLike, shape: Shape, flip: bool, title: str) -> Split:
    """A split by name, mask or index:

    - "halves" (first half kept), "alternate" (even places kept), "channel" (the same as halves, for images), "checkerboard";
    - a boolean mask, true where untouched: over dimension 1, or over the whole event;
    - a list of the untouched indices of dimension 1.

    `flip` exchanges the two parts.
    """
    if isinstance(value, Split):
        return value
    if isinstance(value, str):
        if value not in NAMES:
            raise ArgumentError(
                f"{title}: there is no split {value!r}.{did_you_mean(value, NAMES)}\n  known: {', '.join(NAMES)}, a mask, a list of indices"
            )
        if value == "checkerboard":
            return Masked(shape, checkerboard(shape, title) ^ flip)
        if shape[0] < 2:
            raise ArgumentError(
                f"{title}: a coupling of {shape[0]} feature(s) has nothing to split.\n"
                "For one feature take splines (NSF, or the layer Spline) or an autoregressive flow (MAF); for images the split 'checkerboard'."
            )
        if value in ("halves", "channel"):
            return Halves(shape, (shape[0] + 1) // 2, flip)
        return Picked(shape, range(1 if flip else 0, shape[0], 2))
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        mask = ~value if flip else value
        if tuple(mask.shape) not in (shape, shape[:1]):
            raise ArgumentError(
                f"{title}: the mask has shape {shape_text(mask.shape)}, expected {shape_text(shape)} or {shape_text(shape[:1])}."
            )
        if bool(mask.all()) or not bool(mask.any()):
            raise ArgumentError(f"{title}: the mask leaves {'nothing to change' if bool(mask.all()) else 'nothing untouched'}.")
        return Picked(shape, mask.nonzero().flatten().tolist()) if mask.dim() == 1 else Masked(shape, mask)
    indices = [int(i) for i in value]
    if (
        not indices
        or len(set(indices)) != len(indices)
        or not all(0 <= i < shape[0] for i in indices)
        or len(indices) == shape[0]
    ):
        raise ArgumentError(
            f"{title}: split={indices} must name some, not all, of the indices 0 ... {shape[0] - 1} of dimension 1, each once."
        )
    return Picked(shape, [i for i in range(shape[0]) if i not in indices] if flip else indices)


def checkerboard(shape: Shape, title: str = "checkerboard") -> Tensor:
    """True where row + column is even: ``(1, height, width)`` expanded to `shape`."""
    if len(shape) < 2:
        raise ArgumentError(f"{title}: a checkerboard needs images, (channels, height, width), got {shape_text(shape)}.")
    rows, columns = torch.arange(shape[-2]).unsqueeze(1), torch.arange(shape[-1])
    return ((rows + columns) % 2 == 0).expand(shape).clone()
