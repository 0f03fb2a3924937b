"""Small pieces of text that every layer needs: LaTeX of names, shapes, numbers, suggestions for misspelt names."""

from __future__ import annotations

import difflib
import math
import re
import textwrap
from collections.abc import Iterable
from functools import lru_cache

_PLAIN = re.compile(r"[^\W_]+")  # what is left of a piece when its LaTeX commands are taken out


@lru_cache(maxsize=4096)
def latex_name(name: str) -> str:
    r"""The LaTeX of a variable's or distribution's name.

    A name that is LaTeX already (it has a backslash or a brace) is kept. Otherwise sympy's conventions apply (Greek
    names, ``x_t``, ``x1``, ``xhat``), with two changes: words are upright, since an italic ``prior`` reads as the
    product p·r·i·o·r, and several subscripts are separated by commas.

    >>> print(latex_name("theta"), latex_name("x_t"), latex_name("z1"), latex_name("z'"), latex_name("x_{t-1}"))
    \theta x_{t} z_{1} z' x_{t-1}
    >>> print(latex_name("prior"), latex_name("f_enc"), latex_name("mu_q"), latex_name("z_1_2"))
    \mathrm{prior} f_{\mathrm{enc}} \mu_{q} z_{1,2}
    """
    if "\\" in name or "{" in name or (len(name) == 1 and name.isalpha()):
        return name
    from sympy.printing.conventions import split_super_sub

    core = name.rstrip("'")
    primes = name[len(core) :]
    if core != core.strip("_"):  # _x, lambda_: the underscore is a letter, not a subscript
        return _upright(core) + primes
    base, upper, lower = split_super_sub(core)
    text = _piece(base)
    if upper:
        text += "^{" + ",".join(map(_piece, upper)) + "}"
    if lower:
        text += "_{" + ",".join(map(_piece, lower)) + "}"
    if primes and "^" in text:  # TeX rejects x^{a}' as a double superscript
        text = "{" + text + "}"
    return text + primes


def _piece(piece: str) -> str:
    """LaTeX of a name without subscripts: a symbol as sympy writes it, anything longer upright."""
    if piece.isdigit():
        return piece
    import sympy

    text = str(sympy.latex(sympy.Symbol(piece)))
    plain = _PLAIN.findall(re.sub(r"\\[A-Za-z]+", " ", text))
    # sympy reads "local" as a calligraphic "lo": its accents and fonts are kept on single symbols only
    return text if sum(map(len, plain)) <= 1 else _upright(piece)


_ESCAPED = str.maketrans({sign: "\\" + sign for sign in "_ #$%&"})
"""Signs of a word that mean something else to TeX; a space would be left out."""


def _upright(word: str) -> str:
    command = "mathrm" if word.isascii() else "text"  # \mathrm has no glyphs for kana and kanji
    return "\\" + command + "{" + word.translate(_ESCAPED) + "}"


def shape_text(shape: Iterable[int]) -> str:
    """A tensor's shape as a tuple is written.

    >>> shape_text([128, 784]), shape_text([3]), shape_text([])
    ('(128, 784)', '(3,)', '()')
    """
    return str(tuple(int(size) for size in shape))


def kind_text(value: object) -> str:
    """What something is, for messages; torch's distributions with their full name, as ours have the same.

    >>> kind_text(3), kind_text([1])
    ('an int', 'a list')
    """
    kind = type(value)
    name = f"torch.distributions.{kind.__name__}" if kind.__module__.startswith("torch.distributions.") else kind.__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A sentence that suggests the closest of `choices`, with a leading space, or nothing if none is close.

    >>> did_you_mean("lco", ["loc", "scale"]), did_you_mean("Loc", ["loc", "scale"]), did_you_mean("rate", ["loc"])
    (" Did you mean 'loc'?", " Did you mean 'loc'?", '')
    """
    known: dict[str, str] = {}
    for choice in choices:  # a misspelling is often only one of upper and lower case
        known.setdefault(choice.lower(), choice)
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f" Did you mean {known[close[0]]!r}?" if close and known[close[0]] != name else ""


def indent(text: str, prefix: str = "  ") -> str:
    r"""`text` with `prefix` before every line that is not empty.

    >>> indent("a\n\nb")
    '  a\n\n  b'
    """
    return textwrap.indent(text, prefix)


def value_text(value: float) -> str:
    """A number in at most about ten characters: four significant digits, whole numbers below a million in full.

    >>> value_text(2.0), value_text(0.123456), value_text(-104.5678), value_text(60000), value_text(1e-9)
    ('2', '0.1235', '-104.6', '60000', '1e-09')
    """
    value = float(value)
    if math.isfinite(value) and value == round(value) and abs(value) < 1e6:
        return str(round(value))
    return f"{value:.4g}"
