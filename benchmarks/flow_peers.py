"""The flows of the workloads in other libraries, through their public interfaces, of the same sizes.

Everywhere: the same number of layers and bins, the same hidden widths and ReLU, halves that take turns, nothing between the
layers, a standard normal base.  Where a library cannot be told so, its function says what differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.flow_images import ImageSize, convolutions
from benchmarks.flow_networks import HALF_LOG_2PI, Size, dense


@dataclass(frozen=True)
class Peer:
    """A flow: log p(x) of a batch, samples, and what is trained; `checked` as for a `Contestant`."""

    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Tensor]
    parameters: list[nn.Parameter]
    checked: bool


class WithContext(nn.Module):
    """A network that is also passed a context, which is None."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        del context
        return self.net(x)


def _wide(size: Size, inputs: int, outputs: int) -> nn.Module:
    """A network that says how wide it is: logits of splines are then divided by the root of that."""
    net = WithContext(dense(inputs, size.hidden, outputs))
    net.hidden_features = size.hidden[-1]  # type: ignore[assignment]
    return net


def _halves(size: Size) -> Iterator[Tensor]:
    """Per layer, in the generative order: which features change."""
    first = torch.arange(size.features) < size.features - size.features // 2
    for i in range(size.layers):
        yield first if i % 2 else ~first


def _swap(size: Size) -> Tensor:
    """The permutation that exchanges the halves."""
    return torch.arange(size.features).roll(size.features // 2)


# ---------------------------------------------------------------------- zuko


def _zuko(flow: nn.Module, checked: bool) -> Peer:
    return Peer(lambda x: flow().log_prob(x), lambda count: flow().sample((count,)), list(flow.parameters()), checked)


def _zuko_couplings(zuko: SimpleNamespace, size: Size, **univariate: object) -> Peer:
    # Its transforms map x to z, in the order of the list.
    layers = [
        zuko.coupling.GeneralCouplingTransform(size.features, mask=~changed, hidden_features=size.hidden, **univariate)
        for changed in reversed([*_halves(size)])
    ]
    base = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(size.features), torch.ones(size.features), buffer=True
    )
    return _zuko(zuko.lazy.Flow(layers, base), zuko.checked)


def zuko_realnvp(zuko: SimpleNamespace, size: Size) -> Peer:
    """Its log-scale is softly clamped to ±6.9 by a rational function, instead of to ±2 by tanh."""
    return _zuko_couplings(zuko, size)


def zuko_maf(zuko: SimpleNamespace, size: Size) -> Peer:
    """Its log-scale is clamped as in its RealNVP; natural and reverse order take turns, as here."""
    flow = zuko.flows.MAF(size.features, transforms=size.layers, hidden_features=size.hidden)
    return _zuko(flow, zuko.checked)


def zuko_nsf(zuko: SimpleNamespace, size: Size) -> Peer:
    """The bins of its splines are kept from vanishing by clamping logits, instead of by a least share.  Its ready-made NSF with
    passes=2 is the same flow on masked networks of the whole width; this is its coupling.
    """
    shapes = [(size.bins,), (size.bins,), (size.bins - 1,)]
    return _zuko_couplings(zuko, size, univariate=zuko.transforms.MonotonicRQSTransform, shapes=shapes)


# ---------------------------------------------------------------------- nflows


def _nflows(nflows: SimpleNamespace, layers: list[nn.Module], event: tuple[int, ...]) -> Peer:
    """Its transforms map x to z, in the order of the list."""
    transform = layers[0] if len(layers) == 1 else nflows.transforms.CompositeTransform(layers)
    flow = nflows.flows.Flow(transform, nflows.distributions.StandardNormal(event))
    return Peer(flow.log_prob, flow.sample, list(flow.parameters()), nflows.checked)


def nflows_realnvp(nflows: SimpleNamespace, size: Size) -> Peer:
    """Its scale is σ(· + 2) + 0.001, instead of the exponential of a number within ±2."""
    layers = [
        nflows.transforms.AffineCouplingTransform(changed.long(), lambda i, o: WithContext(dense(i, size.hidden, o)))
        for changed in reversed([*_halves(size)])
    ]
    return _nflows(nflows, layers, size.event)


def nflows_maf(nflows: SimpleNamespace, size: Size) -> Peer:
    """Its scale is a softplus, its hidden layers all have one width."""
    layers: list[nn.Module] = []
    for _ in range(size.layers):
        layers += [
            nflows.transforms.MaskedAffineAutoregressiveTransform(
                size.features, size.hidden[0], num_blocks=len(size.hidden) - 1, use_residual_blocks=False
            ),
            nflows.transforms.ReversePermutation(size.features),
        ]
    return _nflows(nflows, layers[:-1], size.event)


