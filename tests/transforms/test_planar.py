"""Planar, radial and Sylvester layers: the papers' formulas, strict invertibility at any weights, densities that integrate to 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from probflow.errors import ArgumentError
from probflow.transforms import Transform
from probflow.transforms.fixed_point import ACTIVATIONS, above_minus_one, as_activation, tanh_root
from probflow.transforms.planar import Planar
from probflow.transforms.radial import Radial
from probflow.transforms.sylvester import Sylvester, orthonormal

T = TypeVar("T", bound=Transform)

MAKERS: dict[str, Callable[[int], Transform]] = {
    "planar": Planar,
    "planar leaky_relu": lambda d: Planar(d, activation="leaky_relu"),
    "radial": Radial,
    "sylvester orthogonal": Sylvester,
    "sylvester householder": lambda d: Sylvester(d, kind="householder"),
    "sylvester triangular": lambda d: Sylvester(d, kind="triangular"),
}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def spread(transform: T, size: float) -> T:
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return transform


# ---------------------------------------------------------------------- the formulas of the papers


def test_planar_is_the_papers_formula() -> None:
    layer = Planar(3)
    u, w, b = torch.randn(3), torch.randn(3), torch.randn(())
    if float(u @ w) < 0:  # û = u where wᵀu >= 0
        w = -w
    with torch.no_grad():
        layer.u.copy_(u), layer.w.copy_(w), layer.b.copy_(b)
    z = torch.randn(5, 3)
    x, logdet = layer.forward_and_logdet(z)
    a = z @ w + b
    psi = (1 - a.tanh() ** 2)[:, None] * w
    assert_close(x, z + u * a.tanh()[:, None])
    assert_close(logdet, (1 + psi @ u).abs().log())


def test_radial_is_the_papers_formula() -> None:
    layer = spread(Radial(3), 1.0)
    centre, alpha, m = layer._constants(None)
    beta = alpha * m
    z = torch.randn(5, 3)
    r = (z - centre).norm(dim=1)
    h, h_slope = 1 / (alpha + r), -1 / (alpha + r) ** 2
    x, logdet = layer.forward_and_logdet(z)
    assert_close(x, z + (beta * h)[:, None] * (z - centre))
    assert_close(logdet, ((1 + beta * h) ** 2 * (1 + beta * h + beta * h_slope * r)).log())


@pytest.mark.parametrize("kind", ["orthogonal", "householder", "triangular"])
def test_sylvester_is_the_papers_formula(kind: Any) -> None:
    layer = spread(Sylvester(5, 3, kind), 1.0)
    R, R_inner, b, _, up = layer._constants(None)
    q = up(torch.eye(3)).T
    assert_close(q.T @ q, torch.eye(3))
    assert_close(R, R.triu()), assert_close(R_inner, R_inner.triu())
    z = torch.randn(4, 5)
    x, logdet = layer.forward_and_logdet(z)
    t = z @ q @ R_inner.T + b
    assert_close(x, z + t.tanh() @ R.T @ q.T)
    matrices = torch.eye(5) + q @ R @ (1 - t.tanh() ** 2).diag_embed() @ R_inner @ q.T
    assert_close(logdet, matrices.slogdet()[1])


def test_triangular_kinds_alternate_by_flip() -> None:
    plain, flipped = Sylvester(4, 2, "triangular"), Sylvester(4, 2, "triangular", flip=True)
    y = torch.arange(1.0, 3.0)[None]
    assert plain._frame()[1](y).tolist() == [[1, 2, 0, 0]] and flipped._frame()[1](y).tolist() == [[0, 0, 2, 1]]


def test_the_frame_depends_continuously_on_its_directions() -> None:
    """LAPACK turns a column where its first entry changes sign."""
    directions = torch.randn(4, 2)
    directions[0, 0] = 1e-9
    other = directions.clone()
    other[0, 0] = -1e-9
    assert_close(orthonormal(directions), orthonormal(other), rtol=0, atol=1e-7)


# ---------------------------------------------------------------------- invertible for all weights


@pytest.mark.parametrize("size", [1.0, 10.0, 100.0])
def test_u_hat_keeps_its_condition(size: float) -> None:
    """wᵀû > -1 with a margin (appendix A.1), and only the part along w is changed."""
    for _ in range(50):
        layer = spread(Planar(3), size)
        with torch.no_grad():
            u, w, _, k = layer._u_hat(None)
        assert_close(u @ w, k, rtol=1e-9, atol=1e-9)
        assert float(k) >= -0.99
        change = u - layer.u
        assert_close(change - (change @ w) / (w @ w) * w, torch.zeros(3), rtol=0, atol=1e-9 * size)


def test_a_planar_layer_without_direction_is_a_shift() -> None:
    layer = spread(Planar(3), 1.0)
    with torch.no_grad():
        layer.w.zero_()
    z = torch.randn(4, 3)
    x, logdet = layer.forward_and_logdet(z)
    assert_close(x, z + layer.u * layer.b.tanh()), assert_close(logdet, torch.zeros(4))
    (x.sum() + logdet.sum()).backward()
    assert all(bool(p.grad is not None and p.grad.isfinite().all()) for p in layer.parameters())


def test_sylvester_keeps_the_products_of_its_diagonals_above_minus_one() -> None:
    for _ in range(50):
        with torch.no_grad():
            R, R_inner, *_ = spread(Sylvester(4), 30.0)._constants(None)
        assert float((R.diagonal() * R_inner.diagonal()).min()) >= -0.99 - 1e-12
        assert float(R_inner.diagonal().min()) > 0


def test_the_bound_is_smooth_and_the_identity_for_positive_numbers() -> None:
    value = torch.tensor([-1e300, -1e3, -1.0, -1e-9, 0.0, 2.0, 1e3], requires_grad=True)
    bounded = above_minus_one(value)
    assert bool((bounded >= -0.99).all()) and bounded[4:].tolist() == [0.0, 2.0, 1e3]
    bounded.sum().backward()
    assert value.grad is not None
    assert_close(value.grad[3:], torch.ones(4))


@every
@pytest.mark.parametrize("size", [10.0, 100.0])
def test_inverse_at_huge_parameters(make: Callable[[int], Transform], size: float) -> None:
    for _ in range(5):
        layer = spread(make(4), size)
        z = torch.randn(50, 4) * 3
        x, up = layer.forward_and_logdet(z)
        back, down = layer.inverse_and_logdet(x)
        assert_close(layer.forward(back), x, rtol=1e-9, atol=1e-9 * size)
        assert bool(back.isfinite().all()) and bool(up.isfinite().all()) and bool(down.isfinite().all())
        if not isinstance(layer, Sylvester):  # whose many units may stretch the rounding of x without bound
            # the rounding of wᵀx, stretched by 1 / 0.01 and by û
            lost = 1e-10 * size * float(x.detach().abs().max())
            assert_close(back, z, rtol=0, atol=lost)
            assert_close(up, -down, rtol=0, atol=100 * lost)


@every
def test_inverse_in_float32(make: Callable[[int], Transform]) -> None:
    layer = spread(make(4), 1.0).float()
    z = torch.randn(200, 4, dtype=torch.float32)
    x, up = layer.forward_and_logdet(z)
    back, down = layer.inverse_and_logdet(x)
    assert_close(back, z, rtol=1e-3, atol=1e-3)
    assert_close(up, -down, rtol=1e-2, atol=1e-2)


# ---------------------------------------------------------------------- the scalar equation


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_root_is_exact_to_rounding(dtype: torch.dtype) -> None:
    k = torch.cat([-torch.linspace(0, 0.99, 50), torch.logspace(-9, 9, 50)]).to(dtype)[:, None]
    s = torch.cat([-torch.logspace(-30, 9, 60), torch.zeros(1), torch.logspace(-30, 9, 60)]).to(dtype)
    t = tanh_root(k, s)
    size = s.abs() + k.abs() * t.tanh().abs()
    assert bool(((t + k * t.tanh() - s).abs() <= 8 * torch.finfo(dtype).eps * size + torch.finfo(dtype).tiny).all())


def test_a_bad_equation_does_not_hold_up_the_others() -> None:
    s = torch.tensor([1.0, math.nan, math.inf, -1.0])
    t = tanh_root(torch.tensor(2.0), s)
    assert_close(t[[0, 3]], tanh_root(torch.tensor(2.0), s[[0, 3]]))
    assert t[0] == -t[3]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_root_is_differentiable_twice(name: str) -> None:
    solve = ACTIVATIONS[name].solve
    k = torch.tensor([-0.9, -0.3, 0.5, 4.0], requires_grad=True)
    s = torch.tensor([0.7, -2.0, 1.3, -3.0], requires_grad=True)
    assert torch.autograd.gradcheck(solve, (k, s))
    assert torch.autograd.gradgradcheck(solve, (k, s))


@every
def test_the_inverse_is_differentiable_twice(make: Callable[[int], Transform]) -> None:
    layer = spread(make(3), 0.5)
    x = torch.randn(2, 3, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, *_: layer.inverse_and_logdet(x), (x, *layer.parameters()), atol=1e-4)


# ---------------------------------------------------------------------- densities


@every
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_density_integrates_to_one(make: Callable[[int], Transform], seed: int) -> None:
    """∫ N(f⁻¹(x); 0, 1) |det ∂f⁻¹/∂x| dx = 1 by the trapezoidal rule, every z by the numeric inverse."""
    torch.manual_seed(seed)
    layer = spread(make(2), 0.7)
    line = torch.linspace(-14, 14, 701)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        z, logdet = layer.inverse_and_logdet(grid)
        density = (logdet - z.square().sum(1) / 2 - math.log(2 * math.pi)).exp().reshape(701, 701)
    total = torch.trapezoid(torch.trapezoid(density, line), line)
    assert_close(total, torch.tensor(1.0), rtol=0, atol=1e-3)


# ---------------------------------------------------------------------- training, amortised


@every
def test_every_parameter_moves_from_the_start(make: Callable[[int], Transform]) -> None:
    """At the identity some gradients are zero; after a few steps all have changed."""
    layer = make(3)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-2)
    target = torch.randn(64, 3)
    for _ in range(3):
        z, logdet = layer.inverse_and_logdet(target + 1)
        optimizer.zero_grad()
        (z.square().sum(1) / 2 - logdet).mean().backward()
        optimizer.step()
    assert all(bool((a != b).any()) for a, b in zip(before, layer.parameters(), strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Planar(3, context=2),
        lambda: Radial(3, context=2),
        *(lambda kind=kind: Sylvester(3, 2, kind, context=2) for kind in ("orthogonal", "householder", "triangular")),
    ],
)
def test_amortised_rows_are_layers_of_their_own(make: Callable[[], Transform]) -> None:
    """Every row by itself gives what it gives in the batch, and depends on its context."""
    layer = spread(make(), 0.5)
    z, c = torch.randn(4, 3), torch.randn(4, 2)
    x, logdet = layer.forward_and_logdet(z, c)
    for i in range(4):
        own_x, own_logdet = layer.forward_and_logdet(z[i : i + 1], c[i : i + 1])
        assert_close(own_x[0], x[i]), assert_close(own_logdet[0], logdet[i])
    same_z = layer.forward(z[:1].expand(4, 3), c)
    assert bool((same_z[0] - same_z[1]).abs().max() > 1e-3)


def test_a_conditioner_of_ones_own() -> None:
    class Constant(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.values = torch.nn.Parameter(torch.randn(width))

        def forward(self, context: Tensor) -> Tensor:
            return self.values.expand(context.shape[0], -1)

    plain = Sylvester(4, 2)
    net = Constant(plain.width)
    layer = Sylvester(4, 2, context=3, conditioner=net)
    layer.load_state_dict({**plain.state_dict(), "conditioner.values": net.values})
    with torch.no_grad():
        for parameter, offset in zip(plain._trained(), net.values.split([p.numel() for p in plain._trained()]), strict=True):
            parameter.add_(offset.reshape(parameter.shape))
    z = torch.randn(5, 4)
    assert_close(layer.forward(z, torch.randn(5, 3)), plain.forward(z))


# ---------------------------------------------------------------------- what it says, and errors


def test_costs() -> None:
    assert (Planar(2).forward_cost, Planar(2).inverse_cost) == ("one pass", "iterative")
    assert Planar(2, activation="leaky_relu").inverse_cost == Radial(2).inverse_cost == "one pass"
    assert Sylvester(2).inverse_cost == "iterative"
    assert repr(Sylvester(4, 2, "triangular", flip=True)) == "Sylvester(features=4, rank=2, kind='triangular', flip=True)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Planar(0), "positive integer"),
        (lambda: Planar(3, activation="tahn"), "tanh"),  # type: ignore[arg-type]
        (lambda: Planar(3, activation=torch.tanh), "known: tanh, leaky_relu"),  # type: ignore[arg-type]
        (lambda: Radial(3, conditioner=torch.nn.Identity()), "pass context="),
        (lambda: Sylvester(3, 4), "at most 3"),
        (lambda: Sylvester(3, 0), "positive integer"),
        (lambda: Sylvester(3, kind="cayley"), "'orthogonal', 'householder', 'triangular'"),  # type: ignore[arg-type]
        (lambda: Sylvester(3, kind="householder", householders=0), "reflections"),
        (lambda: Sylvester(3, flip=True), "kind='triangular'"),
    ],
)
def test_errors_name_the_fault(make: Callable[[], Transform], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_activations_by_name() -> None:
    assert as_activation("tanh", "Planar") is ACTIVATIONS["tanh"]
