"""Splines beyond the laws: the paper's formula, knots, tails, extreme parameters, float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from probflow.errors import ArgumentError
from probflow.transforms.bins import bins_first, sizes_of_bins, within
from probflow.transforms.piecewise_linear import PiecewiseLinear, PiecewiseLinearMap
from probflow.transforms.spline import Spline, SplineMap

MAPS = {
    "spline": SplineMap(),
    "spline, 3 bins, bound 2": SplineMap(3, bound=2.0, min_width=0.05, min_height=0.01, min_slope=0.1),
    "piecewise linear": PiecewiseLinearMap(),
}
both = pytest.mark.parametrize("map", MAPS.values(), ids=MAPS)


def draw(map: Any, *event: int, n: int = 50, spread: float = 2.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return (spread * torch.randn(n, map.width, *event, dtype=torch.float64)).to(dtype)


def knots(map: Any, h: Tensor) -> tuple[Tensor, Tensor]:
    """The knots of one element, (x, z), K + 1 each, from the definition."""
    found = []
    for logits, least in ((h[: map.bins], map.min_width), (h[map.bins : 2 * map.bins], map.min_height)):
        sizes = [least + (1 - map.bins * least) * e / sum(v.exp() for v in logits) for e in (v.exp() for v in logits)]
        edges = [-map.bound]
        for size in sizes[:-1]:
            edges.append(edges[-1] + 2 * map.bound * float(size))
        found.append(torch.tensor([*edges, map.bound], dtype=h.dtype))
    return found[0], found[1]


def by_the_paper(map: SplineMap, x: float, h: Tensor) -> tuple[float, float]:
    """g(x) and log g'(x), equation 4 and 5 of arXiv:1906.04032 word for word, for one number."""
    if abs(x) > map.bound:
        return x, 0.0
    xs, ys = knots(map, h)
    offset = math.log(math.exp(1 - map.min_slope) - 1)
    inner = [map.min_slope + math.log1p(math.exp(float(v) + offset)) for v in h[2 * map.bins :]]
    delta = [1.0, *inner, 1.0]
    k = next(k for k in range(map.bins) if x <= float(xs[k + 1]))
    w, height = float(xs[k + 1] - xs[k]), float(ys[k + 1] - ys[k])
    s, xi = height / w, (x - float(xs[k])) / w
    below = s + (delta[k + 1] + delta[k] - 2 * s) * xi * (1 - xi)
    value = float(ys[k]) + height * (s * xi**2 + delta[k] * xi * (1 - xi)) / below
    slope = s**2 * (delta[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + delta[k] * (1 - xi) ** 2) / below**2
    return value, math.log(slope)


@pytest.mark.parametrize("name", ["spline", "spline, 3 bins, bound 2"])
def test_is_the_formula_of_the_paper(name: str) -> None:
    map = MAPS[name]
    assert isinstance(map, SplineMap)
    h, x = draw(map, 4), 3 * torch.randn(50, 4, dtype=torch.float64)
    z, logdet = map.inverse_and_logdet(x, h)
    expected = [by_the_paper(map, float(x[n, i]), h[n, :, i]) for n in range(50) for i in range(4)]
    assert_close(z.flatten(), torch.tensor([v for v, _ in expected], dtype=z.dtype), rtol=1e-10, atol=1e-10)
    assert_close(logdet.flatten(), torch.tensor([v for _, v in expected], dtype=z.dtype), rtol=1e-9, atol=1e-9)


def test_piecewise_linear_interpolates_between_its_knots() -> None:
    map = MAPS["piecewise linear"]
    h, x = draw(map), torch.linspace(-5, 5, 50, dtype=torch.float64)
    z, logdet = map.inverse_and_logdet(x, h)
    for n in range(50):
        xs, zs = knots(map, h[n])
        k = int((xs[1:-1] <= x[n]).sum())
        slope = (zs[k + 1] - zs[k]) / (xs[k + 1] - xs[k])
        assert_close(z[n], zs[k] + slope * (x[n] - xs[k]))
        assert_close(logdet[n], slope.log(), rtol=1e-9, atol=1e-9)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_parameters_are_the_identity(map: Any, dtype: torch.dtype) -> None:
    z = torch.linspace(-7, 7, 2001, dtype=dtype)
    tiny = 10 * torch.finfo(dtype).eps
    for run in (map.forward_and_logdet, map.inverse_and_logdet):
        value, logdet = run(z, torch.zeros(1, map.width, dtype=dtype))
        assert_close(value, z, rtol=0, atol=tiny * map.bound)
        assert_close(logdet, torch.zeros_like(z), rtol=0, atol=tiny)


@both
def test_tails_are_the_identity_to_the_last_bit(map: Any) -> None:
    h = draw(map, spread=10.0, n=6).requires_grad_()
    z = (map.bound * torch.tensor([-1e9, -3, -1 - 1e-12, 1 + 1e-12, 2, 1e9], dtype=torch.float64)).requires_grad_()
    for run in (map.forward_and_logdet, map.inverse_and_logdet):
        value, logdet = run(z, h)
        assert torch.equal(value, z) and torch.equal(logdet, torch.zeros_like(z))
        by_z, by_h = torch.autograd.grad((value + logdet).sum(), [z, h])
        assert torch.equal(by_z, torch.ones_like(z)) and torch.equal(by_h, torch.zeros_like(h))


@both
def test_knots_and_bounds_are_hit_and_continuous(map: Any) -> None:
    """At every knot, ±B included: the value is the knot's, and a step of 1e-11 to either side changes next to nothing."""
    for h in draw(map, n=10):
        xs, zs = knots(map, h)
        for run, here, there in ((map.inverse_and_logdet, xs, zs), (map.forward_and_logdet, zs, xs)):
            value, logdet = run(here, h.expand(len(here), -1))
            assert_close(value, there, rtol=0, atol=1e-11)
            assert bool(logdet.isfinite().all()) and bool((value.abs() <= map.bound).all())
            for step in (-1e-11, 1e-11):
                beside, beside_logdet = run(here + step, h.expand(len(here), -1))
                assert_close(beside, there, rtol=0, atol=1e-6)
                if isinstance(map, SplineMap):  # the slope is continuous too
                    assert_close(beside_logdet, logdet, rtol=0, atol=1e-2)


def test_the_slope_at_the_bounds_is_one() -> None:
    map = SplineMap()
    z = torch.tensor([-5.0, 5.0], dtype=torch.float64).expand(20, 2)
    for run in (map.forward_and_logdet, map.inverse_and_logdet):
        value, logdet = run(z, draw(map, 2, n=20, spread=3.0))
        assert_close(value, z, rtol=0, atol=1e-12)
        assert_close(logdet, torch.zeros_like(z), rtol=0, atol=1e-9)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("spread", [1.0, 30.0, 1e4])
def test_gradients_are_finite_at_any_parameters(map: Any, dtype: torch.dtype, spread: float) -> None:
    """At normal values, zeros, bounds, on the knots themselves, and beside NaN and infinity, which keep to their own rows."""
    h = draw(map, 12, n=40, spread=spread, dtype=dtype)
    z = (3 * torch.randn(40, 12)).to(dtype)
    z[:, 0], z[:, 1], z[:, 2] = 0, map.bound, -map.bound
    sizes = sizes_of_bins(bins_first(h[:, : 2 * map.bins]), map.bound, (map.min_width, map.min_height))
    edges = sizes.cumsum(1) - map.bound  # (2, K, N, 12)
    z[:, 3:7], z[:, 7:11] = edges[0, 0, :, 3:7], edges[1, -2, :, 7:11]
    z[3], z[4] = math.nan, math.inf
    h.requires_grad_()
    for run in (map.forward_and_logdet, map.inverse_and_logdet):
        leaf = z.clone().requires_grad_()
        value, logdet = run(leaf, h)
        good = [i for i in range(40) if i not in (3, 4)]
        assert bool(value[good].isfinite().all()) and bool(logdet[good].isfinite().all())
        by_z, by_h = torch.autograd.grad(value.sum() + logdet.sum(), [leaf, h])
        assert bool(by_z.isfinite().all()) and bool(by_h.isfinite().all())


@both
@pytest.mark.parametrize("spread", [1.0, 10.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_monotone_at_any_parameters(map: Any, spread: float, dtype: torch.dtype) -> None:
    z = torch.linspace(-1.2 * map.bound, 1.2 * map.bound, 4001, dtype=dtype).unsqueeze(1)
    h = draw(map, 20, n=1, spread=spread, dtype=dtype)
    for run in (map.forward_and_logdet, map.inverse_and_logdet):
        value, logdet = run(z.expand(-1, 20), h)
        assert bool((value.diff(dim=0) >= -4 * map.bound * torch.finfo(dtype).eps).all())
        assert bool(logdet.isfinite().all())


@pytest.mark.parametrize(("spread", "worst"), [(1.0, 1e-3), (5.0, math.inf)], ids=["as trained", "extreme"])
def test_round_trip_in_float32_over_a_million_points(spread: float, worst: float) -> None:
    """x → z → x and z → x → z.

    Parameters of standard deviation 1: the median error is 0, the largest measured 3e-4 in x and 7e-4 in the log-determinant,
    where the way back is 1000 times steeper than the identity.  Parameters of 5, slopes to 3e6: the error is as large as half an
    ulp of the value between, times that slope, must make it, and no larger.
    """
    map = SplineMap()
    h = (spread * torch.randn(20, map.width, dtype=torch.float32)).repeat_interleave(50_000, 0)
    x = torch.rand(len(h), dtype=torch.float32) * 11 - 5.5
    with torch.no_grad():
        for run, back in (
            (map.inverse_and_logdet, map.forward_and_logdet),
            (map.forward_and_logdet, map.inverse_and_logdet),
        ):
            value, down = run(x, h)
            again, up = back(value, h)
            assert value.dtype == down.dtype == torch.float32
            assert bool(again.isfinite().all()) and bool((up + down).isfinite().all())
            error, ulp = (again - x).abs(), torch.finfo(torch.float32).eps * map.bound
            assert bool((error <= 4 * ulp * (1 + up.exp())).all())
            assert float(error.max()) < worst and float((up + down).abs().max()) < 3 * worst
            assert spread > 1 or float(error.median()) <= ulp


def test_second_derivatives_are_right() -> None:
    """Score matching differentiates a log-density twice."""
    map = SplineMap(3)
    h, z = draw(map, n=4).requires_grad_(), torch.tensor([-3.0, 0.3, 2.0, 6.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(map.inverse_and_logdet, (z, h))
    assert torch.autograd.gradgradcheck(map.forward_and_logdet, (z, h))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SplineMap(bins=1), "bins"),
        (lambda: SplineMap(bins=2.0), "bins"),  # type: ignore[arg-type]
        (lambda: SplineMap(bound=0.0), "bound"),
        (lambda: SplineMap(bound=math.inf), "bound"),
        (lambda: SplineMap(bins=8, min_width=0.125), "min_width"),
        (lambda: SplineMap(bins=8, min_height=0.0), "min_height"),
        (lambda: SplineMap(min_slope=1.0), "min_slope"),
        (lambda: PiecewiseLinearMap(bins=1000), "min_width"),
        (lambda: PiecewiseLinear(2, bound=-1.0), "bound"),
        (lambda: Spline(0), "Spline"),
    ],
)
def test_what_cannot_be_is_said_at_construction(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        make()


# ------------------------------------------------------------------ rounding


def test_rounding_past_a_bound_is_cut_off_and_leaves_the_derivative():
    x = torch.tensor([-0.25, 0.5, 1.5, torch.nan], requires_grad=True)
    result = within(2 * x, 0, 1)
    assert_close(result, torch.tensor([0.0, 1.0, 1.0, torch.nan]), equal_nan=True)
    assert_close(torch.autograd.grad(result.sum(), x)[0], torch.full((4,), 2.0))
    assert_close(x.detach(), torch.tensor([-0.25, 0.5, 1.5, torch.nan]), equal_nan=True)


@pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
def test_function_transforms_differentiate_it_too(inverse: bool):
    torch.manual_seed(0)
    map, x, h = SplineMap(4), 2 * torch.randn(5, 3), torch.randn(5, 11, 3)

    def run(x: Tensor, h: Tensor) -> Tensor:
        return torch.stack((map.inverse_and_logdet if inverse else map.forward_and_logdet)(x, h))

    expected = torch.autograd.functional.jacobian(run, (x, h))
    assert_close(torch.func.jacrev(run, (0, 1))(x, h), expected)
    assert_close(torch.func.jacfwd(run, (0, 1))(x, h), expected)
    rows = torch.func.vmap(lambda x, h: run(x[None], h[None])[:, 0], out_dims=1)(x, h)
    assert_close(rows, run(x, h))


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("direction", ["forward_and_logdet", "inverse_and_logdet"])
def test_the_formula_for_a_compiler_is_the_same(name: str, direction: str) -> None:
    """Sums behind masks instead of an index, with the same gradients."""
    torch.manual_seed(0)
    map = MAPS[name]
    function = getattr(map, direction)
    value, h = torch.linspace(-6, 6, 60).reshape(20, 3).double(), torch.randn(20, map.width, 3).double()
    found = []
    for call in function, torch.compile(function, backend="eager", fullgraph=True):
        leaves = [value.clone().requires_grad_(), h.clone().requires_grad_()]
        outputs = call(*leaves)
        found.append((*outputs, *torch.autograd.grad((outputs[0].sin() + outputs[1].cos()).sum(), leaves)))
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted)
