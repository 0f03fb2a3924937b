"""The demos of flows: what they write, that they resume, and what they say when something is wrong."""

from __future__ import annotations

import gzip
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from probflow import data
from probflow.cli import main, run_flow
from probflow.cli.glow import build
from probflow.cli.run_glow import direction, encode, slant, thickness

TINY = {
    "flow": ["--epochs", "1", "--points", "1000", "--hidden", "8"],
    "glow": ["--epochs", "1", "--hidden", "4", "--steps", "1", "--batch-size", "30"],
    "vae-flow": ["--epochs", "1", "--hidden", "8", "--samples", "3", "--z", "2"],
}
PICTURES = {
    "flow": ("density", "loss"),
    "glow": ("samples", "interpolations", "edits", "loss"),
    "vae-flow": ("samples", "reconstructions", "prior", "loss"),
}


@pytest.fixture(autouse=True)
def single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of less than the eye wants, and few test points."""
    monkeypatch.setattr(run_flow, "TEST_POINTS", 500)
    monkeypatch.setattr(run_flow, "RESOLUTION", 20)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MNIST: 120 of the real digits to learn from, 60 to test on."""
    folder = tmp_path_factory.mktemp("mnist")
    split = data.load_digits(seed=0)
    for name, values, n in (("train", split.train, 120), ("t10k", split.test, 60)):
        write(folder, name, (values["x"][:n] * 255).round().byte(), values["y"][:n])
    return folder


def write(folder: Path, part: str, pixels: torch.Tensor, labels: torch.Tensor) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    n, side = len(pixels), math.isqrt(pixels.shape[1])
    (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, n, side, side) + bytes(pixels.flatten().tolist()))
    with gzip.open(raw / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">2i", 2049, n) + bytes(labels.tolist()))


def demo(name: str, out: Path, *options: str, digits: Path | None = None) -> int:
    given = ["--data", str(digits)] if digits is not None and name != "flow" else []
    return main(["demo", name, "--out", str(out), *TINY[name], *given, *options])


