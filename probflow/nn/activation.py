"""Activations, made from what users pass: a class, or a function without arguments."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from probflow.errors import ArgumentError


def made(activation: Callable[[], nn.Module]) -> nn.Module:
    """A new activation for one layer.

    Errors: ArgumentError where `activation` makes no module.

    >>> made(nn.SiLU)
    SiLU()
    """
    if isinstance(activation, nn.Module):
        kind = type(activation).__name__
        raise ArgumentError(
            f"activation={activation} is one module, but every layer makes its own. Write: activation=nn.{kind}"
        )
    try:
        module = activation()
    except TypeError as error:
        shown = getattr(activation, "__name__", repr(activation))
        raise ArgumentError(
            f"activation={shown} cannot be called without arguments to make a module.\n"
            "Write: activation=nn.ReLU, or activation=lambda: nn.LeakyReLU(0.2)"
        ) from error
    if not isinstance(module, nn.Module):
        raise ArgumentError(f"activation must make a module, such as nn.ReLU; it made a {type(module).__name__}.")
    return module
