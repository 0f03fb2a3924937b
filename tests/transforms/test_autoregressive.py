"""Autoregressions: triangular Jacobians in their order, the context everywhere, and sampling unit by unit as pass by pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from probflow.errors import ArgumentError, CycleError, NetworkError, ShapeError
from probflow.nn.masked import MADE
from probflow.transforms import ScalarMap
from probflow.transforms.autoregressive import Autoregressive
from probflow.transforms.incremental import by_passes


def noisy(layer: Autoregressive, scale: float = 0.5) -> Autoregressive:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return layer


def plain(layer: Autoregressive, z: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sampling by the definition: as many passes as there are features."""
    x, logdet = torch.zeros_like(z), z
    for _ in range(z.shape[1]):
        x, logdet = layer.map.forward_and_logdet(z, layer._h(x, c))
    return x, logdet.sum(1)


def graph(features: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    order = torch.randperm(features)
    adjacency = torch.zeros(features, features, dtype=torch.bool)
    adjacency[order.unsqueeze(1), order] = (torch.rand(features, features) < 0.4).tril(-1)
    return adjacency


LAYERS = {
    "natural": lambda: Autoregressive(7, hidden=(32, 32)),
    "context": lambda: Autoregressive(7, hidden=(32, 32), context=2),
    "reverse": lambda: Autoregressive(7, hidden=(20, 30, 10), order="reverse", context=2),
    "permuted": lambda: Autoregressive(7, hidden=(32,), order=[3, 1, 6, 0, 5, 2, 4]),
    "graph": lambda: Autoregressive(7, hidden=(32, 32), adjacency=graph(7, 1)),
    "graph, context": lambda: Autoregressive(7, hidden=(32, 32), adjacency=graph(7, 2), context=2),
    "linear": lambda: Autoregressive(7, hidden=(), context=2),
    "narrow": lambda: Autoregressive(7, hidden=(4, 2), context=2),
    "narrow, wide": lambda: Autoregressive(7, "additive", hidden=(3, 20)),
    "smooth": lambda: Autoregressive(7, hidden=(16,), activation=nn.SiLU),
    "trained activation": lambda: Autoregressive(7, hidden=(16,), activation=nn.PReLU),
    "one feature": lambda: Autoregressive(1, hidden=(16,), context=2),
    "no edges": lambda: Autoregressive(3, adjacency=torch.zeros(3, 3) > 0),
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@layers
def test_unit_by_unit_is_pass_by_pass(make: Callable[[], Autoregressive]) -> None:
    layer = noisy(make())
    assert layer.shape is not None
    z = torch.randn(11, *layer.shape)
    c = None if layer.context is None else torch.randn(11, 2)
    found = []
    conditioner: Any = layer.conditioner
    steps = [torch.tensor(own) for own in conditioner.steps]
    ways = (
        plain,
        lambda layer, z, c: layer.forward_and_logdet(z, c),
        lambda layer, z, c: by_passes(lambda x: layer._h(x, c), layer.map, steps, z),
    )
    for way in ways:
        leaf = z.clone().requires_grad_()
        context = None if c is None else c.clone().requires_grad_()
        x, logdet = way(layer, leaf, context)
        torch.manual_seed(1)
        objective = (x * torch.randn_like(x)).sum() + (logdet * torch.randn_like(logdet)).sum()
        inputs = [leaf, *([] if context is None else [context]), *layer.parameters()]
        found.append((x, logdet, *torch.autograd.grad(objective, inputs, materialize_grads=True)))
    with torch.no_grad():
        drawn = layer.forward_and_logdet(z, c)
    for values in zip(*found, strict=True):
        for other in values[1:]:
            assert_close(other, values[0], rtol=1e-10, atol=1e-12)
    assert_close(drawn[0], found[0][0], rtol=0, atol=1e-12)
    assert_close(drawn[1], found[0][1], rtol=0, atol=1e-12)


def test_second_derivatives_go_through_sampling() -> None:
    layer = noisy(Autoregressive(3, hidden=(8,), activation=nn.Tanh), 0.2)
    z = torch.randn(2, 3, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: layer.forward_and_logdet(v), (z,))


@pytest.mark.parametrize("order", ["natural", "reverse", [2, 0, 3, 1]])
def test_the_jacobian_is_triangular_in_the_order(order: Any) -> None:
    layer = noisy(Autoregressive(4, hidden=(24, 24), order=order, activation=nn.Tanh), 1.0)
    sequence = {"natural": [0, 1, 2, 3], "reverse": [3, 2, 1, 0]}[order] if isinstance(order, str) else order
    for direction in (layer.forward, layer.inverse):
        jacobian = torch.autograd.functional.jacobian(lambda v, f=direction: f(v[None])[0], 0.3 * torch.randn(4))
        assert torch.equal(jacobian[sequence][:, sequence] != 0, torch.ones(4, 4).tril() > 0)


@pytest.mark.parametrize("seed", range(4))
def test_the_jacobian_has_the_sparsity_of_the_graph(seed: int) -> None:
    uses = graph(6, seed)
    layer = noisy(Autoregressive(6, hidden=(40, 40), adjacency=uses, activation=nn.Tanh), 0.4)
    own = torch.eye(6) > 0
    closure = torch.linalg.matrix_power((uses | own).double(), 6) > 0
    for direction, expected in ((layer.inverse, uses | own), (layer.forward, closure)):
        jacobian = torch.autograd.functional.jacobian(lambda v, f=direction: f(v[None])[0], 0.3 * torch.randn(6))
        assert torch.equal(jacobian != 0, expected)


def test_the_context_reaches_the_first_feature() -> None:
    layer = noisy(Autoregressive(3, hidden=(16,), context=2, activation=nn.Tanh))
    z = torch.randn(3)
    for direction in (layer.forward, layer.inverse):
        jacobian = torch.autograd.functional.jacobian(lambda c, f=direction: f(z[None], c[None])[0], torch.randn(2))
        assert bool((jacobian != 0).all())


def test_passes_are_the_depth_of_the_graph() -> None:
    halves = torch.zeros(6, 6, dtype=torch.bool)
    halves[3:, :3] = True
    layer = Autoregressive(6, adjacency=halves)
    assert (layer.passes, layer.forward_cost, layer.inverse_cost) == (2, "iterative", "one pass")
    assert Autoregressive(6, order="reverse").passes == 6
    single = Autoregressive(1, context=2)
    assert (single.passes, single.forward_cost) == (1, "one pass")


class Counting(nn.Module):
    """A user's network, which counts how often it runs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.count = net, 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.net(x)


def test_an_own_network_runs_once_per_pass() -> None:
    halves = torch.zeros(4, 4, dtype=torch.bool)
    halves[2:, :2] = True
    own = Counting(MADE(4, (16,), 2, adjacency=halves))
    layer = noisy(Autoregressive(4, adjacency=halves, conditioner=own))
    z, own.count = torch.randn(5, 4), 0
    x, logdet = layer.forward_and_logdet(z)
    assert own.count == 2
    again, down = layer.inverse_and_logdet(x)
    assert_close(again, z)
    assert_close(down, -logdet)


def test_a_made_of_ones_own_keeps_its_order() -> None:
    layer = noisy(Autoregressive(4, conditioner=MADE(4, (16,), 2, order="reverse")))
    jacobian = torch.autograd.functional.jacobian(lambda v: layer.forward(v[None])[0], torch.randn(4))
    assert torch.equal(jacobian, jacobian.triu()) and layer.passes == 4


class SlowInverse(ScalarMap):
    """A map whose inverse would be a search: x = z + tanh(h) tanh(z) / 2."""

    inverse_cost = "iterative"

    def forward_and_logdet(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a = torch.tanh(h[:, 0]) / 2
        return z + a * torch.tanh(z), torch.log1p(a * (1 - torch.tanh(z) ** 2))

    def inverse_and_logdet(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a, z = torch.tanh(h[:, 0]) / 2, x
        for _ in range(100):
            z = x - a * torch.tanh(z)
        return z, -self.forward_and_logdet(z, h)[1]


def test_a_map_with_a_slow_inverse_is_turned_around() -> None:
    layer = noisy(Autoregressive(3, SlowInverse(), hidden=(16,)))
    assert (layer.inverse_cost, layer.forward_cost) == ("one pass", "iterative")
    z = torch.randn(5, 3)
    x, logdet = layer.forward_and_logdet(z)
    back, down = layer.inverse_and_logdet(x)
    assert_close(back, z)
    assert_close(down, -logdet)


def test_two_mafs_of_a_gaussian_know_its_density() -> None:
    """A linear network and a bias-only scale make x = z e^s + A x: a Gaussian with a known covariance."""
    layer = Autoregressive(3, hidden=())
    weight = torch.randn(3, 3).tril(-1)
    scale = torch.tensor([0.3, -0.2, 0.1])
    with torch.no_grad():
        conditioner: Any = layer.conditioner
        linear = conditioner.layers[0]
        linear.weight.zero_()
        linear.weight[3:] = weight
        linear.bias[:3] = 2 * torch.atanh(scale / 2)
    x = torch.randn(7, 3)
    z, logdet = layer.inverse_and_logdet(x)
    found = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + logdet
    mix = torch.linalg.inv(torch.eye(3) - weight) @ scale.exp().diag()
    assert_close(found, torch.distributions.MultivariateNormal(torch.zeros(3), scale_tril=mix).log_prob(x))


class Everything(nn.Module):
    def __init__(self, out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, out), nn.BatchNorm1d(out))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Autoregressive(3, conditioner=Everything(6)), ArgumentError, "feature 0 depends on feature 0"),
        (lambda: Autoregressive(3, conditioner=Everything(5)), NetworkError, r"expected \(3, 6\)"),
        (lambda: Autoregressive(3, conditioner=Everything(6), context=2), NetworkError, "failed"),
        (lambda: Autoregressive(3, conditioner=MADE(3, (8,), 1)), ShapeError, "out_per_feature=1.*expected.*out_per_feature=2"),
        (lambda: Autoregressive(3, order="reverse", conditioner=MADE(3, (8,), 2)), ArgumentError, "order of its own"),
        (lambda: Autoregressive(2, adjacency=torch.ones(2, 2) > 0), CycleError, "uses"),
        (lambda: Autoregressive((3, 4, 4)), ArgumentError, "vectors"),  # type: ignore[arg-type]
        (lambda: Autoregressive(0), ArgumentError, "positive"),
        (lambda: Autoregressive(3, "afine"), ArgumentError, "affine"),
        (lambda: Autoregressive(3, hidden=16), ArgumentError, r"hidden=\(16,\)"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_are_named(make: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def test_the_check_of_a_network_leaves_no_trace() -> None:
    own = Everything(6)
    own.net[1].eval()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    state = torch.random.get_rng_state()
    with pytest.raises(ArgumentError):
        Autoregressive(3, conditioner=own)
    assert own.training and own.net[0].training and not own.net[1].training
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state()) and own.net[0].weight.grad is None


def test_samples_are_contiguous() -> None:
    assert Autoregressive(5).forward(torch.randn(4, 5)).is_contiguous()
