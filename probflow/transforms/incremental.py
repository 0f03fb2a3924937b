"""Sampling from an autoregression: pass by pass with any conditioner, or unit by unit with a MADE, at the cost of about one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from probflow.nn.masked import MADE, MaskedLinear
from probflow.transforms.scalar import ScalarMap, as_precise_as
from probflow.transforms.transform import Pair


def by_passes(conditioner: Callable[[Tensor], Tensor], map: ScalarMap, steps: Sequence[Tensor], z: Tensor) -> Pair:
    """x and log|det ∂x/∂z|, by a whole pass of the network for every step.

    conditioner: from x to h, ``(N, width, features)`` or ``(N, width * features)``.  steps: the indices of the features of every step.
    """
    x = torch.zeros_like(z)
    logdets: list[Tensor] = []
    for own in steps:
        h = conditioner(x)
        h = h.reshape(h.shape[0], map.width, z.shape[1]).index_select(2, own)
        value, logdet = map.forward_and_logdet(z.index_select(1, own), h)
        x = x.index_copy(1, own, value)
        logdets.append(logdet)
    return x, torch.cat(logdets, 1).sum(1)


def by_units(net: MADE, map: ScalarMap, z: Tensor, context: Tensor | None) -> Pair:
    """x and log|det ∂x/∂z|, equal to `by_passes`; every unit of the network is evaluated once, as soon as what it sees is known.

    The steps are halved again and again, as in the recursive solution of a triangular system: the first half; what its features
    and units contribute to the second half, one matrix product per layer; the second half.  Nothing is written in place, so
    gradients to z, the weights and the context are those of the formula.
    """
    run = _Run(net, map, z, context)
    x, _ = run.solve(0, len(net.steps), run.bias, wanted=False)
    return x.index_select(0, net.by_step.argsort()).T.contiguous(), torch.cat(run.logdets, 1).sum(1)


class _Run:
    """One evaluation.  Features and units come first, sorted by step, and the batch second, so that blocks are contiguous.

    bounds: where each step begins among the inputs, the units of every hidden layer, and the outputs.
    bias: what every layer adds to its inputs' products: its bias and what the context contributes, ``(units, N or 1)``.
    """

    def __init__(self, net: MADE, map: ScalarMap, z: Tensor, context: Tensor | None) -> None:
        self.map, self.width = map, net.out_per_feature
        self.activations = [layer for layer in net.layers if not isinstance(layer, MaskedLinear)]
        features = tuple(accumulate((len(step) for step in net.steps), initial=0))
        self.bounds = [features, *net.bounds, tuple(self.width * begin for begin in features)]
        self.z = z.T.index_select(0, net.by_step)
        self.logdets: list[Tensor] = []

        linear = [layer for layer in net.layers if isinstance(layer, MaskedLinear)]
        self.weights = [layer.weight * layer.mask for layer in linear]
        self.bias = [layer.bias.unsqueeze(1) for layer in linear if layer.bias is not None]
        self._absorb(0, context, net)
        self.weights[-1] = self.weights[-1].index_select(0, net.outputs_by_step)
        self.bias[-1] = self.bias[-1].index_select(0, net.outputs_by_step)
        self.direct: Tensor | None = None
        if net.direct is not None:
            self.weights.append((net.direct.weight * net.direct.mask).index_select(0, net.outputs_by_step))
            self._absorb(-1, context, net)
            self.direct = self.weights.pop()

    def _absorb(self, layer: int, context: Tensor | None, net: MADE) -> None:
        """The context's part of a layer's product goes to its bias; what is left takes the features, sorted."""
        x, c = self.weights[layer].split((net.features, net.context), 1)
        self.weights[layer] = x.index_select(1, net.by_step)
        if net.context and context is not None:
            self.bias[layer] = torch.addmm(self.bias[layer], c, context.flatten(1).T)

    def solve(self, a: int, b: int, before: list[Tensor], wanted: bool) -> tuple[Tensor, list[Tensor]]:
        """x of the steps a ... b-1, and their hidden units, where `wanted`; `before` holds all that earlier steps contribute."""
        if b - a == 1:
            return self._step(a, before)
        m = (a + b) // 2
        halves = [
            pre.split((bound[m] - bound[a], bound[b] - bound[m])) for pre, bound in zip(before, self.bounds[1:], strict=True)
        ]
        x, hidden = self.solve(a, m, [half[0] for half in halves], wanted=True)
        rest = [half[1] for half in halves]
        for k, values in enumerate((x, *hidden)):
            rest[k] = self._add(rest[k], k, values, (a, m), (m, b))
        if self.direct is not None:
            rest[-1] = self._add(rest[-1], None, x, (a, m), (m, b))
        second_x, second = self.solve(m, b, rest, wanted)
        joined = [torch.cat(pair) for pair in zip(hidden, second, strict=True)] if wanted else []
        return torch.cat((x, second_x)), joined

    def _step(self, step: int, before: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The hidden units and the features of one step, from all that earlier steps contribute."""
        hidden: list[Tensor] = []
        z = self.z[self.bounds[0][step] : self.bounds[0][step + 1]]
        now = (step, step + 1)
        for k, pre in enumerate(before):
            if k:
                pre = self._add(pre, k, hidden[-1], now, now)
            if k < len(self.activations):
                hidden.append(self.activations[k](pre).expand(-1, z.shape[1]))
        x, logdet = self.map.forward_and_logdet(z.T, as_precise_as(z, pre.T.unflatten(1, (self.width, -1))))
        self.logdets.append(logdet)
        return x.T, hidden

    def _add(self, pre: Tensor, layer: int | None, values: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
        """`pre` and what the `values` of the source steps contribute to it; layer None is the direct connection."""
        weight = self.direct if layer is None else self.weights[layer]
        columns, rows = self.bounds[layer or 0], self.bounds[-1 if layer is None else layer + 1]
        if weight is None or values.shape[0] == 0 or pre.shape[0] == 0:
            return pre
        return torch.addmm(pre, weight[rows[target[0]] : rows[target[1]], columns[source[0]] : columns[source[1]]], values)
