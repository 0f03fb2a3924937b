"""How a plan gets from the values of the conditioning variables to a distribution, where nothing stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from probflow._typing import Shape
from probflow.distributions.bound import Bound
from probflow.distributions.family import FamilyBound
from probflow.distributions.flow_bound import FlowBound
from probflow.distributions.values import fold
from probflow.transforms import Transform

if TYPE_CHECKING:
    from probflow.distributions.base import Factor
    from probflow.distributions.flow import Flow
    from probflow.distributions.parametric import Parametric


class FromNetwork:
    """All parameters from the network: the common case.

    unchecked: whether parameters outside their domain show in the result, so that nobody has to look for them before.
    """

    def __init__(self, origin: Parametric, leads: tuple[int, ...], unchecked: bool) -> None:
        self.origin, self.leads, self.unchecked = origin, leads, unchecked
        self.network = origin.caller()

    def __call__(self, *inputs: Tensor) -> Bound:
        flat, front = self.folded(inputs)
        return self.finish(self.network(*flat), inputs, flat, front)

    def folded(self, inputs: Sequence[Tensor]) -> tuple[Sequence[Tensor], Shape]:
        """The inputs with their sample dimensions folded into the batch, and the dimensions that were folded."""
        leads = self.leads
        if not any(leads):
            return inputs, (inputs[0].shape[0],)
        if len(leads) == 1:
            return [inputs[0].flatten(0, leads[0])], tuple(inputs[0].shape[: leads[0] + 1])
        return fold(list(inputs), list(leads))

    def finish(self, outputs: Any, inputs: Sequence[Tensor], flat: Sequence[Tensor], front: Shape) -> Bound:
        """The distribution, once the network has returned its parameters."""
        bound = self.origin._usual(outputs, front, self.unchecked)
        return self.origin._finish(outputs, list(inputs), list(self.leads), list(flat), front) if bound is None else bound


class Constants:
    """All parameters constant."""

    def __init__(self, origin: Parametric) -> None:
        self.origin = origin

    def __call__(self) -> FamilyBound:
        return self.origin._all_numbers() or self.origin._assemble({}, (1,), None)


class Layers:
    """A flow without conditioning variables: its layers and its base as they are now; `base` binds the one that it had."""

    def __init__(self, origin: Flow, base: Callable[..., Bound]) -> None:
        self.statement, self.base, self.parts, self.event = origin.statement, base, origin._modules, origin._event
        self.below = origin.base

    def __call__(self) -> FlowBound:
        below = cast("Factor", self.parts["base"])
        base = self.base() if below is self.below else below.bind([], [])
        return FlowBound(self.statement, cast(Transform, self.parts["transform"]), base, None, self.event)
