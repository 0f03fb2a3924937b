"""Masked dense layers, and MADE: a network whose output for a feature sees only the features before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probflow.errors import ArgumentError, CycleError, ShapeError
from probflow.nn.activation import made
from probflow.nn.conditioners import zero_
from probflow.printing import did_you_mean, shape_text

ORDERS = ("natural", "reverse")


class MaskedLinear(nn.Module):
    r"""A dense layer :math:`y = (W \odot M)\,x + b` in which only the connections of the mask M exist (arXiv:1502.03509, eq. 8).

    mask: boolean, ``(out_features, in_features)``, true where the input may be used.
    Every unit starts as an ``nn.Linear`` of the inputs that it sees would: uniform within ±1/sqrt(number of them).

    >>> layer = MaskedLinear(torch.tensor([[True, False], [True, True]]))
    >>> layer(torch.ones(5, 2)).shape
    torch.Size([5, 2])
    """

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        super().__init__()
        if mask.dim() != 2 or mask.dtype != torch.bool:
            raise ArgumentError(
                f"MaskedLinear: the mask must be a boolean matrix (out_features, in_features), got {mask.dtype} of shape "
                f"{shape_text(mask.shape)}."
            )
        self.out_features, self.in_features = mask.shape
        self.weight = nn.Parameter(torch.empty(mask.shape))
        self.bias = nn.Parameter(torch.empty(self.out_features)) if bias else None
        self.register_buffer("mask", mask.to(self.weight), persistent=False)
        with torch.no_grad():
            bound = self.mask.sum(1).clamp(min=1).rsqrt()
            self.weight.uniform_(-1, 1).mul_(bound.unsqueeze(1))
            if self.bias is not None:
                self.bias.uniform_(-1, 1).mul_(bound)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class MADE(nn.Module):
    r"""Masked autoencoder for distribution estimation (Germain et al., arXiv:1502.03509, eq. 8-13): one pass gives, for every
    feature i, `out_per_feature` numbers :math:`h_i(x_{<i}, c)` that see the features before i and the whole context.

    Shapes: x ``(N, features)``, context ``(N, context)`` or None, output ``(N, out_per_feature * features)``;
    ``.unflatten(1, (out_per_feature, features))`` gives h.  The output is zero at the start.

    order: "natural", "reverse", or the features in their order, first one first: ``order=[2, 0, 1]`` starts with feature 2.
    adjacency: instead of an order, a boolean ``(features, features)`` matrix; row i says which features i may use, and uses exactly
    those.  It must be acyclic.
    activation: makes an elementwise module.  hidden: the widths, () for a linear network.

    Hidden units are dealt out evenly over the sets of features that some output may use, and sorted by the time at which they
    become computable, so nothing is random but the weights.  Where `hidden` is narrower than there are such sets, direct connections
    from input to output, as the paper has them too, keep every feature and the context in play.

    steps: the features by the step at which they become computable; all of one step are independent given those before.
    bounds: per hidden layer, where among its sorted units those of each step begin; the last entry is the width.
    by_step, outputs_by_step: the features, and the outputs, sorted by step.

    Errors: ArgumentError or ShapeError for an order that is no permutation, an adjacency of the wrong kind, an activation that mixes
    units; CycleError, which names the cycle.

    >>> net = MADE(4, hidden=(32, 32), out_per_feature=2, context=3)
    >>> net(torch.randn(5, 4), torch.randn(5, 3)).unflatten(1, (2, 4)).shape
    torch.Size([5, 2, 4])
    >>> MADE(4, adjacency=torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]]) > 0).steps
    ((0, 1), (2, 3))
    """

    by_step: Tensor
    outputs_by_step: Tensor

    def __init__(
        self,
        features: int,
        hidden: Sequence[int] = (128, 128),
        out_per_feature: int = 1,
        context: int = 0,
        order: str | Sequence[int] | Tensor | None = None,
        adjacency: Tensor | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        widths = _widths(features, hidden, out_per_feature)
        self.features, self.out_per_feature, self.context = features, out_per_feature, context
        uses = dependence(features, order, adjacency)
        self.steps = steps_of(uses)

        # What a hidden unit may see is one of the rows of `uses`; without a context, seeing nothing would be a mere bias.
        step_of = {feature: step for step, own in enumerate(self.steps) for feature in own}
        rows = {tuple(row): step_of[i] for i, row in enumerate(uses.tolist()) if any(row) or context}
        seen = sorted(((step, row) for row, step in rows.items()), key=lambda entry: entry[0])
        count = min(len(seen), *widths) if widths else 0
        chosen = [seen[(k + 1) * len(seen) // count - 1] for k in range(count)]
        layers: list[nn.Module] = []
        below, below_context = torch.eye(features, dtype=torch.bool), context
        bounds: list[tuple[int, ...]] = []
        for width in widths if count else ():
            units = [chosen[k * count // width] for k in range(width)]
            visible = torch.tensor([row for _, row in units])
            layers += [MaskedLinear(_with_context(_within(below, visible), below_context)), _checked(made(activation))]
            per_step = Counter(step for step, _ in units)
            bounds.append(tuple(accumulate((per_step[step] for step in range(len(self.steps))), initial=0)))
            below, below_context = visible, 0
        mask = _with_context(_within(below, uses), below_context).repeat(out_per_feature, 1)
        self.layers = nn.Sequential(*layers, zero_(MaskedLinear(mask)))
        self.bounds = tuple(bounds)
        self.direct: MaskedLinear | None = None
        if count < len(seen) and layers:
            self.direct = MaskedLinear(_with_context(uses, context).repeat(out_per_feature, 1), bias=False)
            zero_(self.direct)
        outputs = [p * features + i for step in self.steps for p in range(out_per_feature) for i in step]
        self.register_buffer("by_step", torch.tensor([i for step in self.steps for i in step]), persistent=False)
        self.register_buffer("outputs_by_step", torch.tensor(outputs), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        seen = torch.cat([x, context.flatten(1)], 1) if self.context and context is not None else x
        out: Tensor = self.layers(seen)
        return out if self.direct is None else out + self.direct(seen)

    def extra_repr(self) -> str:
        return (
            f"features={self.features}, out_per_feature={self.out_per_feature}, context={self.context}, steps={len(self.steps)}"
        )


# ---------------------------------------------------------------------- who may use whom


def dependence(features: int, order: str | Sequence[int] | Tensor | None, adjacency: Tensor | None) -> Tensor:
    """The boolean ``(features, features)`` matrix of an order or an adjacency: row i says which features i may use."""
    if adjacency is None:
        place = torch.empty(features, dtype=torch.long)
        place[as_order(features, order)] = torch.arange(features)
        return place.unsqueeze(1) > place
    if not (order is None or (isinstance(order, str) and order == "natural")):
        raise ArgumentError("Give an order or an adjacency, not both: the adjacency says already who comes after whom.")
    if not isinstance(adjacency, Tensor) or adjacency.dtype != torch.bool:
        got = adjacency.dtype if isinstance(adjacency, Tensor) else type(adjacency).__name__
        raise ArgumentError(f"adjacency must be a boolean tensor, got {got}.\nWrite: adjacency=torch.tensor(...) > 0")
    if tuple(adjacency.shape) != (features, features):
        raise ShapeError(
            f"adjacency has shape {shape_text(adjacency.shape)}, expected ({features}, {features}): row i says which features i may use."
        )
    return adjacency.detach().cpu()


def as_order(features: int, order: str | Sequence[int] | Tensor | None) -> list[int]:
    """The features in their order, the first one first."""
    if order is None or (isinstance(order, str) and order == "natural"):
        return list(range(features))
    if isinstance(order, str):
        if order != "reverse":
            raise ArgumentError(
                f"There is no order {order!r}.{did_you_mean(order, ORDERS)}\n  known: {', '.join(ORDERS)}, or a permutation"
            )
        return list(range(features))[::-1]
    found = [int(i) for i in order]
    if sorted(found) != list(range(features)):
        raise ArgumentError(f"order={found} must name each of the features 0 ... {features - 1} once, the first one first.")
    return found


def steps_of(uses: Tensor) -> tuple[tuple[int, ...], ...]:
    """The features by the step at which they become computable: those of a step use only those of the steps before.

    Errors: CycleError, which names the cycle.
    """
    missing = uses.sum(1).tolist()
    users = [column.nonzero().flatten().tolist() for column in uses.unbind(1)]
    ready = [i for i, count in enumerate(missing) if count == 0]
    steps: list[tuple[int, ...]] = []
    while ready:
        steps.append(tuple(sorted(ready)))
        following: list[int] = []
        for done in ready:
            for i in users[done]:
                missing[i] -= 1
                if missing[i] == 0:
                    following.append(i)
        ready = following
    if any(missing):
        raise CycleError(f"The adjacency has a cycle: feature {_cycle(uses, missing)}. Row i says which features i may use.")
    return tuple(steps)


def _cycle(uses: Tensor, missing: list[int]) -> str:
    """A cycle among the features that lack some of those they use, in words."""
    path = [next(i for i, count in enumerate(missing) if count)]
    while True:
        following = next(j for j in uses[path[-1]].nonzero().flatten().tolist() if missing[j])
        if following in path:
            return " uses ".join(map(str, [*path[path.index(following) :], following]))
        path.append(following)


# ---------------------------------------------------------------------- masks


def _within(below: Tensor, above: Tensor) -> Tensor:
    """True where what a unit below sees lies within what the unit above may see: ``(above, below)`` (arXiv:1502.03509, eq. 12-13)."""
    return (~above).to(torch.float32) @ below.to(torch.float32).T == 0


def _with_context(mask: Tensor, context: int) -> Tensor:
    """Every unit sees the whole context."""
    return torch.cat([mask, mask.new_ones(mask.shape[0], context)], 1)


def _widths(features: int, hidden: Sequence[int], out_per_feature: int) -> list[int]:
    if isinstance(hidden, int):
        raise ArgumentError(f"hidden={hidden}: expected the widths of the hidden layers. Write: hidden=({hidden},)")
    for what, value in [
        ("features", features),
        ("out_per_feature", out_per_feature),
        *(("every hidden width", w) for w in hidden),
    ]:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(f"MADE: {what} must be a positive whole number, got {value!r}.")
    return list(hidden)


def _checked(activation: nn.Module) -> nn.Module:
    """The same activation, if it acts on every unit alone: one that mixes units (softmax, layer norm) would break the order."""
    values = torch.linspace(-2, 2, 6).reshape(2, 3)
    training = activation.training
    try:
        with torch.no_grad():
            together = activation.eval()(values)
            alone = torch.stack([activation(v.reshape(1, 1)).reshape(()) for v in values.flatten()]).reshape(2, 3)
            elementwise = together.shape == values.shape and bool(torch.isclose(together, alone).all())
    except (RuntimeError, ValueError):
        elementwise = False
    if not elementwise:
        raise ArgumentError(
            f"MADE: the activation {type(activation).__name__} does not act on every unit alone and alike, which would let a feature "
            "see those after it.\nUse an elementwise one: activation=nn.ReLU, nn.SiLU, nn.Tanh, ..."
        )
    return activation.train(training)
