"""The weights behind a loss under names that do not depend on the process, the machine, or the order of its terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from probflow.distributions import Distribution
from probflow.losses import Loss
from probflow.losses.free import coefficients, modules


def labelled_modules(losses: Iterable[Loss]) -> dict[str, nn.Module]:
    """Each module behind the losses once: a distribution under its statement, the module of a function under its class.

    A second one of the same label gets a number, in order of appearance: ``p(x|z)``, ``p(x|z)#2``.
    """
    found = {id(module): module for loss in losses for module in modules(loss)}
    return _numbered((str(m.statement) if isinstance(m, Distribution) else type(m).__name__, m) for m in found.values())


def labelled_coefficients(losses: Iterable[Loss]) -> dict[str, Tensor]:
    """The trainable scalars of the losses, each once, in order of appearance."""
    found = {id(tensor): tensor for loss in losses for tensor in coefficients(loss)}
    return {f"trainable scalar #{place}": tensor for place, tensor in enumerate(found.values(), start=1)}


def named_parameters(parts: Mapping[str, nn.Module], scalars: Mapping[str, Tensor]) -> dict[int, str]:
    """The name of each parameter by its identity; one that several distributions share has the name of the first."""
    names: dict[int, str] = {}
    for label, module in parts.items():
        for key, tensor in module.named_parameters():
            names.setdefault(id(tensor), f"{label}: {key}")
    for label, scalar in scalars.items():
        names.setdefault(id(scalar), label)
    return names


def _numbered(entries: Iterable[tuple[str, nn.Module]]) -> dict[str, nn.Module]:
    result: dict[str, nn.Module] = {}
    for label, module in entries:
        unique, place = label, 1
        while unique in result:
            place += 1
            unique = f"{label}#{place}"
        result[unique] = module
    return result
