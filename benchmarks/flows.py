"""Normalizing flows: a training step (log-density, backward, Adam) and 10,000 samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import flow_images, flow_networks
from benchmarks.flow_images import ImageSize
from benchmarks.flow_networks import Size
from benchmarks.flow_peers import PEERS, Peer, build
from benchmarks.timing import CHECKED, Contestant, Disagreement, Workload, argument_checks, same_losses
from probflow import flows
from probflow.distributions import Flow
from probflow.losses import log

LEARNING_RATE = 1e-4
SAMPLES = 10_000


@dataclass(frozen=True)
class Kind:
    """One flow: the hand-written network, and probflow's."""

    hand: Callable[..., Any]
    ours: Callable[..., Flow]


def _vectors(make: Callable[..., Flow], size: Size, **more: Any) -> Flow:
    return make("p(x)", features=size.features, layers=size.layers, hidden=size.hidden, **more)


def _spline(size: Size) -> Flow:
    return _vectors(flows.NSF, size, bins=size.bins)


def _glow(size: ImageSize) -> Flow:
    return flows.Glow("p(x)", shape=size.event, levels=size.levels, steps=size.steps, hidden=size.hidden)


KINDS = {
    "realnvp": Kind(flow_networks.RealNVP, partial(_vectors, flows.RealNVP)),
    "maf": Kind(flow_networks.MAF, partial(_vectors, flows.MAF)),
    "nsf": Kind(flow_networks.NSF, _spline),
    "glow": Kind(flow_images.Glow, _glow),
}


def batch(size: Size | ImageSize) -> Tensor:
    """The data, always the same."""
    return torch.randn(size.batch, *size.event, generator=torch.Generator().manual_seed(0))


def networks(kind: str, size: Size | ImageSize) -> tuple[Any, Flow]:
    """The hand-written network and probflow's, with the same weights, none of them zero."""
    torch.manual_seed(0)
    hand, ours = KINDS[kind].hand(size), KINDS[kind].ours(size)
    if kind == "glow":
        hand.log_prob(batch(size), initialise=True)  # probflow does so by itself, at its first step
    copy_weights(hand, ours)
    return hand, ours


@torch.no_grad()
def copy_weights(hand: nn.Module, ours: nn.Module) -> None:
    """The weights, and the fixed permutations, of one into the other."""
    pairs: list[tuple[list[Tensor], list[Tensor]]] = [
        (list(hand.parameters()), list(ours.parameters())),
        (_permutations(hand), _permutations(ours)),
    ]
    for theirs, own in pairs:
        if [value.shape for value in theirs] != [value.shape for value in own]:
            raise Disagreement(f"{type(hand).__name__}: probflow's layers have other weights than the hand-written ones")
        for source, target in zip(theirs, own, strict=True):
            target.copy_(source)


def _loss(peer: Peer, x: Tensor) -> Tensor:
    return -peer.log_prob(x).mean()


def _permutations(module: nn.Module) -> list[Tensor]:
    return [value for name, value in module.named_buffers() if name.endswith("permutation")]


def training(name: str, loss: Callable[[], Tensor], parameters: list[nn.Parameter], checked: bool = CHECKED) -> Contestant:
    """The three lines that are the same for everybody."""
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)

    def step() -> Tensor:
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return Contestant(name, step, checked)


def train_hand(flow: Any, x: Tensor) -> Contestant:
    """The hand-written network."""
    return training("hand", lambda: -flow.log_prob(x).mean(), [*flow.parameters()])


def train_probflow(flow: Flow, x: Tensor) -> Contestant:
    """probflow's loss."""
    loss, values = -log(flow).mean(), {"x": x}
    return training("probflow", lambda: loss.eval(values), [*flow.parameters()])


def trainers(kind: str, size: Size | ImageSize) -> list[Contestant]:
    """All that are installed, on the same batch; peers with weights of their own, as many."""
    x = batch(size)
    hand, ours = networks(kind, size)
    made = [train_hand(hand, x), train_probflow(ours, x)]
    expected = sum(p.numel() for p in hand.parameters())
    for name in PEERS[kind]:
        peer = build(kind, name, size)
        if peer is None:
            continue
        count = sum(p.numel() for p in peer.parameters)
        if not abs(count - expected) <= 0.05 * expected:
            raise Disagreement(f"{kind}: {name} has {count:,} weights, the hand-written network {expected:,}")
        made.append(training(name, partial(_loss, peer, x), peer.parameters, peer.checked))
    return made


def samplers(kind: str, size: Size | ImageSize) -> list[Contestant]:
    """All that are installed, without gradients."""
    hand, ours = networks(kind, size)

    def draw(sample: Callable[[int], Tensor]) -> Callable[[], Tensor]:
        return torch.no_grad()(lambda: sample(SAMPLES))

    made = [
        Contestant("hand", draw(hand.sample)),
        Contestant("probflow", draw(lambda count: ours.sample(batch_n=count)["x"])),
    ]
    for name in PEERS[kind]:
        peer = build(kind, name, size)
        if peer is not None:
            made.append(Contestant(name, draw(peer.sample), peer.checked))
    return made


def same_training(found: Sequence[Contestant]) -> None:
    """probflow's losses are the hand-written network's, over a few steps; a peer, whose weights are others, has finite ones."""
    same_losses([contestant for contestant in found if contestant.name in ("hand", "probflow")])
    for contestant in found:
        with argument_checks(contestant.checked):
            values = [float(contestant.once()) for _ in range(2)]
        if not all(map(math.isfinite, values)):
            raise Disagreement(f"{contestant.name}: its losses are {values}")


