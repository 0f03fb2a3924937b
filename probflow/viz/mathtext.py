"""Names and formulas as matplotlib draws them: mathematics where it can be read, plain text where not."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from probflow.graph.symbols import plain

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path

FAMILY = "cm"
SIZE = 10.0  # of the text in a plan, and of the trial whether a text can be typeset
EAST_ASIAN = (
    *("Noto Sans CJK JP", "Noto Sans JP", "Noto Sans Mono CJK JP", "Noto Serif CJK JP", "IPAexGothic", "IPAGothic"),
    *("TakaoGothic", "VL Gothic", "Hiragino Sans", "Yu Gothic", "Meiryo", "MS Gothic"),
    *("Noto Sans CJK SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC", "Malgun Gothic"),
)


def label_path(latex: str, size: float, place: tuple[float, float], anchor: str = "middle") -> Path:
    """A name as an outline in data units, so that it keeps its size relative to the drawing.

    Centred at `place`; with anchor="start" or "end" it begins or ends there and stands on it.

    >>> path = label_path("z_{1}", 10.0, (5.0, 5.0))
    >>> box = path.get_extents()
    >>> round(float(box.x0 + box.x1), 6)
    10.0
    """
    from matplotlib.transforms import Affine2D

    path = outline(mathtext(latex), size)
    (x0, y0), (x1, y1) = extent(path)
    if anchor != "middle":
        return Affine2D().translate(place[0] - (x1 if anchor == "end" else x0), place[1]).transform_path(path)
    # letters stand around the middle of an x, scripts hang on them: centring the whole box would push the letter up or down
    lone = 0.45 * size < y1 - y0 and y0 > -0.02 * size and y1 < 0.5 * size
    center = 0.22 * size if lone else (y0 + y1) / 2
    return Affine2D().translate(place[0] - (x0 + x1) / 2, place[1] - center).transform_path(path)


@lru_cache(maxsize=512)
def outline(text: str, size: float) -> Path:
    """A text as a path that begins at the origin; ValueError where its mathematics cannot be typeset."""
    from matplotlib.textpath import TextPath

    return TextPath((0.0, 0.0), text, size=size, prop=fonts())


def extent(path: Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """The lower left and the upper right corner of an outline."""
    vertices: Any = path.vertices
    points = vertices if path.codes is None else vertices[path.codes != path.CLOSEPOLY]
    if not len(points):
        return (0.0, 0.0), (0.0, 0.0)
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return (x0, y0), (x1, y1)


@lru_cache(maxsize=1)
def fonts() -> FontProperties:
    """The usual font with Computer Modern for mathematics, and behind it those of East Asia that are installed."""
    from matplotlib.font_manager import FontProperties, fontManager

    installed = {font.name for font in fontManager.ttflist}
    return FontProperties(family=["sans-serif", *(name for name in EAST_ASIAN if name in installed)], math_fontfamily=FAMILY)


@lru_cache(maxsize=1024)
def mathtext(latex: str) -> str:
    r"""A name in LaTeX as text for matplotlib: between dollar signs where its mathtext knows all commands, else as Unicode.

    >>> mathtext("z_{1}"), mathtext(r"\undefined{z}")
    ('$z_{1}$', 'undefinedz')
    """
    text = f"${_known(latex)}$"
    if re.fullmatch(r"[\x00-\x7fͰ-Ͽ]*", latex) and works(text):
        return text
    return plain(latex).replace("$", r"\$")


@lru_cache(maxsize=1024)
def works(text: str) -> bool:
    """Whether matplotlib can typeset a text with dollar signs."""
    if text.count("$") != 2:
        return False
    try:
        outline(text, SIZE)
    except ValueError:
        return False
    return True


def _known(latex: str) -> str:
    r"""LaTeX in the words of mathtext: it has no \boldsymbol, no \bm, no \lVert."""
    return latex.replace(r"\bm{", r"\mathbf{").replace(r"\mbox{", r"\mathrm{").replace(r"\lVert", r"\Vert")
