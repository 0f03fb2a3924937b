"""What newcomers try on a loss, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from torch import Tensor

from probflow.errors import ArgumentError, LossError, UnknownAttribute
from probflow.printing import did_you_mean

if TYPE_CHECKING:
    from probflow.losses.node import Loss

_PLACES = ("to", "cuda", "cpu", "float", "double", "half", "requires_grad_")


def no_attribute(loss: Loss, name: str) -> UnknownAttribute:
    """A name that a loss does not have; those of tensors belong to its value."""
    known = [n for n in dir(type(loss)) if not n.startswith("_")]
    if name.startswith("_"):
        return UnknownAttribute(f"{type(loss).__name__} has no attribute {name!r}.")
    if name in _PLACES:
        hint = f"\nA loss holds no data: move or convert its networks, p.{name}(...), and the values."
    elif hasattr(Tensor, name):
        brackets = "()" if callable(getattr(Tensor, name)) else ""
        hint = f"\nIt is an expression; its value is a tensor: loss.eval(values).{name}{brackets}."
    else:
        hint = did_you_mean(name, known)
    return UnknownAttribute(f"{loss} has no attribute {name!r}.{hint}")


def not_a_dict(loss: Loss, named: Mapping[str, object]) -> NoReturn:
    """``loss.eval(x, y)``, ``loss.eval(x=x)``."""
    names = ", ".join(f"{n!r}: {n}" for n in (named if named else loss.input_var))
    raise ArgumentError(f"{loss}: values go in a dict: loss.eval({{{names}}}).")


def over_the_batch(how: str, loss: Loss) -> NoReturn:
    """``loss.mean(0)``, ``loss.sum(dim=1)``."""
    raise LossError(
        f"{how} of {loss} takes no dimension: a loss has one number per batch element, and .{how}() goes over the batch.\n"
        "The event is summed in every log-density; samples are averaged by E(q, sample_shape=[K])[...]."
    )
