"""Probability statements: ``"q(z | x, y)"`` is a distribution's name, its variables and its conditioning variables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from ..errors import ArgumentError, DuplicateVariable, StatementError
from ..printing import latex_name

_SPELLINGS = 'as a statement, "q(z | x)", or as keywords, var=["z"], cond_var=["x"], name="q"'
_ONE_BAR = "A statement has one '|'; conditioning variables are separated by ','."
_ALPHABET = r"letters, digits, _, ^, ' and LaTeX such as \theta or x_{t-1}"


@dataclass(frozen=True)
class Statement:
    r"""What ``q(z|x,y)`` says: `name` = "q", `var` = ("z",), `cond_var` = ("x", "y"). Orders are the author's.

    `observed` and `fixed` are former variables and conditioning variables whose value was given; they are only printed.

    Errors: DuplicateVariable if a name occurs twice; StatementError for a name that cannot be read.

    >>> q = Statement("q", ("z",), ("x", "y"))
    >>> print(q, q.latex(), q.rename({"x": "y", "y": "x"}), q.given(["y"]), q.given(["z"]))
    q(z|x,y) q(z \mid x, y) q(z|y,x) q(z|x,y=y*) q(z=z*|x,y)
    """

    name: str
    var: tuple[str, ...]
    cond_var: tuple[str, ...] = ()
    observed: tuple[str, ...] = field(default=(), repr=False)
    fixed: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentError(f"the name of a distribution is a string such as 'p', got {type(self.name).__name__}.")
        _check_name(self.name, "the distribution name")
        object.__setattr__(self, "var", _strings(self.var, "var"))
        object.__setattr__(self, "cond_var", _strings(self.cond_var, "cond_var"))
        for place, group in (("variable", self.var), ("conditioning variable", self.cond_var)):
            twice = _repeated(group)
            if twice is not None:
                raise DuplicateVariable(f"{self} names the {place} {twice!r} twice.")
        for v in self.var:
            if v in self.cond_var:
                raise DuplicateVariable(f"{self} has {v!r} on both sides of '|': a variable cannot condition itself.")

    def __str__(self) -> str:
        drawn, conditions = ([*left, *(f"{n}={n}*" for n in values)] for left, values in self._sides())
        return f"{self.name}({','.join(drawn)}{'|' + ','.join(conditions) if conditions else ''})"

    def latex(self) -> str:
        r"""The statement in LaTeX, without dollar signs.

        >>> print(Statement("p", ("x_t",), ("theta",)).latex())
        p(x_{t} \mid \theta)
        >>> print(Statement("p", ("x",), ("z", "y")).given(["x", "y"]).latex())
        p(x = x^{*} \mid z, y = y^{*})
        """
        drawn, conditions = (
            ", ".join([*map(latex_name, left), *(f"{latex_name(n)} = {_starred(latex_name(n))}" for n in values)])
            for left, values in self._sides()
        )
        bar = rf"{' ' if drawn else ''}\mid {conditions}" if conditions else ""
        return f"{latex_name(self.name)}({drawn}{bar})"

    def _sides(self) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
        """What stands before and behind the bar: the names that are left, and those with a value."""
        return (self.var, self.observed), (self.cond_var, self.fixed)

    def given(self, known: Iterable[str]) -> Statement:
        """The statement with values for these names; others are ignored."""
        known = tuple(known)
        return Statement(
            self.name,
            tuple(n for n in self.var if n not in known),
            tuple(n for n in self.cond_var if n not in known),
            (*(n for n in self.var if n in known), *self.observed),
            (*(n for n in self.cond_var if n in known), *self.fixed),
        )

    def rename(self, mapping: Mapping[str, str]) -> Statement:
        """The statement under other variable names, all replaced at once (so swaps work).

        Names that do not occur in the statement are ignored. Errors: DuplicateVariable if two names become one.
        """
        var = tuple(mapping.get(v, v) for v in self.var)
        cond_var = tuple(mapping.get(v, v) for v in self.cond_var)
        twice = _repeated(var + cond_var)
        if twice is not None:
            merged = " and ".join(repr(v) for v in self.var + self.cond_var if mapping.get(v, v) == twice)
            raise DuplicateVariable(f"renaming would make {merged} of {self} one variable, {twice!r}.")
        return Statement(self.name, var, cond_var, self.observed, self.fixed)


def _starred(symbol: str) -> str:
    """A given value; TeX wants braces where the symbol has a superscript already."""
    return f"{{{symbol}}}^{{*}}" if "^" in symbol or "'" in symbol else f"{symbol}^{{*}}"


def whole(name: str, var: tuple[str, ...], cond_var: tuple[str, ...], factors: Iterable[Statement]) -> Statement:
    """The statement of a product, with what was given in its factors.

    >>> print(whole("p", ("z",), (), [Statement("p", ("x",), ("z",)).given(["x"]), Statement("p", ("z",))]))
    p(z,x=x*)
    """
    factors = tuple(factors)
    observed = dict.fromkeys(n for factor in factors for n in factor.observed)
    fixed = dict.fromkeys(n for factor in factors for n in factor.fixed if n not in observed)
    return Statement(name, var, cond_var, tuple(observed), tuple(fixed))


def parse(text: str, default_name: str = "p") -> Statement:
    r"""Reads a statement. Without a distribution name it is called `default_name`; spaces do not matter.

    Names are letters, digits, ``_``, ``^``, primes and LaTeX; ``\mid`` is read as ``|``.
    Errors: StatementError, which shows the place with a caret and says what was expected there.

    >>> parse("q(z | x, y)")
    Statement(name='q', var=('z',), cond_var=('x', 'y'))
    >>> print(parse("z | x"), parse(r"p_\theta(x_{t-1} \mid x_t)"))
    p(z|x) p_\theta(x_{t-1}|x_t)
    """
    name, var, cond_var = _read(text)
    return Statement(default_name if name is None else name, var, cond_var)


def make_statement(
    text: str | None = None,
    *,
    var: str | Sequence[str] | None = None,
    cond_var: str | Sequence[str] | None = None,
    name: str | None = None,
    default_name: str = "p",
) -> Statement:
    """The statement from either spelling: the string, or the keywords.

    Errors: ArgumentError if both or neither are given, or something is not a string; StatementError; DuplicateVariable.

    >>> make_statement("q(z | x)") == make_statement(var=["z"], cond_var="x", name="q") == make_statement("z | x", name="q")
    True
    """
    if text is not None:
        if not isinstance(text, str):
            raise ArgumentError(f'a statement is a string such as "q(z | x)", got {type(text).__name__}.')
        extra = [f"{key}={value!r}" for key, value in (("var", var), ("cond_var", cond_var)) if value is not None]
        if extra:
            raise ArgumentError(
                f"the variables are given twice, by the statement {text!r} and by {', '.join(extra)}.\n"
                f"Keep one spelling: {_SPELLINGS}."
            )
        own, variables, conditions = _read(text)
        if own is not None and name is not None and own != name:
            raise ArgumentError(f"the statement {text!r} is named {own!r}, but name={name!r} was given too. Keep one of them.")
        return Statement(next(n for n in (own, name, default_name) if n is not None), variables, conditions)
    if var is None and cond_var is None:
        raise ArgumentError(f"a distribution needs its variables: {_SPELLINGS}.")
    variables = () if var is None else _strings(var, "var")
    if not variables:
        raise ArgumentError(f"a distribution needs at least one variable in var=: {_SPELLINGS}.")
    conditions = () if cond_var is None else _strings(cond_var, "cond_var")
    return Statement(default_name if name is None else name, variables, conditions)


def names(value: str | Sequence[str], what: str = "var") -> tuple[str, ...]:
    """`value`, one name or a list or tuple of names, as a tuple. `what` is the argument's name in error messages.

    Errors: ArgumentError for anything else, StatementError for an unreadable name, DuplicateVariable for a repetition.

    >>> names("z"), names(["x", "y"])
    (('z',), ('x', 'y'))
    """
    result = _strings(value, what)
    twice = _repeated(result)
    if twice is not None:
        raise DuplicateVariable(f"{what}={list(result)!r} names {twice!r} twice.")
    return result


def _strings(value: object, what: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, list | tuple):  # not any iterable: a set would order the variables by hash
        raise ArgumentError(f'{what} is a name or a list of names, such as {what}=["x"], got {type(value).__name__}.')
    for member in value:
        if not isinstance(member, str):
            raise ArgumentError(
                f"{what} is a list of names (strings), but it contains {member!r} of type {type(member).__name__}."
            )
        _check_name(member, f"a name in {what}=")
    return tuple(value)


def _repeated(values: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for v in values:
        if v in seen:
            return v
        seen.add(v)
    return None


def _check_name(text: str, what: str) -> None:
    reader = _Reader(text, what)
    reader.name("a name", skip=False)
    if reader.pos < len(text):
        reader.fail("the end of the name")


def _read(text: str) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    if not isinstance(text, str):
        raise ArgumentError(f'a statement is a string such as "q(z | x)", got {type(text).__name__}.')
    reader = _Reader(text, "the statement")
    name: str | None = reader.name('a statement such as "q(z | x)"')
    if not reader.take("("):
        name, reader.pos = None, 0
    close = "the end" if name is None else "')'"
    var = reader.names("a variable", set())
    cond_var: tuple[str, ...] = ()
    expected = f"',', '|' or {close}"
    if reader.take("|"):
        cond_var = reader.names("a conditioning variable", set(var))
        expected = f"',' or {close}"
        if reader.at("|"):
            reader.fail(expected, _ONE_BAR)
    if name is not None and not reader.take(")"):
        reader.fail(expected, f"The parenthesis after {name!r} is not closed." if reader.at("") else "")
    if not reader.at(""):
        if name is None:
            reader.fail(expected, "There is no '(' before this ')'." if reader.at(")") else "")
        reader.fail("the end of the statement", "A product is written with objects: p * q.")
    return name, var, cond_var


class _Reader:
    """A position in a text, and the few things that can be read there."""

    def __init__(self, text: str, what: str) -> None:
        self.text, self.what, self.pos = text, what, 0

    def skip(self) -> None:
        while self.text[self.pos : self.pos + 1].isspace():
            self.pos += 1

    def at(self, token: str) -> bool:
        r"""Whether `token` comes next; "" is the end of the text, and "|" may be spelt \mid."""
        self.skip()
        rest = self.text[self.pos :]
        if token == "":
            return rest == ""
        return rest.startswith(token) or (token == "|" and re.match(r"\\mid(?![A-Za-z])", rest) is not None)

    def take(self, token: str) -> bool:
        found = self.at(token)
        if found:
            self.pos += len(r"\mid") if self.text[self.pos] == "\\" else len(token)
        return found

    def names(self, expected: str, taken: set[str]) -> tuple[str, ...]:
        result: list[str] = []
        while True:
            self.skip()
            if not result and (self.at(")") or self.at("|") or self.at("")):
                self.fail(
                    expected, _ONE_BAR if taken and self.at("|") else f"The list of {expected.split(' ', 1)[1]}s is empty."
                )
            start = self.pos
            v = self.name(expected)
            if v in taken or v in result:
                self.pos = start
                why = "It is named twice." if v in result else "A variable cannot condition itself."
                self.fail(f"{expected} other than {v!r}", why, found=v)
            result.append(v)
            if not self.take(","):
                return tuple(result)

    def name(self, expected: str, skip: bool = True) -> str:
        if skip:
            self.skip()
        start = self.pos
        while self.pos < len(self.text):
            c = self.text[self.pos]
            if c == "\\":
                command = re.match(r"\\[A-Za-z]+", self.text[self.pos :])
                if command is None:
                    self.pos += 1
                    self.fail(r"a LaTeX command after the backslash, such as \theta")
                if command[0] == r"\mid":
                    break
                self.pos += len(command[0])
            elif self.pos == start and not (c.isalpha() or c == "_"):
                break
            elif c == "{":
                self.group()
            elif c.isalnum() or c in "_^'" or unicodedata.category(c).startswith("M"):
                self.pos += 1
            else:
                break
        if self.pos == start:
            self.fail(expected)
        if self.text[self.pos - 1] == "^":
            self.fail("a superscript after '^'")
        return self.text[start : self.pos]

    def group(self) -> None:
        """A balanced {...}; what stands inside is LaTeX and is not looked at."""
        depth = 0
        while self.pos < len(self.text):
            c = self.text[self.pos]
            if c in '.|"' or not c.isprintable():
                self.fail("'}'")
            depth += (c == "{") - (c == "}")
            self.pos += 1
            if depth == 0:
                return
        self.fail("'}'", "A brace is not closed.")

    def fail(self, expected: str, hint: str = "", found: str = "") -> NoReturn:
        found = found or self.text[self.pos : self.pos + 1]
        plain = unicodedata.normalize("NFKC", found)
        if not hint and found == ".":
            hint = "A name cannot contain '.': in a state_dict the dot separates levels."
        elif not hint and plain != found and plain in ("(", ")", ",", "|", "{", "}"):
            hint = f"Write {plain!r} in place of the full-width {found!r}."
        elif not hint and found and not (found.isalnum() or found.isspace() or found in "(),|\\_^'{}"):
            hint = f"{found!r} cannot stand in a name ({_ALPHABET})."
        shown = re.sub(r"\s", " ", self.text)
        before = sum(_columns(c) for c in shown[: self.pos])
        got = repr(found) if found else "the end of the text"
        raise StatementError(
            f"cannot read {self.what}:\n    {shown}\n    {' ' * before}^\n"
            f"expected {expected}, found {got}." + (f" {hint}" if hint else "")
        )


def _columns(c: str) -> int:
    """How many columns of a terminal a character takes: the caret must stand under its place in Japanese too."""
    if unicodedata.combining(c):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1
