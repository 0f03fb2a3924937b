from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch

from probflow.data import load_mnist, read_idx
from probflow.errors import DataError

TRAIN_X = torch.arange(3 * 2 * 4, dtype=torch.uint8).view(3, 2, 4) * 10
TRAIN_Y = torch.tensor([7, 0, 9], dtype=torch.uint8)
TEST_X, TEST_Y = TRAIN_X[:2] + 1, TRAIN_Y[:2]


def idx(tensor: torch.Tensor) -> bytes:
    return bytes([0, 0, 8, tensor.dim()]) + struct.pack(f">{tensor.dim()}I", *tensor.shape) + bytes(tensor.flatten().tolist())


def write(raw: Path, zipped: bool = False, **replaced: bytes | None) -> Path:
    """The four files; `train_x=...` replaces the bytes of one, or leaves it out with None."""
    raw.mkdir(parents=True)
    contents = {"train_x": idx(TRAIN_X), "train_y": idx(TRAIN_Y), "t10k_x": idx(TEST_X), "t10k_y": idx(TEST_Y), **replaced}
    for key, content in contents.items():
        name = key.replace("_x", "-images-idx3-ubyte").replace("_y", "-labels-idx1-ubyte")
        if content is not None:
            (raw / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return raw


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("inside", ["MNIST/raw", "FashionMNIST/raw", "raw", "."])
def test_finds_the_files_at_every_level(tmp_path, inside, zipped):
    write(tmp_path / "top" / inside, zipped)
    data = load_mnist(tmp_path / "top")
    assert data.train["x"].dtype == torch.float32 and data.train["y"].dtype == torch.int64
    assert torch.equal((data.train["x"] * 255).round().to(torch.uint8), TRAIN_X.flatten(1))
    assert torch.equal((data.test["x"] * 255).round().to(torch.uint8), TEST_X.flatten(1))
    assert data.train["y"].tolist() == [7, 0, 9] and data.test["y"].tolist() == [7, 0]


def test_takes_a_string_and_the_home_folder(tmp_path, monkeypatch):
    write(tmp_path / "MNIST" / "raw")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_mnist("~").train["y"]) == 3


def test_pixels_are_scaled_by_255(tmp_path):
    white = torch.full((3, 2, 4), 255, dtype=torch.uint8)
    assert load_mnist(write(tmp_path / "raw", train_x=idx(white))).train["x"].unique().tolist() == [1.0]


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no folder .*nowhere"):
        load_mnist(tmp_path / "nowhere")


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError) as error:
        load_mnist(tmp_path)
    for part in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", ".gz", str(tmp_path / "MNIST" / "raw")):
        assert part in str(error.value)


def test_one_file_missing(tmp_path):
    with pytest.raises(DataError, match=r"neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte\.gz"):
        load_mnist(write(tmp_path / "raw", t10k_y=None))


DAMAGED = {
    "empty": (b"", "starts with nothing"),
    "not idx": (b"<html>404</html>", "not an idx file"),
    "floats": (bytes([0, 0, 13, 1]) + idx(TRAIN_Y)[4:], "not an idx file of unsigned bytes"),
    "rank 0": (bytes([0, 0, 8, 0]), "not an idx file"),
    "header cut": (idx(TRAIN_X)[:9], "ends inside its header"),
    "cut short": (idx(TRAIN_X)[:-1], r"cut short: its header says \(3, 2, 4\), which is 24 bytes, but 23 follow"),
    "too long": (idx(TRAIN_X) + b"\0", "too long"),
    "gzip cut": (gzip.compress(idx(TRAIN_X))[:-9], "cannot be read"),
    "gzip wrong": (gzip.compress(idx(TRAIN_X))[:12] + b"\xff" * 30, "cannot be read"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as error:
        load_mnist(write(tmp_path / "raw", train_x=content))
    assert "train-images-idx3-ubyte" in str(error.value)


def test_as_many_labels_as_images(tmp_path):
    with pytest.raises(DataError, match="train part .* has 3 images .* 2 labels"):
        load_mnist(write(tmp_path / "raw", train_y=idx(TEST_Y)))


def test_images_and_labels_swapped(tmp_path):
    with pytest.raises(DataError, match=r"not images: expected \(N, height, width\)"):
        load_mnist(write(tmp_path / "raw", train_x=idx(TRAIN_Y), train_y=idx(TRAIN_X)))
    with pytest.raises(DataError, match=r"not labels: expected \(N,\)"):
        load_mnist(write(tmp_path / "other", train_y=idx(TRAIN_X)))


def test_training_and_test_images_of_different_size(tmp_path):
    with pytest.raises(DataError, match="8 pixels and the test images 6"):
        load_mnist(write(tmp_path / "raw", t10k_x=idx(TEST_X[:, :, :3])))


def test_read_idx_keeps_shape_and_type(tmp_path):
    for tensor in (TRAIN_X, TRAIN_Y, torch.empty(0, 28, 28, dtype=torch.uint8)):
        (tmp_path / "file").write_bytes(idx(tensor))
        assert torch.equal(read_idx(tmp_path / "file"), tensor)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "none")