def metrics(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


# ---------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", TINY)
def test_a_demo_writes_pictures_numbers_and_a_checkpoint(
    name: str, tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo(name, tmp_path, digits=digits) == 0
    for picture in PICTURES[name]:
        assert (tmp_path / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "checkpoint.pt").exists()
    found = metrics(tmp_path)
    assert found["epochs"] == 1 and len(found["loss"]) == len(found["test_loss"]) == 1
    assert found["versions"]["torch"] == torch.__version__
    assert {"run", "command", "demo"}.isdisjoint(found["arguments"])
    printed = capsys.readouterr().out
    assert "loss = " in printed and "plan of" in printed and "metrics.json" in printed


@pytest.mark.parametrize("name", TINY)
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    name: str, tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probflow.models import fit

    assert demo(name, tmp_path / "a", "--epochs", "3", digits=digits) == 0
    save = fit.checkpoints.save
    with monkeypatch.context() as patch:

        def stop(model: Any, *rest: Any) -> None:
            save(model, *rest)
            if model.epoch == 2:
                raise KeyboardInterrupt

        patch.setattr(fit.checkpoints, "save", stop)
        assert demo(name, tmp_path / "b", "--epochs", "3", digits=digits) == 130
    assert not (tmp_path / "b" / "metrics.json").exists()
    assert demo(name, tmp_path / "b", "--epochs", "3", "--resume", digits=digits) == 0
    a, b = metrics(tmp_path / "a"), metrics(tmp_path / "b")
    assert a["loss"] == b["loss"] and a["test_loss"] == b["test_loss"]


@pytest.mark.parametrize("name", TINY)
def test_the_checkpoint_of_another_model(name: str, tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(name, tmp_path, digits=digits) == 0
    assert demo(name, tmp_path, "--resume", "--hidden", "6", "--epochs", "2", digits=digits) == 2
    assert "does not belong to this model" in capsys.readouterr().err


@pytest.mark.parametrize("name", TINY)
def test_an_output_folder_that_is_a_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert demo(name, tmp_path / "file") == 2
    error = capsys.readouterr().err
    assert "--out" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("name", TINY)
def test_an_unknown_device(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(name, tmp_path, "--device", "abacus") == 2
    assert "--device abacus" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["glow", "vae-flow"])
def test_missing_and_damaged_data(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(name, tmp_path / "out", digits=tmp_path / "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err
    for part in ("train", "t10k"):
        write(tmp_path, part, torch.zeros(3, 784, dtype=torch.uint8), torch.arange(3))
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"not digits")
    assert demo(name, tmp_path / "out", digits=tmp_path) == 2
    assert "train-images-idx3-ubyte" in capsys.readouterr().err
    for part in ("train", "t10k"):
        write(tmp_path, part, torch.zeros(3, 64, dtype=torch.uint8), torch.arange(3))
    assert demo(name, tmp_path / "out", digits=tmp_path) == 2
    assert "64 pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("flow", ["--data", "sun"], "sun"),
        ("flow", ["--model", "diffusion"], "diffusion"),
        ("flow", ["--lr", "-1"], "positive number"),
        ("glow", ["--bits", "9"], "9"),
        ("glow", ["--levels", "7"], "7"),
        ("glow", ["--hidden", "8,8"], "positive integer"),
        ("vae-flow", ["--prior", "uniform"], "uniform"),
        ("vae-flow", ["--posterior", "glow"], "glow"),
        ("vae-flow", ["--epochs", "0"], "positive integer"),
        ("vae-flow", ["--seed", "-1"], "from 0"),
    ],
)
def test_unknown_options_and_bad_values(
    name: str, options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        demo(name, tmp_path, *options)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


# ---------------------------------------------------------------------- flow


@pytest.mark.parametrize(("model", "margin"), [("nsf", 0.5), ("nsf-ar", 0.5), ("realnvp", 0.0), ("maf", 0.0), ("nice", -0.1)])
def test_every_flow_learns(model: str, margin: float, tmp_path: Path) -> None:
    """Better than the normal distribution of the same mean and covariance; NICE, which keeps volumes, comes close to it."""
    options = ("--model", model, "--data", "eight_gaussians", "--epochs", "8", "--batch-size", "50", "--lr", "0.01")
    assert demo("flow", tmp_path, *options) == 0
    found = metrics(tmp_path)
    x = data.toy("eight_gaussians", 500, seed=1)["x"]
    normal = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov())
    assert found["test_log_likelihood_nats"] > float(normal.log_prob(x).mean()) + margin
    assert 0 < found["standard_error"] < 0.2 and found["best_possible_nats"] is None


def test_the_density_is_expanded_and_the_best_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo("flow", tmp_path, "--data", "checkerboard") == 0
    printed = capsys.readouterr().out
    assert "loss = -mean(log p(x))\n     = -mean(log p_z(f^-1(x))) - mean(log|det df^-1(x)/dx|)" in printed
    found = metrics(tmp_path)
    assert found["best_possible_nats"] == -math.log(32) >= found["test_log_likelihood_nats"]


def test_a_film_of_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo("flow", tmp_path, "--animate", "--epochs", "2") == 0
    assert (tmp_path / "training.gif").read_bytes().startswith(b"GIF8")
    assert "training.gif" in capsys.readouterr().out


def test_drawing_frames_does_not_change_the_training(tmp_path: Path) -> None:
    assert demo("flow", tmp_path / "a", "--epochs", "2") == 0
    assert demo("flow", tmp_path / "b", "--epochs", "2", "--animate") == 0
    assert metrics(tmp_path / "a")["loss"] == metrics(tmp_path / "b")["loss"]


# ---------------------------------------------------------------------- glow


def test_bits_per_dimension_and_edits_are_in_the_numbers(
    tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo("glow", tmp_path, "--bits", "3", "--epochs", "2", digits=digits) == 0
    found = metrics(tmp_path)
    nats, bits = found["test_loss"][-1], found["final_test_bits_per_dim"]
    assert bits == pytest.approx(nats / (784 * math.log(2)), rel=1e-5)
    assert found["pixels_restored"] > 0.99
    assert found["thickness"] == sorted(found["thickness"]) and len(found["thickness"]) == 5
    assert f"epoch 2: test {bits:.3f} bits per dimension" in capsys.readouterr().out


def test_slant_and_thickness() -> None:
    place = torch.arange(9.0)
    rows, cols = place[:, None], place[None, :]
    upright, right = (cols == 4).float().expand(9, 9), (cols == 8 - rows).float()
    images = torch.stack([upright, right, right.flip(1)])[:, None]
    torch.testing.assert_close(slant(images), torch.tensor([0.0, 1.0, -1.0]))
    torch.testing.assert_close(thickness(images), torch.full((3,), 9 / 81))


def test_a_direction_is_found_within_each_label() -> None:
    """Zeros are thicker than ones here, but noise follows the thickness within a label only."""
    y = torch.eye(2).repeat_interleave(50, 0)
    extra = torch.linspace(0, 1, 50).repeat(2)
    x = (extra + 5 * y[:, 0])[:, None, None, None].expand(100, 1, 4, 4)
    way = direction({"z": torch.stack([extra, y[:, 0]], 1)}, {"x": x, "y": y}, "thickness")
    torch.testing.assert_close(way["z"], torch.tensor([0.92, 0.0]), atol=0.03, rtol=0)


def test_noise_of_all_pieces_gives_the_image_back() -> None:
    p = build(16, 10, levels=3, steps=1, hidden=4, bits=4)
    values = {"x": torch.randint(0, 16, (6, 1, 16, 16)).float(), "y": torch.eye(10)[:6]}
    with torch.no_grad():
        noise = encode(p, values)
        assert len(noise) == 3 and sum(part[0].numel() for part in noise.values()) == 256
        assert (p.from_noise(noise, {"y": values["y"]}) == values["x"]).float().mean() > 0.99


# ---------------------------------------------------------------------- vae-flow


@pytest.mark.parametrize(
    ("prior", "posterior"),
    [("normal", "normal"), ("realnvp", "normal"), ("nsf", "iaf"), ("normal", "planar"), ("realnvp", "sylvester")],
)
def test_every_prior_and_every_posterior(prior: str, posterior: str, tmp_path: Path, digits: Path, capsys: Any) -> None:
    assert demo("vae-flow", tmp_path, "--prior", prior, "--posterior", posterior, "--z", "3", digits=digits) == 0
    assert "loss = mean(KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)])" in capsys.readouterr().out
    found = metrics(tmp_path)
    # E[importance-weighted bound] >= ELBO, and both are those of a nearly untrained model
    assert -found["test_negative_elbo_nats"] - 2 < found["test_log_likelihood_nats"] < 0
    assert 1 <= found["effective_samples"] <= 3
    assert not (tmp_path / "prior.png").exists()  # z has three dimensions


def test_two_priors_are_compared(tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo("vae-flow", tmp_path, "--compare", digits=digits) == 0
    found = metrics(tmp_path)
    assert list(found["compare"]) == ["normal", "nsf"]
    assert found["compare"]["nsf"]["test_negative_elbo_nats"] == found["test_negative_elbo_nats"]
    assert (tmp_path / "checkpoint-normal.pt").exists()
    log_p = {prior: numbers["test_log_likelihood_nats"] for prior, numbers in found["compare"].items()}
    assert found["gain_nats"] == pytest.approx(log_p["nsf"] - log_p["normal"], abs=1e-3)
    assert demo("vae-flow", tmp_path / "alone", "--prior", "normal", digits=digits) == 0
    alone = metrics(tmp_path / "alone")["test_negative_elbo_nats"]
    assert found["compare"]["normal"]["test_negative_elbo_nats"] == alone
