"""Grids of grey images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probflow.errors import ArgumentError, ShapeError
from probflow.viz._matplotlib import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 2
INCHES_PER_IMAGE = 0.6


def image_grid(
    images: Tensor,
    rows: int,
    cols: int,
    row_labels: Sequence[object] | None = None,
    col_labels: Sequence[object] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """`rows` x `cols` images, the first row first: one picture, white for 1 and black for 0.

    Shapes: `images` (N, 784) or any square number of pixels, (N, 1, height, width) or (N, height, width), with N at most
    rows * cols; places left over stay empty. Values outside [0, 1] are clipped.

    Errors: `ShapeError` for other shapes or too many images, `ArgumentError` for labels that are not one per row or column,
    `MissingDependency` without matplotlib (extra `viz`).

    >>> axes = image_grid(torch.rand(20, 784), rows=2, cols=10, row_labels=[0, 1])
    >>> from probflow.viz import save
    >>> _ = save(axes, "digits.png")
    """
    pixels = _as_images(images)
    n, height, width = pixels.shape
    if n > rows * cols:
        raise ShapeError(f"image_grid: {n} images do not fit into rows={rows} x cols={cols}, which is {rows * cols}.")
    for what, labels, expected in (("row_labels", row_labels, rows), ("col_labels", col_labels, cols)):
        if labels is not None and len(labels) != expected:
            raise ArgumentError(f"image_grid: {what} has {len(labels)} entries, expected {expected}.")
    if ax is None:
        ax = new_axes(INCHES_PER_IMAGE * cols + 0.6, INCHES_PER_IMAGE * rows + (0.8 if title else 0.5))
    step_y, step_x = height + GAP, width + GAP
    # One canvas is one artist: a grid of subplots takes seconds where this takes milliseconds.
    canvas = torch.ones(rows * step_y - GAP, cols * step_x - GAP)
    for index in range(n):
        top, left = (index // cols) * step_y, (index % cols) * step_x
        canvas[top : top + height, left : left + width] = pixels[index]
    ax.imshow(canvas.tolist(), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    _label(ax.set_yticks, row_labels, height, step_y)
    ax.xaxis.tick_top()
    _label(ax.set_xticks, col_labels, width, step_x)
    if title:
        ax.set_title(title)
    return ax


def reconstructions(
    originals: Tensor,
    reconstructions: Tensor,
    cols: int = 10,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Originals above their reconstructions, `cols` pairs beside each other.

    Shapes: both as for `image_grid`, equally many and of one size.

    >>> axes = reconstructions(torch.rand(20, 784), torch.rand(20, 784))
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['original', 'reconstruction', 'original', 'reconstruction']
    """
    left, right = _as_images(originals), _as_images(reconstructions)
    if left.shape != right.shape:
        raise ShapeError(
            f"reconstructions: originals are {tuple(originals.shape)} and reconstructions {tuple(reconstructions.shape)}; "
            f"expected as many, and of the same size."
        )
    n, height, width = left.shape
    pairs = math.ceil(n / cols)
    padded = torch.ones(2, pairs * cols, height, width)
    padded[0, :n], padded[1, :n] = left, right
    rows = padded.view(2, pairs, cols, height, width).transpose(0, 1).reshape(-1, height, width)
    return image_grid(rows, 2 * pairs, cols, row_labels=["original", "reconstruction"] * pairs, title=title, ax=ax)


def _as_images(images: Tensor) -> Tensor:
    """(N, height, width) on the CPU in [0, 1]."""
    images = images.detach().to("cpu", torch.float32)
    if images.dim() == 4 and images.shape[1] == 1:
        images = images.squeeze(1)
    elif images.dim() == 2 and math.isqrt(images.shape[1]) ** 2 == images.shape[1]:
        side = math.isqrt(images.shape[1])
        images = images.reshape(-1, side, side)
    if images.dim() != 3 or images.numel() == 0:
        raise ShapeError(
            f"Images of shape {tuple(images.shape)} cannot be drawn: expected (N, pixels) with a square number of pixels, "
            f"(N, height, width) or (N, 1, height, width), N at least 1."
        )
    return images.clamp(0.0, 1.0)


def _label(set_ticks: Callable[..., object], labels: Sequence[object] | None, size: int, step: int) -> None:
    if labels is None:
        set_ticks([])
    else:
        set_ticks([index * step + (size - 1) / 2 for index in range(len(labels))], [str(label) for label in labels])
