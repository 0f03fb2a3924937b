"""Python blocks of Markdown pages: which there are, running them, and what they print.

A page's blocks run in their order, in one namespace. A block after the line ``<!-- no-test -->`` is left out. A ``text`` block that
follows a Python block directly is what it prints, compared line by line; ``...`` stands for anything. Where it says
``probflow.errors.Name: message``, as a traceback ends, the block ends in this error. After the line ``<!-- about -->`` numbers need
only be near: within a half.

    python tests/documents.py docs/equations.md     writes what the blocks print into their text blocks
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
from typing import Any

BLOCK = re.compile(
    r"^```python[^\n]*\n(?P<code>.*?)^```[ \t]*$(?:\s*^```text[ \t]*\n(?P<printed>.*?)^```[ \t]*$)?", re.M | re.S
)
SKIP, ABOUT = "<!-- no-test -->", "<!-- about -->"
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """One Python block."""

    line: int
    """The number of the line before its code, so that a traceback points into the page."""
    code: str
    printed: str | None
    """What the page says that it prints; None where it says nothing."""
    place: tuple[int, int]
    """Where that stands in the page."""
    about: bool = False
    """Whether its numbers need only be near."""

    def shows(self, printed: str) -> bool:
        """Whether the page says that it prints this, or says nothing."""
        if self.printed is None:
            return True
        shown = as_shown(self.printed)
        if not self.about:
            return OutputChecker().check_output(shown, printed, ELLIPSIS)
        pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=False)  # as many: the text tells
        near = all(abs(float(a) - float(b)) <= 0.5 * max(float(a), float(b)) for a, b in pairs)
        return near and re.sub(r"\s+", " ", NUMBER.sub("#", shown)) == re.sub(r"\s+", " ", NUMBER.sub("#", printed))


def blocks(text: str) -> list[Block]:
    """Every block that is to run."""
    found = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()].rstrip().rsplit("\n", 1)[-1].strip()
        if before != SKIP:
            line = text.count("\n", 0, match.start("code"))
            found.append(Block(line, match["code"], match["printed"], match.span("printed"), before == ABOUT))
    return found


def run(block: Block, namespace: dict[str, Any], name: str) -> str:
    """Run one block; what it printed, and the error it was meant to end in."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            # Blank lines in front make a traceback point at the line of the page.
            exec(compile("\n" * block.line + block.code, name, "exec"), namespace)
    except Exception as error:
        kind = type(error)
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        if not re.search(rf"^({re.escape(name)}:|probflow\.errors\.)", block.printed or "", re.M):
            raise
        out.write(f"{name}: {error}\n")
    return out.getvalue()


def as_shown(printed: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


def execute(text: str, name: str) -> Iterator[tuple[Block, dict[str, Any]]]:
    """Run the blocks of a page one after the other; each is given back with the namespace after it."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(text):
        printed = as_shown(run(block, namespace, name))
        if not block.shows(printed):
            raise AssertionError(f"{name}, line {block.line}: the page shows\n{block.printed}\nit prints\n{printed}")
        yield block, namespace


def links(text: str) -> list[str]:
    """The files of the checkout that a page links to or shows, without the part after ``#``; code is left out."""
    prose = re.sub(r"^```.*?^```[ \t]*$|`[^`\n]*`", "", text, flags=re.M | re.S)
    found = re.findall(r"\]\(\s*<?([^)\s>]+)", prose)
    return [link.partition("#")[0] for link in found if not re.match(r"[a-z]+:|#", link)]


def update(path: Path) -> None:
    """Write into the page what its blocks print; text with ``...`` in it stays where it fits."""
    text, namespace, done, last = path.read_text(encoding="utf-8"), {"__name__": "__main__"}, [], 0
    for block in blocks(text):
        printed = as_shown(run(block, namespace, path.name))
        if not block.shows(printed):
            done += [text[last : block.place[0]], printed]
            last = block.place[1]
    path.write_text("".join([*done, text[last:]]), encoding="utf-8")


if __name__ == "__main__":
    for page in sys.argv[1:]:
        update(Path(page))
