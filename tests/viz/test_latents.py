"""Latent variables: that rows, columns and colours are what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

import probflow as pf
from probflow import viz
from probflow.errors import ArgumentError, ShapeError


def canvas(axes: object) -> torch.Tensor:
    return torch.tensor(axes.images[0].get_array().tolist())  # type: ignore[attr-defined]


def decoder() -> pf.Normal:
    """x has the four pixels z1, z2, z1 * z2 and y, squashed."""
    return pf.Normal(
        "p(x | z, y)",
        lambda z, y: {"loc": torch.stack([z[:, 0], z[:, 1], z.prod(1), y[:, 0]], 1).sigmoid(), "scale": torch.tensor(1e-3)},
    )


def test_one_row_for_each_dimension() -> None:
    z = torch.tensor([[0.3, -0.2]])
    axes = viz.latent_traversal(decoder(), {"y": torch.tensor([[2.0]])}, z=z, steps=5)
    shown = canvas(axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$z_{1}$", "$z_{2}$"]
    along = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.02, 0.98, 5))
    for row, other in ((0, 1), (1, 0)):
        for step, value in enumerate(along.tolist()):
            image = shown[4 * row : 4 * row + 2, 4 * step : 4 * step + 2].flatten()  # 2x2 pixels, a gap of 2
            expected = torch.zeros(4)
            expected[row], expected[other] = value, z[0, other]
            expected[2], expected[3] = value * z[0, other], 2.0
            assert_close(image, expected.sigmoid(), atol=1e-6, rtol=0, check_dtype=False)


def test_a_joint_knows_its_latents_and_their_number() -> None:
    torch.manual_seed(0)
    joint = decoder() * pf.Normal("p(z)", loc=5.0, scale=1.0, features_shape=2)
    before = torch.get_rng_state()
    axes = viz.latent_traversal(joint, {"y": torch.zeros(1, 1)}, latent="z", dims=[1], steps=3)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$z_{2}$"]
    assert_close(canvas(axes)[0, 0], torch.tensor(0.5), atol=1e-6, rtol=0, check_dtype=False)
    assert torch.equal(before, torch.get_rng_state()), "a picture uses up no random numbers"


def test_traversal_errors() -> None:
    y = {"y": torch.zeros(1, 1)}
    with pytest.raises(ArgumentError, match=r"which variable of p\(x\|z,y\) is to be varied\? It could be z, y"):
        viz.latent_traversal(decoder(), z=2)
    with pytest.raises(ArgumentError, match="how many dimensions has z"):
        viz.latent_traversal(decoder(), y)
    with pytest.raises(ArgumentError, match="dimensions 0 to 1, not 2"):
        viz.latent_traversal(decoder(), y, z=2, dims=[2])
    with pytest.raises(ShapeError, match=r"one row, \(1, D\), got \(3, 2\)"):
        viz.latent_traversal(decoder(), y, z=torch.zeros(3, 2))
    with pytest.raises(ArgumentError, match="no variable 'w'"):
        viz.latent_traversal(decoder(), y, z=2, latent="w")
    with pytest.raises(ArgumentError, match="no variable 'w' besides 'z' to show"):
        viz.latent_traversal(decoder(), y, z=2, variable="w")


def test_interpolation() -> None:
    path = torch.linspace(0, 1, 5)[:, None].expand(5, 4)
    axes = viz.interpolation(path, path.flip(0), row_labels=["there", "back"], title="walk")
    assert canvas(axes).shape == (2 * 2 + 2, 5 * 2 + 4 * 2)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.25", "0.5", "0.75", "1"]
    assert canvas(axes)[0, 0] == 0.0 and canvas(axes)[-1, 0] == 1.0
    with pytest.raises(ShapeError, match="different numbers of steps, 4, 5"):
        viz.interpolation(path, path[:4])
    with pytest.raises(ArgumentError, match="needs images"):
        viz.interpolation()


@pytest.mark.parametrize(
    "labels, names",
    [
        (torch.arange(20) % 3, ["0", "1", "2"]),
        (torch.nn.functional.one_hot(torch.arange(20) % 3, 3), ["0", "1", "2"]),
        ((torch.arange(20) % 3).double(), ["0", "1", "2"]),
        (["b", "a"] * 10, ["a", "b"]),
        (torch.arange(20) % 12, [str(k) for k in range(12)]),
    ],
    ids=["integers", "one-hot", "whole numbers", "names", "many"],
)
def test_classes_have_a_legend(labels: Any, names: list[str]) -> None:
    z = torch.randn(20, 2)
    axes: Any = viz.latent_scatter(z, labels)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == names
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == 20
    assert len({tuple(dots.get_facecolor()[0]) for dots in axes.collections}) == len(names)
    if names[0] == "0":
        first = torch.tensor(axes.collections[0].get_offsets().tolist())
        assert_close(first, z[torch.arange(20) % len(names) == 0].float(), check_dtype=False)


def test_real_numbers_have_a_colour_bar_and_no_labels_neither() -> None:
    axes = viz.latent_scatter(torch.randn(20, 2), torch.rand(20))
    assert axes.get_legend() is None and len(axes.figure.axes) == 2
    plain = viz.latent_scatter(torch.randn(20, 2), title="z")
    assert plain.get_legend() is None and len(plain.figure.axes) == 1 and plain.get_title() == "z"


def test_scatter_errors() -> None:
    with pytest.raises(ArgumentError, match=r"the points themselves, .*, got a Samples.\nDraws of q\(z\|x\): q.sample"):
        viz.latent_scatter(pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2).sample(batch_n=3))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"\(20, 3\), expected \(N, 2\). Choose two of them: z\[:, :2\]"):
        viz.latent_scatter(torch.zeros(20, 3))
    with pytest.raises(ShapeError, match=r"20 points, but labels of the shape \(19,\)"):
        viz.latent_scatter(torch.zeros(20, 2), torch.zeros(19))
    with pytest.raises(ShapeError, match="20 points, but 2 labels"):
        viz.latent_scatter(torch.zeros(20, 2), ["a", "b"])
