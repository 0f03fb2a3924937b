"""The root search and its gradients, and the scalar maps that are built on it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from probflow import domains
from probflow.errors import ArgumentError
from probflow.transforms import Elementwise
from probflow.transforms.mixture_cdf import FLOOR, LogisticsMap, MixtureOfLogistics
from probflow.transforms.monotone import MonotoneMap
from probflow.transforms.neural_monotone import DeepDenseSigmoidal, DeepDenseSigmoidalMap
from probflow.transforms.root import invert, search


def log_cosh(z: Tensor) -> Tensor:
    return torch.logaddexp(z, -z) - math.log(2)


# f with log f', and values of z whose images are asked for
HARD: dict[str, tuple[Callable[[Tensor], tuple[Tensor, Tensor]], list[float]]] = {
    "identity": (lambda z: (z, torch.zeros_like(z)), [0.0, 1e-300, -1e300]),
    "steep": (lambda z: (1e8 * z, torch.full_like(z, 8 * math.log(10))), [-1e4, 3e-9, 1e250]),
    "flat": (lambda z: (1e-8 * z, torch.full_like(z, -8 * math.log(10))), [-1e12, 0.5, 1e250]),
    "far away": (lambda z: (z + 1e6, torch.zeros_like(z)), [-1e6, 5.0, 1e9]),
    "cube": (lambda z: (z**3, (3 * z**2).log()), [-1e4, 1e-2, 1e100]),
    "cube root": (lambda z: (z.sign() * z.abs() ** (1 / 3), -2 / 3 * z.abs().log() - math.log(3)), [-1e4, 1e-9, 1e100]),
    "exp": (lambda z: (z.exp(), z), [-20.0, 0.1, 690.0]),
    "sinh": (lambda z: (z.sinh(), log_cosh(z)), [-600.0, 1e-6, 30.0]),
    "a step": (lambda z: (z + 50 * (1e3 * z).tanh(), (5e4 * (-2 * log_cosh(1e3 * z)).exp() + 1).log()), [-3.0, 1e-5, 1e5]),
}


@pytest.mark.parametrize(("function", "values"), HARD.values(), ids=HARD)
def test_the_search_finds_every_root_in_a_bounded_number_of_rounds(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], values: list[float]
) -> None:
    rounds = 0

    def counted(z: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal rounds
        rounds += 1
        return function(z)

    z = torch.tensor(values)
    back, found = search(counted, function(z)[0])
    assert bool(found.all()) and rounds < 200
    assert_close(back, z, rtol=1e-9, atol=1e-9)


def test_a_root_near_zero_has_all_its_digits() -> None:
    z = torch.tensor([1e-12, -3e-14, 2e-20])
    back, _ = search(lambda z: (z * (3 + z), (3 + 2 * z).log()), z * (3 + z))
    assert_close(back, z, rtol=1e-14, atol=0)


def test_an_ordinary_search_is_short() -> None:
    map, rounds = LogisticsMap(), 0

    def counted(z: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal rounds
        rounds += 1
        return map.forward_and_logdet(z, h)

    h, z = torch.randn(1000, map.width, 3), torch.randn(1000, 3)
    search(counted, map.forward_and_logdet(z, h)[0])
    assert rounds <= 20


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-14), (torch.bfloat16, 0.05)])
def test_the_search_is_as_good_as_its_dtype(dtype: torch.dtype, tolerance: float) -> None:
    z = torch.linspace(-5, 5, 50).to(dtype)
    back, found = search(lambda z: (z.sinh(), log_cosh(z)), z.sinh())
    assert back.dtype == dtype and bool(found.all())
    assert_close(back, z, rtol=tolerance, atol=tolerance)


def test_without_a_preimage_the_value_is_finite_and_the_logarithm_minus_infinity() -> None:
    x = torch.tensor([0.5, 2.0, -math.inf, math.nan]).requires_grad_()
    z, logdet = invert(lambda z: (z.tanh(), -2 * log_cosh(z)), x)
    assert bool(z.isfinite().all())
    assert_close(z[0], torch.tensor(0.5).atanh())
    assert logdet[1:].tolist() == [-math.inf] * 3
    (z.sum() + torch.where(logdet.isfinite(), logdet, 0).sum()).backward()
    assert x.grad is not None and x.grad[0] > 0 and bool((x.grad[1:] == 0).all())


def test_an_element_does_not_depend_on_the_others() -> None:
    x = torch.tensor([0.3, -200.0, 1e12, math.nan, 7.0])
    together, _ = search(lambda z: (z + z**3, (1 + 3 * z**2).log()), x)
    for i in (0, 1, 2, 4):
        alone, _ = search(lambda z: (z + z**3, (1 + 3 * z**2).log()), x[i : i + 1])
        assert torch.equal(alone[0], together[i])


def test_gradients_are_those_of_the_implicit_function_theorem() -> None:
    """x = a z + z³: dz/dx = 1 / f', dz/da = -z / f', and log f' depends on a directly and through z."""
    a, x = torch.tensor(0.7).requires_grad_(), torch.tensor([-3.0, 0.2, 40.0]).requires_grad_()
    z, logdet = invert(lambda z: (a * z + z**3, (a + 3 * z**2).log()), x)
    root, slope = z.detach(), 0.7 + 3 * z.detach() ** 2
    assert_close(0.7 * root + root**3, x.detach(), rtol=1e-13, atol=1e-13)
    dx, da = torch.autograd.grad(z.sum(), (x, a), retain_graph=True)
    assert_close(dx, 1 / slope)
    assert_close(da, (-root / slope).sum())
    dx, da = torch.autograd.grad(logdet.sum(), (x, a))
    assert_close(dx, -6 * root / slope**2)
    assert_close(da, (-(1 - 6 * root**2 / slope) / slope).sum())


