"""Transforms one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, overload

from torch import Tensor, nn

from probflow._typing import Shape
from probflow.errors import ArgumentError, ShapeError
from probflow.printing import shape_text
from probflow.transforms.channel_run import Run, with_channel_runs
from probflow.transforms.containment import contains
from probflow.transforms.coupling_run import runs_of
from probflow.transforms.inverse import Inverse, decode_all, encode_all
from probflow.transforms.torch_transform import as_transform
from probflow.transforms.transform import Cost, Pair, Transform, added, no_logdet

Memory = Literal["store", "invert"]


class Compose(Transform):
    r"""The chain :math:`f = f_n \circ \dots \circ f_1`; z passes through the first entry first
    (Prince, *Understanding Deep Learning*, eq. 16.6-16.8).

    Iterable, indexable, sliceable: ``chain[2]`` is a transform, ``chain[:2]`` a chain with the same weights.

    memory: "store" keeps the activations of every layer for the backward pass; "invert" keeps those of the last one only, and
    recomputes the others by inverting layer after layer, so that memory does not grow with depth.  Layers onto a part of the line
    (a sigmoid) keep their input: far out floating-point numbers do not tell it.  First derivatives only.

    Errors: ArgumentError where an entry is no transform or its domain does not hold the values of the one before,
    ShapeError where declared shapes or contexts do not fit.

    >>> import torch
    >>> from probflow.transforms import Affine, Sigmoid
    >>> chain = Compose([Affine(2), Sigmoid()])
    >>> x, logdet = chain.forward_and_logdet(torch.zeros(1, 2))
    >>> x, logdet
    (tensor([[0.5000, 0.5000]], grad_fn=<SigmoidBackward0>), tensor([-2.7726], grad_fn=<AddBackward0>))
    """

    def __init__(self, transforms: Iterable[Any], memory: Memory = "store") -> None:
        super().__init__()
        if isinstance(transforms, (nn.Module, str)) and not isinstance(transforms, (nn.ModuleList, nn.Sequential, Compose)):
            raise ArgumentError("Compose takes a list of transforms: Compose([f1, f2]).")
        if memory not in ("store", "invert"):
            raise ArgumentError(f"Compose: memory must be 'store' or 'invert', got {memory!r}.")
        self.layers = nn.ModuleList([as_transform(entry) for entry in transforms])
        self.memory = memory
        parts = self._parts
        self.event_rank, self._output_rank = _ranks(parts)
        self.context = self._one_context(parts)
        self.shape = self._first_shape(parts)
        self.forward_cost, self.inverse_cost = _worst(p.forward_cost for p in parts), _worst(p.inverse_cost for p in parts)
        self.stochastic_forward = any(part.stochastic_forward for part in parts)
        self.stochastic_inverse = any(part.stochastic_inverse for part in parts)
        self.differentiable = all(part.differentiable for part in parts)
        self.differentiable_inverse = all(part.differentiable_inverse for part in parts)
        if parts:
            self.domain, self.codomain = parts[0].domain, parts[-1].codomain
        self._check_chain(parts)
        self._output = None if self.shape is None else self.forward_shape(self.shape)
        if memory == "invert":
            from probflow.transforms.memory import check_invertible

            check_invertible(parts)

    @property
    def _parts(self) -> tuple[Transform, ...]:
        return tuple(self.layers._modules.values())  # type: ignore[arg-type]

    @property
    def _runs(self) -> list[Run]:
        """The layers, couplings in a row that share their halves as one, and so a normalisation and a convolution side by side."""
        parts = self._parts
        made = self.__dict__.get("_made_runs")
        if made is None or made[0] != parts:  # modules are equal where they are the same: a layer exchanged makes new runs
            made = self.__dict__["_made_runs"] = (parts, with_channel_runs(runs_of(parts)))
        return made[1]

    @property
    def output_rank(self) -> int:
        return self._output_rank

    @property
    def output_shape(self) -> Shape | None:
        return self._output

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_made_runs"}  # a copy has layers of its own

    # ------------------------------------------------------------------ the map

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        if self.memory == "invert":
            from probflow.transforms.memory import run

            return run(self._parts, z, context, inverse=False)
        total: Tensor | None = None
        for layer in self._runs:
            z, logdet = layer._forward_and_logdet(z, None if layer.context is None else context)
            total = added(total, logdet)
        return z, _of_rows(z, total)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        if self.memory == "invert" or self.forward_cost == "absent":
            return super().forward(z, context)
        context = self._checked(z, self.shape, context)
        for layer in self._runs:  # the log-determinants are not wanted, so they are not added up
            z = layer._forward(z, None if layer.context is None else context)
        return z

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        if self.memory == "invert":
            from probflow.transforms.memory import run

            return run(self._parts, x, context, inverse=True)
        total: Tensor | None = None
        for layer in reversed(self._runs):
            x, logdet = layer._inverse_and_logdet(x, None if layer.context is None else context)
            total = added(total, logdet)
        return x, _of_rows(x, total)

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        return encode_all(self._parts, x, context)

    def decode(self, z: Tensor, noise: tuple[Tensor, ...] = (), context: Tensor | None = None) -> Tensor:
        if len(noise) != self.noise_parts:
            raise ArgumentError(f"{self._title()}.decode needs {self.noise_parts} pieces of noise, got {len(noise)}.")
        return decode_all(self._parts, z, noise, context)

    @property
    def noise_parts(self) -> int:
        return sum(layer.noise_parts for layer in self._parts)

    # ------------------------------------------------------------------ a sequence

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self._parts)

    @overload
    def __getitem__(self, index: int) -> Transform: ...

    @overload
    def __getitem__(self, index: slice) -> Compose: ...

    def __getitem__(self, index: int | slice) -> Transform:
        return Compose(self._parts[index], memory=self.memory) if isinstance(index, slice) else self._parts[index]

    def tempered(self, temperature: float) -> Transform:
        parts = [layer.tempered(temperature) for layer in self._parts]
        same = all(a is b for a, b in zip(parts, self._parts, strict=True))
        return self if same else Compose(parts, memory=self.memory)

    # ------------------------------------------------------------------ shapes and domains

    def forward_shape(self, shape: Shape) -> Shape:
        for layer in self._parts:
            shape = layer.forward_shape(shape)
        return shape

    def inverse_shape(self, shape: Shape) -> Shape:
        for layer in reversed(self._parts):
            shape = layer.inverse_shape(shape)
        return shape

    def _first_shape(self, parts: tuple[Transform, ...]) -> Shape | None:
        """The event shape of z, traced back from the first layer that declares one."""
        for place, part in enumerate(parts):
            if part.shape is not None:
                shape = part.shape
                for earlier in reversed(parts[:place]):
                    shape = earlier.inverse_shape(shape)
                return shape
        return None

    def _check_chain(self, parts: tuple[Transform, ...]) -> None:
        shape = self.shape
        for place, part in enumerate(parts):
            before = f"layer {place - 1} ({parts[place - 1]._title()})" if place else "z"
            if shape is not None:
                if part.shape is not None and part.shape != shape:
                    raise ShapeError(
                        f"Compose: layer {place} ({part._title()}) takes events of shape {shape_text(part.shape)}, but {before} gives "
                        f"{shape_text(shape)}."
                    )
                shape = part.forward_shape(shape)
            if place and not contains(part.domain, parts[place - 1].codomain):
                raise ArgumentError(
                    f"Compose: layer {place} ({part._title()}) takes {part.domain.text}, but {before} gives "
                    f"{parts[place - 1].codomain.text}.{_turn(parts)}"
                )

    def _one_context(self, parts: tuple[Transform, ...]) -> Shape | None:
        known = {part.context: part for part in parts if part.context is not None}
        if len(known) > 1:
            sizes = ", ".join(f"{part._title()} {shape_text(size or ())}" for size, part in known.items())
            raise ShapeError(f"Compose: its layers take contexts of different shapes: {sizes}. All layers get the same one.")
        return next(iter(known), None)

    def _title(self) -> str:
        names = [part._title() for part in self._parts]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"Compose([{shown}])"


def _of_rows(value: Tensor, total: Tensor | None) -> Tensor:
    """The sum of log-determinants; where it is one number, once per row."""
    if total is None:
        return no_logdet(value)
    return total if total.dim() else total.expand(value.shape[0])


def _turn(parts: tuple[Transform, ...]) -> str:
    """The other way to write a chain from x to z, whose layers are turned around one by one."""
    if not all(isinstance(part, Inverse) for part in parts):
        return ""
    names = ", ".join(part.inv._title() for part in reversed(parts))
    return f"\nWrite a chain in its order from z to x, Compose([{names}]); its .inv is the direction from x to z."


def _ranks(parts: Iterable[Transform]) -> tuple[int, int]:
    """The event ranks of z and of x: the least with which every layer gets its own, where layers change the number of dimensions."""
    needed = more = 0  # of z; how many dimensions more the values have now than z
    for part in parts:
        needed = max(needed, part.event_rank - more)
        more += part.output_rank - part.event_rank
    return needed, needed + more


def _worst(costs: Iterable[Cost]) -> Cost:
    """A chain is as expensive as its most expensive layer."""
    order: tuple[Cost, ...] = ("one pass", "iterative", "absent")
    return order[max((order.index(cost) for cost in costs), default=0)]