def nflows_nsf(nflows: SimpleNamespace, size: Size) -> Peer:
    """The same splines, but for the division of the logits."""
    layers = [
        nflows.transforms.PiecewiseRationalQuadraticCouplingTransform(
            changed.long(), partial(_wide, size), num_bins=size.bins, tails="linear", tail_bound=5.0
        )
        for changed in reversed([*_halves(size)])
    ]
    return _nflows(nflows, layers, size.event)


def nflows_glow(nflows: SimpleNamespace, size: ImageSize) -> Peer:
    """The scale of its couplings as in its RealNVP; what is sliced off is standard normal, not conditional on the rest; its 1×1
    convolutions start as permutations.
    """
    t = nflows.transforms
    flow = t.MultiscaleCompositeTransform(size.levels)
    shape = size.event
    for _ in range(size.levels):
        squeeze = t.SqueezeTransform()
        shape = squeeze.get_output_shape(*shape)
        layers: list[nn.Module] = [squeeze]
        for _ in range(size.steps):
            changed = torch.arange(shape[0]) >= shape[0] // 2
            layers += [
                t.ActNorm(shape[0]),
                t.OneByOneConvolution(shape[0]),
                t.AffineCouplingTransform(changed.long(), lambda i, o: WithContext(convolutions(i, size.hidden, o))),
            ]
        shape = flow.add_transform(t.CompositeTransform(layers), shape)
    return _nflows(nflows, [flow], (math.prod(size.event),))


# ---------------------------------------------------------------------- normflows


def _normflows(flow: Any, checked: bool) -> Peer:
    return Peer(flow.log_prob, lambda count: flow.sample(count)[0], list(flow.parameters()), checked)


def normflows_realnvp(nf: SimpleNamespace, size: Size) -> Peer:
    """Its log-scale is not clamped; a permutation swaps the halves between the couplings."""
    half = size.features // 2
    layers: list[nn.Module] = []
    for _ in range(size.layers):
        net = nf.nets.MLP([size.features - half, *size.hidden, 2 * half], init_zeros=True)  # a leaky ReLU of slope 0
        layers += [nf.flows.AffineCouplingBlock(net, scale_map="exp"), nf.flows.Permute(size.features, mode="swap")]
    base = nf.distributions.DiagGaussian(size.features, trainable=False)
    return _normflows(nf.nf.NormalizingFlow(base, layers), nf.checked)


def normflows_nsf(nf: SimpleNamespace, size: Size) -> Peer:
    """The same splines, but for the division of the logits.  Its wrapper (`CoupledRationalQuadraticSpline`) would put residual
    networks of three layers in front, and splines on the untouched half.
    """
    layers = [
        nf.flows.Reverse(  # from x to z
            nf.coupling.PiecewiseRationalQuadraticCoupling(
                changed.long(), partial(_wide, size), num_bins=size.bins, tails="linear", tail_bound=5.0
            )
        )
        for changed in _halves(size)
    ]
    base = nf.distributions.DiagGaussian(size.features, trainable=False)
    return _normflows(nf.nf.NormalizingFlow(base, layers), nf.checked)


def normflows_glow(nf: SimpleNamespace, size: ImageSize) -> Peer:
    """The log-scale of its couplings is not clamped; what is sliced off is normal, not conditional on the rest."""
    bases: list[Any] = []
    merges: list[Any] = []
    levels: list[Any] = []
    channels, height, width = size.event
    for i in range(size.levels):
        channels, height, width = 4 * channels, height // 2, width // 2
        blocks = [nf.flows.GlowBlock(channels, size.hidden, scale_map="exp") for _ in range(size.steps)]
        levels.insert(0, [*blocks, nf.flows.Squeeze()])
        if i < size.levels - 1:
            merges.insert(0, nf.flows.Merge())
            channels //= 2
        bases.insert(0, nf.distributions.DiagGaussian((channels, height, width), trainable=False))
    flow = nf.nf.MultiscaleFlow(bases, levels, merges, class_cond=False)
    return Peer(lambda x: flow.log_prob(x, None), lambda count: flow.sample(count)[0], list(flow.parameters()), nf.checked)


# ---------------------------------------------------------------------- FrEIA


