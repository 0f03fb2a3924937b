"""``python -m benchmarks``: the table of ratios to hand-written PyTorch."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import flows, memory, peers, report
from benchmarks.worker import WORKLOADS

NAMES = (*WORKLOADS, *memory.TITLES)
FLOWS = {workload.name for workload in flows.WORKLOADS} | set(flows.MEMORY)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Times and memory of probflow, as ratios to hand-written PyTorch."
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="thread counts (default: 1 2)")
    parser.add_argument("--workloads", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--steps", type=int, help="rounds of each workload, instead of its own number")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes, whose medians' median counts (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there")
    parser.add_argument("--quick", action="store_true", help="a few rounds in one process: shows only that it runs")
    parser.add_argument(
        "--no-peers",
        action="store_true",
        help="leave other libraries out: a large one between two small steps empties the caches for everybody",
    )
    return parser


def timed(names: list[str], threads: int, processes: int, options: list[str]) -> dict[str, dict[str, float]]:
    """Median of medians per workload and contestant; the order of turns is another in each process."""
    found: list[dict[str, dict[str, float]]] = []
    for seed in range(processes):
        print(f"{threads} thread(s), process {seed + 1} of {processes}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.worker", "--threads", str(threads), "--seed", str(seed)]
        command += [*options, "--workloads", *names]
        done = subprocess.run(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"the measurements stopped with exit status {done.returncode}; see above")
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return {
        name: {contestant: median(run[name][contestant] for run in found) for contestant in found[0][name]} for name in names
    }


def main(arguments: list[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    processes = 1 if args.quick else args.processes
    timing_names = [name for name in args.workloads if name in WORKLOADS]
    result: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
    options = (["--steps", str(args.steps)] if args.steps else []) + ["--quick"] * args.quick + ["--no-peers"] * args.no_peers
    for threads in args.threads:
        seconds = timed(timing_names, threads, processes, options) if timing_names else {}
        peaks = {name: memory.measure(name, processes, threads) for name in args.workloads if name in memory.TITLES}
        result[f"threads {threads}"] = {"seconds": seconds, "bytes": peaks}
        print(f"\n{threads} thread(s), torch {torch.__version__}, median of {processes} processes; ratios to the first column")
        # flows have other peers: a table of their own
        for of_flows in (False, True):
            timed_names = [name for name in timing_names if (name in FLOWS) is of_flows]
            rows = [row for name in timed_names for row in report.time_rows(WORKLOADS[name], seconds[name])]
            for name, found in peaks.items():
                if (name in FLOWS) is of_flows:
                    rows += report.memory_rows(memory.TITLES[name], found)
            if rows:
                print(report.table(rows) + "\n", flush=True)
    if not args.no_peers and any(load() is None for load in peers.ALL):
        print(f"\n{peers.INSTALL}")
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
