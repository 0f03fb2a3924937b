from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from probflow.errors import ArgumentError
from probflow.viz import loss_curve, loss_panels, loss_terms

HISTORY = {"loss": [3.0, 2.0, 1.0], "test_loss": [3.5, 2.5, 2.0], "KL[q(z|x) || p(z)]": [0.1, 0.2, 0.3]}


def test_one_line_per_entry_over_the_epochs():
    axes = loss_curve(HISTORY, title="cvae")
    assert [line.get_label() for line in axes.lines] == list(HISTORY)
    for line, values in zip(axes.lines, HISTORY.values(), strict=True):
        assert np.asarray(line.get_xdata()).tolist() == [1, 2, 3] and np.asarray(line.get_ydata()).tolist() == values
    assert axes.get_xlabel() == "epoch" and axes.get_title() == "cvae"
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "-"]
    assert axes.lines[0].get_linewidth() > axes.lines[2].get_linewidth()


def test_what_fit_returns_and_one_list_of_it():
    axes = loss_curve({**HISTORY, "lr": [0.1] * 3, "seconds": [0.2] * 3})
    assert [line.get_label() for line in axes.lines] == list(HISTORY)
    (line,) = loss_curve(HISTORY["loss"]).lines
    assert line.get_label() == "loss" and np.asarray(line.get_ydata()).tolist() == HISTORY["loss"]


def legend_starts_right_of_the_axes(axes) -> bool:
    axes.figure.draw_without_rendering()
    return axes.get_legend().get_window_extent().x0 > axes.get_window_extent().x1


def test_a_long_legend_stands_beside():
    assert not legend_starts_right_of_the_axes(loss_curve(HISTORY))
    assert legend_starts_right_of_the_axes(loss_curve({f"term {i}": [1.0, 2.0] for i in range(5)}))


def test_names_are_not_typeset_or_hidden(tmp_path):
    axes: Any = loss_curve({"_hidden": [1.0, 2.0], "price in $ and $\\nonsense": [1.0, 2.0]})
    axes.figure.savefig(tmp_path / "curve.png")
    assert len(axes.get_legend().get_texts()) == 2


def test_entries_without_numbers_are_left_out_and_one_epoch_shows_a_point():
    axes = loss_curve({"loss": [1.0], "test_loss": []}, ax=Figure().add_subplot())
    assert len(axes.lines) == 1 and axes.lines[0].get_marker() == "o"
    with pytest.raises(ArgumentError, match="history is empty"):
        loss_curve({"loss": []})


def test_every_term_has_its_colour_and_its_printed_name():
    history = {
        **HISTORY,
        "test_KL[q(z|x) || p(z)]": [0.2, 0.2, 0.3],
        "lr": [1.0] * 3,
        "seconds": [9.0] * 3,
    }
    axes = loss_terms(history)
    assert [line.get_label() for line in axes.lines] == [
        "loss", "loss, test", "KL[q(z|x) || p(z)]", "KL[q(z|x) || p(z)], test",
    ]  # fmt: skip
    loss, tested, term, held_out = axes.lines
    assert loss.get_color() == tested.get_color() == "black" != term.get_color() == held_out.get_color()
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "-", "--"]
    assert np.asarray(term.get_ydata()).tolist() == [0.1, 0.2, 0.3]
    assert legend_starts_right_of_the_axes(axes)
    assert loss_terms(history, log=True).get_yscale() == "symlog"
    with pytest.raises(ArgumentError, match="history is empty"):
        loss_terms({"lr": [1.0]})


def test_a_panel_for_every_term():
    history = {
        "loss": [5.0, 4.0],
        "a": [4.0, 3.5],
        "test_loss": [5.5, 4.5],
        "test_a": [4.1, 3.6],
        "b": [1.0, 0.5],
        "c": [0.1, 0.2],
    }
    figure = loss_panels({**history, "lr": [0.1, 0.1], "seconds": [1.0, 1.0]}, title="a loss")
    assert [ax.get_title() for ax in figure.axes] == ["loss", "a", "b", "c"]
    assert [len(ax.lines) for ax in figure.axes] == [2, 2, 1, 1]
    first = figure.axes[0]
    assert [line.get_label() for line in first.lines] == ["training", "test"] and first.lines[1].get_linestyle() == "--"
    assert np.asarray(first.lines[1].get_ydata()).tolist() == [5.5, 4.5]
    assert len({ax.lines[0].get_color() for ax in figure.axes}) == 4
    low, high = figure.axes[3].get_ylim()
    assert high - low < 1, "a small term fills its panel"
    with pytest.raises(ArgumentError, match="empty"):
        loss_panels({"lr": [1.0]})
