"""What can be asked of a loss with values at hand.  Declared here, provided by ``probflow.inference``, so imports point down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any, Protocol

from torch import Tensor, nn

from probflow._typing import Inputs
from probflow.errors import LossError


class PlanLike(Protocol):
    """A printable plan."""

    def __str__(self) -> str: ...

    def to_python(self) -> str:
        """The plain PyTorch function that computes the same, as text."""
        ...

    @property
    def networks(self) -> dict[str, Any]:
        """What that function is called with besides the values."""
        ...

    @property
    def graph(self) -> Any:
        """The data flow, a ``networkx.DiGraph``."""
        ...

    def draw(self) -> str:
        """The data flow as text."""
        ...


class PlansLike(Protocol):
    """The programs of one loss."""

    value: Callable[[dict[str, Any]], Tensor | None]
    """The value of the loss by a program that is there; None where it must be looked for."""


class CompiledLike(Protocol):
    """A loss as a compiled function of its values."""

    @property
    def loss(self) -> Any:
        """The loss it computes, which also gives its samples."""
        ...

    def __call__(self, values: Inputs | None = None) -> Tensor: ...

    def eval(self, values: Inputs | None = None, return_dict: bool = False) -> Tensor:
        """The same; samples come from ``loss``."""
        ...

    def terms(self, values: Inputs | None = None) -> dict[str, Tensor]:
        """Every printed term with its value."""
        ...


def _missing(loss: object) -> LossError:
    return LossError(f"{type(loss).__name__} cannot be evaluated: import probflow (or probflow.inference) first.")


@singledispatch
def evaluate(loss: object, values: Inputs, return_dict: bool = False) -> Any:
    """The value of `loss`, with the samples drawn if asked."""
    raise _missing(loss)


@singledispatch
def terms(loss: object, values: Inputs) -> dict[str, Tensor]:
    """Every printed term with its value."""
    raise _missing(loss)


@singledispatch
def plan(loss: object, values: Inputs | None = None) -> PlanLike:
    """The program that computes `loss`; with example values also the shapes."""
    raise _missing(loss)


@singledispatch
def simplified(loss: object) -> Any:
    """What is computed in place of `loss`."""
    raise _missing(loss)


@singledispatch
def derivation(loss: object, to: str | None, q: object, samples: int) -> Any:
    """The steps from `loss` to what is computed, or to a bound."""
    raise _missing(loss)


@singledispatch
def module(loss: object) -> nn.Module:
    """`loss` as an nn.Module."""
    raise _missing(loss)


@singledispatch
def compiled(loss: object, options: Mapping[str, Any]) -> CompiledLike:
    """`loss` as a compiled function of its values."""
    raise _missing(loss)
