"""Training curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from probflow.errors import ArgumentError
from probflow.viz._matplotlib import new_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_INSIDE = 4
MOST_BESIDE = 3


def loss_curve(
    history: Mapping[str, Sequence[float]] | Sequence[float], title: str | None = None, ax: Axes | None = None
) -> Axes:
    """One line per entry of `history`, a dict name -> one number per epoch, over the epochs 1, 2, ...; or one list of numbers.

    ``"loss"`` and ``"test_loss"`` are drawn heavier than the terms; a name that starts with ``test_`` is dashed. The learning rate
    and the seconds that `fit` notes, ``"lr"`` and ``"seconds"``, are left out. With more than four lines the legend stands beside the
    axes.

    Errors: `ArgumentError` for a history without numbers, `MissingDependency` without matplotlib (extra `viz`).

    >>> axes = loss_curve({"loss": [3.0, 2.0, 1.5], "test_loss": [3.1, 2.2, 1.9]})
    >>> axes.get_xlabel(), len(axes.lines)
    ('epoch', 2)
    """
    drawn = _drawn(history, "loss_curve")
    beside = len(drawn) > MOST_INSIDE
    if ax is None:
        ax = new_axes(9.0 if beside else 6.4, 4.2)
    from matplotlib.ticker import MaxNLocator

    for name, values in drawn.items():
        ax.plot(
            range(1, len(values) + 1),
            list(values),
            label=_plain(name),
            linestyle="--" if name.startswith("test_") else "-",
            linewidth=2.4 if name in ("loss", "test_loss") else 1.3,
            marker="o" if len(values) == 1 else None,
        )
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    if beside:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize="small")
    else:
        ax.legend(fontsize="small")
    if title:
        ax.set_title(title)
    return ax


def _drawn(history: Mapping[str, Sequence[float]] | Sequence[float], what: str) -> dict[str, list[float]]:
    """The lines: every entry that has numbers, of the loss's size."""
    if not isinstance(history, Mapping):
        history = {"loss": history}
    drawn = {name: list(values) for name, values in history.items() if len(values) and name not in ("lr", "seconds")}
    if not drawn:
        raise ArgumentError(f"{what}: the history is empty; train for at least one epoch first.")
    return drawn


def loss_terms(
    history: Mapping[str, Sequence[float]], title: str | None = None, log: bool = False, ax: Axes | None = None
) -> Axes:
    """Every term of a loss over the epochs, under its printed name: what ``model.fit`` returns, and ``model.history`` holds.

    A term of the validation has the colour of the same term in training, and is dashed; the loss itself is black.  With `log` the
    axis is logarithmic away from zero.

    Errors: `ArgumentError` for a history without numbers, `MissingDependency` without matplotlib (extra `viz`).

    >>> history = {"loss": [3.0, 2.0], "KL[q(z|x) || p(z)]": [0.5, 0.6], "test_KL[q(z|x) || p(z)]": [0.6, 0.7], "lr": [0.1, 0.1]}
    >>> axes = loss_terms(history)
    >>> [line.get_label() for line in axes.lines]
    ['loss', 'KL[q(z|x) || p(z)]', 'KL[q(z|x) || p(z)], test']
    """
    drawn = _drawn(history, "loss_terms")
    if ax is None:
        ax = new_axes(7.6, 3.8)
    colors = _colors(drawn)
    for name, values in drawn.items():
        term = name.removeprefix("test_")
        _line(ax, name, values, colors[term], _plain(term if term == name else f"{term}, test"))
    if log:
        ax.set_yscale("symlog")
    _epochs(ax)
    ax.set_ylabel("nats")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize="small", frameon=False)
    if title:
        ax.set_title(title)
    return ax


def loss_panels(history: Mapping[str, Sequence[float]], title: str | None = None) -> Figure:
    """A panel for the loss and for each of its terms, as they differ in size; the validation is dashed.

    Errors: `ArgumentError` for a history without numbers, `MissingDependency` without matplotlib (extra `viz`).

    >>> history = {"loss": [3.0, 2.0], "test_loss": [3.1, 2.2], "KL[q(z|x) || p(z)]": [0.5, 0.6], "lr": [0.1, 0.1]}
    >>> [panel.get_title() for panel in loss_panels(history).axes]
    ['loss', 'KL[q(z|x) || p(z)]']
    """
    drawn = _drawn(history, "loss_panels")
    terms = list(dict.fromkeys(name.removeprefix("test_") for name in drawn))
    rows, cols = math.ceil(len(terms) / MOST_BESIDE), min(len(terms), MOST_BESIDE)
    figure = new_figure(4.4 * cols, 3.4 * rows + (0.4 if title else 0.0))
    axes = list(figure.subplots(rows, cols, squeeze=False).flat)
    colors = _colors(drawn)
    for term, ax in zip(terms, axes, strict=False):
        for name, label in ((term, "training"), (f"test_{term}", "test")):
            if name in drawn:
                _line(ax, name, drawn[name], colors[term], label)
        ax.set_title(_plain(term), fontsize="medium")
        _epochs(ax)
        ax.legend(fontsize="small", frameon=False)
    for ax in axes[len(terms) :]:
        ax.remove()
    axes[0].set_ylabel("nats")
    if title:
        figure.suptitle(_plain(title))
    return figure


def _colors(names: Iterable[str]) -> dict[str, str]:
    """The loss black, every term in a colour of its own."""
    colors = {"loss": "black"}
    for name in names:
        colors.setdefault(name.removeprefix("test_"), f"C{len(colors) - 1}")
    return colors


def _line(ax: Axes, name: str, values: Sequence[float], color: str, label: str) -> None:
    """One quantity over the epochs 1, 2, ...; the validation dashed."""
    ax.plot(
        range(1, len(values) + 1),
        list(values),
        label=label,
        color=color,
        linestyle="--" if name.startswith("test_") else "-",
        linewidth=2.2 if name == "loss" else 1.5,
        marker="o" if len(values) == 1 else None,
    )


def _epochs(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)


def _plain(name: str) -> str:
    """`name` with nothing in it that matplotlib reads as more than text: a leading _ hides a line, $ starts mathematics."""
    return name.lstrip("_").replace("$", r"\$")
