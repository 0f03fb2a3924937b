"""One process of measurements: ``python -m benchmarks.worker --threads 1 --workloads small``; prints JSON, seconds per step."""

from __future__ import annotations

import argparse
import json
import sys

import torch

from benchmarks import flows, mixture, peers, planning, sampled, vae
from benchmarks.timing import Contestant, Workload, time_turns

WORKLOADS: dict[str, Workload] = {
    workload.name: workload for module in (vae, sampled, mixture, planning, flows) for workload in module.WORKLOADS
}
QUICK_STEPS = 10


def measure(workload: Workload, steps: int | None, quick: bool, seed: int, with_peers: bool = True) -> dict[str, float]:
    """Agreement first, then the median seconds of each contestant."""

    def contestants() -> list[Contestant]:
        return [contestant for contestant in workload.make() if with_peers or contestant.name not in peers.NAMES]

    workload.agree(contestants())
    rounds = steps or (QUICK_STEPS if quick else workload.steps)
    return time_turns(contestants(), rounds, seed)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure workloads in this process; print JSON.")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    found = {}
    for name in args.workloads:
        print(f"  {WORKLOADS[name].title} ...", file=sys.stderr, flush=True)
        found[name] = measure(WORKLOADS[name], args.steps, args.quick, args.seed, not args.no_peers)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
