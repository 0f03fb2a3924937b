"""What a rewriting rule is: a name, an equation, a side condition, and a function that refuses where the condition fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from probflow.losses.node import Loss, children, with_children

Relation = Literal["=", ">=", "<="]


@dataclass(frozen=True)
class Rule:
    r"""left = right, under a condition.

    ``rule(node)`` is `node` rewritten, or None where the rule does not apply to it; ``rule.anywhere(loss)`` looks for the first
    place in the expression, from the outside in, left to right.

    >>> from probflow.distributions import Normal
    >>> from probflow.losses import log
    >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    >>> print(RULES["log of a product"](log(p)))
    log p(x|z) + log p(z)
    """

    name: str
    equation: str
    """In LaTeX."""
    condition: str
    """The side condition in words; empty where there is none."""
    rewrite: Callable[[Loss], Loss | None]
    relation: Relation = "="
    """``=`` keeps the value; ``>=`` is a bound, and is used where it is asked for, or where a density is known by a bound alone."""
    source: str = ""

    def __call__(self, node: Loss) -> Loss | None:
        new = self.rewrite(node)
        return None if new is node else new

    def anywhere(self, loss: Loss) -> Loss | None:
        """The expression with the rule applied once, or None where it applies nowhere."""
        new = self(loss)
        if new is not None:
            return new
        below = children(loss)
        for place, child in enumerate(below):
            inner = self.anywhere(child)
            if inner is not None:
                return with_children(loss, [*below[:place], inner, *below[place + 1 :]])
        return None

    def __str__(self) -> str:
        return self.name + (f" ({self.condition})" if self.condition else "")


RULES: dict[str, Rule] = {}
"""Every rule by its name."""


def rule(name: str, equation: str, condition: str = "", relation: Relation = "=", source: str = "") -> Callable[..., Rule]:
    """Makes the decorated function a rule, and puts it on the list."""

    def made(rewrite: Callable[[Loss], Loss | None]) -> Rule:
        RULES[name] = Rule(name, equation, condition, rewrite, relation, source)
        return RULES[name]

    return made
