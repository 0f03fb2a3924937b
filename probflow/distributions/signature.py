"""How a network gets its conditioning variables: by name when its parameters bear their names, else in statement order."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from probflow._typing import Names
from probflow.errors import ArgumentError


def keywords_for(network: Callable[..., Any], cond_var: Names, label: str) -> Names | None:
    """The keyword for each conditioning variable, or None to pass them by position.

    Errors: ArgumentError when the network cannot take that many inputs, or when only some names match and the order of the
    statement contradicts them (the usual sign of swapped arguments).
    """
    forward = network.forward if isinstance(network, nn.Module) else network
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):  # built-in callables have no signature
        return None
    kinds = inspect.Parameter
    parameters = list(signature.parameters.values())
    named = [p for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    positional = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    variadic = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
    required = [p for p in named + [p for p in positional if p.kind is kinds.POSITIONAL_ONLY] if p.default is kinds.empty]
    names = {p.name for p in named}

    if set(cond_var) <= names and {p.name for p in required} <= set(cond_var):
        if tuple(p.name for p in positional[: len(cond_var)]) == cond_var:
            return None  # by name and by position are the same
        return cond_var
    wanted = f"{_name(network)}({', '.join(p.name for p in parameters)})"
    if not variadic and not (len([p for p in positional if p.default is kinds.empty]) <= len(cond_var) <= len(positional)):
        raise ArgumentError(
            f"{label}: the network {wanted} cannot take the conditioning variables ({', '.join(cond_var) or 'none'}).\n"
            + (
                "Give it one parameter for each of them, of the same names or in the same order."
                if cond_var
                else 'They stand behind a bar in the statement: "q(z | x)".'
            )
        )
    for place, parameter in enumerate(positional[: len(cond_var)]):
        if parameter.name in cond_var and cond_var[place] != parameter.name:
            raise ArgumentError(
                f"{label}: the network {wanted} names {parameter.name!r}, but in the order of the statement that place gets "
                f"{cond_var[place]!r}.\nName all its parameters as in the statement, or put them in the statement's order."
            )
    return None


def _name(network: Callable[..., Any]) -> str:
    return type(network).__name__ if isinstance(network, nn.Module) else getattr(network, "__name__", type(network).__name__)
