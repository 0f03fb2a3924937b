"""Weights that only a plain function knows: nobody else can find them, so nobody would train them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from probflow.distributions import Distribution
from probflow.losses import Loss
from probflow.losses.free import modules
from probflow.losses.node import walk
from probflow.losses.scalars import Function


def hidden_weights(loss: Loss, known: Iterable[Tensor]) -> Iterator[tuple[str, str, str]]:
    """(where, the function, what it uses) for every module or weight that is trainable, used by a function of `loss`, and not
    among `known`."""
    seen = {id(weight) for weight in known}
    for where, function in _functions(loss):
        for name, value in _reached(function):
            own = list(value.parameters()) if isinstance(value, nn.Module) else [value]
            if any(weight.requires_grad and id(weight) not in seen for weight in own):
                yield where, getattr(function, "__name__", "the function"), name


def _functions(loss: Loss) -> Iterator[tuple[str, Callable[..., Any]]]:
    for root in modules(loss):
        for part in root.modules():
            for value in vars(part).values():
                if isinstance(value, (FunctionType, MethodType, partial)):
                    owner = part if isinstance(part, Distribution) else root
                    yield (str(owner.statement) if isinstance(owner, Distribution) else type(owner).__name__), value
    for node in walk(loss):
        if isinstance(node, Function) and isinstance(node.function, (FunctionType, MethodType, partial)):
            yield str(node), node.function


def _reached(function: Any) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """The modules and weights that a function gets from outside of its arguments."""
    if isinstance(function, partial):
        for value in (*function.args, *function.keywords.values()):
            if isinstance(value, (nn.Module, nn.Parameter)):
                yield type(value).__name__, value
        yield from _reached(function.func)
    elif isinstance(function, MethodType):
        if isinstance(function.__self__, nn.Module):
            yield type(function.__self__).__name__, function.__self__
        yield from _reached(function.__func__)
    elif isinstance(function, FunctionType):
        outside = inspect.getclosurevars(function)
        for name, value in {**outside.globals, **outside.nonlocals}.items():
            if isinstance(value, (nn.Module, nn.Parameter)):
                yield name, value
