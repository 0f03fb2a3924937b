"""Values of variables: what `sample` returns, and the checks at the boundary of every public method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from probflow._typing import Names, Shape
from probflow.distributions.shapes import broadcast
from probflow.errors import ArgumentError, MissingVariable, ShapeError, UnknownVariable, ValuesError
from probflow.printing import did_you_mean, kind_text, shape_text


class Samples(dict[str, Tensor]):
    """A dict name -> tensor that remembers how many leading sample dimensions each variable has.

    A value has shape ``(*sample_shape, batch, *event)``; ``samples.sample_dims["z"]`` is ``len(sample_shape)``.

    >>> import probflow as pf
    >>> p = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    >>> z = p.sample(batch_n=5, sample_shape=[7])
    >>> z["z"].shape, z.sample_dims
    (torch.Size([7, 5, 2]), {'z': 1})
    >>> p.log_prob(z).shape
    torch.Size([7, 5])
    """

    def __init__(self, values: Mapping[str, Tensor], sample_dims: Mapping[str, int] | None = None) -> None:
        super().__init__(values)
        self.sample_dims: dict[str, int] = {name: (sample_dims or {}).get(name, 0) for name in values}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.sample_dims)


def check_mapping(values: object, what: str, example: Iterable[str]) -> Mapping[str, Tensor]:
    """`values` as a mapping of tensors, or an error that says what to write."""
    if not isinstance(values, Mapping):
        names = list(example)
        name = names[0] if names else "x"
        raise ValuesError(
            f"{what} needs a dict from variable names to tensors, got {_kind(values)}.\n"
            f"Write {{{', '.join(f'{n!r}: ...' for n in (names or [name]))}}}."
        )
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ValuesError(_not_a_tensor(what, str(name), value))
    return values


def check_conditions(values: object, what: str, cond_var: Names) -> Mapping[str, Tensor]:
    """What a draw is conditioned on, or an error; a size in its place, as other libraries take it, is told where it goes."""
    if isinstance(values, (int, list, tuple)):
        shape = [values] if isinstance(values, int) else list(values)
        rows = f"batch_n={shape[0]} for rows, " if len(shape) == 1 else ""
        raise ValuesError(
            f"{what}: what stands first is a dict of values that are known, got {values!r}.\n"
            f"Sizes go by name: {rows}sample_shape={shape} for samples of each row."
        )
    return check_mapping({} if values is None else values, what, cond_var)


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {shape_text(value.shape)}"
    return kind_text(value)


def _not_a_tensor(what: str, name: str, value: object) -> str:
    convert = "torch.from_numpy(...)" if type(value).__module__ == "numpy" else "torch.as_tensor(...)"
    return f"{what}: the value of {name!r} must be a torch tensor, got {_kind(value)}.\nConvert it: {{{name!r}: {convert}}}."


def check_missing(values: Mapping[str, Tensor], needed: Names, what: str, how: str) -> None:
    """Every name of `needed` has a value."""
    missing = [name for name in needed if name not in values]
    if missing:
        extra = [name for name in values if name not in needed]
        guess = next((f" (is {name!r} meant to be {missing[0]!r}?)" for name in extra if did_you_mean(name, missing)), "")
        raise MissingVariable(
            f"{what} needs a value for {', '.join(map(repr, missing))}{guess}.\n"
            f"  free variables: {', '.join(needed)}\n"
            f"  supplied:       {', '.join(values) or 'nothing'}\n"
            f"Pass it: {how}({{{missing[0]!r}: ...}})."
        )


def check_unknown(values: Iterable[str], known: Names, what: str) -> None:
    """No name outside `known`: a misspelt value would be drawn instead, and nobody would notice."""
    for name in values:
        if name not in known:
            raise UnknownVariable(
                f"{what} has no variable {name!r}.{did_you_mean(name, known)}\n  its variables: {', '.join(known) or 'none'}"
            )


def leading_dims(
    values: Mapping[str, Tensor],
    ranks: Mapping[str, int | None],
    sample_dims: int | Mapping[str, int] | None,
    what: str,
) -> dict[str, int]:
    """How many leading sample dimensions each value has: said, remembered, declared, or none - in this order."""
    remembered = values.sample_dims if isinstance(values, Samples) else {}
    leads: dict[str, int] = {}
    for name, value in values.items():
        rank = ranks.get(name)
        if isinstance(sample_dims, Mapping) and name in sample_dims:
            lead = sample_dims[name]
        elif isinstance(sample_dims, int):
            lead = sample_dims
        elif name in remembered:
            lead = remembered[name]
        elif rank is not None:
            lead = value.dim() - 1 - rank
            if lead == -1 and value.dim() and not value.is_floating_point():
                lead = 0  # class indices, of shape (batch,), stand for one-hot vectors, of shape (batch, classes)
        else:
            lead = 0
        if lead < 0 or value.dim() < lead + 1:
            expected = "(batch, ...)" if rank is None else f"(batch{''.join(', ·' for _ in range(rank))})"
            raise ShapeError(
                f"{what}: {name!r} has shape {shape_text(value.shape)}, but dimension 0 must be the batch: "
                f"expected {expected}.\n"
                f"For a single data point write {name}[None]."
            )
        leads[name] = lead
    return leads


def batch_size(values: Mapping[str, Tensor], leads: Mapping[str, int], what: str) -> int | None:
    """The one batch size of all values; None without values."""
    size: int | None = None
    first = ""
    for name, value in values.items():
        current = value.shape[leads[name]]
        if size is None:
            size, first = current, name
        elif current != size:
            short, rows = (first, current) if size == 1 else (name, size)
            if 1 in (size, current) and not leads[short]:
                rest = ", -1" * (values[short].dim() - 1)
                advice = f"One row for all of the others: {short}.expand({rows}{rest})."
            else:
                advice = f"Where sample dimensions stand in front of it, say so: log_prob(values, sample_dims={{{name!r}: 1}})."
            raise ShapeError(
                f"{what}: the batch sizes differ.\n"
                f"  {first}: {shape_text(values[first].shape)}, batch {size}\n"
                f"  {name}: {shape_text(value.shape)}, batch {current}\n"
                f"Dimension 0 of every variable is the batch. {advice}"
            )
    return size


def rows_given(what: str, batch_n: int, batch: int) -> ShapeError:
    """`batch_n` beside values that have rows of their own."""
    return ShapeError(
        f"{what}: batch_n={batch_n}, but the given values have batch {batch}.\n"
        f"Leave batch_n out: there is one draw for each row; sample_shape={batch_n} asks for {batch_n} of each."
    )


def fold(inputs: list[Tensor], leads: list[int]) -> tuple[list[Tensor], Shape]:
    """Sample dimensions folded into the batch, so that a network sees exactly one batch dimension.

    Returns the folded inputs and the shape ``(*lead, batch)`` that :func:`unfold` restores.
    """
    if not inputs:
        return inputs, (1,)
    lead = max(leads)
    if lead == 0:
        size = inputs[0].shape[0]
        if all(tensor.shape[0] == size for tensor in inputs):
            return inputs, (size,)
    fronts = [tensor.shape[: own + 1] for tensor, own in zip(inputs, leads, strict=True)]
    front = broadcast(*fronts)
    if lead == 0 and all(f == front for f in fronts):
        return inputs, tuple(front)
    folded = [
        tensor.expand(*front, *tensor.shape[own + 1 :]).flatten(0, lead) for tensor, own in zip(inputs, leads, strict=True)
    ]
    return folded, tuple(front)


def insert_axis(tensor: Tensor, lead: int, depth: int) -> Tensor:
    """A singleton sample dimension with `depth` sample dimensions between it and the batch; nothing if there are fewer."""
    return tensor.unsqueeze(lead - depth) if lead > depth else tensor


def as_shape(value: int | Iterable[int] | None, what: str) -> Shape:
    """``64``, ``[64]``, ``torch.Size([64])`` or None as a tuple of positive integers."""
    if value is None:
        return ()
    if isinstance(value, bool) or isinstance(value, str):
        raise ArgumentError(f"{what} must be an integer or a list of integers, got {value!r}.")
    if not isinstance(value, int) and not isinstance(value, Iterable):
        raise ArgumentError(f"{what} must be an integer or a list of integers, got {value!r}.")
    sizes = (value,) if isinstance(value, int) else tuple(value)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(f"{what} must be positive integers, got {value!r}.")
    return sizes
