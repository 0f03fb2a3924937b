"""The Python blocks of README.md and of every written tutorial run, in their order, in one namespace, in an empty folder; the text
block under a Python block is what it prints, and every link to a file of the checkout leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from documents import as_shown, blocks, execute, links, run, update

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "tutorials").glob("*/*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert blocks(text), f"{page} shows no Python"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    torch.set_default_dtype(torch.float32)  # as the reader has it; the fixture of all tests restores it
    for _ in execute(text, page):
        pass


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "tutorials/README.md", "docs/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    broken = [link for link in links(text) if not ((ROOT / page).parent / link).exists()]
    assert not broken


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
    *_, (_, namespace) = execute(SAMPLE, "sample")
    assert namespace["c"] == 2
    assert "b" not in namespace


def test_a_failing_block_fails_at_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(execute("one\ntwo\n```python\nx = 1\n1 / 0\n```\n", "sample"))
    assert caught.traceback[-1].lineno == 4  # counted from 0: the fifth line of the document


def page(code: str, printed: str) -> str:
    return f"```python\n{code}\n```\n\n```text\n{printed}\n```\n"


def test_a_page_shows_what_is_printed() -> None:
    list(execute(page("print(1 + 1)\nprint(id(1))", "2\n..."), "sample"))
    with pytest.raises(AssertionError, match="line 1: the page shows\n3\n\nit prints\n2"):
        list(execute(page("print(1 + 1)", "3"), "sample"))


ERROR = "import probflow as pf\npf.Normal('p(z', loc=0.0, scale=1.0)"


def test_a_page_shows_the_error_that_is_raised() -> None:
    list(execute(page(ERROR, "probflow.errors.StatementError: ..."), "sample"))
    with pytest.raises(AssertionError, match="it prints\nprobflow.errors.StatementError"):
        list(execute(page(ERROR, "probflow.errors.CycleError: ..."), "sample"))
    with pytest.raises(ValueError, match="cannot be read|statement"):  # nothing announces it
        list(execute(page(ERROR, "fine"), "sample"))
    (block,) = blocks(page("1", "probflow.errors.CycleError: a"))
    assert run(block, {}, "sample") == ""  # and an error that does not come is missed


def test_what_a_page_prints_can_be_written_into_it(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(page("print('a ')", "b") + page("print(2)", "...") + "end\n", encoding="utf-8")
    update(path)
    assert path.read_text(encoding="utf-8") == page("print('a ')", "a") + page("print(2)", "...") + "end\n"
    assert as_shown("a  \nb") == "a\nb\n"


def test_numbers_may_be_near_where_the_page_says_so() -> None:
    list(execute("<!-- about -->\n" + page("print('a  0.13, 2 of 3')", "a 0.1, 2 of 3"), "sample"))
    for printed in ("a 0.05, 2 of 3", "b 0.13, 2 of 3", "a 0.13"):
        with pytest.raises(AssertionError, match="it prints"):
            list(execute("<!-- about -->\n" + page("print('a 0.13, 2 of 3')", printed), "sample"))


def test_links_are_those_to_files() -> None:
    text = "[a](x.md#part) ![b](y/z.png) [c](https://a.b) [d](#here) `[e](not.md)`\n```\n[f](code.md)\n```\n"
    assert links(text) == ["x.md", "y/z.png"]
