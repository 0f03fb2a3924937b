"""One registry of all ready-made flows; test_flows.py holds every entry to every law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

import probflow as pf
from probflow import flows


class Embed(nn.Module):
    """Labels and a vector, by name and in another order than the statement's."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.dense = nn.Embedding(5, 3), nn.Linear(2, 3)

    def forward(self, c: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.table(y) + self.dense(c)


@dataclass(frozen=True)
class Entry:
    make: Callable[[], pf.Flow]
    shape: tuple[int, ...] = (2,)
    given: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Conditioning variables and their event shapes; () stands for integer labels."""
    spread: float = 0.4
    """Standard deviation of the noise that makes large random parameters."""
    tolerance: float = 1e-6
    train_is_eval: bool = True
    exempt: tuple[str, ...] = ()
    """Parameters that need get no gradient, with the reason beside the entry."""

    def values(self, n: int = 5) -> dict[str, torch.Tensor]:
        return {k: torch.randn(n, *s) if s else torch.arange(n) % 5 for k, s in self.given.items()}


H = (16,)
MASKED = ("conditioner.layers.0.weight", "conditioner.layers.2.weight")  # one feature depends on no other: all of it is masked
TWO: dict[str, tuple[int, ...]] = {"y": (3,), "c": (2,)}
FLOWS = {
    "NICE": Entry(lambda: flows.NICE("p(x)", features=2, hidden=H)),
    "RealNVP": Entry(lambda: flows.RealNVP("p(x)", features=2, layers=4, hidden=H)),
    "RealNVP, three features": Entry(lambda: flows.RealNVP("p(x)", features=3, layers=4, hidden=H, mixing="lu"), (3,)),
    "RealNVP | y, c": Entry(lambda: flows.RealNVP("p(x | y, c)", features=2, layers=2, hidden=H, context=5), given=TWO),
    "RealNVP | embedding": Entry(
        lambda: flows.RealNVP("p(x | y, c)", features=2, layers=2, hidden=H, context=Embed()), given={"y": (), "c": (2,)}
    ),
    "RealNVP, memory by inversion": Entry(lambda: flows.RealNVP("p(x)", features=2, layers=4, hidden=H, memory="invert")),
    "NSF": Entry(lambda: flows.NSF("p(x)", features=2, layers=2, bins=4, hidden=H), spread=0.15),
    "NSF | y, c": Entry(lambda: flows.NSF("p(x | y, c)", features=2, layers=2, bins=4, hidden=H, context=5), given=TWO, spread=0.15),
    "NSF, one feature": Entry(lambda: flows.NSF("p(x)", features=1, layers=2, bins=4, hidden=H), (1,), spread=0.15, exempt=MASKED),
    "NSF autoregressive": Entry(
        lambda: flows.NSF("p(x)", features=2, layers=2, bins=4, hidden=H, autoregressive=True, mixing="lu"), spread=0.15
    ),
    "MAF": Entry(lambda: flows.MAF("p(x)", features=2, layers=3, hidden=H)),
    "MAF | y, c": Entry(lambda: flows.MAF("p(x | y, c)", features=2, layers=2, hidden=H, context=5), given=TWO),
    "MAF, one feature": Entry(lambda: flows.MAF("p(x | y)", features=1, layers=2, hidden=H, context=3), (1,), {"y": (3,)}, exempt=MASKED),
    "IAF": Entry(lambda: flows.IAF("p(x)", features=2, layers=2, hidden=H)),
    "IAF | y, c": Entry(lambda: flows.IAF("p(x | y, c)", features=2, layers=2, hidden=H, context=5), given=TWO),
    "Glow": Entry(
        lambda: flows.Glow("p(x)", shape=(2, 4, 4), levels=2, steps=1, hidden=8), (2, 4, 4), spread=0.1, train_is_eval=False
    ),
    "Glow | y": Entry(
        lambda: flows.Glow("p(x | y)", shape=(1, 4, 4), levels=2, steps=1, hidden=8, context=3), (1, 4, 4), {"y": (3,)},
        spread=0.1, train_is_eval=False,
    ),
    "Glow | image": Entry(
        lambda: flows.Glow("p(x | y)", shape=(1, 4, 4), levels=2, steps=1, hidden=8, context=(2, 6, 6)), (1, 4, 4), {"y": (2, 6, 6)},
        spread=0.1, train_is_eval=False,
    ),
    "RealNVP of images": Entry(
        lambda: flows.RealNVP("p(x)", shape=(1, 4, 4), levels=2, hidden=(8,)), (1, 4, 4), spread=0.1, train_is_eval=False
    ),
}  # fmt: skip
if hasattr(flows, "Planar"):
    FLOWS |= {
        "Planar": Entry(lambda: flows.Planar("p(x)", features=2, layers=3)),
        "Planar | y": Entry(lambda: flows.Planar("p(x | y)", features=2, layers=2, context=3), given={"y": (3,)}),
        "Radial": Entry(lambda: flows.Radial("p(x)", features=2, layers=3)),
        "Radial | y": Entry(lambda: flows.Radial("p(x | y)", features=2, layers=2, context=3), given={"y": (3,)}),
        "Sylvester, orthogonal": Entry(lambda: flows.Sylvester("p(x)", features=3, layers=2, rank=2), (3,)),
        "Sylvester, Householder | y": Entry(
            lambda: flows.Sylvester("p(x | y)", features=3, layers=2, rank=2, kind="householder", context=3), (3,), {"y": (3,)}
        ),
        "Sylvester, triangular | y": Entry(
            lambda: flows.Sylvester("p(x | y)", features=3, layers=2, kind="triangular", context=3), (3,), {"y": (3,)}
        ),
    }
