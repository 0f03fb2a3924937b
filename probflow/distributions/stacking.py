"""Many distributions of one family as one, along an axis of their own; and picking from that axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from probflow.checks import compiling
from probflow.distributions.base import Factor
from probflow.distributions.bound import Bound
from probflow.distributions.family import FamilyBound, Params
from probflow.distributions.parametric import Parametric
from probflow.distributions.shapes import broadcast
from probflow.errors import ShapeError
from probflow.graph import Statement
from probflow.printing import shape_text


def stack(statement: Statement, components: Sequence[Bound], lead: int) -> FamilyBound | None:
    """Components of one family as one bound with an outermost axis of its own; None where families or parameters differ."""
    first = components[0]
    if not isinstance(first, FamilyBound):
        return None
    for component in components:
        if (
            type(component) is not FamilyBound
            or component.family is not first.family
            or component.params.keys() != first.params.keys()
        ):
            return None
        if component.extra != first.extra or component.event != first.event:
            raise ShapeError(
                f"{statement}: its components have different event shapes: {first.statement} {shape_text(first.event)}, "
                f"{component.statement} {shape_text(component.event)}."
            )
    params = {}
    for name in first.params:
        tensors = [component.full[name] for component in components]  # type: ignore[attr-defined]
        if any(tensor.shape != tensors[0].shape for tensor in tensors):
            tensors = list(torch.broadcast_tensors(*tensors))
        stacked = torch.stack(tensors)
        absent = lead + 1 + first.extra + first.family.params[name].rank - tensors[0].dim()
        params[name] = stacked.reshape(stacked.shape[0], *[1] * absent, *stacked.shape[1:]) if absent else stacked
    fronts = broadcast(*(component.front for component in components))
    front = (len(components), *[1] * (lead + 1 - len(fronts)), *fronts)
    return FamilyBound(first.family, statement, params, front, first.extra)


def deepened(stacked: FamilyBound, lead: int) -> FamilyBound:
    """A stack with `lead` sample dimensions between the components and the batch."""
    while stacked.lead - 1 < lead:
        stacked = stacked.insert(stacked.lead - 1)
    return stacked


def choose(tensor: Tensor, index: Tensor, dims: int) -> Tensor:
    """``tensor[index]`` along the first axis, the next `dims` axes of `tensor` running along with the last of `index`."""
    sizes = tensor.shape[1 : 1 + dims]
    event = tensor.shape[1 + dims :]
    if math.prod(sizes) == 1:
        return tensor.reshape(tensor.shape[0], *event).index_select(0, index.flatten()).reshape(*index.shape, *event)
    along = [
        torch.arange(size, device=tensor.device).reshape(size, *[1] * (dims - 1 - place)) if size != 1 else 0
        for place, size in enumerate(sizes)
    ]
    places = (index, *along)
    return tensor[places]


def constant_stack(statement: Statement, factors: Sequence[Factor]) -> FamilyBound | None:
    """Factors with constant parameters of equal shapes as one bound, along a new outermost axis; None where they are not that.

    It is what stacking their bounds would give, without making a bound of each: a mixture has many components.
    """
    origins = [factor.origin for factor in factors]
    first = origins[0]
    if not isinstance(first, Parametric) or first._source or first._strings or first.family.check is not None:
        return None
    raw: dict[str, list[Tensor]] = {name: [] for name in first._constants}
    for other in origins:
        if (
            not isinstance(other, Parametric)
            or other.family is not first.family
            or other._constants != first._constants
            or other._features != first._features
            or other._source
        ):
            return None
        for name, column in raw.items():
            tensor = other._buffers.get(name)  # the tables themselves: a mixture asks for many
            column.append(other._parameters[name] if tensor is None else tensor)  # type: ignore[arg-type]
            if column[-1].shape != column[0].shape or column[-1].dtype != column[0].dtype:
                return None
    model = first.bind([], [])
    if not isinstance(model, FamilyBound):
        return None
    params: Params = {}
    for name, like in model.full.items():
        tensor = torch.stack(raw[name]) if name in raw else like.expand(len(origins), *like.shape)
        if name in raw:
            if tensor.dim() > like.dim() + 1:
                return None
            tensor = tensor.reshape(len(origins), *[1] * (like.dim() + 1 - tensor.dim()), *tensor.shape[1:])
            tensor = tensor.to(like.dtype).expand(len(origins), *like.shape)
            if tensor.requires_grad and not compiling():
                first._check_domain(name, tensor, str(statement))
        params[name] = tensor
    return FamilyBound(first.family, statement, params, (len(origins), 1), model.extra)
