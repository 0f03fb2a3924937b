"""Layers that draw: slices, augmentation, dequantisation.  Contributions against closed forms."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.testing import assert_close
from transforms.registry import CASES

from probflow import distributions
from probflow.errors import ArgumentError, NoInverse, ShapeError
from probflow.transforms import Affine, Compose, Coupling, LogitPreprocess, Transform
from probflow.transforms.conv1x1 import Conv1x1
from probflow.transforms.dequantise import UniformDequantise, VariationalDequantise, integers
from probflow.transforms.slice import Augment, Slice
from probflow.transforms.squeeze import Squeeze

T = TypeVar("T", bound=Transform)

DRAWING = {name: case for name, case in CASES.items() if case.make().stochastic_forward}
BOUNDS = {name: case for name, case in CASES.items() if case.make().stochastic_inverse}


def shaken(module: T, spread: float = 0.3) -> T:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return module


def standard(z: Tensor) -> Tensor:
    return Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)


# ------------------------------------------------------------------ what holds for all


@pytest.mark.parametrize("case", DRAWING.values(), ids=DRAWING)
def test_the_inverse_of_a_draw_is_exact(case):
    layer, z, c = shaken(case.make(), 1.0), case.z(), case.c()
    x, up = layer.forward_and_logdet(z, c)
    back, down = layer.inverse_and_logdet(x, c)
    assert_close(back, z)
    assert_close(up, -down)
    assert not torch.equal(layer.forward(z, c), x), "drawn anew"


@pytest.mark.parametrize("case", DRAWING.values(), ids=DRAWING)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_what_is_encoded_can_be_decoded(case, temperature):
    layer = shaken(case.make(), 1.0).tempered(temperature)
    z, c = case.z(), case.c()
    x, up = layer.forward_and_logdet(z, c)
    again, noise, contribution = layer.encode(x, c)
    assert len(noise) == layer.noise_parts == 1
    assert_close(contribution, -up)
    assert_close(layer.decode(again, noise, c), x)
    assert not torch.allclose(layer.decode(again, (noise[0] + 1,), c), x)


@pytest.mark.parametrize("case", BOUNDS.values(), ids=BOUNDS)
def test_data_comes_back_through_a_drawn_inverse(case):
    layer = shaken(case.make(), 0.1)  # a u within rounding of 0 or 1 cannot be read off x + u again
    assert layer.is_bound
    c = case.c()
    x = layer.forward(case.z(), c)
    z, down = layer.inverse_and_logdet(x, c)
    again, up = layer.forward_and_logdet(z, c)
    assert torch.equal(again, x)
    assert_close(up, -down, rtol=1e-6, atol=1e-6)
    assert not torch.equal(layer.inverse(x, c), z), "drawn anew"


# ------------------------------------------------------------------ slices


def test_a_slice_contributes_the_density_of_what_it_drops():
    layer = Slice(5, 2)
    net: Any = layer.noise.transform.conditioner
    shaken(layer)
    x = torch.randn(4, 5)
    z, contribution = layer.inverse_and_logdet(x)
    s, t = net(x[:, :2]).chunk(2, 1)
    expected = Normal(t, (4 * torch.tanh(s / 4)).exp()).log_prob(x[:, 2:]).sum(1)
    assert torch.equal(z, x[:, :2])
    assert_close(contribution, expected)


def test_a_new_slice_is_standard_normal():
    for shape, keep in ((5, 2), ((4, 3, 3), 1)):
        layer = Slice(shape, keep)
        assert layer.shape is not None
        x = layer.forward(torch.randn(7, *layer.shape))
        assert_close(layer.inverse_and_logdet(x)[1], standard(x[:, keep:]))


def test_a_slice_draws_from_its_density():
    layer = shaken(Slice((2, 1, 2), 1, context=1))
    z, c = torch.randn(1, 1, 1, 2).expand(40_000, -1, -1, -1), torch.ones(1, 1).expand(40_000, -1)
    u = layer.forward(z, c)[:, 1:]
    net: Any = layer.noise.transform
    h = net._h(torch.cat([z[:1], torch.ones(1, 1, 1, 2)], 1))
    s, t = 4 * torch.tanh(h[0, 0] / 4), h[0, 1]
    assert bool(((u.mean(0) - t).abs() < 5 * s.exp() / 200).all())
    assert bool(((u.std(0) / s.exp() - 1).abs() < 5 / math.sqrt(2 * 40_000)).all())


def test_a_multi_scale_chain_has_the_density_of_its_parts():
    """Two scales by hand: log p(x) = log p(z) + log p(u | z) + log-determinants."""
    parts = [Coupling((2, 2, 2), hidden=(4,)), Slice((4, 2, 2), 2), Conv1x1((4, 2, 2)), Squeeze((1, 4, 4))]
    coupling, sliced, mix, squeeze = parts
    chain = shaken(Compose(parts))
    x = torch.randn(3, 1, 4, 4)
    z, contribution = chain.inverse_and_logdet(x)
    y, first = mix.inverse_and_logdet(squeeze.inverse(x))
    _, log_u = sliced.inverse_and_logdet(y)
    inner, second = coupling.inverse_and_logdet(y[:, :2])
    assert_close(z, inner)
    assert_close(contribution, first + log_u + second)
    assert chain.shape == (2, 2, 2) and chain.output_shape == (1, 4, 4) and not chain.is_bound


def test_the_density_of_a_slice_integrates_to_one():
    layer = shaken(Slice(2, 1))
    grid = torch.linspace(-12, 12, 801)
    x = torch.cartesian_prod(grid, grid)
    z, contribution = layer.inverse_and_logdet(x)
    total = (standard(z) + contribution).exp().sum() * (grid[1] - grid[0]) ** 2
    assert_close(total, torch.ones(()), rtol=1e-4, atol=1e-4)


def test_a_tempered_slice_shares_weights_and_has_its_own_density():
    layer = Slice(3, 1)
    cool = layer.tempered(0.5)
    shaken(layer)
    x = torch.randn(4, 3)
    net: Any = layer.noise.transform.conditioner
    s, t = net(x[:, :1]).chunk(2, 1)
    expected = Normal(t, 0.5 * (4 * torch.tanh(s / 4)).exp()).log_prob(x[:, 1:]).sum(1)
    assert_close(cool.inverse_and_logdet(x)[1], expected)
    assert_close(cool.tempered(2.0).inverse_and_logdet(x)[1], layer.inverse_and_logdet(x)[1])
    z = torch.zeros(20_000, 1)
    spread = cool.forward(z)[:, 1:].std(0) / layer.forward(z)[:, 1:].std(0)
    assert_close(spread, torch.full((2,), 0.5), rtol=0.05, atol=0)
    assert {id(p) for p in cool.parameters()} == {id(p) for p in layer.parameters()}


def test_zero_noise_decodes_to_the_middle():
    layer = shaken(Slice((4, 2, 2), 2))
    z = torch.randn(3, 2, 2, 2)
    x = layer.decode(z, (torch.zeros(3, 2, 2, 2),))
    net: Any = layer.noise.transform
    assert_close(x[:, 2:], net._h(z)[:, 1])


def test_the_context_of_a_slice_reaches_all_of_u():
    for context in ((3,), (1, 8, 8)):
        layer = shaken(Slice((4, 4, 4), 2, context=context))
        z, noise, c = torch.randn(2, 2, 4, 4), torch.zeros(2, 2, 4, 4), torch.randn(2, *context)
        assert bool((layer.decode(z, (noise,), c) != layer.decode(z, (noise,), c + 1))[:, 2:].all())


# ------------------------------------------------------------------ bounds


def linear_augment(exact: bool) -> tuple[Compose, Tensor, Tensor]:
    """x and u jointly normal, z = (x, u) -> standard normal by a triangular map; q(u | x) is the posterior if `exact`.

    z1 = x, z2 = (u - a x) / b: so x ~ N(0, 1) exactly and p(u | x) = N(a x, b²).
    """
    a, b = 0.8, 0.6

    class Mix(Transform):
        shape = (2,)

        def _forward_and_logdet(self, z, context):
            return torch.stack([z[:, 0], a * z[:, 0] + b * z[:, 1]], 1), torch.full_like(z[:, 0], math.log(b))

        def _inverse_and_logdet(self, x, context):
            return torch.stack([x[:, 0], (x[:, 1] - a * x[:, 0]) / b], 1), torch.full_like(x[:, 0], -math.log(b))

    augment = Augment(1, 1)
    if exact:
        net: Any = augment.noise.transform.conditioner
        last = net.layers[-1]
        with torch.no_grad():
            last.bias[0] = 4 * math.atanh(math.log(b) / 4)
            last.weight[1, 0] = a
    x = torch.linspace(-2, 2, 5)[:, None]
    return Compose([Mix(), augment]), x, standard(x)


def weighted(chain: Transform, x: Tensor, samples: int) -> Tensor:
    """log (1/K) Σ p(z_k) e^{V_k}: importance weighting (arXiv:1509.00519, eq. 8), which tends to log p(x)."""
    many = x.repeat_interleave(samples, 0)
    z, contribution = chain.inverse_and_logdet(many)
    return (standard(z) + contribution).view(-1, samples).logsumexp(1) - math.log(samples)


def test_the_augmented_bound_lies_below_and_importance_weighting_closes_it():
    chain, x, exact = linear_augment(exact=False)
    many = x.repeat_interleave(20_000, 0)
    z, contribution = chain.inverse_and_logdet(many)
    terms = (standard(z) + contribution).view(5, -1)
    # E_q[log p(x, u) - log q(u)] by hand: KL(N(0, 1) || N(a x, b²)) below log p(x)
    a, b = 0.8, 0.6
    gap = math.log(b) + (1 + (a * x[:, 0]) ** 2) / (2 * b**2) - 0.5
    error = terms.std(1) / math.sqrt(20_000)
    assert bool(((terms.mean(1) - (exact - gap)).abs() < 5 * error).all())
    assert bool((gap > 0.2).all())
    assert_close(weighted(chain, x, 100_000), exact, rtol=0, atol=0.05)


def test_the_augmented_bound_is_tight_at_the_posterior():
    chain, x, exact = linear_augment(exact=True)
    assert_close(weighted(chain, x, 1), exact)


def uniform_on_levels(z: Tensor, levels: int = 4) -> Tensor:
    inside = (z >= 0) & (z < levels)
    return torch.where(inside, torch.zeros_like(z), -torch.inf).sum(1) - z.shape[1] * math.log(levels)


def test_uniform_dequantisation_is_tight_for_densities_that_are_flat_between_integers():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    z, contribution = UniformDequantise(4).inverse_and_logdet(x.repeat(1000, 1))
    assert torch.equal(contribution, torch.zeros(3000))
    assert_close(uniform_on_levels(z), torch.full((3000,), -math.log(4)))


@pytest.mark.parametrize("kind", ["uniform", "variational"])
def test_dequantisation_bounds_the_probability_of_an_integer(kind):
    """p(z) = N(1.3, 0.7²): P(x) = ∫ over [x, x + 1)."""
    layer = UniformDequantise(4) if kind == "uniform" else shaken(VariationalDequantise(1, levels=4))
    base = Normal(torch.tensor(1.3), torch.tensor(0.7))
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    exact = (base.cdf(x + 1) - base.cdf(x)).log()[:, 0]
    many = x.repeat_interleave(50_000, 0)
    z, contribution = layer.inverse_and_logdet(many)
    terms = (base.log_prob(z).sum(1) + contribution).view(4, -1)
    error = terms.std(1) / math.sqrt(50_000)
    assert bool((terms.mean(1) < exact - 5 * error).all()), "below, by more than the sampling error"
    assert_close(terms.logsumexp(1) - math.log(50_000), exact, rtol=0, atol=0.05)


def test_variational_dequantisation_tightens_the_bound_when_trained():
    base = Normal(torch.tensor(2.0), torch.tensor(0.5))
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    layer = VariationalDequantise(1, levels=4, hidden=(16,))
    exact = (base.cdf(x + 1) - base.cdf(x)).log().mean()
    torch.manual_seed(0)

    def bound(samples: int) -> Tensor:
        z, contribution = layer.inverse_and_logdet(x.repeat_interleave(samples, 0))
        return (base.log_prob(z).sum(1) + contribution).mean()

    optimiser = torch.optim.Adam(layer.parameters(), 2e-2)
    start = exact - bound(20_000).detach()
    for _ in range(300):
        optimiser.zero_grad()
        (-bound(64)).backward()
        optimiser.step()
    end = exact - bound(20_000).detach()
    assert 0 < end < 0.2 * start


def test_variational_noise_has_the_density_that_is_reported():
    layer = shaken(VariationalDequantise(1, levels=4))
    u = torch.linspace(0.0005, 0.9995, 1000)[:, None]
    for level in range(4):
        _, log_q = layer.forward_and_logdet(level + u)
        assert_close(log_q.exp().mean(), torch.ones(()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["uniform", "variational"])
def test_integers_come_back_exactly(kind, dtype):
    """In float32, 255 + u rounds to 256 for u > 1 - 2^-17: a million draws would show it."""
    layer = UniformDequantise() if kind == "uniform" else VariationalDequantise(1)
    if kind == "variational":
        with torch.no_grad():
            net: Any = layer.get_submodule("noise.transform.conditioner")
            net.layers[-1].bias[1] = 9.0  # u close to 1
    layer = layer.to(dtype)
    x = torch.arange(256, dtype=dtype).repeat(4000)[:, None]
    z = layer.inverse(x)
    assert torch.equal(layer.forward(z), x)
    assert bool((z >= 0).all()) and bool((z < 256).all())


def test_integer_tensors_are_taken_as_they_are():
    x = torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8)
    layer = UniformDequantise()
    z, contribution = layer.inverse_and_logdet(x)
    assert z.dtype == contribution.dtype == torch.get_default_dtype()
    assert torch.equal(layer.forward(z).to(torch.uint8), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int64, torch.bool])
@pytest.mark.parametrize("levels", [2, 16, 256, 1024])
def test_levels_are_counted_in_every_integer_type(dtype, levels):
    """256 wraps around to 0 in the arithmetic of uint8."""
    x = torch.tensor([0, 1, 100]).to(dtype)
    assert integers(levels).holds(x).tolist() == [int(value) < levels for value in x]


def test_a_flow_takes_pixels_as_bytes():
    base = distributions.Normal("p(z)", loc=0.0, scale=1.0, features_shape=(1, 2, 2))
    p = distributions.Flow(base, [LogitPreprocess(), UniformDequantise()], "p(x)")
    x = torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8)
    torch.manual_seed(2)
    expected = p.log_prob({"x": x.to(torch.get_default_dtype())})
    torch.manual_seed(2)
    assert torch.equal(p.log_prob({"x": x}), expected)


@pytest.mark.parametrize("bad", [-1.0, 256.0, 0.5, math.nan, math.inf])
@pytest.mark.parametrize("kind", ["uniform", "variational"])
def test_values_that_are_no_levels_have_probability_zero(kind, bad):
    layer = UniformDequantise() if kind == "uniform" else VariationalDequantise(2)
    x = torch.tensor([[3.0, 4.0], [3.0, bad]], requires_grad=True)
    z, contribution = layer.inverse_and_logdet(x)
    assert bool(contribution[0].isfinite()) and contribution[1] == -math.inf
    assert bool(z.isfinite().all())
    (z.sum() + contribution[0]).backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
    assert not bool(layer.codomain.holds(x)[1].all())


def test_a_chain_turned_around_knows_its_noise_and_what_it_rounds():
    """Written from x to z and turned: the slice inside still tells its noise, and rounding is still no differentiable map."""
    chain = shaken(Compose([Affine(5), Slice(5, 2).inv, Affine(2)])).inv
    x = chain.forward(torch.randn(4, 2))
    z, noise, contribution = chain.encode(x)
    assert chain.noise_parts == len(noise) == 1
    assert_close(chain.decode(z, noise), x)
    assert_close(contribution, chain.inverse_and_logdet(x)[1])
    turned = Compose([UniformDequantise(4).inv]).inv
    assert not turned.differentiable and turned.differentiable_inverse
    assert turned.inv.differentiable and not turned.inv.differentiable_inverse


def test_noise_that_is_not_told_is_an_error():
    with pytest.raises(NoInverse, match="Augment.inv does not tell the noise.*Slice"):
        Augment(2, 3).inv.encode(torch.randn(4, 5))


def test_a_chain_written_from_data_to_noise_is_told_how_to_turn():
    with pytest.raises(ArgumentError, match=r"Compose\(\[LogitPreprocess, UniformDequantise\]\); its .inv is the direction"):
        Compose([UniformDequantise(8).inv, LogitPreprocess(8).inv])


def test_rounding_stays_on_the_levels():
    layer = UniformDequantise(4)
    x, logdet = layer.forward_and_logdet(torch.tensor([[-0.5], [0.5], [3.9], [4.0]]))
    assert x.flatten().tolist() == [0, 0, 3, 3]
    assert logdet.tolist() == [-math.inf, 0, 0, -math.inf]


# ------------------------------------------------------------------ errors


class OneWay(nn.Module):
    pass


def test_what_cannot_be_built_says_why():
    with pytest.raises(ArgumentError, match=r"keep must be 1 ... 3 of the 4"):
        Slice(4, 4)
    with pytest.raises(ArgumentError, match="extra must be a positive number"):
        Augment(4, 0)
    with pytest.raises(ShapeError, match=r"the transform's noise have shape \(2,\), expected \(3,\)"):
        Slice(5, 2, Affine(2, context=2))
    with pytest.raises(ShapeError, match=r"Write: context=\(5,\)"):
        Slice(5, 2, Affine(3, context=2), context=3)
    with pytest.raises(ArgumentError, match="draws noise of its own"):
        Slice(5, 2, Compose([Augment(3, 1).inv, Augment(3, 1)]))
    with pytest.raises(ArgumentError, match="must be a Transform, or None"):
        Slice(5, 2, OneWay())  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="levels must be the number of levels"):
        UniformDequantise(1)
    with pytest.raises(ArgumentError, match="temperature must be positive"):
        Slice(4, 2).tempered(0.0)
    with pytest.raises(ShapeError, match=r"noise must be one tensor of shape \(3, 2\), got none"):
        Slice(4, 2).decode(torch.zeros(3, 2), ())


def test_bounds_need_both_directions():
    one_way = Affine(2, context=3)
    one_way.inverse_cost = "absent"
    with pytest.raises(ArgumentError, match="cannot be computed in both directions"):
        Augment(3, 2, one_way)
    with pytest.raises(ArgumentError, match="cannot be computed in both directions"):
        two = Affine(2, context=2)
        two.inverse_cost = "absent"
        VariationalDequantise(2, two)
