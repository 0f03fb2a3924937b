"""What the laws do not say of linear maps: which matrix they are, that it stays what it is, and the errors."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch.testing import assert_close

from probflow.errors import ArgumentError, ShapeError
from probflow.transforms import Transform
from probflow.transforms.linear import LU, Diagonal, LUWeight, Triangular, solve_triangular
from probflow.transforms.orthogonal import Householder, Orthogonal, reflect
from probflow.transforms.permutation import Permute, RandomPermutation, Reverse

T = TypeVar("T", bound=Transform)


def shaken(transform: T, spread: float = 1.0) -> T:
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return transform


def matrix_of(transform: Transform) -> torch.Tensor:
    """W of x = W z + b."""
    assert transform.shape is not None
    n = transform.shape[0]
    return (transform(torch.eye(n)) - transform(torch.zeros(n, n))).mT


# ------------------------------------------------------------------ P L U


def test_lu_is_its_factors() -> None:
    torch.manual_seed(0)
    layer = LU(4, permutation=[2, 0, 3, 1])
    shaken(layer)
    entries = layer.weight.entries.detach()
    lower = entries.tril(-1) + torch.eye(4)
    upper = entries.triu(1) + entries.diagonal().exp().diag()
    p = torch.eye(4)[[2, 0, 3, 1]]
    weight, logabsdet = layer.weight()
    assert_close(weight, p @ lower @ upper)
    assert_close(logabsdet, weight.slogdet()[1])
    assert_close(matrix_of(layer), weight)
    z = torch.randn(6, 4)
    assert_close(layer.weight.product(z), z @ weight.mT)
    assert_close(layer(z), z @ weight.mT + layer.bias)


@pytest.mark.parametrize("rest", [(), (5,), (2, 3)])
def test_lu_weight_solves_along_dimension_1(rest: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = LUWeight(4, "random", seed=1)
    torch.nn.init.normal_(weight.entries)
    z = torch.randn(3, 4, *rest)
    x = torch.einsum("ij,nj...->ni...", weight()[0], z)
    assert_close(weight.solve(x), z)
    assert weight.solve(x[:0]).shape == (0, 4, *rest)


@pytest.mark.parametrize("make", [lambda: LU(6, permutation="random"), lambda: Triangular(6), lambda: Diagonal(6)])
def test_wild_weights_stay_invertible(make: object) -> None:
    """Entries of 3 are far from any trained layer: W is badly conditioned, and still invertible."""
    torch.manual_seed(0)
    layer = shaken(make(), 3.0)  # type: ignore[operator]
    z = torch.randn(5, 6)
    x, up = layer.forward_and_logdet(z)
    back, down = layer.inverse_and_logdet(x)
    assert_close(back, z, rtol=1e-4, atol=1e-4)
    assert_close(up, -down)


def test_triangular_depends_on_what_it_says() -> None:
    torch.manual_seed(0)
    for upper in (False, True):
        matrix = matrix_of(shaken(Triangular(4, upper=upper)))
        assert_close(matrix, matrix.triu() if upper else matrix.tril())
        assert bool((matrix.diagonal() > 0).all())


def test_solver_casts_up_and_back() -> None:
    matrix = torch.tensor([[2.0, 0.0], [1.0, 4.0]])
    x = torch.tensor([[2.0, 9.0]])
    for dtype in (torch.float16, torch.bfloat16):
        found = solve_triangular(matrix.to(dtype), x.to(dtype), upper=False)
        assert found.dtype == dtype and found.tolist() == [[1.0, 2.0]]


def test_a_low_precision_layer_inverts_to_its_precision() -> None:
    torch.manual_seed(0)
    for layer in (LU(8), Triangular(8), Householder(8, 4), Orthogonal(8), Orthogonal(8, "exp")):
        shaken(layer, 0.1).to(torch.bfloat16)
        z = torch.randn(5, 8, dtype=torch.bfloat16)
        assert_close(layer.inverse(layer(z)), z, rtol=0.1, atol=0.1)


def test_bias_is_optional() -> None:
    for layer in (LU(3, bias=False), Triangular(3, bias=False), Diagonal(3, bias=False)):
        assert "bias" not in layer.state_dict()
        assert_close(shaken(layer)(torch.zeros(1, 3)), torch.zeros(1, 3))


# ------------------------------------------------------------------ orthogonal


def reflections(vectors: torch.Tensor) -> torch.Tensor:
    """H_k ... H_1, one after the other."""
    product = torch.eye(vectors.shape[1])
    for v in vectors:
        product = (torch.eye(len(v)) - 2 * torch.outer(v, v) / v.dot(v)) @ product
    return product


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_householder_is_the_product_of_its_reflections(k: int) -> None:
    torch.manual_seed(0)
    layer = Householder(4, reflections=k)
    shaken(layer)
    expected = reflections(layer.vectors.detach())
    assert_close(matrix_of(layer), expected)
    assert_close(matrix_of(layer).det(), torch.tensor((-1.0) ** k))
    assert_close(layer.inverse(torch.eye(4)), expected)  # rows of the transpose


def test_householder_of_a_context_reflects_every_row_its_own_way() -> None:
    torch.manual_seed(0)
    vectors, z = torch.randn(5, 3, 4), torch.randn(5, 4)
    expected = torch.stack([reflections(v) @ row for v, row in zip(vectors, z, strict=True)])
    assert_close(reflect(vectors, z), expected)
    assert_close(reflect(vectors, expected, transpose=True), z)


@pytest.mark.parametrize("length", [0.0, 1e-30, 1e30])
def test_reflections_of_any_length_are_orthogonal(length: float) -> None:
    torch.manual_seed(0)
    vectors = torch.randn(3, 4, dtype=torch.float32)
    vectors[1] *= length
    vectors.requires_grad_()
    z = torch.randn(5, 4, dtype=torch.float32)
    x = reflect(vectors, z)
    assert_close(x.norm(dim=1), z.norm(dim=1))
    x.square().mul(torch.randn(4, dtype=torch.float32)).sum().backward()
    assert vectors.grad is not None
    assert bool(vectors.grad[[0, 2]].isfinite().all())
    assert length == 1e-30 or bool(vectors.grad.isfinite().all())  # the gradient grows as 1 / length


@pytest.mark.parametrize("context", [None, 2])
def test_householder_leaves_its_identity_start(context: int | None) -> None:
    """Pairs of equal vectors are no stationary point: it learns a rotation from there."""
    torch.manual_seed(0)
    layer = Householder(3, reflections=2, context=context)
    angle = torch.tensor(1.0)
    rotation = torch.eye(3)
    rotation[:2, :2] = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    z = torch.randn(100, 3)
    c = None if context is None else torch.randn(100, context)
    losses = []
    for _ in range(300):
        loss = (layer(z, c) - z @ rotation.mT).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]


@pytest.mark.parametrize("map", ["cayley", "exp"])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_orthogonal_is_a_rotation(map: str, spread: float) -> None:
    torch.manual_seed(0)
    layer = Orthogonal(5, map=map)  # type: ignore[arg-type]
    shaken(layer, spread)
    q = layer.matrix.detach()
    assert_close(q @ q.mT, torch.eye(5))
    assert_close(q.det(), torch.tensor(1.0))
    above = layer.entries.detach().triu(1)
    a = above - above.mT
    expected = (torch.eye(5) - a) @ (torch.eye(5) + a).inverse() if map == "cayley" else torch.matrix_exp(a)
    assert_close(q, expected)
    assert_close(matrix_of(layer), q)


# ------------------------------------------------------------------ permutations


def test_permutations_move_what_they_say() -> None:
    z = torch.arange(4.0)[None]
    assert Permute([2, 0, 3, 1])(z).tolist() == [[2, 0, 3, 1]]
    assert Permute(torch.tensor([2, 0, 3, 1]))(z).tolist() == [[2, 0, 3, 1]]
    assert Reverse(4)(z).tolist() == [[3, 2, 1, 0]]
    image = torch.randn(2, 3, 4, 5)
    assert torch.equal(Reverse((3, 4, 5))(image), image.flip(1))


def test_a_seed_names_one_permutation_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    first, second = RandomPermutation(20, seed=4), RandomPermutation(20, seed=4)
    lu = LU(20, permutation="random", seed=4)
    assert torch.equal(torch.randn(3), expected)
    assert torch.equal(first.permutation, second.permutation) and torch.equal(first.permutation, lu.weight.permutation)
    assert not torch.equal(first.permutation, RandomPermutation(20, seed=5).permutation)
    assert not torch.equal(RandomPermutation(20).permutation, RandomPermutation(20).permutation)


@pytest.mark.parametrize("make", [lambda s: RandomPermutation(20, seed=s), lambda s: LU(20, permutation="random", seed=s)])
def test_permutations_are_loaded_with_their_inverse(make: object) -> None:
    torch.manual_seed(0)
    saved, fresh = make(1), make(2)  # type: ignore[operator]
    fresh.load_state_dict(saved.state_dict())
    z = torch.randn(3, 20)
    assert torch.equal(fresh(z), saved(z))
    assert_close(fresh.inverse(saved(z)), z)


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LU(0), "LU maps vectors: expected the number of features, a positive integer, got 0"),
        (lambda: Triangular((3, 4, 4)), "expected the number of features"),  # type: ignore[arg-type]
        (lambda: Diagonal(2.0), "expected the number of features"),  # type: ignore[arg-type]
        (lambda: LU(3, permutation="shuffle"), "None, 'random' or a list of indices, got 'shuffle'"),
        (lambda: LU(3, permutation=[0, 1]), "names the indices 0 ... 2, each once, got \\[0, 1\\]"),
        (lambda: Permute([0, 0, 1]), "names the indices 0 ... 2, each once"),
        (lambda: Permute([1, 2]), "names the indices 0 ... 1"),
        (lambda: Permute([]), "at least one index"),
        (lambda: Permute([0.0, 1.0]), "names the indices"),  # type: ignore[list-item]
        (lambda: Permute(torch.tensor([[0, 1]])), "names the indices"),
        (lambda: Permute([1, 0], shape=(3, 2, 2)), "2 indices permute dimension 1 of events of shape \\(2, ...\\)"),
        (lambda: Reverse(0), "positive integer"),
        (lambda: Householder(3, reflections=0), "reflections must be a positive integer, got 0"),
        (lambda: Householder(3, conditioner=torch.nn.Linear(2, 6)), "pass context="),
        (lambda: Orthogonal(3, map="qr"), "map must be 'cayley' or 'exp', got 'qr'"),  # type: ignore[arg-type]
    ],
)
def test_errors_say_what_was_expected(make: object, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        make()  # type: ignore[operator]


def test_the_wrong_width_is_refused() -> None:
    for layer in (LU(3), Triangular(3), Diagonal(3), Householder(3), Orthogonal(3), Reverse(3)):
        with pytest.raises(ShapeError, match="expected"):
            layer(torch.randn(2, 4))
