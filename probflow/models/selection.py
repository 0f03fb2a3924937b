"""Which weights of a loss a Model trains."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from torch import Tensor, nn

from probflow.distributions import Distribution
from probflow.errors import ModelError
from probflow.losses import Loss
from probflow.losses.free import coefficients
from probflow.models.hidden import hidden_weights
from probflow.models.weights import labelled_modules
from probflow.printing import did_you_mean

Trained: TypeAlias = tuple[nn.Module, ...]


def choose(loss: Loss, distributions: Sequence[nn.Module] | None, stacklevel: int) -> tuple[Trained, list[Tensor]]:
    """The modules that are trained, and every weight that the optimizer gets, once.

    None takes all of them. Trainable scalars are always taken. A module with weights that is left out gives a warning.
    """
    parts = labelled_modules([loss])
    if distributions is None:
        chosen: Trained = tuple(m for m in parts.values() if any(w.requires_grad for w in m.parameters()))
        weights = unique(w for m in parts.values() for w in m.parameters())  # frozen ones too: they may be thawed later
    else:
        chosen = _checked(distributions, parts, loss)
        weights = unique(w for m in chosen for w in m.parameters())
        _warn_of_untrained(parts, weights, loss, stacklevel + 1)
    weights = unique([*weights, *coefficients(loss)])
    _warn_of_hidden(loss, weights, parts, stacklevel + 1)
    if not any(w.requires_grad for w in weights):
        raise ModelError(
            f"Model: {loss} has nothing to train: "
            + ("no distribution in it has a weight." if not weights else "every weight is frozen (requires_grad is False).")
            + "\nGive a distribution a network, or an nn.Parameter as a constant."
        )
    return chosen, weights


def unique(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Each tensor once, by identity, in order of appearance."""
    return list({id(tensor): tensor for tensor in tensors}.values())


def _checked(distributions: object, parts: dict[str, nn.Module], loss: Loss) -> Trained:
    available = "\n  the loss has: " + (", ".join(parts) or "none")
    if isinstance(distributions, nn.Module):
        distributions = [distributions]
    if isinstance(distributions, str) or not isinstance(distributions, Iterable):
        shown = repr(distributions) if isinstance(distributions, str) else f"a {type(distributions).__name__}"
        raise ModelError(f"Model: distributions must be a list of distributions, such as [p, q], got {shown}.{available}")
    chosen = tuple(distributions)
    inside = {id(below) for part in parts.values() for below in part.modules()}
    weights = {id(w) for part in parts.values() for w in part.parameters()}
    for place, entry in enumerate(chosen):
        if isinstance(entry, Distribution):
            for factor in entry.factors:
                own = [id(w) for w in factor.parameters()]
                if id(factor.origin) not in inside and not (own and weights.issuperset(own)):
                    label = str(factor.statement)
                    same = f" It has another distribution with the statement {label}." if label in parts else ""
                    guess = "" if same else did_you_mean(label, parts)
                    raise ModelError(
                        f"Model: {label} of distributions=[...] does not occur in the loss {loss}.{same}{guess}{available}"
                    )
        elif not isinstance(entry, nn.Module) or id(entry) not in inside:
            shown = repr(entry) if isinstance(entry, str) else f"a {type(entry).__name__}"
            where = " that does not occur in the loss" if isinstance(entry, nn.Module) else ""
            raise ModelError(
                f"Model: distributions[{place}] must be a distribution of the loss, got {shown}{where}.{available}"
            )
    return chosen


def _warn_of_hidden(loss: Loss, weights: list[Tensor], parts: dict[str, nn.Module], stacklevel: int) -> None:
    known = [*weights, *(w for part in parts.values() for w in part.parameters())]
    for where, function, name in hidden_weights(loss, known):
        warnings.warn(
            f"Model: {where}: the function {function} uses {name}, whose weights will not be trained, because a function has none of "
            f"its own.\nPass a module in its place, an nn.Module whose forward does the same; or freeze them: {name}.requires_grad_(False).",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _warn_of_untrained(parts: dict[str, nn.Module], weights: list[Tensor], loss: Loss, stacklevel: int) -> None:
    taken = {id(w) for w in weights}
    for label, module in parts.items():
        if any(w.requires_grad and id(w) not in taken for w in module.parameters()):
            warnings.warn(
                f"Model: {label} occurs in the loss {loss} but not in distributions=[...]: it will not be trained.\n"
                f"Add it there, or leave distributions= out to train everything.",
                UserWarning,
                stacklevel=stacklevel + 1,
            )
