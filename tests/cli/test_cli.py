"""The command line: what it writes, that it resumes, and what it says when something is wrong."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import pytest
import torch

from probflow.cli import main

SMALL = ["--epochs", "1", "--hidden", "16", "--z", "2", "--batch-size", "500"]


@pytest.fixture(autouse=True)
def single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def demo(out: Path, *options: str) -> int:
    return main(["demo", "cvae", "--out", str(out), *SMALL, *options])


def test_generate_writes_pictures_numbers_and_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(tmp_path) == 0
    printed = capsys.readouterr().out
    assert "p(x|y,z)" in printed
    assert "loss = mean(KL[q(z|x,y) || p(z)] - E_q(z|x,y)[log p(x|y,z)])" in printed
    assert "plan of" in printed and "closed form" in printed
    for name in ("generated.png", "reconstructions.png", "loss.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["epochs"] == 1 and len(metrics["loss"]) == len(metrics["test_loss"]) == 1
    assert 0 < metrics["test_negative_elbo_nats"] < 784
    assert (tmp_path / "checkpoint.pt").exists()


def test_predict_reports_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(tmp_path, "--task", "predict", "--batch-size", "100") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["train_accuracy"]) == len(metrics["test_accuracy"]) == 1
    assert 0.2 < metrics["final_test_accuracy"] <= 1  # chance is 0.1
    assert "epoch 1: accuracy train" in capsys.readouterr().out
    assert (tmp_path / "predicted.png").exists()


def test_resuming_is_the_same_as_not_stopping(tmp_path: Path) -> None:
    assert demo(tmp_path / "a", "--epochs", "2") == 0
    assert demo(tmp_path / "b") == 0
    assert demo(tmp_path / "b", "--epochs", "2", "--resume") == 0
    a, b = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    assert a["loss"] == b["loss"] and a["test_loss"] == b["test_loss"]


def write_mnist(folder: Path, count: int = 40) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels, labels = bytes(count * 784), bytes(i % 10 for i in range(count))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + pixels)
        with gzip.open(raw / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">2i", 2049, count) + labels)


def test_data_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mnist(tmp_path)
    assert demo(tmp_path / "out", "--data", str(tmp_path)) == 0
    assert "40 digits to learn from, 40 to test on" in capsys.readouterr().out


def test_a_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(tmp_path / "out", "--data", str(tmp_path / "nowhere")) == 2
    error = capsys.readouterr().err
    assert "nowhere" in error and "Traceback" not in error


def test_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"not digits")
    assert demo(tmp_path / "out", "--data", str(tmp_path)) == 2
    assert "train-images-idx3-ubyte" in capsys.readouterr().err


def test_an_unknown_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(tmp_path, "--device", "abacus") == 2
    assert "--device abacus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epoch-count", "3"], "--epoch-count"),
        (["--epochs", "0"], "positive integer"),
        (["--task", "dream"], "dream"),
        (["--hidden", "16,x"], "positive integer"),
    ],
)
def test_unknown_options_and_bad_values(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        demo(tmp_path, *options)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
