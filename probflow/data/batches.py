"""Mini-batches of named tensors that already lie in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from probflow.errors import ArgumentError, ShapeError


class Batches:
    """Iterate over ``{name: tensor}`` in batches along dimension 0; each pass over it is one epoch.

    Each batch is one `index_select` per tensor, without worker processes or a collate function, so on data that fits into
    memory it costs a fraction of a `DataLoader`.

    A shuffled epoch draws its permutation from `generator`; an epoch's order is a function of its state alone. Save
    ``batches.generator.get_state()`` with a checkpoint and a resumed run sees the same batches. Give `seed` to have one made,
    or nothing for one that is seeded from torch's global state.

    A number, such as a weight of the loss, goes into every batch as it is; ``batches.numbers["beta"] = 0.1`` changes it between
    epochs.

    Errors: `ArgumentError` for values that are not tensors or a batch size below 1, `ShapeError` when the tensors have
    different lengths.

    >>> batches = Batches({"x": torch.arange(5), "y": torch.arange(5) * 10}, batch_size=2, shuffle=False)
    >>> len(batches)
    3
    >>> [batch["y"].tolist() for batch in batches]
    [[0, 10], [20, 30], [40]]
    """

    def __init__(
        self,
        values: Mapping[str, Tensor | float],
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ArgumentError(f"Batches(batch_size={batch_size!r}): expected an integer of at least 1.")
        if generator is not None and seed is not None:
            raise ArgumentError("Batches takes a generator or a seed, not both: generator.manual_seed(seed) does the same.")
        numbers = {n: v for n, v in values.items() if _is_number(v)} if isinstance(values, Mapping) else {}
        self.numbers: dict[str, float | Tensor] = numbers
        self.values = _checked({n: v for n, v in values.items() if n not in numbers} if numbers else values)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        if generator is None:
            start = int(torch.randint(2**63 - 1, ())) if seed is None else seed
            generator = torch.Generator().manual_seed(start)
        self.generator = generator

    @property
    def n(self) -> int:
        """How many rows one epoch has before `drop_last`."""
        return len(next(iter(self.values.values())))

    def __len__(self) -> int:
        whole, rest = divmod(self.n, self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        # Copies also when nothing is shuffled: a view would let a change of the batch reach the data.
        if self.shuffle:
            order = torch.randperm(self.n, generator=self.generator, device=self.generator.device)
        else:
            order = torch.arange(self.n)
        placed = {device: order.to(device) for device in {tensor.device for tensor in self.values.values()}}
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch: dict[str, Any] = {n: t.index_select(0, placed[t.device][rows]) for n, t in self.values.items()}
            batch.update(self.numbers)
            yield batch

    def __repr__(self) -> str:
        names = ", ".join(f"{name}: {tuple(tensor.shape)}" for name, tensor in self.values.items())
        return f"Batches({{{names}}}, batch_size={self.batch_size}, shuffle={self.shuffle}, drop_last={self.drop_last})"


def _is_number(value: object) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)) or (isinstance(value, Tensor) and value.dim() == 0)


def _checked(values: Mapping[str, Any]) -> dict[str, Tensor]:
    if not isinstance(values, Mapping):
        raise ArgumentError(f'Batches takes a dict name -> tensor, got {_described(values)}. Write: Batches({{"x": x}}, ...)')
    if not values:
        raise ArgumentError('Batches needs at least one tensor. Write: Batches({"x": x}, batch_size=128)')
    first: str | None = None
    for name, tensor in values.items():
        if not isinstance(tensor, Tensor):
            line = "torch.from_numpy" if type(tensor).__module__ == "numpy" else "torch.as_tensor"
            raise ArgumentError(
                f"Batches takes tensors, but {name!r} is {_described(tensor)}.\nWrite: {{{name!r}: {line}({name}), ...}}"
            )
        if first is None:
            first = name
        elif len(tensor) != len(values[first]):
            raise ShapeError(
                f"Batches: {first!r} has {len(values[first])} rows and {name!r} has {len(tensor)}. "
                f"Dimension 0 is the batch and must be the same for all."
            )
    return dict(values)


def _described(value: object) -> str:
    kind = type(value)
    return f"a {kind.__module__}.{kind.__name__}" if kind.__module__ != "builtins" else f"a {kind.__name__}"
