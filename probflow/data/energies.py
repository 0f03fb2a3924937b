r"""Two-dimensional densities that can be evaluated but not sampled: energies U with :math:`\tilde p(x) = e^{-U(x)}`.

Each entry of ``ENERGIES`` is a function from (N, 2) to the unnormalised log-density (N,), in nats: what
``CustomProb("p(x)", energy("double_well"))`` takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from probflow.errors import ArgumentError
from probflow.printing import did_you_mean


def _double_well(x: Tensor) -> Tensor:
    """U = x₁⁴/4 - 3x₁² + x₁ + x₂²/2: two wells at x₁ ≈ -2.5 and 2.4 of unequal depth (Noé et al., Science 365, 2019, eq. 12
    of the supplement, with a = 1, b = 6, c = 1, d = 1)."""
    a, b = x.unbind(1)
    return -(0.25 * a**4 - 3.0 * a**2 + a + 0.5 * b**2)


def _two_moons(z: Tensor) -> Tensor:
    """U₁ of Rezende & Mohamed, arXiv:1505.05770, table 1: two arcs of a ring of radius 2."""
    ring = 0.5 * ((z.norm(dim=1) - 2.0) / 0.4).square()
    sides = torch.logaddexp(-0.5 * ((z[:, 0] - 2.0) / 0.6).square(), -0.5 * ((z[:, 0] + 2.0) / 0.6).square())
    return sides - ring


def _w1(z: Tensor) -> Tensor:
    return (2.0 * math.pi * z[:, 0] / 4.0).sin()


def _w2(z: Tensor) -> Tensor:
    return 3.0 * (-0.5 * ((z[:, 0] - 1.0) / 0.6).square()).exp()


def _w3(z: Tensor) -> Tensor:
    return 3.0 * ((z[:, 0] - 1.0) / 0.3).sigmoid()


def _wall(z: Tensor) -> Tensor:
    """A quadratic wall outside |z₁| ≤ 4, the window of the paper's figure: without it U₂, U₃ and U₄ have no finite integral."""
    return 0.5 * ((z[:, 0].abs() - 4.0).clamp(min=0.0) / 0.2).square()


def _wave(z: Tensor) -> Tensor:
    """U₂: one sine wave."""
    return -0.5 * ((z[:, 1] - _w1(z)) / 0.4).square() - _wall(z)


def _split_wave(z: Tensor) -> Tensor:
    """U₃: a sine wave that splits in two around z₁ = 1."""
    upper = -0.5 * ((z[:, 1] - _w1(z)) / 0.35).square()
    return torch.logaddexp(upper, -0.5 * ((z[:, 1] - _w1(z) + _w2(z)) / 0.35).square()) - _wall(z)


def _fork(z: Tensor) -> Tensor:
    """U₄: a sine wave that forks at z₁ = 1 and stays forked."""
    upper = -0.5 * ((z[:, 1] - _w1(z)) / 0.4).square()
    return torch.logaddexp(upper, -0.5 * ((z[:, 1] - _w1(z) + _w3(z)) / 0.35).square()) - _wall(z)


ENERGIES: dict[str, Callable[[Tensor], Tensor]] = {
    "double_well": _double_well,
    "two_moons": _two_moons,
    "wave": _wave,
    "split_wave": _split_wave,
    "fork": _fork,
}
"""Name -> the unnormalised log-density, from ``(N, 2)`` to ``(N,)``."""


def energy(name: str) -> Callable[[Tensor], Tensor]:
    """The unnormalised log-density -U of this name, a function from (N, 2) to (N,), in nats.

    Errors: `ArgumentError` for an unknown name.

    >>> energy("double_well")(torch.tensor([[1.0, 0.0]]))
    tensor([1.7500])
    >>> sorted(ENERGIES)
    ['double_well', 'fork', 'split_wave', 'two_moons', 'wave']
    """
    if name not in ENERGIES:
        raise ArgumentError(
            f"There is no energy {name!r}.{did_you_mean(name, list(ENERGIES))} Known: {', '.join(sorted(ENERGIES))}."
        )
    return ENERGIES[name]