# ---------------------------------------------------------------------- maps


class Wave(MonotoneMap):
    def forward(self, z: Tensor, h: Tensor) -> Tensor:
        return z + 0.9 * h[:, 0].tanh() * z.sin()


class Squash(MonotoneMap):
    """Onto (0, 1), where in floating point z = 40 is mapped to 1."""

    codomain = domains.open_unit_interval

    def forward(self, z: Tensor, h: Tensor) -> Tensor:
        return (z + h[:, 0]).sigmoid()

    def log_derivative(self, z: Tensor, h: Tensor) -> Tensor:
        return logsigmoid(z + h[:, 0]) + logsigmoid(-z - h[:, 0])


class Saturated(MonotoneMap):
    """Onto (-1, 1), but it does not say so."""

    def forward(self, z: Tensor, h: Tensor) -> Tensor:
        return (z + h[:, 0]).tanh()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_function_alone_makes_a_scalar_map(mode: Callable[[], object]) -> None:
    with mode():  # type: ignore[attr-defined]
        z, h = torch.randn(100, 3) * 30, torch.randn(100, 1, 3)
        x, up = Wave().forward_and_logdet(z, h)
        back, down = Wave().inverse_and_logdet(x, h)
        assert_close(back, z, rtol=1e-12, atol=1e-12)
        assert_close(up, (1 + 0.9 * h[:, 0].tanh() * z.cos()).log())
        assert_close(down, -up, rtol=1e-9, atol=1e-9)
        assert_close(Wave().log_derivative(z, h), up)


def test_values_that_the_function_never_reaches_have_no_density() -> None:
    x, h = torch.tensor([[0.0], [1.0], [1.5], [-0.5], [0.25]]), torch.zeros(1, 1, 1)
    x.requires_grad_()
    z, logdet = Squash().inverse_and_logdet(x, h)
    assert bool(z.isfinite().all())
    assert (torch.autograd.grad(z.sum(), x)[0] != 0).squeeze(1).tolist() == [False, False, False, False, True]
    assert (logdet == -math.inf).squeeze(1).tolist() == [True, True, True, True, False]
    z, logdet = Saturated().inverse_and_logdet(x, h)
    assert bool(z.isfinite().all())
    assert logdet[2].item() == -math.inf and not bool((logdet == math.inf).any())


def test_mixture_is_the_formula_of_flow_plus_plus() -> None:
    map, h, z = LogisticsMap(components=3), torch.randn(7, 11, 2), torch.randn(7, 2)
    weight, mean, scale = (h[:, :9] * map.gain.view(-1, 1)).chunk(3, 1)
    scale = 2 * torch.tanh(scale / 2)
    cdf = (weight.softmax(1) * torch.sigmoid((z.unsqueeze(1) - 10 * torch.tanh(mean / 10)) * torch.exp(-scale))).sum(1)
    cdf = (1 - FLOOR) * cdf + FLOOR * z.sigmoid()
    x, _ = map.forward_and_logdet(z, h)
    assert_close(x, cdf.logit() * torch.exp(2 * torch.tanh(h[:, -2] / 2)) + h[:, -1])


MAPS = {"mixture": LogisticsMap, "ddsf": DeepDenseSigmoidalMap, "ddsf, 3 layers": lambda: DeepDenseSigmoidalMap(4, 3)}


@pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
def test_round_trip_to_rounding_and_extreme_parameters_stay_finite(make: Callable[[], LogisticsMap]) -> None:
    map = make()
    for spread, scale, tolerance in ((1.0, 1.0, 1e-11), (1.0, 100.0, 1e-11), (10.0, 1.0, 1e-6)):
        h, z = torch.randn(200, map.width, 3) * spread, torch.randn(200, 3) * scale
        x, up = map.forward_and_logdet(z, h)
        back, down = map.inverse_and_logdet(x, h)
        assert_close(back, z, rtol=tolerance, atol=tolerance)
        assert bool(up.isfinite().all()) and bool(down.isfinite().all())
    h, z = torch.randn(5, map.width, 3) * 1e4, torch.full((5, 3), 1e4)
    for value in (z, -z):
        for out in (*map.forward_and_logdet(value, h), *map.inverse_and_logdet(value, h)):
            assert bool(out.isfinite().all())


LAYERS = {"mixture": lambda: MixtureOfLogistics(1), "ddsf": lambda: DeepDenseSigmoidal(1, hidden=4)}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_equal_components_part_and_learn_two_modes(make: Callable[[], Elementwise]) -> None:
    """All components are equal at the identity; were their gradients equal too, no mixture could be learnt."""
    x = torch.cat([torch.randn(200, 1) * 0.3 - 1, torch.randn(200, 1) * 0.3 + 1])
    modes = torch.distributions.Normal(torch.tensor([-1.0, 1.0]), 0.3)
    best = -(modes.log_prob(x).logsumexp(1) - math.log(2)).mean().item()
    layer = make()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(200):
        z, logdet = layer.forward_and_logdet(x)
        loss = (z**2 / 2 + math.log(2 * math.pi) / 2).sum(1).mean() - logdet.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < best + 0.1  # a single bell is 0.5 above
    assert best + 0.3 < 0.5 * math.log(2 * math.pi * math.e * x.var().item())


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogisticsMap(components=0),
        lambda: LogisticsMap(components=True),
        lambda: LogisticsMap(reach=0.0),
        lambda: DeepDenseSigmoidalMap(hidden=0),
        lambda: DeepDenseSigmoidalMap(layers=-1),
        lambda: MixtureOfLogistics(3, components=1.5),  # type: ignore[arg-type]
    ],
)
def test_impossible_sizes_are_errors(make: Callable[[], object]) -> None:
    with pytest.raises(ArgumentError, match="positive"):
        make()
