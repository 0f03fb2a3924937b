"""The notebooks of tutorials/: both languages, as they are committed (by default), and executed with small sizes:

    pytest tests/test_tutorials.py -m tutorials

needs the extra `tutorials`. A notebook has the same code in both languages, so it runs once.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from documents import links

ROOT = Path(__file__).resolve().parent.parent / "tutorials"
NAMES = """
01_statements 02_losses_are_equations 03_vae 04_conditional_vae 05_flows_in_one_and_two_dimensions
06_couplings_autoregressive_splines 07_mixing 08_glow 09_unnormalised_densities 10_your_own
""".split()
LANGUAGES = {"en": ("Exercises", "Solutions"), "ja": ("演習", "解答")}
THERE = sorted({path.stem for path in ROOT.glob("*/*.ipynb")})
BOOKS = [(language, name) for name in THERE for language in LANGUAGES]
ENOUGH = 0.4
"""The least share of Japanese letters in the prose of a Japanese notebook, formulas and code left out."""


def cells(language: str, name: str, kind: str) -> list[dict[str, Any]]:
    book = json.loads((ROOT / language / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def prose(language: str, name: str) -> str:
    return "\n\n".join(source(cell) for cell in cells(language, name, "markdown"))


def headings(language: str, name: str) -> list[str]:
    text = re.sub(r"^```.*?^```", "", prose(language, name), flags=re.M | re.S)
    return re.findall(r"^#+ +(.*)$", text, re.M)


def test_these_are_all() -> None:
    for language in LANGUAGES:
        assert sorted(path.stem for path in (ROOT / language).glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", THERE)
def test_both_languages_have_the_same_code_and_the_same_outputs(name: str) -> None:
    english, japanese = (cells(language, name, "code") for language in LANGUAGES)
    assert [source(cell) for cell in english] == [source(cell) for cell in japanese]
    assert [cell["outputs"] for cell in english] == [cell["outputs"] for cell in japanese]
    english, japanese = (cells(language, name, "markdown") for language in LANGUAGES)
    assert len(english) == len(japanese)


@pytest.mark.parametrize("language, name", BOOKS)
def test_outputs_are_there_and_clean(language: str, name: str) -> None:
    code = cells(language, name, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))  # execute.py
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any(output["output_type"] == "stream" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    for output in outputs:
        texts = {kind: text for kind, text in output.get("data", output).items() if kind != "image/png"}
        assert not re.search(r"0x[0-9a-f]{6,}|/home/|/root/|/tmp/|/Users/", json.dumps(texts))
    assert (ROOT / language / f"{name}.ipynb").stat().st_size < 1_600_000


@pytest.mark.parametrize("language, name", BOOKS)
def test_a_notebook_has_exercises_and_solutions(language: str, name: str) -> None:
    found = headings(language, name)
    for needed in LANGUAGES[language]:
        assert any(needed in heading for heading in found), f"{found}"
    assert prose(language, name).count("$$") >= 2


@pytest.mark.parametrize("language, name", BOOKS)
def test_links_lead_somewhere(language: str, name: str) -> None:
    folder = ROOT / language
    assert not [link for link in links(prose(language, name)) if not (folder / link).exists()]


@pytest.mark.parametrize("name", THERE)
def test_the_japanese_is_japanese(name: str) -> None:
    plain = re.sub(r"^```.*?^```|\$\$.*?\$\$|\$[^$\n]*\$|`[^`\n]*`|\]\([^)]*\)", "", prose("ja", name), flags=re.M | re.S)
    letters = re.findall(r"[A-Za-z]|[\u3040-\u30ff\u4e00-\u9fff]", plain)
    assert sum(letter > "\u3000" for letter in letters) / len(letters) > ENOUGH
    assert not re.search(r"[\u4e00-\u9fff]", prose("en", name))
    # です・ます調
    assert len(re.findall(r"(です|ます|ません|でしょう|ください|ました|でした)", plain)) > 10


@pytest.mark.tutorials
@pytest.mark.parametrize("name", THERE)
def test_a_notebook_runs(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROBFLOW_QUICK", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    spec = importlib.util.spec_from_file_location("execute", ROOT / "execute.py")
    assert spec is not None and spec.loader is not None
    execute = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(execute)
    before = sorted(ROOT.rglob("*"))
    book = execute.run(ROOT / "en" / f"{name}.ipynb", timeout=300)
    outputs = [output for cell in execute.code_cells(book) for output in cell.outputs]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert sorted(ROOT.rglob("*")) == before, "a notebook leaves no files behind"


@pytest.mark.parametrize(("language", "name"), BOOKS)
def test_every_exercise_has_its_solution_explained_in_the_language_of_the_notebook(language: str, name: str) -> None:
    asked, _, told = prose(language, name).partition("## Solutions" if language == "en" else "## 解答")
    _, _, exercises = asked.partition("## Exercises" if language == "en" else "## 演習")
    numbers = re.findall(r"^(\d+)\. ", exercises, re.M)
    assert len(numbers) >= 4
    assert re.findall(r"\*\*(\d+)\.", told) == numbers
