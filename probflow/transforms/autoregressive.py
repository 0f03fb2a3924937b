"""Autoregressive flows: every feature is mapped with parameters that the features before it, and the context, decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from probflow._typing import Shape
from probflow.errors import ArgumentError, NetworkError, ShapeError
from probflow.nn.masked import MADE, dependence, steps_of
from probflow.printing import shape_text
from probflow.transforms.incremental import by_passes, by_units
from probflow.transforms.scalar import ScalarMap, as_precise_as, as_scalar_map, fast_density
from probflow.transforms.transform import Pair, Transform, as_context, as_shape


class Autoregressive(Transform):
    r"""A masked autoregressive layer for every scalar map (MAF, Papamakarios et al., arXiv:1705.07057, section 3; in general
    Papamakarios et al., arXiv:1912.02762, section 3.1):

    .. math:: x_i = \tau\big(z_i;\, h_i(x_{<i}, c)\big), \qquad \log|\det J| = \sum_i \log \tau'(z_i; h_i).

    **x → z, a density, is one pass; z → x, sampling, is iterative**: x is found feature after feature.  With the default network
    every hidden unit is still evaluated once only, so that sampling costs about as much arithmetic as a pass, in many small
    pieces; with a conditioner of your own it costs `passes` passes.  ``.inv`` is the inverse autoregressive flow (IAF, Kingma et
    al., arXiv:1606.04934): sampling in one pass, the density of given data iterative.

    The conditioner starts at zero, and with it the layer as the identity.

    transformer: "affine" (MAF), "additive", "spline" (NSF), ..., or a :class:`ScalarMap`.  One whose own inverse is iterative is
    turned around, so that the density stays one pass.
    order: "natural", "reverse", or the features in their order, first one first.
    adjacency: instead of an order, a boolean ``(features, features)`` matrix: row i says which features :math:`h_i` may use.
    `passes` is then the depth of this graph, 2 for a coupling-like one.
    hidden, activation: of the default network, a :class:`~probflow.nn.MADE`.
    conditioner: a module of your own, from x (and the context, if there is one) to ``(N, width * features)``; its first `features`
    outputs are the first number of every feature's h, and so on.  It must keep to the order or the adjacency, and be zero at
    the start for the layer to start as the identity.

    Errors: ArgumentError, ShapeError, CycleError as for :class:`~probflow.nn.MADE`; ArgumentError where a conditioner is seen to break the order.

    >>> import torch
    >>> layer = Autoregressive(3, "affine", context=2)
    >>> z, c = torch.randn(5, 3), torch.randn(5, 2)
    >>> x, logdet = layer.forward_and_logdet(z, c)
    >>> torch.equal(x, z), logdet.shape
    (True, torch.Size([5]))
    >>> layer.inverse_cost, layer.forward_cost, layer.inv.forward_cost
    ('one pass', 'iterative', 'one pass')
    """

    event_rank = 1
    _by_step: Tensor

    def __init__(
        self,
        features: int,
        transformer: ScalarMap | str = "affine",
        *,
        hidden: Sequence[int] = (128, 128),
        context: int | Shape | None = None,
        order: str | Sequence[int] | Tensor = "natural",
        adjacency: Tensor | None = None,
        conditioner: nn.Module | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        title = type(self).__name__
        self.shape = as_shape(features, title)
        if len(self.shape) != 1:
            raise ArgumentError(f"{title} maps vectors: give the number of features, got {shape_text(self.shape)}.")
        self.context = as_context(context, title)
        self.map = fast_density(as_scalar_map(transformer))
        self.domain, self.codomain = self.map.domain, self.map.codomain
        if isinstance(conditioner, MADE):
            self._check_made(conditioner, order, adjacency)
            steps = conditioner.steps
        else:
            uses = dependence(features, order, adjacency)
            steps = steps_of(uses)
            if conditioner is not None:
                self._check_conditioner(conditioner, uses)
        self.conditioner = conditioner or MADE(
            features, hidden, self.map.width, self._context_width, order=order, adjacency=adjacency, activation=activation
        )
        self.passes = len(steps)
        self.inverse_cost = self.map.inverse_cost
        self.forward_cost = "iterative" if self.passes > 1 and self.map.forward_cost == "one pass" else self.map.forward_cost
        self._sizes = [len(own) for own in steps]
        self.register_buffer("_by_step", torch.tensor([i for own in steps for i in own]), persistent=False)

    # ------------------------------------------------------------------ the map

    def _h(self, x: Tensor, context: Tensor | None) -> Tensor:
        """h, of shape (N, width, features), or as the conditioner gives it where the map takes that."""
        h = as_precise_as(x, self.conditioner(x) if context is None else self.conditioner(x, context))
        return h if self.map.flat else h.reshape(h.shape[0], self.map.width, self._features)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        if type(self.conditioner) is MADE:
            return by_units(self.conditioner, self.map, z, context)

        return by_passes(lambda x: self._h(x, context), self.map, self._by_step.split(self._sizes), z)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        z, logdet = self.map.inverse_and_logdet(x, self._h(x, context))
        return z, logdet

    def extra_repr(self) -> str:
        return f"passes={self.passes}"

    # ------------------------------------------------------------------ conditioners

    @property
    def _features(self) -> int:
        return (self.shape or (1,))[0]

    @property
    def _context_width(self) -> int:
        return 0 if self.context is None else math.prod(self.context)

    def _check_made(self, net: MADE, order: str | Sequence[int] | Tensor, adjacency: Tensor | None) -> None:
        if adjacency is not None or not (isinstance(order, str) and order == "natural"):
            raise ArgumentError(f"{self._title()}: the MADE has an order of its own; leave out order= and adjacency= here.")
        expected = (self._features, self.map.width, self._context_width)
        got = (net.features, net.out_per_feature, net.context)
        if got != expected:
            names = ("features", "out_per_feature", "context")
            raise ShapeError(
                f"{self._title()}: the MADE has {', '.join(f'{n}={v}' for n, v in zip(names, got, strict=True))}, expected "
                f"{', '.join(f'{n}={v}' for n, v in zip(names, expected, strict=True))}."
            )

    def _check_conditioner(self, conditioner: nn.Module, uses: Tensor) -> None:
        """One backward pass over as many rows as features: row i asks which features the output for feature i depends on."""
        like = next((p for p in conditioner.parameters() if p.is_floating_point()), torch.empty(()))
        if like.device.type == "meta":
            return
        n, width = self._features, self.map.width * self._features
        modes = {module: module.training for module in conditioner.modules()}
        x = torch.linspace(-1, 1, n * n, dtype=like.dtype, device=like.device).reshape(n, n).requires_grad_()
        inputs = [x] if self.context is None else [x, x.detach().new_ones(n, *self.context)]
        try:
            with torch.enable_grad():
                out = conditioner.eval()(*inputs)
        except Exception as error:
            raise NetworkError(
                f"{self._title()}: the conditioner failed on x of shape ({n}, {n})"
                f"{'' if self.context is None else f' and a context of shape ({n}, {self.context})'}: {error}"
            ) from error
        finally:
            for module, training in modes.items():
                module.training = training
        if not isinstance(out, Tensor) or tuple(out.shape) != (n, width):
            got = shape_text(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise NetworkError(
                f"{self._title()}: the conditioner gives {got} for {n} rows, expected ({n}, {width}) = (N, width * features)."
            )
        if not out.requires_grad:
            return
        own = out.unflatten(1, (self.map.width, n)).abs().sum(1).diagonal().sum()
        (found,) = torch.autograd.grad(own, x, allow_unused=True)
        wrong = [] if found is None else ((found.cpu() != 0) & ~uses).nonzero().tolist()
        if wrong:
            i, j = wrong[0]
            raise ArgumentError(
                f"{self._title()}: the conditioner's output for feature {i} depends on feature {j}, which it may not use: "
                f"it would not be invertible as computed.\nUse an autoregressive network, or the order= or adjacency= that it keeps to."
            )
