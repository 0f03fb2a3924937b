"""Peak memory of a workload's program, each in a process of its own: ``python -m benchmarks.memory WORKLOAD CONTESTANT``.

Two readings. The bytes of all tensors that are alive together at the worst moment, from torch's profiler: repeatable, so it
decides. And by how much the resident memory of the process grows at most, from the kernel: what is paid, with the noise of
the allocator.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import flows, sampled, vae
from benchmarks.networks import LARGE, SMALL, Parts
from benchmarks.timing import Contestant

STEPS = 3
CONTESTANTS = ("hand", "probflow")
TITLES = {
    "memory": "peak memory, VAE 784-512-512-64, train step",
    "memory-samples": "peak memory, E_q, 64 samples, same size, value",
    **flows.MEMORY,
}
TARGET = 1.05


def program(workload: str, contestant: str, small: bool = False) -> Contestant:
    """One program with its data, networks and optimizer."""
    if workload in flows.MEMORY:
        return flows.for_memory(workload, contestant, small)
    module = {"memory": vae, "memory-samples": sampled}[workload]
    make = {"hand": module.by_hand, "probflow": module.by_loss}[contestant]
    return make(Parts.make(SMALL if small else LARGE))


def tensor_peak(workload: str, contestant: str) -> int:
    """The bytes of the tensors alive at the worst moment, from making the networks to the end of the last step; of
    `flows.ACTIVATIONS`, less what is alive after it: weights, gradients and the optimizer's state.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        made = program(workload, contestant)
        for _ in range(STEPS):
            made.step()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak - live if workload in flows.ACTIVATIONS else peak


def resident_growth(workload: str, contestant: str) -> int | None:
    """By how many bytes the resident memory grows at most; None where the system does not tell."""
    # threads, kernels and imports of a first step are not the workload's; a small one leaves no free memory behind
    program(workload, contestant, small=True).step()
    before = _status("VmRSS")
    if before is None:
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts from here
    except OSError:
        return None
    made = program(workload, contestant)
    for _ in range(STEPS):
        made.step()
    peak = _status("VmHWM")
    return None if peak is None else peak - before


def _status(field: str) -> int | None:
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])


def measure(workload: str, processes: int, threads: int) -> dict[str, dict[str, float | None]]:
    """Median peaks of each contestant, in bytes, over fresh processes."""
    result: dict[str, dict[str, float | None]] = {}
    for contestant in CONTESTANTS:
        runs = [_in_a_process(workload, contestant, threads) for _ in range(processes)]
        resident = [run["resident"] for run in runs if run["resident"] is not None]
        result[contestant] = {
            "tensors": median(run["tensors"] or 0 for run in runs),
            "resident": median(resident) if resident else None,
        }
    return result


def _in_a_process(workload: str, contestant: str, threads: int) -> dict[str, int | None]:
    command = [sys.executable, "-m", "benchmarks.memory", workload, contestant, "--threads", str(threads)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("workload", choices=TITLES)
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # the process grows by weights and the optimizer's state too, which cannot be told from activations
    resident = None if args.workload in flows.ACTIVATIONS else resident_growth(args.workload, args.contestant)
    print(json.dumps({"resident": resident, "tensors": tensor_peak(args.workload, args.contestant)}))


if __name__ == "__main__":
    main()
