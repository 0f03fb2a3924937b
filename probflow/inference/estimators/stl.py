"""stl: q's log-density at its own draw, with its parameters held fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

from probflow.distributions import Family
from probflow.distributions.base import Factor
from probflow.distributions.bound import Bound
from probflow.distributions.family import FamilyBound
from probflow.distributions.networked import Networked
from probflow.errors import LossError, NoDensity


def check_fixed(factor: Factor) -> None:
    """The density of a flow at its draw, without the gradient of its weights, is found through the inverse."""
    if factor.is_bound:
        raise LossError(
            f"estimator='stl' and 'dreg' need the density of {factor.statement} itself, but a layer with noise of its own leaves a bound "
            "on it.\nAsk for 'pathwise'."
        )
    try:
        factor.check_density()
    except NoDensity as error:
        raise LossError(
            f"estimator='stl' and 'dreg' hold the weights of {factor.statement} fixed inside its log-density, which is then computed "
            f"through its inverse, and it has none.\nAsk for 'pathwise'.  ({error})"
        ) from None


def fixed(bound: Bound) -> Bound:
    """The same distribution; its parameters are numbers, not functions of the weights."""
    if not isinstance(bound, FamilyBound):
        return bound
    params = {name: tensor.detach() for name, tensor in bound.params.items()}
    return FamilyBound(bound.family, bound.statement, params, bound.front, bound.extra, bound.event)


def parameters_suffice(factor: Factor, drawn: bool) -> bool:
    """Whether cutting the parameters off is all there is to it.

    Not so for a flow, whose weights are in its map; nor where the parameters depend on an earlier draw (`drawn`), as the path
    through that draw belongs to the gradient.  A plain function hides its weights: its parameters are cut off altogether, which
    is as unbiased, if not as quiet.
    """
    hidden = isinstance(factor.origin, Networked) and factor.origin.__dict__.get("network") is not None
    return isinstance(factor.kind, Family) and (not drawn or hidden)


class _Through(nn.Module):
    """Calls any function; what it runs on is a submodule, so that its weights can be exchanged for the call."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


def with_fixed_weights(factor: Factor, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function`, run with the weights of `factor` as numbers."""
    origin = factor.origin
    through = _Through(origin)

    def run(*args: Tensor) -> Tensor:
        if any(isinstance(part, _DropoutNd) and part.training and part.p for part in origin.modules()):
            raise LossError(
                f"estimator='stl' and 'dreg' compute {factor.statement} twice, and dropout would make the two differ.\n"
                "Ask for 'pathwise', or switch dropout off in its network."
            )
        weights = {f"inner.{name}": weight.detach() for name, weight in origin.named_parameters(remove_duplicate=False)}
        result: Tensor = functional_call(through, weights, (function, *args))
        return result

    return run
