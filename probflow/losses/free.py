"""What an expression is made of: free variables, distributions, trainable tensors, and whether it still has a batch."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from probflow._typing import Names
from probflow.distributions import Distribution, Factor
from probflow.losses.arithmetic import Reduce
from probflow.losses.change_of_variables import LogDet, NoiseLogProb
from probflow.losses.node import Loss, children, walk
from probflow.losses.probability import CrossEntropy, Entropy, Expectation, KullbackLeibler, LogProb, Prob
from probflow.losses.scalars import Constant, Function, Parameter, Trainable


def free_variables(node: Loss) -> Names:
    """The names without a binder, in order of appearance; a Parameter's name counts."""
    found: dict[str, None] = {}
    _collect(node, frozenset(), found)
    return tuple(found)


def _collect(node: Loss, bound: frozenset[str], found: dict[str, None]) -> None:
    stack: list[tuple[Loss, frozenset[str]]] = [(node, bound)]
    while stack:
        current, hidden = stack.pop()
        mine, below = _own(current)
        for name in mine:
            if name not in hidden or isinstance(current, Parameter):  # a number is never what an expectation draws
                found.setdefault(name)
        stack.extend((child, hidden | below) for child in reversed(children(current)))


def _own(node: Loss) -> tuple[Names, frozenset[str]]:
    """The names that the node itself reads, and those it binds for its children."""
    if isinstance(node, (LogProb, Prob, NoiseLogProb, LogDet)):
        return node.p.var + node.p.cond_var, frozenset()
    if isinstance(node, Entropy):
        return node.p.cond_var, frozenset()
    if isinstance(node, (KullbackLeibler, CrossEntropy)):
        return node.q.cond_var + tuple(n for n in node.p.cond_var if n not in node.q.var), frozenset()
    if isinstance(node, Expectation):
        return node.q.cond_var, frozenset(node.q.var)
    if isinstance(node, Parameter):
        return (node.name,), frozenset()
    if isinstance(node, Function):
        return node.variables, frozenset()
    return (), frozenset()


def named_distributions(node: Loss) -> Iterator[Distribution]:
    """The distributions as the author wrote them, in order of appearance, with repetitions."""
    for current in walk(node):
        for name in type(current).fields:
            value = getattr(current, name)
            if isinstance(value, Distribution):
                yield value


def atoms(node: Loss) -> tuple[Factor, ...]:
    """The atomic distributions, each network once (renamed copies are one)."""
    found: dict[int, Factor] = {}
    for p in named_distributions(node):
        for factor in p.factors:
            found.setdefault(id(factor.origin), factor.origin)
    return tuple(found.values())


def modules(node: Loss) -> tuple[nn.Module, ...]:
    """Everything with weights: atomic distributions, and the modules behind functions."""
    functions = [c.function for c in walk(node) if isinstance(c, Function) and isinstance(c.function, nn.Module)]
    return (*atoms(node), *dict.fromkeys(functions))


def coefficients(node: Loss) -> tuple[Tensor, ...]:
    """The trainable scalars of the expression."""
    found = {id(c.tensor): c.tensor for c in walk(node) if isinstance(c, Trainable)}
    return tuple(found.values())


def trainable(node: Loss) -> Iterator[nn.Parameter]:
    """Every tensor that an optimizer should see, once."""
    seen: set[int] = set()
    for tensor in [*(w for m in modules(node) for w in m.parameters()), *coefficients(node)]:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor  # type: ignore[misc]  # a plain leaf tensor with requires_grad serves as well


def is_scalar(node: Loss) -> bool:
    """Whether the value has no batch dimension."""
    if isinstance(node, (Reduce, Constant, Trainable, Parameter)):
        return True
    below = children(node)
    return bool(below) and not isinstance(node, Function) and all(map(is_scalar, below))
