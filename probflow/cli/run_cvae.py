"""``probflow demo cvae``: load digits, train, draw pictures, write numbers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probflow import data, viz
from probflow.cli import cvae
from probflow.cli.common import (
    CLASSES,
    PIXELS,
    SPLIT_SEED,
    Binarized,
    Run,
    add_digits_option,
    add_training_options,
    count,
    introduce,
    source,
)
from probflow.models import Model

DEFAULT_EPOCHS = {"generate": 100, "predict": 15}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the demo."""
    parser.add_argument(
        "--task",
        choices=("generate", "predict"),
        default="generate",
        help="p(x|z,y), image from digit; or p(y|x,z), digit from image",
    )
    add_digits_option(parser)
    add_training_options(
        parser, "cvae", f"{DEFAULT_EPOCHS['generate']}, predict {DEFAULT_EPOCHS['predict']}", 128, 1e-3, (512, 512)
    )
    parser.add_argument("--z", type=count, default=6, metavar="N", help="dimensions of z")


def run(options: argparse.Namespace) -> None:
    """The whole demo."""
    this = Run(options)
    split = this.load_digits()
    train, test = split.train, split.test
    # pixels are probabilities: training draws them anew in every epoch, the test set keeps one draw
    fixed = torch.Generator().manual_seed(SPLIT_SEED)
    test["x"] = torch.bernoulli(test["x"], generator=fixed)

    build = cvae.generate if options.task == "generate" else cvae.predict
    parts = build(PIXELS, CLASSES, options.z, options.hidden)
    introduce([part.to(this.device) for part in (parts.p, parts.q, parts.prior)], parts.loss)
    print(f"{len(train['x'])} digits to learn from, {len(test['x'])} to test on\n", flush=True)

    model = Model(parts.loss, optimizer_params={"lr": options.lr})
    batches = Binarized(data.Batches(train, options.batch_size, seed=options.seed))
    held_out = data.Batches(test, 1000, shuffle=False)
    report = AccuracyReport(parts, {**train, "x": torch.bernoulli(train["x"], generator=fixed)}, test)
    epochs = getattr(options, "epochs", DEFAULT_EPOCHS[options.task])
    checkpoint = this.checkpoint()
    callbacks = [report] if options.task == "predict" else []
    model.fit(batches, epochs, held_out, callbacks, checkpoint, this.resume)

    written = [checkpoint, *_pictures(options.task, parts, test, model, this.out)]
    metrics: dict[str, Any] = {
        "task": options.task,
        "test_negative_elbo_nats": model.history["test_loss"][-1],
        "digits": {"source": source(options), "train": len(train["x"]), "test": len(test["x"])},
    }
    if options.task == "predict":
        metrics |= {name: model.history[name] for name in report.names}
        metrics |= {f"final_{name}": model.history[name][-1] for name in report.names}
    written.append(this.write_metrics(model, epochs, metrics))

    print(f"\ntest -ELBO: {metrics['test_negative_elbo_nats']:.2f} nats after {model.epoch} epochs, {this.seconds:.0f} s")
    if options.task == "predict":
        print(f"accuracy: train {metrics['final_train_accuracy']:.4f}, test {metrics['final_test_accuracy']:.4f}")
    print("written:", *written, sep="\n  ")


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
    written = [viz.save(viz.loss_panels(history, title=str(parts.loss)), out / "loss.png")]
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
                title="E[x|z,y], z ~ N(0, I): a label in every row, a z in every column",
            )
            written.append(viz.save(grid, out / "generated.png"))
            rows = {name: value[:40].to(device) for name, value in test.items()}
            z_mean = parts.q.mean(rows)
            pairs = viz.reconstructions(
                rows["x"], parts.p.mean({**rows, "z": z_mean}), title="test digits, and E[x|z,y] at the mean of q(z|x,y)"
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
