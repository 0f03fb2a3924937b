"""Why did a network fail?  The usual reasons, in the user's notation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from probflow._typing import Names
from probflow.errors import NetworkError
from probflow.graph import Statement
from probflow.printing import shape_text

if TYPE_CHECKING:
    from probflow.distributions.base import Factor

_FEW = 4  # inputs whose orders are all tried


def network_error(
    factor: Factor,
    names: Names,
    inputs: list[Tensor],
    error: Exception,
    network: Callable[..., Any] | None = None,
    part: nn.Module | None = None,
) -> NetworkError:
    """A NetworkError that says what went in, and the likely mistake, with torch's own words below.

    network: what failed, where it gets its inputs in their order.  part: the module that failed, where it is not the whole factor.
    """
    shown = ", ".join(
        f"{name}: {shape_text(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
        for name, value in zip(names, inputs, strict=True)
    )
    found = NetworkError(
        f"{factor.statement}: its network failed on ({shown}).\n{_likely(factor, names, inputs, network, part or factor)}"
        f"  {type(error).__name__}: {error}"
    )
    found.dtypes = _misfit(part or factor, names, inputs)
    return found


def of_a_draw(error: NetworkError, factors: Iterable[Factor]) -> NetworkError:
    """`error`, where it is about the dtype of a variable that one of `factors` drew: there something is to be converted."""
    from probflow.distributions.networked import Networked

    if error.dtypes is None:
        return error
    name, found, wanted = error.dtypes
    drawn = next((factor for factor in factors if name in factor.var), None)
    if drawn is None:
        return error
    own = isinstance(drawn.origin, Networked) and bool(drawn.origin._source)
    coarse = found in (torch.bfloat16, torch.float16)
    return NetworkError(
        str(error).replace(
            _convert(name, found, wanted),
            f"The weights are {wanted}, and {name} is drawn from {drawn.statement}, whose "
            f"{'network returns' if own else 'parameters are'} {found}.\n"
            f"Convert {'its outputs' if own else 'these'}, .to({wanted})"
            f"{', or let torch.autocast choose the precision everywhere' if coarse else ''}.\n",
        )
    )


def _misfit(part: nn.Module, names: Names, inputs: list[Tensor]) -> tuple[str, object, object] | None:
    """The first input, its dtype and that of the weights, where they differ; None where something else is wrong with the inputs."""
    weight = next(part.parameters(), None)
    if weight is None or any(value.device != weight.device for value in inputs):
        return None
    for name, value in zip(names, inputs, strict=True):
        if value.dtype != weight.dtype:
            return (name, value.dtype, weight.dtype) if value.is_floating_point() else None
    return None


def _convert(name: str, found: object, wanted: object) -> str:
    return f"The weights are {wanted}, {name} is {found}: convert one, {name}.to({wanted}).\n"


def _order_that_runs(network: Callable[..., Any] | None, inputs: list[Tensor]) -> tuple[int, ...] | None:
    """The one other order of a few inputs in which the network runs; None where it gets them by name, or where widths do not tell."""
    if network is None or not 1 < len(inputs) <= _FEW or len({tuple(value.shape) for value in inputs}) < len(inputs):
        return None
    found = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for order in itertools.permutations(range(len(inputs))):
            try:
                network(*(inputs[place] for place in order))
            except Exception:  # whatever went wrong in this order
                continue
            found.append(order)
    return found[0] if len(found) == 1 else None


def layers_error(
    statement: Statement, transform: nn.Module, name: str, value: Tensor, context: Tensor | None, error: Exception
) -> NetworkError:
    """The same for the layers of a flow: what they were given was its variable, or the noise that they make it of."""
    given = {name: value} if context is None else {name: value, "the context": context}
    weight = next((p for p in transform.parameters() if p.is_floating_point()), None)
    reason = ""
    for what, tensor in given.items():
        if weight is not None and tensor.device != weight.device:
            reason = f"The weights are on {weight.device}, {what} is on {tensor.device}: move one.\n"
        elif weight is not None and tensor.dtype != weight.dtype:
            reason = f"The weights are {weight.dtype}, {what} is {tensor.dtype}: convert one, .to({weight.dtype}).\n"
        if reason:
            break
    shown = ", ".join(
        f"{n}: {shape_text(t.shape)} {str(t.dtype).removeprefix('torch.')} on {t.device}" for n, t in given.items()
    )
    return NetworkError(f"{statement}: its layers failed on ({shown}).\n{reason}  {type(error).__name__}: {error}")


def _likely(
    factor: Factor, names: tuple[str, ...], inputs: list[Tensor], network: Callable[..., Any] | None, part: nn.Module
) -> str:
    weight = next(part.parameters(), None)
    if weight is None:
        return ""
    for name, value in zip(names, inputs, strict=True):
        if value.device != weight.device:
            return f"The weights are on {weight.device}, {name} is on {value.device}: move one, {name}.to({str(weight.device)!r}).\n"
    misfit = _misfit(part, names, inputs)
    if misfit is not None:
        return _convert(*misfit)
    for name, value in zip(names, inputs, strict=True):
        if not value.is_floating_point() and not any(isinstance(m, nn.Embedding) for m in part.modules()):
            return (
                f"{name} has dtype {value.dtype}, the weights are {weight.dtype}: write {name}.float(), or one-hot labels, "
                f"F.one_hot({name}, K).float().\n"
            )
    order = _order_that_runs(network, inputs)
    if order is not None:
        statement = factor.statement
        right = ", ".join(names[place] for place in order)
        kept = tuple(n for n in statement.cond_var if n not in names)
        return (
            f"No parameter of the network is called as the variables are, so it gets them in the order of the statement.\n"
            f"In the order {right} it runs: write {Statement(statement.name, statement.var, (*(names[i] for i in order), *kept))}, or name "
            "its parameters as the variables.\n"
        )
    first = next((m for m in part.modules() if isinstance(m, (nn.Linear, nn.Embedding))), None)
    if isinstance(first, nn.Embedding) and len(inputs) == 1:
        (name,), (value,) = names, inputs
        if value.is_floating_point():
            return f"An embedding takes class indices, {name} has dtype {value.dtype}: {name}.long().\n"
        if value.numel() and not 0 <= int(value.min()) <= int(value.max()) < first.num_embeddings:
            return (
                f"Its embedding has {first.num_embeddings} rows, for 0 ... {first.num_embeddings - 1}; {name} goes from "
                f"{int(value.min())} to {int(value.max())}.\n"
            )
    if isinstance(first, nn.Linear):
        widths = [value.shape[-1] if value.dim() > 1 else 1 for value in inputs]
        deep = next((name for name, value in zip(names, inputs, strict=True) if value.dim() > 2), None)
        if deep is not None and first.in_features == sum(widths):
            return (
                f"Dimension 0 of {deep} is taken for the batch. If samples stand in front of it, pass the dict that sample returned, "
                f"which knows, or fold them into the batch: {deep}.flatten(0, 1).\n"
            )
        if first.in_features not in (sum(widths), *widths):
            return (
                f"Its first linear layer takes {first.in_features} features; the inputs have "
                f"{' + '.join(f'{n} {w}' for n, w in zip(names, widths, strict=True))}.\n"
            )
    return ""
