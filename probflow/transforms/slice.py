"""Layers that change the number of dimensions: slicing part of the event away, and augmenting it with noise (SurVAE flows)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probflow._typing import Shape
from probflow.errors import ArgumentError, ShapeError
from probflow.nn.conditioners import zero_
from probflow.nn.convolutional import ConvConditioner, resized
from probflow.printing import shape_text
from probflow.transforms.affine import AffineMap
from probflow.transforms.elementwise import Elementwise
from probflow.transforms.transform import Pair, Transform, as_context, as_shape, sum_event

Noise = tuple[Tensor, ...]


class NoiseMap(nn.Module):
    r"""A density :math:`p(u \mid g)` that can be drawn from and evaluated: :math:`u = t(\epsilon; g)`, where
    :math:`\epsilon \sim \mathcal N(0, T^2 I)` and t is a transform whose context is g.

    shape, given: the event shapes of u and g; a context, if there is one, is appended to g: as constant or resized channels
    to an image, flattened to anything else.  By default t is affine, its location and log-scale are computed from g by one
    convolution for images, else one linear map (`hidden` puts layers in front), and start at zero: a standard normal.
    """

    def __init__(
        self,
        shape: Shape,
        given: Shape,
        context: Shape | None,
        transform: Transform | None,
        hidden: Sequence[int],
        temperature: float,
        title: str,
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ArgumentError(
                f"{title}: temperature must be positive, got {temperature!r}.\nFor a result without noise, call decode with zeros."
            )
        self.shape, self.title, self.temperature = shape, title, temperature
        given = _appended(given, context)
        self.transform = transform = _affine(shape, given, hidden) if transform is None else transform
        if not isinstance(transform, Transform):
            raise ArgumentError(f"{title}: transform must be a Transform, or None, got a {type(transform).__name__}.")
        for what, found in (("noise", transform.shape), ("results", transform.output_shape)):
            if found not in (None, shape):
                raise ShapeError(
                    f"{title}: the transform's {what} have shape {shape_text(found)}, expected {shape_text(shape)}."
                )
        if transform.context not in (None, given):
            raise ShapeError(
                f"{title}: the transform takes a context of shape {shape_text(transform.context)}, "
                f"but is given {shape_text(given)}{'' if context is None else ', the context appended'}.\n"
                f"Write: context={given}"
            )
        if transform.stochastic_forward or transform.stochastic_inverse:
            raise ArgumentError(f"{title}: the transform draws noise of its own; its density would not be exact.")

    def sample(self, given: Tensor, context: Tensor | None) -> Pair:
        """u drawn from p(u | g), and log p(u | g)."""
        noise = torch.randn(given.shape[0], *self.shape, dtype=given.dtype, device=given.device)
        return self.push(noise, given, context)

    def push(self, noise: Tensor, given: Tensor, context: Tensor | None) -> Pair:
        """u = t(ε; g) and log p(u | g), from standard normal noise ε / T."""
        u, logdet = self.transform._forward_and_logdet(self.temperature * noise, self._given(given, context))
        return u, self._log_normal(noise) - sum_event(logdet)

    def pull(self, u: Tensor, given: Tensor, context: Tensor | None) -> Pair:
        """The standard normal noise ε / T with ε = t⁻¹(u; g), and log p(u | g)."""
        noise, logdet = self.transform._inverse_and_logdet(u, self._given(given, context))
        noise = noise / self.temperature
        return noise, self._log_normal(noise) + sum_event(logdet)

    def _given(self, given: Tensor, context: Tensor | None) -> Tensor | None:
        if self.transform.context is None:
            return None
        if context is None:
            return given
        if given.dim() != 4:
            return torch.cat([_vectors(given), _vectors(context)], 1)
        if context.dim() != 4:
            context = _vectors(context)[:, :, None, None].expand(-1, -1, *given.shape[2:])
        return torch.cat([given, resized(context, given)], 1)

    def _log_normal(self, noise: Tensor) -> Tensor:
        """log N(ε; 0, T² I), from ε / T."""
        return sum_event(-0.5 * noise.square() - (0.5 * math.log(2 * math.pi) + math.log(self.temperature)))


class Slice(Transform):
    r"""The layer of a multi-scale architecture: x = (z, u), where u is drawn from a density given z (Nielsen et al., *SurVAE
    flows*, arXiv:2007.02731, table 3; the split of RealNVP, arXiv:1605.08803, section 3.6, and its conditional prior in Glow).

    .. math:: x = (z, u), \quad u = t(\epsilon; z), \quad \epsilon \sim \mathcal N(0, I), \qquad
              \log p(x) = \log p(z) + \log p(u \mid z).

    The inverse keeps z, the first `keep` channels of x, and is deterministic, so that the density stays **exact**;
    ``inverse_and_logdet`` returns z and V = log p(u | z), ``forward_and_logdet`` draws u and returns x and -V, in nats.

    shape: the **data's**, ``(channels, height, width)`` or ``(features,)``; keep: how many of dimension 1 go on as z.
    transform: t, any transform of shape ``u`` with a context of the shape of z (with `context`, that is appended: as further
    channels to an image, else flattened).  By default affine; its location and log-scale come from one convolution of z, or
    one linear map for vectors, and start at zero; `hidden` puts layers in front.

    Errors: ArgumentError where `keep` leaves nothing or everything, ShapeError where the transform does not fit.

    >>> layer = Slice((4, 8, 8), keep=2)
    >>> z, log_prob = layer.inverse_and_logdet(torch.randn(5, 4, 8, 8))
    >>> z.shape, log_prob.shape, layer.forward(z).shape
    (torch.Size([5, 2, 8, 8]), torch.Size([5]), torch.Size([5, 4, 8, 8]))
    """

    stochastic_forward = True

    def __init__(
        self,
        shape: int | Shape,
        keep: int,
        transform: Transform | None = None,
        *,
        context: int | Shape | None = None,
        hidden: Sequence[int] = (),
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        data = as_shape(shape, "Slice")
        if isinstance(keep, bool) or not isinstance(keep, int) or not 0 < keep < data[0]:
            raise ArgumentError(f"Slice: keep must be 1 ... {data[0] - 1} of the {data[0]} along dimension 1, got {keep!r}.")
        self.shape, self.dropped = (keep, *data[1:]), (data[0] - keep, *data[1:])
        self.event_rank = len(data)
        self.context = as_context(context, "Slice")
        self.noise = NoiseMap(self.dropped, self.shape, self.context, transform, hidden, temperature, "Slice")
        inner = self.noise.transform
        self.forward_cost, self.inverse_cost = inner.forward_cost, inner.inverse_cost

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        u, log_prob = self.noise.sample(z, context)
        return torch.cat([z, u], 1), -log_prob

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        z, u = x.split((x.shape[1] - self.dropped[0], self.dropped[0]), 1)
        return z, self.noise.pull(u, z, context)[1]

    # ------------------------------------------------------------------ the noise in the open

    @property
    def noise_parts(self) -> int:
        """One: the noise of u."""
        return 1

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Noise, Tensor]:
        """z, the standard normal noise that makes u, and V = log p(u | z): ``decode(z, noise, context)`` is x again."""
        context = self._checked(x, self.output_shape, context)
        z, u = x.split((x.shape[1] - self.dropped[0], self.dropped[0]), 1)
        noise, log_prob = self.noise.pull(u, z, context)
        return z, (noise,), log_prob

    def decode(self, z: Tensor, noise: Noise = (), context: Tensor | None = None) -> Tensor:
        """x = (z, t(ε; z)) for noise of your own, where `forward` draws it."""
        context = self._checked(z, self.shape, context)
        if len(noise) != 1 or tuple(noise[0].shape) != (z.shape[0], *self.dropped):
            raise ShapeError(
                f"Slice: noise must be one tensor of shape {shape_text((z.shape[0], *self.dropped))}, "
                f"got {', '.join(shape_text(part.shape) for part in noise) or 'none'}."
            )
        return torch.cat([z, self.noise.push(noise[0], z, context)[0]], 1)

    def tempered(self, temperature: float) -> Transform:
        """The same layer with ε ~ N(0, temperature² I), in samples and in the density; weights are shared."""
        total = self.noise.temperature * temperature
        data = self.forward_shape(self.shape or ())
        return Slice(data, data[0] - self.dropped[0], self.noise.transform, context=self.context, temperature=total)

    def forward_shape(self, shape: Shape) -> Shape:
        return shape[0] + self.dropped[0], *shape[1:]

    def inverse_shape(self, shape: Shape) -> Shape:
        return shape[0] - self.dropped[0], *shape[1:]


class Augment(Transform):
    r"""Noise beside the data on the way to z: z = (x, u) with u drawn from q(u | x); the generative direction drops u
    (arXiv:2007.02731, table 3, slicing in the generative direction; augmented flows, Huang et al., arXiv:2002.07101).

    .. math:: \log p(x) \ge \mathbb E_{q(u \mid x)}\left[\log p(z) - \log q(u \mid x)\right], \qquad
              u = t(\epsilon; x), \quad \epsilon \sim \mathcal N(0, I).

    A flow behind it has more dimensions to move in, at the price of an exact density: ``inverse_and_logdet`` draws u and
    returns V = -log q(u | x), in nats, of which the **lower bound** is made.  It is tight where q(u | x) is the posterior of u.

    shape: the **data's**; extra: how many channels or features u adds to dimension 1.  transform, hidden: of u given x, as
    for :class:`Slice`.

    Errors: ArgumentError where `extra` is not positive, or the transform cannot be computed both ways; ShapeError where it
    does not fit.

    >>> layer = Augment(3, extra=2)
    >>> z, contribution = layer.inverse_and_logdet(torch.randn(5, 3))
    >>> z.shape, layer.forward(z).shape
    (torch.Size([5, 5]), torch.Size([5, 3]))
    """

    stochastic_inverse = True

    def __init__(
        self,
        shape: int | Shape,
        extra: int,
        transform: Transform | None = None,
        *,
        context: int | Shape | None = None,
        hidden: Sequence[int] = (),
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        data = as_shape(shape, "Augment")
        if isinstance(extra, bool) or not isinstance(extra, int) or extra < 1:
            raise ArgumentError(f"Augment: extra must be a positive number of channels or features, got {extra!r}.")
        self.extra = extra
        self.shape = (data[0] + extra, *data[1:])
        self.event_rank = len(data)
        self.context = as_context(context, "Augment")
        self.noise = NoiseMap((extra, *data[1:]), data, self.context, transform, hidden, temperature, "Augment")
        inner = self.noise.transform
        if "absent" in (inner.forward_cost, inner.inverse_cost):
            raise ArgumentError(
                f"Augment: {inner._title()} cannot be computed in both directions; q(u | x) has to be drawn and evaluated."
            )
        self.forward_cost, self.inverse_cost = inner.inverse_cost, inner.forward_cost

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        x, u = z.split((z.shape[1] - self.extra, self.extra), 1)
        return x, self.noise.pull(u, x, context)[1]

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        u, log_prob = self.noise.sample(x, context)
        return torch.cat([x, u], 1), -log_prob

    def tempered(self, temperature: float) -> Transform:
        """The same layer with ε ~ N(0, temperature² I) in q(u | x), drawn and evaluated: a bound again; weights are shared."""
        total = self.noise.temperature * temperature
        data = self.forward_shape(self.shape or ())
        return Augment(data, self.extra, self.noise.transform, context=self.context, temperature=total)

    def forward_shape(self, shape: Shape) -> Shape:
        return shape[0] - self.extra, *shape[1:]

    def inverse_shape(self, shape: Shape) -> Shape:
        return shape[0] + self.extra, *shape[1:]


def _vectors(values: Tensor) -> Tensor:
    """``(batch, *event)`` as ``(batch, features)``, of a scalar event and of an empty batch too."""
    return values.unsqueeze(1) if values.dim() == 1 else values.flatten(1)


def _appended(given: Shape, context: Shape | None) -> Shape:
    """The shape of g with the context appended."""
    if context is None:
        return given
    if len(given) == 3:
        return given[0] + (context[0] if len(context) == 3 else math.prod(context)), *given[1:]
    return (math.prod(given) + math.prod(context),)


def _affine(shape: Shape, given: Shape, hidden: Sequence[int]) -> Transform:
    # the only layer between this part and its noise: its scale may range wider than a coupling's
    map = AffineMap(bound=4.0)
    if len(shape) != 3:
        return Elementwise(map, shape, context=given, hidden=hidden)
    channels, out = given[0], map.width * shape[0]
    net: nn.Module = ConvConditioner(channels, hidden[0], out) if hidden else zero_(nn.Conv2d(channels, out, 3, padding=1))
    # an elementwise map flattens its context and takes flat parameters
    return Elementwise(map, shape, context=given, conditioner=nn.Sequential(nn.Unflatten(1, given), net, nn.Flatten(1)))
