"""The one scalar equation behind planar and Sylvester layers, t + k h(t) = s, with its root as a differentiable function."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from probflow.errors import ArgumentError
from probflow.printing import did_you_mean
from probflow.transforms.linear import solver_dtype
from probflow.transforms.transform import Cost, Pair

BOUND = 0.99
"""No layer contracts any direction to less than 1 - BOUND of its length: it stays invertible in floating-point numbers too."""


class Activation:
    """An increasing h with h(0) = 0 and 0 ≤ h' ≤ 1, and the inverse of t ↦ t + k h(t) for every k > -1."""

    cost: Cost
    """Of `solve`."""

    @abstractmethod
    def __call__(self, t: Tensor) -> Pair:
        """h(t) and h'(t)."""

    @abstractmethod
    def solve(self, k: Tensor, s: Tensor) -> Tensor:
        """The t with t + k h(t) = s, differentiable in k and s, which are broadcast."""


class Tanh(Activation):
    cost: Cost = "iterative"

    def __call__(self, t: Tensor) -> Pair:
        h = t.tanh()
        return h, 1 - h * h

    def solve(self, k: Tensor, s: Tensor) -> Tensor:
        """Newton's method, with the derivatives of two more steps.

        The error of a step is quadratic in that of its start: two of them from the root carry its derivatives up to third order.
        """
        dtype = solver_dtype(k.dtype, s.dtype)
        out, k, s = s.dtype, k.to(dtype), s.to(dtype)
        t = tanh_root(k, s)
        for _ in range(2 if torch.is_grad_enabled() else 0):
            h, slope = self(t)
            t = t - (t + k * h - s) / (1 + k * slope)
        return t.to(out)


class LeakyReLU(Activation):
    """h(t) = max(t, t / 100)."""

    cost: Cost = "one pass"
    negative = 0.01

    def __call__(self, t: Tensor) -> Pair:
        slope = torch.where(t < 0, self.negative, torch.ones_like(t))
        return slope * t, slope

    def solve(self, k: Tensor, s: Tensor) -> Tensor:
        return s / (1 + k * self(s)[1])  # t has the sign of s


ACTIVATIONS: dict[str, Activation] = {"tanh": Tanh(), "leaky_relu": LeakyReLU()}


def as_activation(name: str, title: str) -> Activation:
    """The activation of this name."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        hint = did_you_mean(name, list(ACTIVATIONS)) if isinstance(name, str) else ""
        raise ArgumentError(f"{title}: there is no activation {name!r}.{hint}\n  known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def above_minus_one(free: Tensor) -> Tensor:
    r"""A smooth increasing function onto (-BOUND, ∞), itself for positive numbers: :math:`k = c\,(e^{m/c} - 1)` for m < 0, c = BOUND.

    The place of m(x) = -1 + log(1 + eˣ) in the papers, which is not 0 at 0, so that a zero would not mean the identity.
    """
    return F.celu(free, alpha=BOUND)


@torch.no_grad()
def tanh_root(k: Tensor, s: Tensor) -> Tensor:
    """The root of t + k tanh t = s for k > -1, to the precision of the dtype, without gradients.

    The left side is odd, and on t ≥ 0 concave for k > 0, convex for k < 0.  From a start on the right side, the nearer of two
    linear bounds, Newton's method is therefore monotone and needs no bracket; about log k steps lead to where it is quadratic.
    """
    size, up = s.abs(), k > 0
    linear, saturated = size / (1 + k), size - k
    t = torch.where(up, torch.maximum(linear, saturated), torch.minimum(linear, saturated))
    tolerance = 4 * torch.finfo(t.dtype).eps
    for _ in range(2 * torch.finfo(t.dtype).bits):
        h = t.tanh()
        gap = size - t - k * h
        ahead = torch.where(up, gap, -gap)
        if not bool((ahead > tolerance * (size + k.abs() * h)).any()):  # a row of NaN asks for nothing
            break
        t = t + gap / (1 + k * (1 - h * h))
    return t.copysign(s)
