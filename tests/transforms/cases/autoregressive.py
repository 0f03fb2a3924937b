"""Autoregressions: every order, an adjacency, contexts, linear networks, the inverse autoregressive flow."""

from __future__ import annotations

import torch
from transforms.registry import Case

from probflow.nn.masked import MADE
from probflow.transforms.autoregressive import Autoregressive
from probflow.transforms.compose import Compose
from probflow.transforms.mixture_cdf import LogisticsMap
from probflow.transforms.neural_monotone import DeepDenseSigmoidalMap
from probflow.transforms.spline import SplineMap

GRAPH = torch.tensor([[0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]) > 0  # 3 -> 0 -> 1, and 2 alone
HALVES = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]) > 0  # a coupling


def wide(n: int) -> torch.Tensor:
    """Values in every bin of a spline and in both of its tails."""
    return 3 * torch.randn(n, 3)


CASES = {
    "maf": Case(lambda: Autoregressive(3, hidden=(16, 16)), identity=True),
    "maf | c": Case(lambda: Autoregressive(3, hidden=(16, 16), context=2), context=(2,), identity=True),
    "maf | image": Case(lambda: Autoregressive(3, hidden=(16,), context=(2, 2)), context=(2, 2), identity=True),
    "maf additive": Case(lambda: Autoregressive(3, "additive", hidden=(16,)), identity=True),
    "maf reversed | c": Case(lambda: Autoregressive(4, hidden=(16,), order="reverse", context=2), (4,), (2,), identity=True),
    "maf permuted": Case(lambda: Autoregressive(4, hidden=(16, 8), order=[2, 0, 3, 1]), (4,), identity=True),
    "maf adjacency": Case(lambda: Autoregressive(4, hidden=(16,), adjacency=GRAPH), (4,), identity=True),
    "maf adjacency | c": Case(
        lambda: Autoregressive(4, hidden=(16, 16), adjacency=GRAPH, context=2), (4,), (2,), identity=True
    ),
    "maf coupling-like": Case(lambda: Autoregressive(4, hidden=(16,), adjacency=HALVES), (4,), identity=True),
    "maf linear": Case(lambda: Autoregressive(3, hidden=()), identity=True),
    "maf linear | c": Case(lambda: Autoregressive(3, hidden=(), context=2), context=(2,), identity=True),
    "maf narrow | c": Case(lambda: Autoregressive(6, hidden=(8, 2), context=2), (6,), (2,), identity=True),
    "maf of one feature | c": Case(lambda: Autoregressive(1, hidden=(16,), context=2), (1,), (2,), identity=True),
    # without a context nothing decides but a bias; the one weight connects a feature with itself, masked
    "maf of one feature": Case(lambda: Autoregressive(1), (1,), identity=True, exempt=("weight",)),
    "maf, own network": Case(lambda: Autoregressive(3, context=2, conditioner=Own()), context=(2,), identity=True),
    "iaf": Case(lambda: Autoregressive(3, hidden=(16, 16)).inv, identity=True),
    "iaf | c": Case(lambda: Autoregressive(3, hidden=(16,), context=2).inv, context=(2,), identity=True),
    "maf spline": Case(lambda: Autoregressive(3, SplineMap(4), hidden=(16,)), identity=True, draw=wide),
    "maf spline | c": Case(
        lambda: Autoregressive(3, SplineMap(4), hidden=(16,), context=2), context=(2,), identity=True, draw=wide
    ),
    "iaf spline": Case(lambda: Autoregressive(3, SplineMap(4), hidden=(16,)).inv, identity=True, draw=wide),
    "maf mixture of logistics | c": Case(
        lambda: Autoregressive(3, LogisticsMap(3), hidden=(16,), context=2), context=(2,), identity=True
    ),
    "naf | c": Case(
        lambda: Autoregressive(3, DeepDenseSigmoidalMap(hidden=4), hidden=(16,), context=2), context=(2,), identity=True
    ),
    "maf chain": Case(
        lambda: Compose([Autoregressive(3, hidden=(16,)), Autoregressive(3, hidden=(16,), order="reverse")]), identity=True
    ),
}


class Own(torch.nn.Module):
    """A network of a user's: not a MADE itself, so sampling goes pass by pass."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MADE(3, (16,), 2, context=2, activation=torch.nn.Tanh)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.net(x, context)
