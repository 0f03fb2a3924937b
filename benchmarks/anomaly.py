"""Density-based anomaly detection on a real table: ``python -m benchmarks.anomaly``.

The Shuttle table (river) marks 7 % of its rows as anomalies.  A spline flow is fitted to half of the normal rows; log p tells
the anomalies from the other half.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io

import torch
from torch import Tensor

from benchmarks.tabular import SEED, TABLES, path
from probflow import Model, flows, log
from probflow.data import Batches


def auroc(normal: Tensor, anomalies: Tensor) -> float:
    """The probability that an anomaly has the larger score, ties counted half (the rank statistic of Mann and Whitney)."""
    scores = torch.cat([normal, anomalies]).double()
    order = scores.sort().values
    low, high = torch.searchsorted(order, scores), torch.searchsorted(order, scores, right=True)
    ranks = (low + high + 1).double() / 2
    n, m = len(normal), len(anomalies)
    return ((ranks[n:].sum() - m * (m + 1) / 2) / (n * m)).item()


def shuttle() -> tuple[Tensor, Tensor]:
    """The nine columns, and whether a row is an anomaly."""
    table = TABLES["shuttle"]
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path(table).read_bytes()).decode("utf-8"))))
    label = next(name for name in rows[0] if name not in table.steps)
    x = torch.tensor([[float(row[name]) for name in table.steps] for row in rows])
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(SEED))
    return x + noise, torch.tensor([float(row[label]) > 0 for row in rows])


def main() -> None:
    """Fit, score, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomaly")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    x, anomaly = shuttle()
    normal = x[~anomaly][torch.randperm(int((~anomaly).sum()))]
    train, held = normal.chunk(2)
    std, mean = torch.std_mean(train, 0)
    flow = flows.NSF("p(x)", features=9, layers=5, hidden=(64, 64), mixing="lu")
    model = Model(-log(flow).mean(), optimizer_params={"lr": 1e-3}, clip_grad_norm=5.0)
    model.fit(
        Batches({"x": (train - mean) / std}, batch_size=256, seed=arguments.seed), epochs=arguments.epochs, progress=False
    )
    with torch.no_grad():
        score = [-flow.log_prob({"x": ((part - mean) / std)}) for part in (held, x[anomaly])]
    print(f"shuttle: {len(held)} normal, {len(score[1])} anomalies, AUROC {auroc(*score):.4f}")
    print(f"held-out normal rows: {-score[0].mean().item():.3f} nats")


if __name__ == "__main__":
    main()
