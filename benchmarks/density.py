"""Density estimation on real tables: ``python -m benchmarks.density --data diamonds shuttle`` (see ``--help``).

Every library gets the same sizes, the same batches in the same order, Adam with the same cosine schedule, the same clipping of
the gradient, and early stopping by the same rule; each starts as it does by itself.  What cannot be made the same is said in
`flow_peers`.  Printed is the mean log-likelihood of the test rows, in nats, ± the standard error over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor

from benchmarks import flow_peers, tabular
from benchmarks.flow_networks import Size
from benchmarks.flow_peers import Peer
from benchmarks.flows import KINDS
from benchmarks.tabular import TABLES, Split
from benchmarks.timing import CHECKED, argument_checks

LAYERS = {"realnvp": 8, "maf": 5, "nsf": 5}
LIBRARIES = ("probflow", "zuko", "nflows", "normflows", "FrEIA", "Pyro")
CHUNK = 10_000


@dataclass(frozen=True)
class Plan:
    """How every library is trained."""

    steps: int
    batch: int
    rate: float
    clip: float
    every: int
    patience: int


@dataclass(frozen=True)
class Result:
    """One training: mean log-likelihoods in nats, of the weights that were best on the validation rows."""

    data: str
    model: str
    library: str
    seed: int
    validation: float
    test: float
    best_step: int
    last_step: int
    seconds: float
    weights: int


def build(model: str, library: str, size: Size) -> Peer | None:
    """A flow of the library; None where it is not installed, or has no such flow."""
    if library == "probflow":
        flow = KINDS[model].ours(size)
        return Peer(
            lambda x: flow.log_prob({"x": x}), lambda count: flow.sample(batch_n=count)["x"], [*flow.parameters()], CHECKED
        )
    return flow_peers.build(model, library, size)


@torch.no_grad()
def likelihood(log_prob: Callable[[Tensor], Tensor], rows: Tensor) -> float:
    """The mean log-likelihood; minus infinity where any is not a number."""
    found = torch.cat([log_prob(part) for part in rows.split(CHUNK)]).double().mean().item()
    return -math.inf if math.isnan(found) else found


def train(flow: Peer, split: Split, plan: Plan, seed: int) -> tuple[float, float, int, int]:
    """Validation and test log-likelihood of the weights that were best on the validation rows, their step, and the last one."""
    optimizer = torch.optim.Adam(flow.parameters, lr=plan.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.steps)
    rows = torch.Generator().manual_seed(seed)
    best, best_step, kept, step = -math.inf, 0, [p.detach().clone() for p in flow.parameters], 0
    for step in range(1, plan.steps + 1):
        chosen = torch.randint(len(split.train), (plan.batch,), generator=rows)
        loss = -flow.log_prob(split.train[chosen]).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(flow.parameters, plan.clip)
        if not bool(norm.isfinite()):
            break  # diverged: what was best so far counts
        optimizer.step()
        schedule.step()
        if step % plan.every == 0 or step == plan.steps:
            found = likelihood(flow.log_prob, split.validation)
            if found > best:
                best, best_step, kept = found, step, [p.detach().clone() for p in flow.parameters]
            elif step - best_step >= plan.patience * plan.every:
                break
    with torch.no_grad():
        for parameter, value in zip(flow.parameters, kept, strict=True):
            parameter.copy_(value)
    return best, likelihood(flow.log_prob, split.test), best_step, step


def table(results: list[Result]) -> str:
    """One line per data set and model, one column per library."""
    libraries = [name for name in LIBRARIES if any(result.library == name for result in results)]
    lines = [["data", "model", *libraries]]
    for data, model in dict.fromkeys((result.data, result.model) for result in results):
        cells = []
        for library in libraries:
            found = [r.test for r in results if (r.data, r.model, r.library) == (data, model, library)]
            known = len(found) > 1 and all(map(math.isfinite, found))
            error = f" ± {stdev(found) / math.sqrt(len(found)):.3f}" if known else ""
            cells.append(f"{mean(found):.3f}{error}" if found else "")
        lines.append([data, model, *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([shown[0], "  ".join("-" * width for width in widths), *shown[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.density", description="Test log-likelihood of flows on real tables, library by library."
    )
    parser.add_argument("--data", nargs="+", choices=TABLES, default=list(TABLES), metavar="NAME", help=", ".join(TABLES))
    parser.add_argument("--models", nargs="+", choices=LAYERS, default=list(LAYERS), metavar="NAME", help=", ".join(LAYERS))
    parser.add_argument(
        "--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES[:3]), metavar="NAME", help=", ".join(LIBRARIES)
    )
    parser.add_argument("--steps", type=int, default=20_000, help="training steps (default: 20000)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each; their standard error is shown (default: 3)")
    parser.add_argument("--batch", type=int, default=512, help="rows per step (default: 512)")
    parser.add_argument("--rate", type=float, default=1e-3, help="Adam's first learning rate; cosine to 0 (default: 0.001)")
    parser.add_argument("--clip", type=float, default=5.0, help="norm at which the gradient is clipped (default: 5)")
    parser.add_argument("--every", type=int, default=250, help="steps between two looks at the validation rows (default: 250)")
    parser.add_argument("--patience", type=int, default=20, help="looks without improvement before it stops (default: 20)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there, after each training")
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    plan = Plan(args.steps, args.batch, args.rate, args.clip, args.every, args.patience)
    results: list[Result] = []
    for data in args.data:
        split = tabular.load(data)
        for model in args.models:
            size = Size(split.features, LAYERS[model])
            for seed in range(args.seeds):
                for library in args.libraries:
                    torch.manual_seed(seed)
                    flow = build(model, library, size)
                    if flow is None:
                        continue
                    start = time.perf_counter()
                    with argument_checks(flow.checked):
                        validation, test, best_step, last_step = train(flow, split, plan, seed)
                    weights = sum(p.numel() for p in flow.parameters)
                    seconds = time.perf_counter() - start
                    results.append(Result(data, model, library, seed, validation, test, best_step, last_step, seconds, weights))
                    print(
                        f"{data} {model} {library} seed {seed}: test {test:.3f}, validation {validation:.3f} at step "
                        f"{best_step} of {last_step}; {seconds:.0f} s, {weights:,} weights",
                        file=sys.stderr,
                        flush=True,
                    )
                    if args.json is not None:
                        args.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    print(f"Mean log-likelihood of the test rows, nats, higher is better; ± standard error of {args.seeds} seeds")
    print(table(results) if results else "nothing to show: none of these libraries is installed, or has these flows")


if __name__ == "__main__":
    main()
