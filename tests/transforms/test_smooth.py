"""Fixed elementwise maps: against torch's own, at their borders, and their errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.distributions import transforms as td
from torch.testing import assert_close

from probflow.errors import ArgumentError
from probflow.transforms import Elementwise, Inverse, Sigmoid, Transform
from probflow.transforms.shaping import Power, SinhArcsinhMap
from probflow.transforms.smooth import Exp, LeakyReLU, LeakyTanh, Logit, SneakyReLU, Softplus, Tanh

PEERS = {
    "exp": (Exp, td.ExpTransform()),
    "softplus": (Softplus, td.SoftplusTransform()),
    "tanh": (Tanh, td.TanhTransform()),
    "logit": (Logit, td.SigmoidTransform().inv),
    "power": (lambda: Power(2.5), td.PowerTransform(torch.tensor(2.5))),
}


@pytest.mark.parametrize(("make", "peer"), PEERS.values(), ids=PEERS)
def test_equals_the_map_of_torch(make: Callable[[], Transform], peer: td.Transform) -> None:
    z = torch.rand(50, 3) * 0.9 + 0.05
    x, logdet = make().forward_and_logdet(z)
    assert_close(x, peer(z))
    assert_close(logdet, peer.log_abs_det_jacobian(z, peer(z)).sum(1))


OUTSIDE = {
    "exp": (Exp, [0.0, -1.0, math.inf]),
    "softplus": (Softplus, [0.0, -1.0, math.inf]),
    "sigmoid": (Sigmoid, [0.0, 1.0, 2.0, -math.inf]),
    "tanh": (Tanh, [1.0, -1.0, 3.0, math.inf]),
    "power": (lambda: Power(0.5), [0.0, -2.0, math.inf]),
}


@pytest.mark.parametrize(("make", "values"), OUTSIDE.values(), ids=OUTSIDE)
def test_outside_the_codomain_the_logdet_is_minus_infinity(make: Callable[[], Transform], values: list[float]) -> None:
    x = torch.tensor([*values, math.nan]).unsqueeze(1).requires_grad_()
    z, logdet = make().inverse_and_logdet(x)
    assert bool(z.isfinite().all()) and bool((logdet == -math.inf).all())
    (z.sum() + torch.where(logdet.isfinite(), logdet, 0).sum()).backward()
    assert x.grad is not None and bool((x.grad == 0).all())


def test_softplus_is_inverted_near_zero_and_far_away() -> None:
    z = torch.tensor([[-700.0, -40.0, -1e-9, 21.0, 1e4, 1e300]])
    x, up = Softplus().forward_and_logdet(z)
    back, down = Softplus().inverse_and_logdet(x)
    assert_close(back, z, rtol=1e-12, atol=1e-15)
    assert_close(up, -down)
    assert_close(
        Softplus().forward(torch.tensor([[21.0]])), torch.tensor([[21.0 + math.log1p(math.exp(-21.0))]]), rtol=0, atol=0
    )


def test_tanh_is_inverted_near_one() -> None:
    x = torch.tensor([[1 - 1e-12, -1 + 1e-15, 1e-300]])
    z, down = Tanh().inverse_and_logdet(x)
    assert_close(z, torch.atanh(x), rtol=1e-12, atol=0)
    assert_close(Tanh().forward_and_logdet(z)[1], -down, rtol=1e-4, atol=0)  # 1 - |x| has few digits left


def test_logit_is_the_sigmoid_turned_around() -> None:
    x = torch.rand(5, 3)
    assert isinstance(Logit(), Inverse) and isinstance(Logit().inv, Sigmoid) and Logit()._title() == "Logit"
    assert torch.equal(Logit().forward(x), Sigmoid().inverse(x))
    assert Logit().domain == Sigmoid().codomain and Logit().codomain == Sigmoid().domain


@pytest.mark.parametrize("slope", [1e-6, 0.001, 0.1, 0.9])
def test_sneaky_relu_has_its_slopes_and_inverts_far_away(slope: float) -> None:
    layer = SneakyReLU(slope)
    z = torch.tensor([[-1e8], [1e8], [0.0], [-1e-6], [3.0]])
    x, logdet = layer.forward_and_logdet(z)
    assert_close(logdet[:2].exp(), torch.tensor([slope, 1.0]), rtol=1e-6, atol=0)
    assert_close(layer.inverse(x), z, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("limit", [0.5, 3.0, 8.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_leaky_tanh_is_continuous_and_has_a_density_everywhere(limit: float, dtype: torch.dtype) -> None:
    layer = LeakyTanh(limit)
    x = torch.tensor([[-1.5], [-1.0], [-0.3], [0.0], [1.0], [2.0]], dtype=dtype).requires_grad_()
    z, logdet = layer.inverse_and_logdet(x)
    assert bool(z.isfinite().all()) and bool(logdet.isfinite().all()) and bool((z.diff(dim=0) > 0).all())
    (z.sum() + logdet.sum()).backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
    if dtype == torch.float64:
        around = torch.tensor([[limit * (1 - 1e-9)], [limit * (1 + 1e-9)]])
        ends, slopes = layer.forward_and_logdet(around)
        assert_close(ends[0], ends[1], rtol=1e-8, atol=0)
        assert_close(slopes[0], slopes[1], rtol=1e-7, atol=0)


def test_sinh_arcsinh_skews_and_widens_the_tails() -> None:
    z = torch.randn(20_000, 1)
    numbers = {"plain": (0.0, 0.0), "right": (1.0, 0.0), "heavy": (0.0, 0.5), "light": (0.0, -0.5)}
    x = {
        name: SinhArcsinhMap().forward_and_logdet(z, torch.tensor(h).view(1, 2, 1))[0].squeeze(1) for name, h in numbers.items()
    }

    def skewness(t: torch.Tensor) -> float:
        return (((t - t.mean()) / t.std()) ** 3).mean().item()

    def kurtosis(t: torch.Tensor) -> float:
        return (((t - t.mean()) / t.std()) ** 4).mean().item()

    assert skewness(x["right"]) > 0.3 > abs(skewness(x["plain"]))
    assert kurtosis(x["heavy"]) > kurtosis(x["plain"]) + 0.5 > kurtosis(x["light"]) + 0.5
    skewness_1, tail_05 = 2 * math.tanh(0.5), math.tanh(0.5)
    both, _ = SinhArcsinhMap().forward_and_logdet(torch.tensor([[0.7]]), torch.tensor([1.0, 0.5]).view(1, 2, 1))
    assert_close(both.item(), math.sinh(math.exp(tail_05) * (math.asinh(0.7) + skewness_1)))


def test_sinh_arcsinh_stays_finite_in_float32() -> None:
    layer = Elementwise(SinhArcsinhMap(), 1).float()
    with torch.no_grad():
        layer.h.fill_(1e6)
    for value in (1e4, -1e4):
        for out in (
            *layer.forward_and_logdet(torch.tensor([[value]]).float()),
            *layer.inverse_and_logdet(torch.tensor([[value]]).float()),
        ):
            assert out.dtype == torch.float32 and bool(out.isfinite().all())


@pytest.mark.parametrize(
    "make",
    [
        lambda: LeakyReLU(0.0),
        lambda: LeakyReLU(-1.0),
        lambda: LeakyReLU(math.inf),
        lambda: SneakyReLU(0.0),
        lambda: SneakyReLU(1.0),
        lambda: LeakyTanh(0.0),
        lambda: LeakyTanh(20.0),
        lambda: Power(0.0),
        lambda: Power(math.nan),
    ],
)
def test_what_would_not_be_invertible_is_an_error(make: Callable[[], Transform]) -> None:
    with pytest.raises(ArgumentError, match="must be"):
        make()
