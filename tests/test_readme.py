"""The Python blocks of README.md and of every tutorial run, in their order, in one namespace, in an empty folder.

A block after the line ``<!-- no-test -->`` is left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

FENCE = re.compile(r"^```python[^\n]*\n(?P<code>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
SKIP = "<!-- no-test -->"


def blocks(text: str) -> list[tuple[int, str]]:
    """(number of its first line counted from 0, code) of every block that is to run."""
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip().rsplit("\n", 1)[-1].strip()
        if before != SKIP:
            found.append((text.count("\n", 0, match.start("code")), match["code"]))
    return found


def execute(text: str, name: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for line, code in blocks(text):
        # Blank lines in front make a traceback point at the line of the document.
        exec(compile("\n" * line + code, name, "exec"), namespace)
    return namespace


ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "tutorials").glob("*/*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert blocks(text), f"{page} shows no Python"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    torch.set_default_dtype(torch.float32)  # as the reader has it; the fixture of all tests restores it
    execute(text, page)


SAMPLE = """
```python
a = 1
```
```console
b = 1
```
<!-- no-test -->
```python
raise SystemError
```

```python
c = a + 1
```
"""


def test_blocks_share_a_namespace_and_leave_out_what_is_marked() -> None:
    namespace = execute(SAMPLE, "sample")
    assert namespace["c"] == 2
    assert "b" not in namespace


def test_a_failing_block_fails_at_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        execute("one\ntwo\n```python\nx = 1\n1 / 0\n```\n", "sample")
    assert caught.traceback[-1].lineno == 4  # counted from 0: the fifth line of the document
