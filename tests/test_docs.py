"""The manual: its pages run, its equations are numbers, its links lead somewhere, its reference is complete."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from documents import execute, links

import probflow as pf

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    str(path.relative_to(DOCS))
    for path in DOCS.rglob("*.md")
    if not {"_build", "generated", "en", "ja"} & set(path.relative_to(DOCS).parts) and path.name != "README.md"
)


@pytest.fixture(autouse=True)
def as_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "equations.md"])
def test_what_a_page_shows_runs(page: str) -> None:
    for _ in execute((DOCS / page).read_text(encoding="utf-8"), page):
        pass


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """In the repository as it is, where a code-hosting site follows them; the build of the manual checks its own."""
    copies = (DOCS / "tutorials" / "en", DOCS / "tutorials" / "ja")
    broken = []
    for link in links((DOCS / page).read_text(encoding="utf-8")):
        target = ((DOCS / page).parent / link).resolve()
        if not target.exists() or any(copy in target.parents for copy in copies):
            broken.append(link)
    assert not broken


def test_every_equation_is_a_number() -> None:
    """Each entry has an equation above its code, and leaves a loss of its own that is finite on the page's data."""
    text = (DOCS / "equations.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    seen: dict[str, object] = {}
    for block, namespace in execute(text, "equations.md"):
        above = [line for line in lines[: block.line] if line.startswith("#")][-1]
        if not above.startswith("### "):
            continue
        between = "\n".join(lines[: block.line]).rpartition(above)[2]
        loss, data = namespace["loss"], namespace["data"]
        assert between.count("$$") == 2, above
        assert block.printed, above
        assert isinstance(loss, pf.Loss) and all(loss is not other for other in seen.values()), above
        assert loss.eval({name: data[name] for name in loss.input_var}).isfinite().all(), above
        seen[above] = loss
    assert len(seen) == text.count("\n### ") >= 30


# ---------------------------------------------------------------------------------------------------- the reference

PACKAGES: list[ModuleType] = [
    pf,
    *(importlib.import_module(f"probflow.{name}") for name in "distributions losses models inference graph".split()),
    *(importlib.import_module(f"probflow.{name}") for name in "transforms flows data nn viz testing losses.rules".split()),
]


def documented() -> dict[int, list[str]]:
    """The names that the pages of the reference list, by the object they mean."""
    found: dict[int, list[str]] = {}
    for page in (DOCS / "api").glob("*.md"):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)", line):
                module = match[1]
            elif match := re.match(r" {3}([A-Za-z_]\w*)$", line):
                found.setdefault(id(getattr(importlib.import_module(module), match[1])), []).append(f"{module}.{match[1]}")
            elif match := re.match(r"\.\. autodata:: (\S+)\.(\w+)$", line):
                found.setdefault(id(getattr(importlib.import_module(match[1]), match[2])), []).append(line)
    return found


PUBLIC = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in PACKAGES
    for name in package.__all__
    if not inspect.ismodule(getattr(package, name))
}


def test_the_reference_lists_every_public_name() -> None:
    listed = documented()
    assert not [name for name, thing in PUBLIC.items() if id(thing) not in listed]


def test_the_reference_lists_every_error() -> None:
    text = (DOCS / "api" / "errors.md").read_text(encoding="utf-8")
    errors = [name for name, thing in vars(pf.errors).items() if isinstance(thing, type)]
    assert re.findall(r"autoexception:: (\w+)", text) == errors


def test_no_package_is_left_out() -> None:
    inner = {path.parent.name for path in (ROOT / "probflow").glob("*/__init__.py")}
    assert inner - {package.__name__.rpartition(".")[2] for package in PACKAGES} == {"cli"}


def test_every_public_name_has_an_example() -> None:
    things = {name: thing for name, thing in PUBLIC.items() if callable(thing)}  # a table or a number has none
    assert not [name for name, thing in things.items() if ">>> " not in (thing.__doc__ or "")]


def test_every_public_name_is_explained() -> None:
    """A table or a number, by the docstring right below it."""
    for name in [name for name, thing in PUBLIC.items() if not callable(thing)]:
        assignment = rf'^{name.rpartition(".")[2]}\b[^\n]* = (?:[^\n]*|\{{\n(?: [^\n]*\n)*\}})\n"""'
        sources = [path.read_text(encoding="utf-8") for path in (ROOT / "probflow").rglob("*.py")]
        assert any(re.search(assignment, source, re.M) for source in sources), name
