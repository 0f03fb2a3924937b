from __future__ import annotations

import pytest
import torch

from probflow.data import TOYS, toy
from probflow.errors import ArgumentError

N = 20_000


@pytest.mark.parametrize("name", TOYS)
def test_shape_range_and_seed(name):
    x = toy(name, N, seed=1)["x"]
    assert x.shape == (N, 2) and x.dtype == torch.get_default_dtype()
    assert x.isfinite().all() and x.abs().max() < 6.0
    assert torch.equal(x, toy(name, N, seed=1)["x"])
    assert not torch.equal(x, toy(name, N, seed=2)["x"])
    assert toy(name, 0)["x"].shape == (0, 2)


@pytest.mark.parametrize("name", TOYS)
def test_centred_and_symmetric(name):
    """All five are symmetric under a half turn or a fifth of a turn: the mean is 0, within five standard errors."""
    x = toy(name, N)["x"]
    assert (x.mean(0).abs() < 5 * x.std(0) / N**0.5).all()


def test_sampling_does_not_touch_the_global_generator(seed):
    seed(0)
    expected = torch.rand(())
    seed(0)
    toy("moons", 10)
    assert torch.rand(()) == expected


def test_points_lie_where_the_definitions_say():
    rings = toy("rings", N)["x"].norm(dim=1)
    assert ((rings / 0.75 - (rings / 0.75).round().clamp(1, 4)).abs() * 0.75 < 5 * 0.08).all()
    squares = (toy("checkerboard", N)["x"] / 2.0).floor()
    assert ((squares.sum(1) % 2) == 0).all() and len(squares.unique(dim=0)) == 8
    angle = toy("eight_gaussians", N)["x"]
    corner = (torch.atan2(angle[:, 1], angle[:, 0]) / (torch.pi / 4)).round() % 8
    share = corner.long().bincount(minlength=8) / N
    assert ((share - 1 / 8).abs() < 5 * (1 / 8 * 7 / 8 / N) ** 0.5).all()


def test_two_moons_are_two():
    """Half of the points above, half below (each within five standard errors), and almost none between them at the origin."""
    x = toy("moons", N)["x"]
    assert (x.norm(dim=1) < 0.15).float().mean() < 0.002
    assert ((x[:, 1] > 0).double().mean() - 0.5).abs() < 5 * 0.5 / N**0.5


def test_unknown_names_list_the_known():
    with pytest.raises(ArgumentError, match="checkerboard, eight_gaussians, moons, pinwheel, rings, spirals"):
        toy("moon", 10)
    with pytest.raises(ArgumentError, match="negative"):
        toy("moons", -1)
