from __future__ import annotations

import sys

import pytest
import torch
from matplotlib.figure import Figure

from probflow.errors import ArgumentError, MissingDependency, ShapeError
from probflow.viz import _matplotlib, image_grid, reconstructions, save


def drawn(axes) -> torch.Tensor:
    return torch.tensor(axes.images[0].get_array().tolist())


def test_images_are_placed_row_by_row():
    values = torch.arange(6).view(6, 1, 1).expand(6, 3, 4) / 10
    canvas = drawn(image_grid(values, rows=2, cols=3))
    assert canvas.shape == (2 * 3 + 2, 3 * 4 + 2 * 2)  # a gap of 2 between neighbours
    for index in range(6):
        top, left = index // 3 * 5, index % 3 * 6
        torch.testing.assert_close(canvas[top : top + 3, left : left + 4], values[index])


@pytest.mark.parametrize("shape", [(4, 784), (4, 28, 28), (4, 1, 28, 28)])
def test_every_shape_of_one_image_draws_the_same(shape):
    x = torch.rand(4, 784)
    torch.testing.assert_close(drawn(image_grid(x.view(shape), 2, 2)), drawn(image_grid(x, 2, 2)))


def test_images_are_not_turned():
    x = torch.zeros(1, 4)
    x[0, 1] = 1.0  # of 2x2: the upper right
    assert drawn(image_grid(x, 1, 1)).tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_labels_and_title():
    axes = image_grid(torch.rand(6, 4), 2, 3, row_labels=[7, 8], col_labels="abc", title="digits")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["7", "8"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert axes.get_title() == "digits"
    assert axes.get_yticks().tolist() == [0.5, 4.5]  # the middle of each row


def test_values_outside_are_clipped_and_gradients_are_left_behind():
    canvas = drawn(image_grid(torch.tensor([[-1.0, 2.0, 0.5, 1.0]], requires_grad=True), 1, 1))
    assert canvas.tolist() == [[0.0, 1.0], [0.5, 1.0]]


def test_draws_into_given_axes_and_never_into_pyplot(tmp_path):
    axes = Figure().add_subplot()
    assert image_grid(torch.rand(1, 4), 1, 1, ax=axes) is axes
    path = tmp_path / "new" / "grid.png"
    assert save(image_grid(torch.rand(20, 784), 2, 10), path) == path
    assert path.read_bytes()[:4] == b"\x89PNG"
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_axes_without_a_figure_cannot_be_saved(tmp_path):
    axes = image_grid(torch.rand(1, 4), 1, 1)
    axes.remove()
    with pytest.raises(ArgumentError, match="belong to no figure"):
        save(axes, tmp_path / "grid.png")


@pytest.mark.parametrize("shape", [(3, 5), (3,), (2, 3, 4, 4), (0, 784), (1, 1, 1, 4, 4)])
def test_what_is_no_image(shape):
    with pytest.raises(ShapeError, match="cannot be drawn"):
        image_grid(torch.zeros(shape), 2, 2)


def test_misuse():
    with pytest.raises(ShapeError, match="5 images do not fit"):
        image_grid(torch.rand(5, 4), 2, 2)
    with pytest.raises(ArgumentError, match="row_labels has 3 entries, expected 2"):
        image_grid(torch.rand(4, 4), 2, 2, row_labels=[1, 2, 3])
    with pytest.raises(ShapeError, match="as many, and of the same size"):
        reconstructions(torch.rand(3, 4), torch.rand(2, 4))


def test_reconstructions_stand_under_their_originals():
    x = torch.rand(3, 4)
    canvas = drawn(reconstructions(x, 1 - x, cols=2))
    assert canvas.shape == (4 * 2 + 3 * 2, 2 * 2 + 2)
    torch.testing.assert_close(canvas[0:2, 0:2], x[0].view(2, 2))
    torch.testing.assert_close(canvas[4:6, 0:2], 1 - x[0].view(2, 2))
    torch.testing.assert_close(canvas[8:10, 0:2], x[2].view(2, 2))
    assert (canvas[8:, 4:] == 1.0).all()  # no fourth pair


def test_without_matplotlib_the_error_has_the_line_to_type(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _matplotlib._shown.cache_clear()
    with pytest.raises(MissingDependency, match=r'pip install "probflow-dsl\[viz\]"'):
        image_grid(torch.rand(1, 4), 1, 1)