def same_samples(found: Sequence[Contestant], with_peers: bool = True) -> None:
    """The same noise becomes the same samples; a peer's are as many, and finite."""
    drawn: dict[str, Tensor] = {}
    for contestant in found:
        if not with_peers and contestant.name not in ("hand", "probflow"):
            continue
        torch.manual_seed(0)
        with argument_checks(contestant.checked):
            drawn[contestant.name] = contestant.once()
    hand = drawn["hand"]
    for name, x in drawn.items():
        if x.shape != hand.shape or not bool(x.isfinite().all()):
            raise Disagreement(f"{name}: its samples of shape {tuple(x.shape)} are not those expected, {tuple(hand.shape)}")
    if not torch.allclose(drawn["probflow"], hand, rtol=1e-3, atol=1e-3):
        raise Disagreement("probflow's samples are not those of the hand-written network")


SIZES: dict[str, Size | ImageSize] = {
    **{
        f"{kind}-{features}": Size(features, layers)
        for kind, layers in (("realnvp", 8), ("maf", 5), ("nsf", 5))
        for features in (8, 64)
    },
    "glow": ImageSize((3, 32, 32), levels=2, steps=4, hidden=64, batch=32),
}
TITLES = {
    "realnvp": "RealNVP, 8 couplings",
    "maf": "MAF, 5 layers",
    "nsf": "NSF coupling, 5 layers",
    "glow": "Glow, 2 levels of 4",
}
STEPS = {"realnvp": 200, "maf": 200, "nsf": 100, "glow": 15}


def _train(name: str) -> Workload:
    kind = name.split("-")[0]
    size = SIZES[name]
    what = f"{size.features}-D" if isinstance(size, Size) else "×".join(map(str, size.event))
    return Workload(
        name,
        f"{TITLES[kind]}, {what}, batch {size.batch}, train step",
        partial(trainers, kind, size),
        same_training,
        steps=STEPS[kind],
        targets={"probflow": 1.0 if kind == "glow" else 1.05},
    )


def _sample(
    name: str,
    steps: int,
    target: float,
    what: str = "10,000 samples",
    agree: Callable[[Sequence[Contestant]], None] = same_samples,
) -> Workload:
    kind = name.split("-")[0]
    size = SIZES[name]
    return Workload(
        f"{name}-samples",
        f"{TITLES[kind]}, {name.split('-')[1]}-D, {what}",
        partial(samplers, kind, size),
        agree,
        steps=steps,
        targets={"probflow": target},
    )


WORKLOADS = (
    _train("realnvp-8"),
    _train("realnvp-64"),
    _sample("realnvp-8", steps=30, target=1.0),
    _sample("realnvp-64", steps=30, target=1.0),
    _train("maf-8"),
    _train("maf-64"),
    # by hand, and in the peers, a pass of each network per feature: many seconds
    _sample(
        "maf-64",
        steps=2,
        target=0.15,
        what="10,000 samples, by hand a loop of 64 passes",
        agree=partial(same_samples, with_peers=False),
    ),
    _train("nsf-8"),
    _train("nsf-64"),
    _train("glow"),
)

# ---------------------------------------------------------------------- memory

DEPTHS = (16, 64)
LEAST_DEPTH = 4
INVERTED = Size(64, LEAST_DEPTH, batch=1024)
ACTIVATIONS = tuple(f"memory-invert-{depth}" for depth in DEPTHS)
"""Workloads that compare depths with ``memory="invert"``: the first column is the least depth, not a hand-written program."""

MEMORY = {
    "memory-realnvp": "peak memory, RealNVP 64-D, train step",
    "memory-maf": "peak memory, MAF 64-D, train step",
    "memory-nsf": "peak memory, NSF 64-D, train step",
    "memory-glow": "peak memory, Glow, train step",
    **{
        name: f"activations, RealNVP memory='invert', {depth} layers to {LEAST_DEPTH}"
        for name, depth in zip(ACTIVATIONS, DEPTHS, strict=True)
    },
}
SMALL_VECTORS = Size(8, 2, (16, 16), batch=8)
SMALL: dict[bool, Size | ImageSize] = {
    False: SMALL_VECTORS,
    True: ImageSize((3, 8, 8), levels=2, steps=1, hidden=8, batch=4),
}


def for_memory(workload: str, contestant: str, small: bool) -> Contestant:
    """The training step of one contestant alone."""
    if workload in ACTIVATIONS:
        depth = LEAST_DEPTH if contestant == "hand" else int(workload.rsplit("-", 1)[1])
        deep = SMALL_VECTORS if small else replace(INVERTED, layers=depth)
        return train_probflow(_vectors(flows.RealNVP, deep, memory="invert"), batch(deep))
    kind = workload.removeprefix("memory-")
    size = SMALL[kind == "glow"] if small else SIZES["glow" if kind == "glow" else f"{kind}-64"]
    torch.manual_seed(0)
    if contestant == "hand":
        hand = KINDS[kind].hand(size)
        if kind == "glow":
            hand.log_prob(batch(size), initialise=True)
        return train_hand(hand, batch(size))
    return train_probflow(KINDS[kind].ours(size), batch(size))
