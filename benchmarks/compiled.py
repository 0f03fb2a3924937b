"""A training step under ``torch.compile``: ``python -m benchmarks.compiled`` prints times and ratios to the hand-written step.

Contestants: the hand-written step, eager; its loss compiled by ``torch.compile``, with the optimizer fused; probflow's ``loss.compile()``
with the same lines around it; ``Model(compile=True)``, whose step is one graph.  All draw the same noise and must give the same losses.
The last columns are what is paid before: the seconds of the first three steps, compilation included.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import flows
from benchmarks.networks import LARGE, LARGE_LABELLED, LEARNING_RATE, SMALL, Parts, Size
from benchmarks.timing import Contestant, argument_checks, same_losses, time_turns
from probflow.distributions import Bernoulli, Normal
from probflow.losses import IWAE, KL, E, Loss, log
from probflow.models import Model

SAMPLES = 64
COLD = 3
"""So many steps: probflow's first one is eager."""


@dataclass(frozen=True)
class Program:
    """One objective written by hand and in probflow, with the same weights."""

    hand: Callable[[Tensor], Tensor]
    hand_weights: list[nn.Parameter]
    loss: Loss
    values: dict[str, Tensor]

    @property
    def x(self) -> Tensor:
        """The data."""
        return self.values["x"]


def _statements(parts: Parts) -> tuple[Bernoulli, Normal, Normal]:
    bar = ", y" if parts.size.label else ""
    prior = Normal("p(z)", loc=0.0, scale=1.0, features_shape=parts.size.latent)
    return Bernoulli(f"p(x | z{bar})", parts.decoder), Normal(f"q(z | x{bar})", parts.encoder), prior


def vae(size: Size, samples: int = 0) -> Program:
    """A VAE or CVAE with one draw, or with the mean over `samples` draws."""
    parts = Parts.make(size)
    mine = parts.copy()
    shape = (samples,) if samples else ()

    def hand(x: Tensor) -> Tensor:
        q = parts.encoder(x, *parts.given)
        loc, scale = q["loc"], q["scale"]
        z = loc + scale * torch.randn(*shape, *scale.shape)
        logits = parts.decoder(z, *parts.given)["logits"]
        reconstruction = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="sum") / max(samples, 1)
        divergence = 0.5 * (loc.square() + scale.square() - 1 - 2 * scale.log()).sum()
        return (reconstruction + divergence) / x.shape[0]

    p, q, prior = _statements(mine)
    return Program(hand, parts.parameters, (KL(q, prior) - E(q, sample_shape=shape)[log(p)]).mean(), parts.values)


def iwae(size: Size, samples: int) -> Program:
    """The importance-weighted bound with `samples` draws (arXiv:1509.00519, eq. 8)."""
    parts = Parts.make(size)
    mine = parts.copy()

    def hand(x: Tensor) -> Tensor:
        q = parts.encoder(x)
        loc, scale = q["loc"], q["scale"]
        noise = torch.randn(samples, *scale.shape)
        z = loc + scale * noise
        logits = parts.decoder(z)["logits"]
        log_p = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        log_ratio = (0.5 * (noise.square() - z.square()) + scale.log()).sum(-1)
        return ((log_p + log_ratio).logsumexp(0) - math.log(samples)).mean()

    p, q, prior = _statements(mine)
    return Program(hand, parts.parameters, IWAE(p * prior, q, samples=samples).mean(), parts.values)


def flow(name: str) -> Program:
    """The negative log-likelihood of a flow of the other benchmarks."""
    size = flows.SIZES[name]
    hand, ours = flows.networks(name.split("-")[0], size)
    return Program(lambda x: -hand.log_prob(x).mean(), [*hand.parameters()], -log(ours).mean(), {"x": flows.batch(size)})


@dataclass(frozen=True)
class Row:
    """A workload: its title, its program, the ratio that `Model(compile=True)` (or the compiled value) must reach."""

    title: str
    make: Callable[[], Program]
    target: float | None = None
    value_only: bool = False


