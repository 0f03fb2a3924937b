"""The values that a drawing of a conditional distribution needs."""

from __future__ import annotations

from torch import Tensor

from probflow._typing import Values
from probflow.distributions import Distribution
from probflow.errors import MissingVariable


def conditions(p: Distribution, values: Values | None, who: str) -> dict[str, Tensor]:
    """`values`, once there is one for every variable that p is conditioned on; `who` draws."""
    known = dict(values or {})
    missing = [name for name in p.cond_var if name not in known]
    if missing:
        row = ", ".join(f"{name!r}: {name}[:1]" for name in p.cond_var)
        raise MissingVariable(
            f"{who}: {p.statement} needs a value for {', '.join(map(repr, missing))}.\nPass a row of it: {who}(p, values={{{row}}})."
        )
    return known
