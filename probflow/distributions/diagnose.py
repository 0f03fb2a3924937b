"""Why did a network fail?  The usual reasons, in the user's notation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from probflow._typing import Names
from probflow.errors import NetworkError
from probflow.printing import shape_text

if TYPE_CHECKING:
    from probflow.distributions.base import Factor


def network_error(factor: Factor, names: Names, inputs: list[Tensor], error: Exception) -> NetworkError:
    """A NetworkError that says what went in, and the likely mistake, with torch's own words below."""
    shown = ", ".join(
        f"{name}: {shape_text(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
        for name, value in zip(names, inputs, strict=True)
    )
    return NetworkError(
        f"{factor.statement}: its network failed on ({shown}).\n{_likely(factor, names, inputs)}"
        f"  {type(error).__name__}: {error}"
    )


def _likely(factor: Factor, names: tuple[str, ...], inputs: list[Tensor]) -> str:
    weight = next(factor.parameters(), None)
    if weight is None:
        return ""
    for name, value in zip(names, inputs, strict=True):
        if value.device != weight.device:
            return f"The weights are on {weight.device}, {name} is on {value.device}: move one, {name}.to({str(weight.device)!r}).\n"
    for name, value in zip(names, inputs, strict=True):
        if value.is_floating_point() and value.dtype != weight.dtype:
            wanted = str(weight.dtype)
            return f"The weights are {wanted}, {name} is {value.dtype}: convert one, {name}.to({wanted}).\n"
        if not value.is_floating_point() and not any(isinstance(m, nn.Embedding) for m in factor.modules()):
            return (
                f"{name} has dtype {value.dtype}, the weights are {weight.dtype}: write {name}.float(), or one-hot labels, "
                f"F.one_hot({name}, K).float().\n"
            )
    first = next((m for m in factor.modules() if isinstance(m, nn.Linear)), None)
    if first is not None:
        widths = [value.shape[-1] if value.dim() > 1 else 1 for value in inputs]
        if first.in_features not in (sum(widths), *widths):
            return (
                f"Its first linear layer takes {first.in_features} features; the inputs have "
                f"{' + '.join(f'{n} {w}' for n, w in zip(names, widths, strict=True))}.\n"
            )
    return ""