PROGRAMS = {
    "vae": Row("VAE 784-512-512-64, batch 128", partial(vae, LARGE), 0.87),
    "cvae": Row("CVAE 784-512-512-64, batch 128", partial(vae, LARGE_LABELLED), 0.87),
    "small": Row("small VAE 16-32-4, batch 32", partial(vae, SMALL), 0.32),
    "sampled": Row(f"small VAE, E_q with {SAMPLES} samples", partial(vae, SMALL, SAMPLES)),
    "iwae-small": Row(f"IWAE, K = {SAMPLES}, small, value", partial(iwae, SMALL, SAMPLES), 0.75, value_only=True),
    "iwae-large": Row(f"IWAE, K = {SAMPLES}, large, value", partial(iwae, LARGE, SAMPLES), 0.85, value_only=True),
    **{
        name: Row(f"{flows.TITLES[name.split('-')[0]]}, {name.split('-')[1]}-D", partial(flow, name), target)
        for name, target in [
            ("realnvp-8", 0.52), ("realnvp-64", 0.52), ("maf-8", 0.55), ("maf-64", 0.55), ("nsf-8", 0.48), ("nsf-64", 0.48)
        ]
    },
    "glow": Row("Glow 3×32×32, 2 levels of 4", partial(flow, "glow"), 0.75),
}  # fmt: skip


def _training(name: str, value: Callable[[], Tensor], weights: Sequence[nn.Parameter], **options: Any) -> Contestant:
    optimizer = torch.optim.Adam(list(weights), lr=LEARNING_RATE, **options)

    def step() -> Tensor:
        loss = value()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Contestant(name, step, checked=False)


def contestants(row: Row, backend: str) -> list[Contestant]:
    """Each with a copy of the weights of its own."""
    torch._dynamo.reset()
    mode: dict[str, Any] = (
        {"backend": backend, "options": {"fallback_random": True}} if backend == "inductor" else {"backend": backend}
    )
    eager, compiled, ours, whole = (row.make() for _ in range(4))
    with argument_checks(False):
        graph = torch.compile(compiled.hand, fullgraph=True, **mode)
    own = ours.loss.compile(backend=backend)
    if row.value_only:
        value = torch.no_grad()
        return [
            Contestant("hand", value(lambda: eager.hand(eager.x)), checked=False),
            Contestant("hand, compiled", value(lambda: graph(compiled.x)), checked=False),
            Contestant("loss.compile()", value(lambda: own(ours.values)), checked=False),
        ]
    model = Model(whole.loss, optimizer_params={"lr": LEARNING_RATE}, compile={"backend": backend})
    return [
        _training("hand", lambda: eager.hand(eager.x), eager.hand_weights),
        _training("hand, compiled", lambda: graph(compiled.x), compiled.hand_weights, fused=True),
        _training("loss.compile()", lambda: own(ours.values), list(ours.loss.parameters()), fused=True),
        Contestant("Model(compile=True)", lambda: model.train(whole.values), checked=False),
    ]


def cold(made: Sequence[Contestant]) -> dict[str, float]:
    """Seconds of the first steps of each; all draw the same noise."""
    seconds = {}
    for contestant in made:
        torch.manual_seed(0)
        start = time.perf_counter()
        with argument_checks(contestant.checked):
            for _ in range(COLD):
                contestant.once()
        seconds[contestant.name] = time.perf_counter() - start
    return seconds


COMPILED = ("hand, compiled", "loss.compile()", "Model(compile=True)")


def line(row: Row, seconds: dict[str, float], first: dict[str, float]) -> str:
    """Microseconds by hand, ratios to it, the ratio to reach, and the seconds of the first steps."""
    hand = seconds["hand"]
    ratios = [f"{seconds[name] / hand:.3f}" if name in seconds else "" for name in COMPILED]
    target = "" if row.target is None else f"{row.target:.2f}"
    waits = [f"{first[name]:.0f} s" if name in first else "" for name in COMPILED]
    return "".join(
        [
            f"{row.title:<36}{1e6 * hand:>9.0f} us",
            *(f"{cell:>20}" for cell in ratios),
            f"{target:>8}",
            *(f"{wait:>8}" for wait in waits),
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300, help="rounds of each workload, of Glow a tenth (default: 300)")
    parser.add_argument("--workloads", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--backend", default="inductor", help="of torch.compile; 'eager' only shows that it runs")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    print(f"train step, {args.threads} thread(s), torch {torch.__version__}; ratios to the first column")
    print(
        f"{'':<36}{'hand':>12}"
        + "".join(f"{name:>20}" for name in COMPILED)
        + f"{'target':>8}{'cold: the first ' + str(COLD) + ' steps':>24}"
    )
    for name in args.workloads:
        row = PROGRAMS[name]
        made = contestants(row, args.backend)
        first = cold(made)
        same_losses(made)
        rounds = max(2, args.steps // 10) if name in ("glow", "iwae-large") else args.steps
        print(line(row, time_turns(made, rounds), first), flush=True)


if __name__ == "__main__":
    main()
