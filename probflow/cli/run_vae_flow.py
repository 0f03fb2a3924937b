"""``probflow demo vae-flow``: a VAE on digits, with flows as prior and posterior; train, estimate log p(x), draw."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probflow import data, viz
from probflow.cli.common import (
    CLASSES,
    PIXELS,
    SPLIT_SEED,
    Binarized,
    Run,
    add_digits_option,
    add_training_options,
    count,
    decay,
    introduce,
    source,
)
from probflow.cli.vae_flow import POSTERIORS, PRIORS, VAE, build
from probflow.inference import importance
from probflow.models import Model

ESTIMATED = 1000  # test digits whose log p(x) is estimated


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the demo."""
    parser.add_argument("--prior", choices=tuple(PRIORS), default="nsf", help="p(z)")
    parser.add_argument("--posterior", choices=("normal", *POSTERIORS), default="normal", help="q(z|x)")
    add_digits_option(parser)
    add_training_options(parser, "vae-flow", 60, 128, 1e-3, (512, 512))
    parser.add_argument("--z", type=count, default=8, metavar="N", help="dimensions of z; with 2, the prior is drawn")
    parser.add_argument("--samples", type=count, default=200, metavar="N", help="draws per digit in the estimate of log p(x)")
    parser.add_argument("--compare", action="store_true", help="train a second time, with a normal prior, and compare")


def run(options: argparse.Namespace) -> None:
    """The whole demo."""
    this = Run(options)
    split = this.load_digits()
    # pixels are probabilities: training draws them anew in every epoch, the test set keeps one draw
    fixed = torch.Generator().manual_seed(SPLIT_SEED)
    test = {**split.test, "x": torch.bernoulli(split.test["x"], generator=fixed)}
    print(f"{len(split.train['x'])} digits to learn from, {len(test['x'])} to test on\n", flush=True)

    compared: dict[str, dict[str, float]] = {}
    log_p: dict[str, Tensor] = {}
    written: list[Path] = []
    other = "normal" if options.prior != "normal" else "nsf"
    if options.compare:
        torch.manual_seed(options.seed)
        parts, model, checkpoint = _train(this, other, split.train, test, f"checkpoint-{other}.pt")
        compared[other], log_p[other] = _numbers(parts, model, test, options.samples)
        written.append(checkpoint)
    torch.manual_seed(options.seed)  # the second training starts where the first did
    parts, model, checkpoint = _train(this, options.prior, split.train, test, "checkpoint.pt")
    found, log_p[options.prior] = _numbers(parts, model, test, options.samples)
    compared[options.prior] = found
    written += [checkpoint, *_pictures(parts, test, model, this.out)]
    metrics: dict[str, Any] = {
        "prior": options.prior,
        "posterior": options.posterior,
        **found,
        "importance_samples": options.samples,
        "digits": {"source": source(options), "train": len(split.train["x"]), "test": len(test["x"])},
    }
    if options.compare:
        gain = log_p[options.prior] - log_p[other]  # digit by digit: digits differ more than priors do
        metrics["compare"] = compared
        metrics["gain_nats"], metrics["gain_standard_error"] = _mean(gain)
    written.append(this.write_metrics(model, options.epochs, metrics))

    print(f"\n{'prior':10}{'test -ELBO':>12}{'log p(x)':>12}{'':4}nats per digit, {model.epoch} epochs, {this.seconds:.0f} s")
    for name, numbers in compared.items():
        shown = f"{numbers['test_log_likelihood_nats']:12.2f} ± {numbers['standard_error']:.2f}"
        print(f"{name:10}{numbers['test_negative_elbo_nats']:12.2f}{shown}")
    if options.compare:
        print(
            f"{options.prior} over {other}: {metrics['gain_nats']:+.2f} ± {metrics['gain_standard_error']:.2f} nats per digit"
        )
    print("written:", *written, sep="\n  ")


def _train(
    this: Run, prior: str, train: Mapping[str, Tensor], test: Mapping[str, Tensor], name: str
) -> tuple[VAE, Model, Path]:
    options = this.options
    parts = build(PIXELS, options.z, options.hidden, prior, options.posterior)
    introduce([part.to(this.device) for part in (parts.p, parts.q, parts.prior)], parts.loss, brief=True)
    model = Model(parts.loss, optimizer_params={"lr": options.lr}, scheduler=decay(options.epochs))
    batches = Binarized(data.Batches(train, options.batch_size, seed=options.seed))
    checkpoint = this.checkpoint(name)
    model.fit(batches, options.epochs, data.Batches(test, 1000, shuffle=False), checkpoint=checkpoint, resume=this.resume)
    return parts, model, checkpoint


def _numbers(parts: VAE, model: Model, test: Mapping[str, Tensor], samples: int) -> tuple[dict[str, float], Tensor]:
    """The bound over all test digits, and the importance-weighted estimate of log p(x) for the first 1,000, with each digit's."""
    device = next(parts.p.parameters()).device
    joint = parts.p * parts.prior
    rows = data.Batches({"x": test["x"][:ESTIMATED]}, 100, shuffle=False)
    with model.evaluating():
        estimates = [importance(joint, parts.q, {"x": row["x"].to(device)}, samples, chunk=50) for row in rows]
    log_p = torch.cat([estimate.log_evidence for estimate in estimates]).cpu()
    effective = torch.cat([estimate.effective_samples for estimate in estimates])
    mean, error = _mean(log_p)
    return {
        "test_negative_elbo_nats": model.history["test_loss"][-1],
        "test_log_likelihood_nats": mean,
        "standard_error": error,
        "effective_samples": float(effective.mean()),
    }, log_p


def _mean(values: Tensor) -> tuple[float, float]:
    """The mean, and its standard error."""
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


def _pictures(parts: VAE, test: Mapping[str, Tensor], model: Model, out: Path) -> list[Path]:
    device = next(parts.p.parameters()).device
    history = {name: model.history[name] for name in ("loss", "test_loss")}
    written = [viz.save(viz.loss_curve(history, title=str(parts.loss)), out / "loss.png")]
    with model.evaluating(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        z = parts.prior.sample(batch_n=100)
        grid = viz.image_grid(parts.p.mean(z), 10, 10, title="E[x|z], z ~ p(z)")
        written.append(viz.save(grid, out / "samples.png"))
        x = test["x"][:40].to(device)
        drawn = parts.q.sample({"x": x})
        pairs = viz.reconstructions(x, parts.p.mean(drawn), title="test digits, and E[x|z] with z ~ q(z|x)")
        written.append(viz.save(pairs, out / "reconstructions.png"))
        if z["z"].shape[-1] == 2:
            written.append(viz.save(_latent(parts, test, device), out / "prior.png"))
    return written


def _latent(parts: VAE, test: Mapping[str, Tensor], device: torch.device) -> Any:
    """p(z), its draws, and the aggregate posterior: q(z|x) over the test digits, coloured by their labels."""
    x, y = test["x"][:2000], test["y"][:2000].argmax(1)
    z = parts.q.sample({"x": x.to(device)})["z"]
    drawn = parts.prior.sample(batch_n=len(x))["z"]
    side = 1.1 * float(torch.cat([z, drawn]).abs().flatten().quantile(0.999))
    window = (-side, side, -side, side)
    axes = viz.panels(1, 3, size=4.5)
    viz.density(parts.prior, window=window, ax=axes[0], title="p(z)")
    viz.density(parts.prior, window=window, log=True, samples=drawn, ax=axes[1], title="log p(z), and samples")
    viz.scatter(z, y / CLASSES, window=window, ax=axes[2], title="z ~ q(z|x) of test digits, coloured by label")
    return axes[0]
