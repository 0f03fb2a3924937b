"""Distributions as text and as LaTeX."""

from __future__ import annotations

from probflow.distributions.base import Distribution
from probflow.printing import latex_name


def describe(p: Distribution) -> str:
    """The factorised statement, then one line per factor with its family and network."""
    factors = p.factors
    whole = str(p.statement)
    if len(factors) == 1:
        return f"{whole}: {factors[0].describe()}{_network(factors[0])}"
    lines = [f"{whole} = {' '.join(str(f.statement) for f in factors)}"]
    width = max(len(str(f.statement)) for f in factors)
    lines += [f"  {f.statement!s:<{width}}  {f.describe()}{_network(f)}" for f in factors]
    return "\n".join(lines)


def _network(p: Distribution) -> str:
    children = [(name, module) for name, module in p.named_children() if not isinstance(module, Distribution)]
    lines = []
    for name, module in children:
        text = repr(module).split("\n")
        lines += [f"\n      {name}: {text[0]}", *[f"\n      {line}" for line in text[1:]]]
    return "".join(lines)


def latex(p: Distribution) -> str:
    """``p(x, z) = p(x \\mid z)\\,p(z)``."""
    whole = p.statement.latex()
    if len(p.factors) == 1:
        return whole
    return whole + " = " + r"\,".join(f.statement.latex() for f in p.factors)


def latex_names(names: tuple[str, ...]) -> str:
    """``x, z``."""
    return ", ".join(latex_name(n) for n in names)
