"""A transform turned around, and the noise of layers one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from probflow._typing import Shape
from probflow.errors import NoInverse
from probflow.transforms.transform import Pair, Transform, no_logdet


class Inverse(Transform):
    """A transform turned around: its forward is the other's inverse.  ``transform.inv`` makes it.

    >>> import torch
    >>> import probflow as pf
    >>> up = pf.transforms.Exp()
    >>> down = up.inv
    >>> type(down).__name__, down.inv is up, down.forward_and_logdet(torch.ones(1, 2))[0]
    ('Inverse', True, tensor([[0., 0.]]))
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform
        self.event_rank, self.context = transform.output_rank, transform.context
        self.domain, self.codomain = transform.codomain, transform.domain
        self.forward_cost, self.inverse_cost = transform.inverse_cost, transform.forward_cost
        self.stochastic_forward, self.stochastic_inverse = transform.stochastic_inverse, transform.stochastic_forward
        self.differentiable, self.differentiable_inverse = transform.differentiable_inverse, transform.differentiable
        self.shape = transform.output_shape

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return self.transform._inverse_and_logdet(z, context)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return self.transform._forward_and_logdet(x, context)

    @property
    def inv(self) -> Transform:
        return self.transform

    def _turned(self) -> list[Transform]:
        """The layers of a chain turned around, each of which knows its noise; none where it is no chain."""
        from probflow.transforms.compose import Compose

        inner = self.transform
        return [layer.inv for layer in reversed(list(inner))] if isinstance(inner, Compose) else []

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        layers = self._turned()
        if layers:
            return encode_all(layers, x, context)
        if self.stochastic_forward:
            raise NoInverse(
                f"{self._title()} does not tell the noise that it draws from z to x: write the layer as a Slice, which does."
            )
        return super().encode(x, context)

    def decode(self, z: Tensor, noise: tuple[Tensor, ...] = (), context: Tensor | None = None) -> Tensor:
        layers = self._turned()
        return decode_all(layers, z, noise, context) if layers else super().decode(z, noise, context)

    @property
    def noise_parts(self) -> int:
        return sum(layer.noise_parts for layer in self._turned())

    @property
    def output_rank(self) -> int:
        return self.transform.event_rank

    def forward_shape(self, shape: Shape) -> Shape:
        return self.transform.inverse_shape(shape)

    def inverse_shape(self, shape: Shape) -> Shape:
        return self.transform.forward_shape(shape)

    def tempered(self, temperature: float) -> Transform:
        inner = self.transform.tempered(temperature)
        return self if inner is self.transform else Inverse(inner)

    def _title(self) -> str:
        return f"{self.transform._title()}.inv"


def encode_all(layers: Sequence[Transform], x: Tensor, context: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """`encode` of layers one after the other, from the last to the first."""
    noise: tuple[Tensor, ...] = ()
    total = no_logdet(x)
    for layer in reversed(layers):
        x, own, logdet = layer.encode(x, None if layer.context is None else context)
        noise, total = own + noise, total + logdet
    return x, noise, total


def decode_all(layers: Sequence[Transform], z: Tensor, noise: tuple[Tensor, ...], context: Tensor | None) -> Tensor:
    """`decode` of layers one after the other, each with its own pieces of the noise."""
    for layer in layers:
        own, noise = noise[: layer.noise_parts], noise[layer.noise_parts :]
        z = layer.decode(z, own, None if layer.context is None else context)
    return z
