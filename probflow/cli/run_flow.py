"""``probflow demo flow``: learn a density on the plane by maximum likelihood, and draw it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from probflow import data, viz
from probflow.cli.common import SPLIT_SEED, Run, add_training_options, count, decay, introduce
from probflow.cli.flow import MODELS
from probflow.distributions import Flow
from probflow.losses import log
from probflow.models import Model

TEST_POINTS = 10_000
KNOWN_ENTROPY = {"checkerboard": math.log(32.0)}  # uniform on an area of 32
RESOLUTION = 200  # pixels along one side of a field
CLIP = 5.0  # of the gradient's norm: edges of a density make rare, steep steps


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the demo."""
    parser.add_argument("--data", choices=tuple(data.TOYS), default="moons", help="the density that the points come from")
    parser.add_argument("--model", choices=tuple(MODELS), default="nsf", help="the flow")
    parser.add_argument("--points", type=count, default=50_000, metavar="N", help="points to learn from")
    add_training_options(parser, "flow", 40, 500, 3e-3, (64, 64))
    parser.add_argument("--animate", action="store_true", help="also write training.gif, one picture per epoch")


def run(options: argparse.Namespace) -> None:
    """The whole demo."""
    this = Run(options)
    # points to learn from and to test on are the same for every --seed
    train = data.toy(options.data, options.points, seed=SPLIT_SEED)
    test = data.toy(options.data, TEST_POINTS, seed=SPLIT_SEED + 1)

    p = MODELS[options.model](options.hidden).to(this.device)
    loss = -log(p).mean()
    introduce([p], loss, loss.expand())
    print(f"{options.points} points to learn from, {TEST_POINTS} to test on\n", flush=True)

    model = Model(loss, optimizer_params={"lr": options.lr}, scheduler=decay(options.epochs), clip_grad_norm=CLIP)
    batches = data.Batches(train, options.batch_size, seed=options.seed)
    film = Film(p)
    checkpoint = this.checkpoint()
    callbacks = [film] if options.animate else []
    model.fit(batches, options.epochs, data.Batches(test, 5000, shuffle=False), callbacks, checkpoint, this.resume)

    with torch.no_grad():
        log_prob = torch.cat([p.log_prob(_to(rows, this.device)) for rows in data.Batches(test, 5000, shuffle=False)])
    mean, error = float(log_prob.mean()), float(log_prob.std() / math.sqrt(len(log_prob)))
    written = [checkpoint, *_pictures(p, test, model, this.out, f"{options.model} on {options.data}")]
    if options.animate and film.frames:
        written.append(viz.animation(film.frames, this.out / "training.gif", extent=viz.WINDOW))
    known = KNOWN_ENTROPY.get(options.data)
    numbers = {
        "density": options.data,
        "model": options.model,
        "weights": sum(weight.numel() for weight in p.parameters()),
        "test_log_likelihood_nats": mean,
        "standard_error": error,
        "best_possible_nats": None if known is None else -known,
        "points": {"train": options.points, "test": TEST_POINTS},
    }
    written.append(this.write_metrics(model, options.epochs, numbers))
    best = "" if known is None else f" (the true density: {-known:.4f})"
    print(f"\ntest log-likelihood: {mean:.4f} ± {error:.4f} nats per point{best}, {model.epoch} epochs, {this.seconds:.0f} s")
    print("written:", *written, sep="\n  ")


class Film:
    """After an epoch: the density on a grid, kept as a picture."""

    def __init__(self, p: Flow) -> None:
        self.p = p
        self.frames: list[Tensor] = []

    def __call__(self, model: Model, epoch: int, logs: Mapping[str, float]) -> None:
        self.frames.append(viz.log_density_grid(self.p, resolution=RESOLUTION).exp())


def _pictures(p: Flow, test: Mapping[str, Tensor], model: Model, out: Path, title: str) -> list[Path]:
    history = {name: model.history[name] for name in ("loss", "test_loss")}
    written = [viz.save(viz.loss_curve(history, title=str(model.loss)), out / "loss.png")]
    device = next(p.parameters()).device
    with torch.no_grad():
        steps = viz.layers_to_draw(p, 8)
        axes = viz.panels(math.ceil((4 + len(steps)) / 4), 4, title=title)
        x = test["x"][:3000]
        samples = p.sample(batch_n=3000)["x"]
        viz.scatter(x, ax=axes[0], title="data")
        viz.density(p, resolution=RESOLUTION, ax=axes[1], title="p(x)")
        viz.density(p, resolution=RESOLUTION, log=True, ax=axes[2], samples=samples[:1000], title="log p(x), and samples")
        noise = p.to_noise({"x": x.to(device)})["z"]
        viz.scatter(noise, colors=viz.angles(x), rings=(1, 2, 3), ax=axes[3], title="noise <- data, coloured by angle of x")
        for step, ax in zip(steps, axes[4:], strict=False):
            viz.warped_grid(p, step, ax=ax, title="noise z" if step == 0 else f"after layer {step} of {steps[-1]}")
        for ax in axes[4 + len(steps) :]:
            ax.set_axis_off()
    return [viz.save(axes[0], out / "density.png"), *written]


def _to(values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in values.items()}
