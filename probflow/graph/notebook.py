"""What a notebook shows for a formula: its LaTeX, and below it the factor graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from .picture import Picture
from .svg import to_svg

MOST_NODES = 40  # a larger drawing is not made unasked


def displayer(
    text: Callable[[], str], latex: Callable[[], str], picture: Callable[[], Picture | None]
) -> Callable[[], None] | None:
    """What IPython looks for as ``_ipython_display_``: displays the formula, then its drawing where there is one.

    None where pictures cannot be seen, as in a terminal: there the text is printed as ever.
    """
    return partial(_display, text, latex, picture) if in_notebook() else None


def in_notebook() -> bool:
    """Whether output is seen in a notebook, or in a console that shows pictures as one does."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    formatter = getattr(shell, "display_formatter", None)
    return formatter is not None and "image/svg+xml" in formatter.active_types


def _display(text: Callable[[], str], latex: Callable[[], str], picture: Callable[[], Picture | None]) -> None:
    from IPython.display import display

    display({"text/plain": text(), "text/latex": latex()}, raw=True)
    try:
        found = picture()
        drawn = to_svg(found) if found is not None and len(found.nodes) <= MOST_NODES else None
    except Exception:  # a formula is never lost for want of its picture
        return
    if drawn is not None:
        display({"text/plain": "<factor graph>", "image/svg+xml": drawn}, raw=True)
