"""How distributions are called in a printed expression.  Two networks with the same statement get different labels."""

from __future__ import annotations

from torch import Tensor

from probflow.distributions import Distribution, Factor
from probflow.losses.free import coefficients, named_distributions
from probflow.losses.node import Loss, walk
from probflow.losses.scalars import Parameter
from probflow.printing import latex_name


class Labels:
    """Labels for every distribution of one expression."""

    def __init__(self, node: Loss) -> None:
        groups: dict[str, list[int]] = {}
        for p in named_distributions(node):
            for factor in p.factors:
                group = groups.setdefault(str(factor.statement), [])
                if id(factor.origin) not in group:
                    group.append(id(factor.origin))
        whole: dict[str, set[tuple[tuple[str, int], ...]]] = {}
        for p in named_distributions(node):
            whole.setdefault(str(p.statement), set()).add(tuple((str(f.statement), id(f.origin)) for f in p.factors))
        self._ambiguous = {statement for statement, made in whole.items() if len(made) > 1}
        self._number = {
            (statement, origin): place
            for statement, origins in groups.items()
            if len(origins) > 1
            for place, origin in enumerate(origins, start=1)
        }

        taken = {n.name for n in walk(node) if isinstance(n, Parameter)}
        letter = next(letter for letter in ("w", "v", "u", "weight") if letter not in taken)
        tensors = list(dict.fromkeys(id(tensor) for tensor in coefficients(node)))
        self._weights = {t: letter if len(tensors) == 1 else f"{letter}{i}" for i, t in enumerate(tensors, start=1)}

    def weight(self, tensor: Tensor) -> str:
        """``w``, or ``w1``, ``w2``: a trained coefficient has a name, as its value changes."""
        return self._weights.get(id(tensor), "w")

    def _of(self, factor: Factor) -> int | None:
        return self._number.get((str(factor.statement), id(factor.origin)))

    def _as_one(self, p: Distribution) -> bool:
        """Whether the statement of the whole says enough: it has one name, and means one thing in this expression."""
        ambiguous = len(p.factors) > 1 and str(p.statement) in self._ambiguous
        return _one_name(p) and not ambiguous and not any(self._of(f) for f in p.factors)

    def text(self, p: Distribution) -> str:
        """``p(x,z)``; ``p#1(x|z)`` where another network has the same statement."""
        if self._as_one(p):
            return str(p.statement)
        return " ".join(self._factor_text(f) for f in p.factors)

    def _factor_text(self, factor: Factor) -> str:
        number, statement = self._of(factor), str(factor.statement)
        return statement if number is None else f"{factor.name}#{number}{statement[len(factor.name) :]}"

    def latex(self, p: Distribution) -> str:
        """The same in LaTeX; the number is a superscript."""
        if self._as_one(p):
            return p.statement.latex()
        return r"\,".join(self._factor_latex(f) for f in p.factors)

    def _factor_latex(self, factor: Factor) -> str:
        number, statement, name = self._of(factor), factor.statement.latex(), latex_name(factor.name)
        return statement if number is None else f"{name}^{{({number})}}{statement[len(name) :]}"


def _one_name(p: Distribution) -> bool:
    """p(x|z) p_{prior}(z) is a p(x,z); q(z|x) p(x) is neither."""
    return len({factor.name.split("_")[0] for factor in p.factors}) == 1
