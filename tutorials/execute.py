"""Executes notebooks and writes what they printed and drew into both languages:  python tutorials/execute.py 03 05

The code cells of tutorials/en and tutorials/ja are the same (a test holds them to that), so each notebook runs once and both files
get its outputs. Without numbers all notebooks run. `--quick` sets PROBFLOW_QUICK=1 (small sizes, as in the tests) and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
LANGUAGES = ("en", "ja")


def run(path: Path, timeout: int = 3600) -> Any:
    """The notebook with its outputs, executed from top to bottom in a fresh kernel, in the folder of the notebook."""
    book: Any = nbformat.read(path, as_version=4)
    NotebookClient(
        book, timeout=timeout, kernel_name="python3", coalesce_streams=True, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return book


def code_cells(book: Any) -> list[Any]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def write_outputs(executed: Any, path: Path) -> None:
    """The outputs of `executed` become those of the notebook at `path`, whose code is the same."""
    book: Any = nbformat.read(path, as_version=4)
    if [cell.source for cell in code_cells(book)] != [cell.source for cell in code_cells(executed)]:
        raise SystemExit(f"{path}: its code is not that of the notebook that ran")
    for cell, done in zip(code_cells(book), code_cells(executed), strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
        cell.metadata.pop("execution", None)  # times of day: a new diff at every run
    nbformat.write(book, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Execute the tutorials.")
    parser.add_argument("numbers", nargs="*", help="which notebooks, by the number their names begin with; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, and nothing is written")
    options = parser.parse_args()
    if options.quick:
        os.environ["PROBFLOW_QUICK"] = "1"
    for path in sorted((HERE / "en").glob("*.ipynb")):
        if options.numbers and not path.name.startswith(tuple(options.numbers)):
            continue
        start = time.perf_counter()
        executed = run(path)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s")
        if not options.quick:
            for language in LANGUAGES:
                write_outputs(executed, HERE / language / path.name)


if __name__ == "__main__":
    main()
