"""What every transform is: a map with its log-determinant, both ways, and what it says of itself."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from probflow import domains
from probflow._typing import Shape
from probflow.domains import Domain
from probflow.errors import ArgumentError, NetworkError, NoInverse, ShapeError
from probflow.printing import shape_text

Cost: TypeAlias = Literal["one pass", "iterative", "absent"]
"""What one direction costs: one evaluation, several (a loop or a root search), or it cannot be computed at all."""

Pair: TypeAlias = tuple[Tensor, Tensor]


class Transform(nn.Module):
    r"""A map :math:`x = f(z; c)` from noise z to data x, with :math:`\log\left|\det \partial f/\partial z\right|`.

    `forward_and_logdet` is the generative direction z → x, as in ``torch.distributions`` (Prince, *Understanding Deep Learning*,
    ch. 16, eq. 16.1); ``transform.inv`` turns it around.  Nothing is remembered between calls.

    Shapes: z and x are ``(batch, *event)``, the context ``(batch, *context)``, a log-determinant ``(batch,)``, in nats.

    A stochastic transform obeys the same contract, with the likelihood contribution in place of the log-determinant
    (Nielsen et al., arXiv:2007.02731, eq. 4): ``inverse_and_logdet(x)`` returns z and V with
    :math:`\log p(x) = \log p(z) + V`, exactly if the inverse is deterministic, else in expectation a lower bound;
    ``forward_and_logdet(z)`` returns x and -V.

    A transform of your own needs `_forward_and_logdet` and `_inverse_and_logdet`, the mathematics alone; shapes are checked
    before, and a log-determinant that is not yet summed over the event is summed after.  An input without an image gives any
    finite value and a log-determinant of -inf, never NaN.

    >>> import torch
    >>> class Double(Transform):
    ...     def _forward_and_logdet(self, z, context):
    ...         return 2 * z, torch.full_like(z, 2.0).log().flatten(1).sum(1)
    ...     def _inverse_and_logdet(self, x, context):
    ...         return x / 2, torch.full_like(x, 0.5).log().flatten(1).sum(1)
    >>> x, logdet = Double().forward_and_logdet(torch.ones(5, 3))
    >>> x.shape, logdet
    (torch.Size([5, 3]), tensor([2.0794, 2.0794, 2.0794, 2.0794, 2.0794]))
    """

    shape: Shape | None = None
    """The event shape of z, or None where any of at least `event_rank` dimensions will do."""

    event_rank: int = 0
    """The number of event dimensions that cannot be told apart: 0 for an elementwise map, 1 for vectors, 3 for images."""

    context: Shape | None = None
    """The shape of the context of one row; None where the transform takes none."""

    domain: Domain = domains.real
    codomain: Domain = domains.real
    """Where the elements of z, and of x, must be."""

    forward_cost: Cost = "one pass"
    inverse_cost: Cost = "one pass"

    stochastic_forward: bool = False
    """Whether x is drawn given z."""

    stochastic_inverse: bool = False
    """Whether z is drawn given x; a density is then, in expectation, a lower bound."""

    differentiable: bool = True
    """Whether x is a differentiable function of z (rounding is not)."""

    differentiable_inverse: bool = True
    """Whether z is a differentiable function of x."""

    uses_the_batch: bool = False
    """Whether rows influence each other while training (batch normalisation)."""

    @abstractmethod
    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        """f(z) and log|det ∂f/∂z|; shapes are checked."""
        raise self._lacks("_forward_and_logdet(self, z, context)")

    @abstractmethod
    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        """f⁻¹(x) and log|det ∂f⁻¹/∂x|; shapes are checked."""
        raise self._lacks("_inverse_and_logdet(self, x, context)")

    # ------------------------------------------------------------------ the map

    def forward_and_logdet(self, z: Tensor, context: Tensor | None = None) -> Pair:
        """x = f(z) and log|det ∂f/∂z|, of shape ``(batch,)``.

        Errors: ShapeError where z or the context does not have the declared shape, NoInverse where the direction is absent.
        """
        if self.forward_cost == "absent":
            raise NoInverse(f"{self._title()} cannot be computed from z to x, only from x to z.")
        x, logdet = self._forward_and_logdet(z, self._checked(z, self.shape, context))
        return x, (logdet if logdet.dim() == 1 else sum_event(logdet))

    def inverse_and_logdet(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """z = f⁻¹(x) and log|det ∂f⁻¹/∂x|, of shape ``(batch,)``.

        Errors: ShapeError where x or the context does not have the declared shape, NoInverse where there is no inverse.
        """
        z, logdet = self.inverse_and_terms(x, context)
        return z, (logdet if logdet.dim() == 1 else sum_event(logdet))

    def inverse_and_terms(self, x: Tensor, context: Tensor | None = None) -> Pair:
        """As :meth:`inverse_and_logdet`, the log-determinant perhaps not yet summed over the event: ``(batch, ...)``."""
        if self.inverse_cost == "absent":
            raise NoInverse(
                f"{self._title()} has no inverse that can be computed: its density is known only at values that it has just drawn.\n"
                "Use it in the generative direction: as a posterior, or fitted by reverse KL."
            )
        return self._inverse_and_logdet(x, self._checked(x, self.output_shape, context, self.output_rank))

    def _forward(self, z: Tensor, context: Tensor | None) -> Tensor:
        """f(z) alone; shapes are checked."""
        return self._forward_and_logdet(z, context)[0]

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """x = f(z)."""
        return self.forward_and_logdet(z, context)[0]

    def inverse(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """z = f⁻¹(x)."""
        return self.inverse_and_logdet(x, context)[0]

    @property
    def inv(self) -> Transform:
        """The same map turned around, with the same weights."""
        from probflow.transforms.inverse import Inverse

        return Inverse(self)

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """z, the standard normal noise that stochastic layers used up, and the likelihood contribution.

        ``decode(z, noise, context)`` gives x back, so that x can be edited and interpolated in the space of all its noise.
        """
        z, logdet = self.inverse_and_logdet(x, context)
        return z, (), logdet

    def decode(self, z: Tensor, noise: tuple[Tensor, ...] = (), context: Tensor | None = None) -> Tensor:
        """x from z and from the noise of stochastic layers."""
        return self.forward(z, context)

    @property
    def noise_parts(self) -> int:
        """How many pieces of noise `encode` returns."""
        return 0

    # ------------------------------------------------------------------ what it says of itself

    def forward_shape(self, shape: Shape) -> Shape:
        """The event shape of x for an event shape of z."""
        return shape

    def inverse_shape(self, shape: Shape) -> Shape:
        """The event shape of z for an event shape of x."""
        return shape

    @property
    def output_shape(self) -> Shape | None:
        """The event shape of x, where that of z is declared."""
        return None if self.shape is None else self.forward_shape(self.shape)

    @property
    def output_rank(self) -> int:
        """`event_rank` of x, which is that of z where the map keeps the number of dimensions."""
        return self.event_rank

    @property
    def is_bound(self) -> bool:
        """Whether a density is, in expectation, a lower bound instead of exact."""
        return self.stochastic_inverse

    def tempered(self, temperature: float) -> Transform:
        """The same map with the noise of its own, if it has any, scaled by `temperature`; weights are shared."""
        return self

    # ------------------------------------------------------------------ checks

    def _checked(self, value: Tensor, shape: Shape | None, context: Tensor | None, rank: int | None = None) -> Tensor | None:
        """The context, once the shapes of both are right."""
        rank = self.event_rank if rank is None else rank
        if shape is not None:
            if value.shape[1:] != shape:
                raise ShapeError(
                    f"{self._title()} takes events of shape {shape_text(shape)}, expected {_batch(shape)}, "
                    f"got {shape_text(value.shape)}."
                )
        elif value.dim() < 1 + rank:
            raise ShapeError(
                f"{self._title()} takes events of at least {rank} dimension(s) behind the batch, "
                f"got {shape_text(value.shape)}.\nFor a single data point write x[None]."
            )
        if self.context is None:
            return None
        if context is None:
            raise ArgumentError(f"{self._title()} needs a context of shape {_batch(self.context)}: pass context=....")
        if context.shape[1:] != self.context or context.shape[0] != value.shape[0]:
            raise ShapeError(
                f"{self._title()}: the context has shape {shape_text(context.shape)}, expected "
                f"({', '.join(map(str, (value.shape[0], *self.context)))}{'' if self.context else ','})."
            )
        return context

    def _lacks(self, method: str) -> ArgumentError:
        return ArgumentError(
            f"{self._title()} has no {method}.\nA transform of your own defines _forward_and_logdet and _inverse_and_logdet; "
            "each returns the value and the log-determinant of its direction."
        )

    def _title(self) -> str:
        return type(self).__name__


def sum_event(elements: Tensor) -> Tensor:
    """``(batch, *event)`` summed over the event: ``(batch,)``."""
    if elements.dim() == 2:
        return elements.sum(1)
    return elements if elements.dim() < 2 else elements.flatten(1).sum(1)


def added(total: Tensor | None, logdet: Tensor) -> Tensor:
    """Log-determinants added up; elementwise ones of one shape are summed over the event later, once for all layers."""
    if total is None:
        return logdet
    if total.shape != logdet.shape:
        total, logdet = sum_event(total), sum_event(logdet)
    return total + logdet


def no_logdet(value: Tensor) -> Tensor:
    """The log-determinant of a map that keeps volumes: zeros of shape ``(batch,)``."""
    return torch.zeros_like(value.flatten(1)[:, :0].sum(1)) if value.dim() > 1 else torch.zeros_like(value)


def as_shape(value: int | tuple[int, ...] | list[int] | torch.Size, what: str) -> Shape:
    """``3``, ``(3,)``, ``[3, 8, 8]`` as an event shape."""
    sizes: tuple[object, ...] = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(f"{what} must be a positive integer or a shape of them, got {value!r}.")
    return cast(Shape, sizes)


def as_context(value: int | tuple[int, ...] | list[int] | None, what: str) -> Shape | None:
    """The shape of a context; None and 0 mean that there is none."""
    return None if value is None or value == 0 else as_shape(value, f"{what}: context")


def check_width(outputs: Tensor, width: int, context: Tensor, title: str) -> None:
    """What a conditioner makes of a context is ``(N, width)``."""
    if outputs.shape[1:] != (width,):
        raise NetworkError(
            f"{title}: the conditioner gives {shape_text(outputs.shape)} for a context {shape_text(context.shape)}, expected "
            f"({context.shape[0]}, {width})."
        )


def _batch(shape: Shape) -> str:
    return f"(batch{''.join(f', {size}' for size in shape)}{'' if shape else ','})"
