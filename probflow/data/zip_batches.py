"""Batches of several sources side by side: a few labelled rows beside many without labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from probflow.errors import ArgumentError


class ZipBatches:
    """One batch of each source per step, as one dict; each source has names and a batch size of its own.

    An epoch is as long as the longest source: every row of it is seen once.  A shorter source starts again when it is used up,
    shuffled anew if it shuffles, and in every epoch.

    A source is `Batches`, a `DataLoader` that yields dicts, or a list of dicts.

    Errors: `ArgumentError` for a source without a length, without a batch, or that is used up after one pass, and for a name
    that two sources have.

    >>> import torch
    >>> from probflow.data import Batches
    >>> labelled = Batches({"x": torch.arange(4), "y": torch.arange(4) * 10}, batch_size=2, shuffle=False)
    >>> unlabelled = Batches({"x_u": torch.arange(9)}, batch_size=3, shuffle=False)
    >>> for batch in ZipBatches(labelled, unlabelled):
    ...     print({name: rows.tolist() for name, rows in batch.items()})
    {'x': [0, 1], 'y': [0, 10], 'x_u': [0, 1, 2]}
    {'x': [2, 3], 'y': [20, 30], 'x_u': [3, 4, 5]}
    {'x': [0, 1], 'y': [0, 10], 'x_u': [6, 7, 8]}
    """

    def __init__(self, *sources: Iterable[Mapping[str, Tensor]]) -> None:
        if not sources:
            raise ArgumentError("ZipBatches needs at least one source: ZipBatches(Batches({...}, 100), Batches({...}, 1000)).")
        for place, source in enumerate(sources, start=1):
            _check(source, place)
        self.sources = sources

    def __len__(self) -> int:
        return max(map(_length, self.sources))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        running = [iter(source) for source in self.sources]
        for _ in range(len(self)):
            batch: dict[str, Tensor] = {}
            for place, source in enumerate(self.sources):
                part = next(running[place], None)
                if part is None:
                    running[place] = iter(source)
                    part = next(running[place], None)
                batch |= _checked(part, batch, place + 1)
            yield batch

    def __repr__(self) -> str:
        return f"ZipBatches({', '.join(map(repr, self.sources))})"


def _length(source: Any) -> int:
    return len(source)


def _check(source: object, place: int) -> None:
    if isinstance(source, (Mapping, Tensor)) or not isinstance(source, Iterable):
        raise ArgumentError(
            f"ZipBatches: source {place} is a {type(source).__name__}; give batches: Batches({{...}}, batch_size=...), or a list of dicts."
        )
    if isinstance(source, Iterator):
        raise ArgumentError(
            f"ZipBatches: source {place} is an iterator, used up after one pass.\nGive what it was made from: Batches, a DataLoader, a list."
        )
    try:
        count = _length(source)
    except TypeError:
        raise ArgumentError(f"ZipBatches: source {place}, a {type(source).__name__}, has no length, so no epoch has.") from None
    if not count:
        raise ArgumentError(
            f"ZipBatches: source {place} has no batch"
            + (", as drop_last leaves out its only one." if hasattr(source, "drop_last") else ".")
        )


def _checked(part: object, batch: Mapping[str, Tensor], place: int) -> Mapping[str, Tensor]:
    if not isinstance(part, Mapping):
        raise ArgumentError(f"ZipBatches: source {place} yielded a {type(part).__name__}, not a dict name -> tensor.")
    twice = [name for name in part if name in batch]
    if twice:
        raise ArgumentError(
            f"ZipBatches: {', '.join(map(repr, twice))} is in source {place} and in one before it.\n"
            'Each variable has one source: call the others by names of their own, such as "x_u".'
        )
    return part
