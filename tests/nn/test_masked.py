"""Masked networks: who sees whom, at any width, in any order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from probflow.errors import ArgumentError, CycleError, ShapeError
from probflow.nn.masked import MADE, MaskedLinear

RING = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]) > 0


def noisy(net: MADE) -> MADE:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    return net


def sees(net: MADE, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Which outputs react to which features, for a smooth network: ``(out_per_feature, features, features)``."""
    jacobian = torch.autograd.functional.jacobian(
        lambda v: net(v[None], context)[0].unflatten(0, (net.out_per_feature, net.features)), x
    )
    return jacobian != 0


@pytest.mark.parametrize("hidden", [(), (1,), (2,), (3, 2), (2, 7), (5,), (64, 64), (13, 1, 9)])
@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("order", [None, "natural", "reverse", [3, 0, 5, 1, 2, 4]])
def test_every_feature_sees_exactly_those_before_it(hidden: tuple[int, ...], context: int, order: Any) -> None:
    net = noisy(MADE(6, hidden, 2, context, order, activation=nn.Tanh))
    place = {None: range(6), "natural": range(6), "reverse": range(5, -1, -1)}
    sequence = order if isinstance(order, list) else list(place[order])
    expected = torch.zeros(6, 6, dtype=torch.bool)
    for k, feature in enumerate(sequence):
        expected[feature, sequence[:k]] = True
    found = sees(net, 0.3 * torch.randn(6), torch.randn(1, 3) if context else None)
    assert torch.equal(found, expected.expand(2, 6, 6))


@pytest.mark.parametrize("hidden", [(), (1,), (3, 8), (32, 32)])
def test_context_reaches_every_output(hidden: tuple[int, ...]) -> None:
    for net in (MADE(5, hidden, 2, 3, activation=nn.Tanh), MADE(1, hidden, 2, 3, activation=nn.Tanh)):
        noisy(net)
        x = torch.zeros(1, net.features)
        jacobian = torch.autograd.functional.jacobian(lambda c, net=net, x=x: net(x, c[None])[0], 0.3 * torch.randn(3))
        assert bool((jacobian != 0).all())


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("hidden", [(), (2,), (20, 20)])
def test_an_adjacency_is_kept_exactly(context: int, hidden: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for _ in range(5):
        order = torch.randperm(6)
        adjacency = torch.zeros(6, 6, dtype=torch.bool)
        adjacency[order.unsqueeze(1), order] = (torch.rand(6, 6) < 0.5).tril(-1)
        net = noisy(MADE(6, hidden, 2, context, adjacency=adjacency, activation=nn.Tanh))
        found = sees(net, 0.3 * torch.randn(6), torch.randn(1, 2) if context else None)
        assert torch.equal(found, adjacency.expand(2, 6, 6))


def test_steps_are_the_depth_of_the_graph() -> None:
    halves = torch.zeros(6, 6, dtype=torch.bool)
    halves[3:, :3] = True
    assert MADE(6, adjacency=halves).steps == ((0, 1, 2), (3, 4, 5))
    assert MADE(3, order="reverse").steps == ((2,), (1,), (0,))
    assert MADE(3, order=[1, 2, 0]).steps == MADE(3, order=torch.tensor([1, 2, 0])).steps == ((1,), (2,), (0,))
    assert MADE(2, adjacency=torch.zeros(2, 2) > 0).steps == ((0, 1),)


def test_starts_at_zero_and_is_deterministic_but_for_its_weights() -> None:
    a, b = MADE(5, (7, 9), 2, 1), MADE(5, (7, 9), 2, 1)
    assert not bool(a(torch.randn(4, 5), torch.randn(4, 1)).any())
    for (name, mine), (_, other) in zip(a.named_buffers(), b.named_buffers(), strict=True):
        assert torch.equal(mine, other), name
    assert not any("mask" in name or "step" in name for name in a.state_dict())


def test_masked_units_start_as_linear_layers_of_what_they_see() -> None:
    torch.manual_seed(0)
    mask = torch.ones(400, 100, dtype=torch.bool)
    mask[:200, 4:] = False
    weight = MaskedLinear(mask).weight.detach()
    for rows, count in ((weight[:200], 4), (weight[200:], 100)):
        assert float(rows.abs().max()) <= count**-0.5
        assert_close(float(rows.std()), (3 * count) ** -0.5, rtol=0.02, atol=0)


def test_a_masked_layer_ignores_what_it_masks() -> None:
    layer = MaskedLinear(torch.tensor([[True, False, True]]), bias=False)
    x = torch.randn(4, 3)
    assert_close(layer(x), x[:, [0, 2]] @ layer.weight[:, [0, 2]].T)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.PReLU, lambda: nn.Sequential(nn.ELU(), nn.Dropout(0.2))])
def test_elementwise_activations_are_taken(activation: Any) -> None:
    net = MADE(3, (8,), 1, activation=activation)
    assert net.training and all(module.training for module in net.modules())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"adjacency": RING}, CycleError, "0 uses 2 uses 1 uses 0"),
        ({"adjacency": torch.eye(4) > 0}, CycleError, "0 uses 0"),
        ({"adjacency": torch.zeros(4, 4)}, ArgumentError, "boolean"),
        ({"adjacency": torch.zeros(3, 4) > 0}, ShapeError, r"expected \(4, 4\)"),
        ({"adjacency": RING, "order": "reverse"}, ArgumentError, "not both"),
        ({"order": "revers"}, ArgumentError, "reverse"),
        ({"order": [0, 1, 2, 2]}, ArgumentError, "each of the features 0 ... 3 once"),
        ({"order": [0, 1, 2]}, ArgumentError, "each of the features"),
        ({"hidden": 32}, ArgumentError, r"hidden=\(32,\)"),
        ({"hidden": (0,)}, ArgumentError, "hidden width"),
        ({"out_per_feature": 0}, ArgumentError, "out_per_feature"),
        ({"activation": lambda: nn.Softmax(1)}, ArgumentError, "Softmax"),
        ({"activation": lambda: nn.LayerNorm(128)}, ArgumentError, "LayerNorm"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        MADE(4, **arguments)


def test_a_mask_is_a_boolean_matrix() -> None:
    with pytest.raises(ArgumentError, match="boolean matrix"):
        MaskedLinear(torch.ones(2, 2))
