"""matplotlib, imported when a picture is drawn, and without pyplot: no window, no global list of figures."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from probflow.errors import ArgumentError, MissingDependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure of that size in inches; `save` writes it."""
    figure = new_figure(width, height)
    return figure.add_subplot(axes_class=_shown()[1])


def new_panels(rows: int, cols: int, size: float, title: str | None = None) -> list[Axes]:
    """The axes of a new figure of `rows` x `cols` squares of `size` inches, row by row."""
    figure = new_figure(cols * size, rows * (size + 0.3) + (0.4 if title else 0.0))
    if title:
        figure.suptitle(title)
    return list(figure.subplots(rows, cols, squeeze=False, subplot_kw={"axes_class": _shown()[1]}).flat)


def new_figure(width: float, height: float) -> Figure:
    """A figure of that size in inches, its parts placed so that nothing overlaps."""
    return _shown()[0](figsize=(width, height), layout="constrained")


@cache
def _shown() -> tuple[type[Figure], type[Axes]]:
    """Figures and axes that a notebook shows where they are the last value of a cell."""
    try:
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            'Pictures need matplotlib, which is not installed.\nInstall it:  python -m pip install "probflow-dsl[viz]"'
        ) from error

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            return _png(self)

    class ShownAxes(Axes):
        def _repr_png_(self) -> bytes | None:
            figure = self.get_figure(root=True)
            return None if figure is None else _png(figure)

    return ShownFigure, ShownAxes


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save(axes: Axes | Figure, path: str | PathLike[str], dpi: int = 120) -> Path:
    """Write a figure, or the one that `axes` belong to; the ending says the format (.png, .pdf, .svg). Makes the folder it lies in.

    Errors: `ArgumentError` for axes without a figure.

    >>> from probflow.viz import loss_curve
    >>> save(loss_curve({"loss": [2.0, 1.0]}), "runs/curve.png").name
    'curve.png'
    """
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ArgumentError("save(axes, ...): these axes belong to no figure any more; draw them again.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path
