"""Scalar maps: monotone functions of one number with free parameters, which couplings and autoregressions apply elementwise."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from probflow import domains
from probflow.domains import Domain
from probflow.errors import ArgumentError
from probflow.printing import did_you_mean
from probflow.transforms.transform import Cost, Pair


class ScalarMap(nn.Module):
    r"""A monotone map :math:`x = \tau(z; h)` of every element, where h are `width` unconstrained numbers per element.

    The "transformer" of Papamakarios et al., *Normalizing flows for probabilistic modeling and inference*
    (arXiv:1912.02762, section 3.1); the conditioner supplies h.  **h = 0 is the identity**, exactly, so that every coupling and
    autoregression starts as the identity.  Any h gives an invertible map.

    Shapes: z is ``(N, *event)``, h is ``(N or 1, width, *event)``; the logarithm of the derivative is elementwise, ``(N, *event)``.
    A value without a preimage gives a finite number and a log-derivative of -inf.

    >>> import torch
    >>> import probflow as pf
    >>> tau = pf.transforms.AffineMap()
    >>> tau.width  # per element the conditioner supplies a log-scale and a shift
    2
    >>> z, h = torch.randn(5, 3), torch.randn(5, 2, 3)
    >>> x, up = tau.forward_and_logdet(z, h)
    >>> back, down = tau.inverse_and_logdet(x, h)
    >>> torch.allclose(back, z, atol=1e-5), torch.allclose(up, -down)
    (True, True)
    """

    width: int = 1
    """How many numbers the conditioner supplies per element."""

    flat: bool = False
    """Whether h may also come as ``(N, width * C, ...)`` for z of shape ``(N, C, ...)``: as a conditioner gives it.  A subclass says
    so itself."""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        cls.flat = cls.__dict__.get("flat", False)

    domain: Domain = domains.real
    codomain: Domain = domains.real
    forward_cost: Cost = "one pass"
    inverse_cost: Cost = "one pass"

    @abstractmethod
    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        """τ(z; h) and log dτ/dz, elementwise."""

    @abstractmethod
    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        """τ⁻¹(x; h) and log dτ⁻¹/dx, elementwise."""


class Turned(ScalarMap):
    """A scalar map turned around."""

    def __init__(self, map: ScalarMap) -> None:
        super().__init__()
        self.map = map
        self.width = map.width
        self.domain, self.codomain = map.codomain, map.domain
        self.forward_cost, self.inverse_cost = map.inverse_cost, map.forward_cost

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> Pair:
        return self.map.inverse_and_logdet(z, h)

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> Pair:
        return self.map.forward_and_logdet(x, h)


def as_precise_as(value: Tensor, h: Tensor) -> Tensor:
    """h in the dtype of the values where that is wider: under autocast networks give fewer digits than a bijection computes with."""
    return h if h.dtype == value.dtype else h.to(torch.promote_types(h.dtype, value.dtype))


def as_scalar_map(value: ScalarMap | str) -> ScalarMap:
    """A scalar map, or the one of this name: "affine", "additive", "spline", ..."""
    from probflow.transforms.scalar_maps import SCALAR_MAPS

    if isinstance(value, ScalarMap):
        return value
    if isinstance(value, str) and value in SCALAR_MAPS:
        return SCALAR_MAPS[value]()
    if isinstance(value, str):
        raise ArgumentError(
            f"There is no scalar map {value!r}.{did_you_mean(value, list(SCALAR_MAPS))}\n  known: {', '.join(SCALAR_MAPS)}"
        )
    raise ArgumentError(f"transformer must be a ScalarMap or one of {', '.join(map(repr, SCALAR_MAPS))}, got {value!r}.")


def fast_density(map: ScalarMap) -> ScalarMap:
    """The map, turned around where only that makes x → z, the direction of a density, one pass."""
    return Turned(map) if map.inverse_cost != "one pass" and map.forward_cost == "one pass" else map
