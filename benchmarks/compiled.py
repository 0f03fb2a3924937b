"""A training step under ``torch.compile``: ``python -m benchmarks.compiled`` prints times and ratios to the hand-written step.

Contestants: the hand-written step, eager; its loss compiled by ``torch.compile``, with the optimizer fused; probflow's ``loss.compile()``
with the same lines around it; ``Model(compile=True)``, whose step is one graph.  All draw the same noise and must give the same losses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import flow_networks, flows
from benchmarks.networks import LARGE, LEARNING_RATE, SMALL, Parts, Size
from benchmarks.timing import Contestant, argument_checks, same_losses, time_turns
from probflow.distributions import Bernoulli, Normal
from probflow.losses import KL, E, Loss, log
from probflow.models import Model

SAMPLES = 64


@dataclass(frozen=True)
class Program:
    """One objective written by hand and in probflow, with the same weights."""

    hand: Callable[[Tensor], Tensor]
    hand_weights: list[nn.Parameter]
    loss: Loss
    x: Tensor


def vae(size: Size, samples: int = 0) -> Program:
    """A VAE with one draw, or with the mean over `samples` draws."""
    parts = Parts.make(size)
    mine = parts.copy()
    shape = (samples,) if samples else ()

    def hand(x: Tensor) -> Tensor:
        q = parts.encoder(x)
        loc, scale = q["loc"], q["scale"]
        z = loc + scale * torch.randn(*shape, *scale.shape)
        logits = parts.decoder(z)["logits"]
        reconstruction = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="sum") / max(samples, 1)
        divergence = 0.5 * (loc.square() + scale.square() - 1 - 2 * scale.log()).sum()
        return (reconstruction + divergence) / x.shape[0]

    q, p = Normal("q(z | x)", mine.encoder), Bernoulli("p(x | z)", mine.decoder)
    prior = Normal("p(z)", loc=0.0, scale=1.0, features_shape=size.latent)
    return Program(hand, parts.parameters, (KL(q, prior) - E(q, sample_shape=shape)[log(p)]).mean(), parts.x)


def realnvp() -> Program:
    """RealNVP, 64-D, 8 couplings."""
    size = flow_networks.Size(64, 8)
    hand, ours = flows.networks("realnvp", size)
    return Program(lambda x: -hand.log_prob(x).mean(), [*hand.parameters()], -log(ours).mean(), flows.batch(size))


PROGRAMS: dict[str, tuple[str, Callable[[], Program]]] = {
    "vae": ("VAE 784-512-512-64, batch 128", partial(vae, LARGE)),
    "small": ("small VAE 16-32-4, batch 32", partial(vae, SMALL)),
    "sampled": (f"small VAE, E_q with {SAMPLES} samples", partial(vae, SMALL, SAMPLES)),
    "realnvp": ("RealNVP 64-D, 8 couplings", realnvp),
}


def _training(name: str, value: Callable[[], Tensor], weights: Sequence[nn.Parameter], **options: Any) -> Contestant:
    optimizer = torch.optim.Adam(list(weights), lr=LEARNING_RATE, **options)

    def step() -> Tensor:
        loss = value()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Contestant(name, step, checked=False)


def contestants(make: Callable[[], Program], backend: str) -> list[Contestant]:
    """Each with a copy of the weights of its own."""
    torch._dynamo.reset()
    mode: dict[str, Any] = (
        {"backend": backend, "options": {"fallback_random": True}} if backend == "inductor" else {"backend": backend}
    )
    eager, compiled, ours, whole = (make() for _ in range(4))
    with argument_checks(False):
        graph = torch.compile(compiled.hand, fullgraph=True, **mode)
    own = ours.loss.compile(backend=backend)
    model = Model(whole.loss, optimizer_params={"lr": LEARNING_RATE}, compile={"backend": backend})
    return [
        _training("hand", lambda: eager.hand(eager.x), eager.hand_weights),
        _training("hand, compiled", lambda: graph(compiled.x), compiled.hand_weights, fused=True),
        _training("loss.compile()", lambda: own({"x": ours.x}), list(ours.loss.parameters()), fused=True),
        Contestant("Model(compile=True)", lambda: model.train({"x": whole.x}), checked=False),
    ]


def row(title: str, seconds: dict[str, float]) -> str:
    """Microseconds by hand, and ratios to it."""
    first, *rest = seconds.values()
    hand = seconds["hand, compiled"]
    cells = [f"{title:<36}", f"{1e6 * first:>9.0f} us", *(f"{value / first:>20.3f}" for value in rest)]
    return "".join([*cells, f"{seconds['loss.compile()'] / hand:>18.3f}{seconds['Model(compile=True)'] / hand:>18.3f}"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300, help="rounds of each workload (default: 300)")
    parser.add_argument("--workloads", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--backend", default="inductor", help="of torch.compile; 'eager' only shows that it runs")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    names = ("hand, compiled", "loss.compile()", "Model(compile=True)")
    print(f"train step, {args.threads} thread(s), torch {torch.__version__}; ratios to the first column, then to the second")
    print(f"{'':<36}{'hand':>12}" + "".join(f"{name:>20}" for name in names) + f"{'loss / hand c.':>18}{'Model / hand c.':>18}")
    for name in args.workloads:
        title, make = PROGRAMS[name]
        made = contestants(make, args.backend)
        same_losses(made)
        print(row(title, time_turns(made, args.steps)), flush=True)


if __name__ == "__main__":
    main()
