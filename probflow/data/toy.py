r"""Two-dimensional densities with a shape worth learning: one table, one call.

Each entry is a function of the number of points and a generator that returns (n, 2), roughly within [-4, 4]².
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from probflow.errors import ArgumentError


def _moons(n: int, generator: Generator) -> Tensor:
    """Two interleaved half circles of radius 2, with noise 0.2 across."""
    angle = math.pi * _uniform(n, generator)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], 1)
    lower = torch.stack([0.5 - angle.cos(), 0.25 - angle.sin()], 1)
    points = torch.where(_choice(2, n, generator).bool().unsqueeze(1), upper, lower)
    return 2.0 * points + 0.2 * _normal(n, 2, generator)


def _rings(n: int, generator: Generator) -> Tensor:
    """Four circles of radius 0.75, 1.5, 2.25, 3, with noise 0.08 across; every circle has the same share."""
    radius = 0.75 * (1.0 + _choice(4, n, generator))
    angle = 2.0 * math.pi * _uniform(n, generator)
    return _polar(radius, angle) + 0.08 * _normal(n, 2, generator)


def _eight_gaussians(n: int, generator: Generator) -> Tensor:
    """Normals of scale 0.3 at the corners of an octagon of radius 3."""
    angle = (math.pi / 4.0) * _choice(8, n, generator)
    return _polar(torch.full_like(angle, 3.0), angle) + 0.3 * _normal(n, 2, generator)


def _pinwheel(n: int, generator: Generator) -> Tensor:
    """Five radial normals, bent more the further out they are (Johnson et al., arXiv:1603.06277, fig. 1)."""
    radial = 1.7 + 0.5 * _normal(n, 1, generator).squeeze(1)
    across = 0.17 * _normal(n, 1, generator).squeeze(1)
    arm = (2.0 * math.pi / 5.0) * _choice(5, n, generator)
    angle = arm + 0.6 * (radial - 1.7)
    return torch.stack([radial * angle.cos() - across * angle.sin(), radial * angle.sin() + across * angle.cos()], 1)


def _checkerboard(n: int, generator: Generator) -> Tensor:
    """Uniform on the eight dark squares, of side 2, of [-4, 4]²."""
    column, row = _choice(4, n, generator), _choice(2, n, generator)
    corner = torch.stack([column, 2.0 * row + column % 2], 1)
    return 2.0 * (corner + torch.rand(n, 2, generator=generator)) - 4.0


def _spirals(n: int, generator: Generator) -> Tensor:
    """Two spirals of one and a half turns each, out to radius 3, with noise 0.1 across."""
    turn = 3.0 * math.pi * _uniform(n, generator).sqrt()
    side = 2.0 * _choice(2, n, generator) - 1.0
    return _polar(side * turn / math.pi, turn) + 0.1 * _normal(n, 2, generator)


TOYS: dict[str, Callable[[int, Generator], Tensor]] = {
    "moons": _moons,
    "rings": _rings,
    "eight_gaussians": _eight_gaussians,
    "pinwheel": _pinwheel,
    "checkerboard": _checkerboard,
    "spirals": _spirals,
}
"""Name -> a function of the number of points and a generator."""


def toy(name: str, n: int, seed: int = 0) -> dict[str, Tensor]:
    """`n` independent points of a toy density, ``{"x": (n, 2)}``; the same for the same seed.

    Errors: `ArgumentError` for an unknown name or a negative `n`.

    >>> sorted(TOYS)
    ['checkerboard', 'eight_gaussians', 'moons', 'pinwheel', 'rings', 'spirals']
    >>> tuple(toy("moons", 1000)["x"].shape)
    (1000, 2)
    """
    if name not in TOYS:
        raise ArgumentError(f"toy({name!r}, ...): there is no such density. Known: {', '.join(sorted(TOYS))}.")
    if n < 0:
        raise ArgumentError(f"toy({name!r}, n={n}): n must not be negative.")
    return {"x": TOYS[name](n, torch.Generator().manual_seed(seed))}


def _uniform(n: int, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator)


def _normal(n: int, columns: int, generator: Generator) -> Tensor:
    return torch.randn(n, columns, generator=generator)


def _choice(k: int, n: int, generator: Generator) -> Tensor:
    """0..k-1 with equal chances, in the default float type."""
    return torch.randint(k, (n,), generator=generator).to(torch.get_default_dtype())


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
