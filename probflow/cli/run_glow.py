"""``probflow demo glow``: learn images of digits by maximum likelihood, draw new ones, and edit old ones in the space of noise."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from probflow import data, viz
from probflow.cli.common import (
    CLASSES,
    PIXELS,
    SIDE,
    Run,
    add_digits_option,
    add_training_options,
    count,
    decay,
    introduce,
    source,
)
from probflow.cli.glow import build
from probflow.distributions import Flow
from probflow.losses import log
from probflow.models import Model
from probflow.transforms import bits_per_dim

MARGIN = 2  # black pixels around a digit: 32 x 32 can be halved more than twice
TEMPERATURES = (0.5, 0.7, 0.85, 1.0)
STRENGTHS = (-0.6, -0.3, 0.0, 0.3, 0.6)  # in steps from the tenth with the least to the tenth with the most
CLIP = 50.0  # of the gradient's norm
ENCODED = 2000  # digits whose noise the directions are found from


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the demo."""
    add_digits_option(parser)
    add_training_options(parser, "glow", 24, 32, 2e-3, 48)
    parser.add_argument("--levels", type=int, choices=(1, 2, 3, 4), default=3, help="scales")
    parser.add_argument("--steps", type=count, default=5, metavar="N", help="steps of the flow in each scale")
    parser.add_argument("--bits", type=int, choices=range(1, 9), default=4, metavar="1..8", help="bits per pixel, 8 at most")


