"""Bits per dimension on MNIST, and which images are no digits: ``python -m benchmarks.images --data FOLDER`` (see ``--help``).

RealNVP and Glow of as many weights, the same batches in the same order, the same optimizer and steps.  Pixels 0 ... 255 are
dequantised with uniform noise and put on the real line (logit, alpha = 0.05); the log-likelihood is a lower bound in expectation.
With Fashion-MNIST in the same folder, the area under the ROC curve of log p for telling test digits from clothes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.anomaly import auroc
from probflow import Flow, flows, log
from probflow.data import load_mnist
from probflow.transforms import bits_per_dim

SHAPE = (1, 28, 28)
CHUNK = 250


def weights(flow: Flow) -> int:
    """The number of trained numbers."""
    return sum(p.numel() for p in flow.parameters())


def build(model: str, steps: int, hidden: int) -> Flow:
    """Glow of two scales with `steps` steps and `hidden` channels, or the RealNVP nearest to it in the number of weights."""
    glow = flows.Glow("p(x)", shape=SHAPE, levels=2, steps=steps, hidden=hidden, bits=8)
    if model == "glow":
        return glow
    low, high = 4, 8 * hidden  # weights grow with the width: halve the interval
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if weights(_real_nvp(middle)) <= weights(glow) else (low, middle)
    return _real_nvp(low)


def _real_nvp(width: int) -> Flow:
    return flows.RealNVP("p(x)", shape=SHAPE, levels=2, hidden=(width,), bits=8)


def train(flow: Flow, x: Tensor, steps: int, batch: int, rate: float, seed: int) -> None:
    """Adam with a short warm-up and a cosine, the gradient clipped to norm 50."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(flow.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1.0, (k + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(1.0, k / steps)))
    )
    loss = -log(flow).mean()
    flow.train()
    for step in range(steps):
        rows = torch.randint(len(x), (batch,), generator=generator)
        optimizer.zero_grad()
        value = loss.eval({"x": x[rows]})
        value.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 50.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"    step {step + 1}: {bits_per_dim(-value.detach()[None], SHAPE).item():.3f} bits/dim", file=sys.stderr)


@torch.no_grad()
def likelihoods(flow: Flow, x: Tensor) -> Tensor:
    """log p of every image, in nats."""
    flow.eval()
    return torch.cat([flow.log_prob({"x": part}) for part in x.split(CHUNK)])


def main() -> None:
    """Train, evaluate, print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST/raw and FashionMNIST/raw")
    parser.add_argument("--models", nargs="+", default=["realnvp", "glow"], choices=["realnvp", "glow"])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=7e-3)
    parser.add_argument("--depth", type=int, default=16, help="steps of Glow at each of the two scales")
    parser.add_argument("--hidden", type=int, default=24, help="channels inside Glow's couplings")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test", type=int, default=2000, help="how many test images")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = load_mnist(arguments.data)
    x, test = (255 * data.train["x"]).round().reshape(-1, *SHAPE), (255 * data.test["x"]).round().reshape(-1, *SHAPE)
    test = test[: arguments.test]
    fashion = arguments.data / "FashionMNIST"
    clothes = None
    if fashion.exists():
        from probflow.data import read_idx

        found = next(p for p in (fashion / "raw").iterdir() if p.name.startswith("t10k-images"))
        clothes = read_idx(found).float().reshape(-1, *SHAPE)[: arguments.test]
    rows = []
    for model in arguments.models:
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            flow, start = build(model, arguments.depth, arguments.hidden), time.perf_counter()
            train(flow, x, arguments.steps, arguments.batch, arguments.rate, seed)
            digits = likelihoods(flow, test)
            bits = bits_per_dim(digits, SHAPE)
            area = math.nan if clothes is None else auroc(-digits, -likelihoods(flow, clothes))
            row = {
                "model": model,
                "weights": weights(flow),
                "seed": seed,
                "bits/dim": bits.mean().item(),
                "error": bits.std().item() / math.sqrt(len(bits)),
                "auroc": area,
                "seconds": time.perf_counter() - start,
            }
            rows.append(row)
            print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
