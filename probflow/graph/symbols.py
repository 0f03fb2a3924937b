r"""LaTeX names such as ``z_{1}``, ``x'``, ``\theta`` or ``\hat{x}`` as runs of plain characters, for formats without LaTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

GREEK = {
    **{name: chr(0x3B1 + place) for place, name in enumerate(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho varsigma sigma tau "
        "upsilon phi chi psi omega".split()
    )},
    **{name: chr(0x391 + place) for place, name in enumerate(
        "Alpha Beta Gamma Delta Epsilon Zeta Eta Theta Iota Kappa Lambda Mu Nu Xi Omicron Pi Rho - Sigma Tau "
        "Upsilon Phi Chi Psi Omega".split()
    ) if name != "-"},
    "varepsilon": "ε", "vartheta": "ϑ", "varphi": "φ", "varrho": "ϱ", "ell": "ℓ", "infty": "∞", "partial": "∂", "nabla": "∇",
    "cdot": "·", "cdots": "⋯", "ldots": "…", "dots": "…", "times": "×", "pm": "±", "ast": "∗", "star": "⋆", "prime": "′",
    "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠", "to": "→", "lt": "<", "gt": ">", "dagger": "†", "circ": "∘",
    "setminus": "∖", "backslash": "∖", "neg": "¬", "top": "⊤", "perp": "⊥", "hbar": "ħ", "aleph": "ℵ",
}  # fmt: skip
ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303", "vec": "\u20d7", "dot": "\u0307", "ddot": "\u0308",
           "widehat": "\u0302", "widetilde": "\u0303", "overline": "\u0304", "acute": "\u0301", "grave": "\u0300",
           "breve": "\u0306", "check": "\u030c"}  # fmt: skip
UPRIGHT = ("mathrm", "text", "operatorname", "mathsf", "mathtt", "mbox", "textrm")
OTHER_FONTS = ("mathbf", "boldsymbol", "bm", "mathcal", "mathbb", "mathscr", "mathfrak", "mathit")
SUBSCRIPTS = dict(zip("0123456789+-=()aehijklmnoprstuvxβγρφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True))
SUPERSCRIPTS = dict(zip("0123456789+-=()inTU′", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁱⁿᵀᵁ′", strict=True))
SMALLER = 0.7


@dataclass(frozen=True)
class Run:
    """Characters in one style; `level` is -1 in a subscript, 1 in a superscript."""

    text: str
    level: int = 0
    italic: bool = True
    bold: bool = False


def runs(latex: str) -> tuple[Run, ...]:
    r"""The runs of a LaTeX name; a command that is not known stands for itself, without its backslash.

    >>> [(run.text, run.level) for run in runs(r"\theta_{t-1}")]
    [('θ', 0), ('t', -1), ('−1', -1)]
    >>> [(run.text, run.italic) for run in runs(r"p_{\mathrm{data}}'")]
    [('p', True), ('data', False), ('′', False)]
    """
    found: list[Run] = []
    for run in _read(latex, 0, True, False):
        same = found and (found[-1].level, found[-1].italic, found[-1].bold) == (run.level, run.italic, run.bold)
        if same:
            found[-1] = Run(found[-1].text + run.text, run.level, run.italic, run.bold)
        else:
            found.append(run)
    return tuple(found)


_TOKEN = re.compile(r"\\[A-Za-z]+\s*|\\.|\{|\}|.", re.DOTALL)


def _read(latex: str, level: int, italic: bool, bold: bool) -> Iterator[Run]:
    tokens = _TOKEN.findall(latex)
    place = 0
    while place < len(tokens):
        token = tokens[place].strip() or tokens[place]
        place += 1
        if token in "_^":
            argument, place = _argument(tokens, place)
            yield from _read(argument, level or (-1 if token == "_" else 1), italic, bold)
        elif token == "{":
            argument, place = _argument(tokens, place - 1)
            yield from _read(argument, level, italic, bold)
        elif token.startswith("\\"):
            name = token[1:]
            if name in UPRIGHT or name in OTHER_FONTS:
                argument, place = _argument(tokens, place)
                yield from _read(
                    argument, level, italic and name not in UPRIGHT, bold or name in ("mathbf", "boldsymbol", "bm")
                )
            elif name in ACCENTS:
                argument, place = _argument(tokens, place)
                inner = list(_read(argument, level, italic, bold))
                text = "".join(run.text for run in inner)
                yield Run(text[:1] + ACCENTS[name] + text[1:], level, italic, bold)
            elif name in GREEK:
                yield Run(GREEK[name], level, italic and GREEK[name].islower(), bold)
            elif name not in ("left", "right", ",", ";", "!", " ", "displaystyle"):
                yield Run(name, level, False, bold)
        elif token == "'":
            yield Run("′", level, False, bold)
        elif token not in "{}$":
            text = "−" if token == "-" else token
            yield Run(text, level, italic and text.isalpha(), bold)


def _argument(tokens: list[str], place: int) -> tuple[str, int]:
    """What a command or a ^ applies to: the next token, or the group in braces; and where it ends."""
    if place >= len(tokens):
        return "", place
    if tokens[place] != "{":
        return tokens[place], place + 1
    depth, start = 0, place
    while place < len(tokens):
        depth += (tokens[place] == "{") - (tokens[place] == "}")
        place += 1
        if depth == 0:
            return "".join(tokens[start + 1 : place - 1]), place
    return "".join(tokens[start + 1 :]), place


def plain(latex: str) -> str:
    r"""The name as one line of Unicode: ``z₁``, ``xₜ₋₁``, ``θ′``; scripts without such characters stay ``x_data``.

    >>> plain(r"\theta_{1}'"), plain("x_{t-1}"), plain(r"p_{\mathrm{data}}"), plain("z^{(1)}")
    ('θ₁′', 'xₜ₋₁', 'p_data', 'z⁽¹⁾')
    """
    text = ""
    for run in runs(latex):
        if run.level == 0:
            text += run.text
            continue
        table, mark = (SUBSCRIPTS, "_") if run.level < 0 else (SUPERSCRIPTS, "^")
        letters = run.text.replace("−", "-")
        small = "".join(table.get(letter, "?") for letter in letters)
        text += mark + run.text if "?" in small else small
    return text


def symbol_width(latex: str) -> float:
    r"""An estimate of a name's width, in units of its font size.

    >>> symbol_width("z") < symbol_width("z_{1}") < symbol_width(r"\mathrm{label}")
    True
    """
    total, scripts = 0.0, {-1: 0.0, 1: 0.0}
    for run in runs(latex):
        width = sum(map(_advance, run.text)) * (SMALLER if run.level else 1.0)
        if run.level:
            scripts[run.level] += width
        else:
            total += max(scripts.values()) + width
            scripts = {-1: 0.0, 1: 0.0}
    return total + max(scripts.values())


def _advance(letter: str) -> float:
    if unicodedata.combining(letter):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    return 0.3 if letter in "ijl′,.·'|()" else 0.85 if letter in "mwMW" else 0.68 if letter.isupper() else 0.52
