"""The six toy densities and what a spline flow makes of them: ``python -m benchmarks.toys --out toys.png``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from probflow import Model, flows, log, viz
from probflow.data import TOYS, Batches, toy


def main() -> None:
    """One row of pictures for the data, one for the densities; a line of test log-likelihoods for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toys")
    parser.add_argument("--out", type=Path, default=Path("toys.png"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    axes = viz.panels(2, len(TOYS), size=2.2)
    for place, name in enumerate(sorted(TOYS)):
        torch.manual_seed(0)
        train, test = toy(name, 20_000, seed=1), toy(name, 10_000, seed=2)
        flow = flows.NSF("p(x)", features=2, layers=5, bins=12, hidden=(64, 64), mixing="lu")
        model = Model(-log(flow).mean(), optimizer_params={"lr": 2e-3}, clip_grad_norm=5.0)
        batches = Batches(train, batch_size=400, seed=0)
        model.fit(batches, epochs=math.ceil(arguments.steps * 400 / 20_000), progress=False)
        with torch.no_grad():
            found = flow.log_prob(test)
        print(f"{name:<16} {found.mean().item():.4f} ± {found.std().item() / math.sqrt(len(found)):.4f} nats", flush=True)
        viz.scatter(test["x"][:3000], ax=axes[place], title=name)
        viz.density(flow, ax=axes[len(TOYS) + place], title="")
    viz.save(axes[0], arguments.out)


if __name__ == "__main__":
    main()