def run(options: argparse.Namespace) -> None:
    """The whole demo."""
    this = Run(options)
    split = this.load_digits()
    train, test = _as_levels(split.train, options.bits), _as_levels(split.test, options.bits)

    p = build(SIDE + 2 * MARGIN, CLASSES, options.levels, options.steps, options.hidden, options.bits).to(this.device)
    loss = -log(p).mean()
    introduce([p], loss, loss.expand(), brief=True)
    weights = sum(weight.numel() for weight in p.parameters())
    print(f"{weights} weights, {len(train['x'])} digits to learn from, {len(test['x'])} to test on\n", flush=True)

    model = Model(loss, optimizer_params={"lr": options.lr}, scheduler=decay(options.epochs), clip_grad_norm=CLIP)
    batches = data.Batches(train, options.batch_size, seed=options.seed)
    checkpoint = this.checkpoint()
    held_out = data.Batches(test, 500, shuffle=False)
    model.fit(batches, options.epochs, held_out, [report_bits], checkpoint, this.resume)

    with model.evaluating(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pictures, measured = _pictures(p, train, test, options.bits, this.out)
    history = {name: [_bits(nats) for nats in model.history[name]] for name in ("loss", "test_loss")}
    curve = viz.loss_curve(history, title=f"{model.loss}, in bits per dimension")
    written = [checkpoint, viz.save(curve, this.out / "loss.png"), *pictures]
    numbers: dict[str, Any] = {
        "test_bits_per_dim": history["test_loss"],
        "final_test_bits_per_dim": history["test_loss"][-1],
        "bits": options.bits,
        "weights": weights,
        **measured,
        "digits": {"source": source(options), "train": len(train["x"]), "test": len(test["x"])},
    }
    written.append(this.write_metrics(model, options.epochs, numbers))
    bits = numbers["final_test_bits_per_dim"]
    print(f"\ntest: {bits:.3f} bits per dimension, pixels of {options.bits} bits, {model.epoch} epochs, {this.seconds:.0f} s")
    for name in ATTRIBUTES:
        shown = ", ".join(f"{strength:+.1f}: {value:.3f}" for strength, value in zip(STRENGTHS, measured[name], strict=True))
        print(f"{name} of edited test digits at strength {shown}")
    print("written:", *written, sep="\n  ")


def report_bits(model: Model, epoch: int, logs: Mapping[str, float]) -> None:
    """After an epoch: the test loss in bits per dimension."""
    print(f"epoch {epoch}: test {_bits(logs['test_loss']):.3f} bits per dimension", flush=True)


def _bits(nats: float) -> float:
    """Per pixel of the digit itself: those of the margin, which are known, do not make the number smaller."""
    return float(bits_per_dim(torch.tensor(-nats), PIXELS))


def _as_levels(values: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """Pixels 0 ... 2^bits - 1, with a margin: (N, 1, 32, 32)."""
    levels = (values["x"] * 255).round().div(2 ** (8 - bits)).floor().reshape(-1, 1, SIDE, SIDE)
    return {"x": pad(levels, (MARGIN,) * 4), "y": values["y"]}


# ---------------------------------------------------------------------- the space of noise


def thickness(x: Tensor) -> Tensor:
    """The mean of all pixels, (N,)."""
    return x.flatten(1).mean(1)


def slant(x: Tensor) -> Tensor:
    """How far a digit leans to the right: columns per row, from the second moments of its pixels, (N,)."""
    image = x.flatten(1, -3).mean(1) if x.dim() > 3 else x
    weight = image / image.sum((1, 2), keepdim=True).clamp(min=1e-6)
    rows = torch.arange(image.shape[1], dtype=x.dtype, device=x.device)[None, :, None]
    cols = torch.arange(image.shape[2], dtype=x.dtype, device=x.device)[None, None, :]
    row = rows - (weight * rows).sum((1, 2), keepdim=True)
    col = cols - (weight * cols).sum((1, 2), keepdim=True)
    return -(weight * row * col).sum((1, 2)) / (weight * row.square()).sum((1, 2)).clamp(min=1e-6)


ATTRIBUTES = {"thickness": thickness, "slant": slant}
"""Name -> what is measured."""

Noise = dict[str, Tensor]


def encode(p: Flow, values: Mapping[str, Tensor]) -> Noise:
    """All pieces of the noise of the images."""
    device = next(p.parameters()).device
    parts = [
        dict(p.to_noise({name: rows[name].to(device) for name in ("x", "y")}))
        for rows in data.Batches(values, 250, shuffle=False)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name not in ("x", "y")}


def direction(noise: Noise, values: Mapping[str, Tensor], name: str) -> Noise:
    """The mean noise of the tenth with the most of an attribute, minus that of the tenth with the least.

    Compared within each label, so that the direction is not one from ones to zeros.
    """
    label = values["y"].argmax(1)
    score = ATTRIBUTES[name](values["x"])
    for k in label.unique():
        score[label == k] -= score[label == k].mean()
    order, tenth = score.argsort(), max(1, len(score) // 10)
    return {key: (part[order[-tenth:]].mean(0) - part[order[:tenth]].mean(0)) for key, part in noise.items()}


def _pictures(
    p: Flow, train: Mapping[str, Tensor], test: Mapping[str, Tensor], bits: int, out: Path
) -> tuple[list[Path], dict[str, Any]]:
    device = next(p.parameters()).device
    labels = torch.eye(CLASSES, device=device)

    # new digits
    y = labels.repeat_interleave(5, 0)
    drawn = [p.tempered(temperature).sample({"y": y})["x"].unflatten(0, (CLASSES, 5)) for temperature in TEMPERATURES]
    columns = [str(t) if place == 2 else "" for t in TEMPERATURES for place in range(5)]
    title = "x ~ p(x|y): a label in every row, four temperatures"
    written = [_grid(torch.cat(drawn, 1), bits, columns, title, out / "samples.png", range(CLASSES))]

    # from one test digit to another, both labels on the way
    first = torch.stack([test["y"].argmax(1).eq(k).int().argmax() for k in range(CLASSES)])
    some = {name: test[name][first].to(device) for name in ("x", "y")}
    noise = encode(p, some)
    steps = torch.linspace(0, 1, 9, device=device)
    between = []
    for share in steps:
        mixed = {name: part.lerp(part.roll(-1, 0), float(share)) for name, part in noise.items()}
        between.append(p.from_noise(mixed, {"y": some["y"].lerp(some["y"].roll(-1, 0), float(share))}))
    columns = [f"{float(share):.2g}" for share in steps]
    title = "straight lines in the space of noise, from one test digit to the next"
    written.append(_grid(torch.stack(between, 1), bits, columns, title, out / "interpolations.png"))

    # edits: the noise plus a direction
    known = {name: train[name][:ENCODED] for name in ("x", "y")}
    codes = encode(p, known)
    edits, measured = [some["x"]], {}
    many = {name: test[name][:200].to(device) for name in ("x", "y")}
    many_noise = encode(p, many)
    for name in ATTRIBUTES:
        way = direction(codes, known, name)
        edits += [p.from_noise(_moved(noise, way, strength), {"y": some["y"]}) for strength in STRENGTHS]
        moved = [p.from_noise(_moved(many_noise, way, strength), {"y": many["y"]}) for strength in STRENGTHS]
        measured[name] = [float(ATTRIBUTES[name](x / (2**bits - 1)).mean()) for x in moved]
    columns = ["x", *(f"{s:+.1f}" for _ in ATTRIBUTES for s in STRENGTHS)]
    title = f"test digits, and the same with more or less {' | '.join(ATTRIBUTES)}"
    written.append(_grid(torch.stack(edits, 1), bits, columns, title, out / "edits.png"))
    back = p.from_noise(many_noise, {"y": many["y"]})
    return written, {**measured, "strengths": list(STRENGTHS), "pixels_restored": float((back == many["x"]).double().mean())}


def _moved(noise: Noise, way: Noise, strength: float) -> Noise:
    return {name: part + strength * way[name] for name, part in noise.items()}


def _grid(x: Tensor, bits: int, columns: Sequence[str], title: str, path: Path, rows: Sequence[object] | None = None) -> Path:
    """Images (rows, columns, 1, 32, 32) without their margin."""
    inner = slice(MARGIN, MARGIN + SIDE)
    images = x[..., inner, inner].flatten(0, 1) / (2**bits - 1)
    return viz.save(viz.image_grid(images, x.shape[0], x.shape[1], row_labels=rows, col_labels=columns, title=title), path)
