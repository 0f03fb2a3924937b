"""One registry of all transforms; test_laws.py holds every entry to every law.

A family of transforms has one file in ``cases/`` with a dict ``CASES``: a new transform is one new line there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probflow.transforms import Transform


@dataclass(frozen=True)
class Case:
    """How to make a transform, and what it promises beyond the laws that hold for all."""

    make: Callable[[], Transform]
    shape: tuple[int, ...] = (3,)
    """The event shape of z."""
    context: tuple[int, ...] | None = None
    identity: bool = False
    """Whether it starts as the identity."""
    draw: Callable[[int], Tensor] | None = None
    """Values of z to test at; standard normal where none is given."""
    tolerance: float = 1e-8
    """Of a round trip at large random parameters, in float64."""
    stiff: bool = False
    """Whether inputs of 1e4 may overflow by nature (exp)."""
    exempt: tuple[str, ...] = ()
    """Parameters that need get no gradient, with the reason beside the entry."""
    train_is_eval: bool = True
    """Whether training mode computes the same as evaluation mode."""
    compiles: bool = True
    """Whether its one-pass directions must trace without a graph break."""
    spread: float = 1.0
    """Standard deviation of the noise that makes "large random parameters"."""

    def z(self, n: int = 5) -> Tensor:
        return torch.randn(n, *self.shape) if self.draw is None else self.draw(n)

    def c(self, n: int = 5) -> Tensor | None:
        return None if self.context is None else torch.randn(n, *self.context)


def _all() -> dict[str, Case]:
    import transforms.cases as package

    cases: dict[str, Case] = {}
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        for name, case in importlib.import_module(f"transforms.cases.{module.name}").CASES.items():
            if name in cases:
                raise KeyError(f"two transforms are called {name!r}")
            cases[name] = case
    return cases


CASES = _all()