def freia_realnvp(freia: SimpleNamespace, size: Size) -> Peer:
    """The same flow but for signs (it multiplies from x to z): each of its blocks is two couplings, so `layers` is even."""
    flow = freia.framework.SequenceINN(size.features)
    for _ in range(size.layers // 2):
        flow.append(
            freia.modules.GLOWCouplingBlock,
            subnet_constructor=lambda i, o: dense(i, size.hidden, o),
            clamp=2.0,
            clamp_activation=lambda raw: torch.tanh(raw / 2),
        )

    def log_prob(x: Tensor) -> Tensor:
        z, logdet = flow(x)
        return logdet - 0.5 * z.square().sum(1) - size.features * HALF_LOG_2PI

    def sample(count: int) -> Tensor:
        return flow(torch.randn(count, size.features), rev=True)[0]

    return Peer(log_prob, sample, [p for p in flow.parameters() if p.requires_grad], freia.checked)


# ---------------------------------------------------------------------- Pyro


def _pyro(pyro: SimpleNamespace, transforms: list[object], modules: list[nn.Module], size: Size) -> Peer:
    base = pyro.distributions.Normal(torch.zeros(size.features), torch.ones(size.features)).to_event(1)
    flow = pyro.distributions.TransformedDistribution(base, transforms)

    def log_prob(x: Tensor) -> Tensor:
        flow.clear_cache()  # as its tutorials do after every step
        return flow.log_prob(x.detach())  # a new object, as a data loader gives: it remembers values by identity

    return Peer(log_prob, lambda count: flow.sample((count,)), list(nn.ModuleList(modules).parameters()), pyro.checked)


def pyro_realnvp(pyro: SimpleNamespace, size: Size) -> Peer:
    """Its log-scale is clipped to [-5, 3]; a permutation swaps the halves between the couplings."""
    t = pyro.transforms
    half = size.features // 2
    layers = [t.affine_coupling(size.features, [*size.hidden], split_dim=size.features - half) for _ in range(size.layers)]
    transforms = [step for layer in layers for step in (layer, t.Permute(_swap(size)))]
    return _pyro(pyro, transforms, layers, size)


def pyro_maf(pyro: SimpleNamespace, size: Size) -> Peer:
    """Its log-scale is clipped to [-5, 3]; its autoregression is one of IAF, here turned around."""
    layers = []
    for i in range(size.layers):
        order = torch.arange(size.features)
        net = pyro.nn.AutoRegressiveNN(size.features, [*size.hidden], permutation=order.flip(0) if i % 2 else order)
        layers.append(pyro.transforms.AffineAutoregressive(net))
    return _pyro(pyro, [layer.inv for layer in layers], layers, size)


def pyro_nsf(pyro: SimpleNamespace, size: Size) -> Peer:
    """Its splines map z to x, so that a density solves the quadratic equation; a permutation swaps the halves."""
    half, layers = size.features // 2, []
    for _ in range(size.layers):
        net = pyro.nn.DenseNN(
            size.features - half, [*size.hidden], [half * size.bins, half * size.bins, half * (size.bins - 1)]
        )
        layers.append(
            pyro.transforms.SplineCoupling(
                size.features, size.features - half, net, size.bins, bound=5.0, order="quadratic", identity=True
            )
        )
    transforms = [step for layer in layers for step in (layer, pyro.transforms.Permute(_swap(size)))]
    return _pyro(pyro, transforms, [layer.upper_spline.nn for layer in layers], size)


PEERS: dict[str, dict[str, Callable[[SimpleNamespace, Any], Peer]]] = {
    "realnvp": {
        "zuko": zuko_realnvp,
        "nflows": nflows_realnvp,
        "normflows": normflows_realnvp,
        "FrEIA": freia_realnvp,
        "Pyro": pyro_realnvp,
    },
    "maf": {"zuko": zuko_maf, "nflows": nflows_maf, "Pyro": pyro_maf},
    "nsf": {"zuko": zuko_nsf, "nflows": nflows_nsf, "normflows": normflows_nsf, "Pyro": pyro_nsf},
    "glow": {"nflows": nflows_glow, "normflows": normflows_glow},
}
"""By flow and library; in the order of the table's columns."""

LOADERS = dict(zip(peers.NAMES, peers.ALL, strict=True))


def build(kind: str, library: str, size: Size | ImageSize) -> Peer | None:
    """The flow of a library; None where it has none, or is not installed."""
    make = PEERS[kind].get(library)
    modules = None if make is None else LOADERS[library]()
    return None if make is None or modules is None else make(modules, size)
