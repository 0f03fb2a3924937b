"""A loss as an ``nn.Module``, for everything that takes one: compilers, trainers, the transforms of ``torch.func``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from probflow._typing import Inputs
from probflow.inference.evaluate import program_for
from probflow.losses import Loss, evaluation
from probflow.losses.free import coefficients, modules
from probflow.losses.node import children, with_children
from probflow.losses.scalars import Parameter, Trainable


class LossModule(nn.Module):
    """``forward(values)`` is the loss; its parameters are those of every network, constant and coefficient in it.

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x)", loc=torch.nn.Parameter(torch.zeros(2)), scale=1.0)
    >>> module = (-pf.log(p)).mean().module()
    >>> isinstance(module, torch.nn.Module), [tuple(weight.shape) for weight in module.parameters()]
    (True, [(2,)])
    >>> module({"x": torch.zeros(5, 2)}).item() == (-pf.log(p)).mean().eval({"x": torch.zeros(5, 2)}).item()
    True
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss
        for place, part in enumerate(modules(loss)):
            self.add_module(f"{place}", part)
        for name, tensor in _registered(loss).items():
            self.register_parameter(name, tensor)
        self._plan()

    def _plan(self) -> None:
        self._program, self._own = program_for(self.loss).ready(), _registered(self.loss)
        longest = max(map(len, self.loss.input_var), default=0)
        self._names = {name: name.ljust(longest + 1, "_") for name in self._own}  # names that no variable has
        others: dict[int, Loss] = {id(tensor): Parameter(self._names[name]) for name, tensor in self._own.items()}
        self._open = _with_numbers(self.loss, others) if others else self.loss

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _PLANNED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plan()  # a copy has networks of its own, and needs a program that runs them

    def forward(self, values: Inputs) -> Tensor:
        """The value of the loss."""
        if torch.compiler.is_compiling():
            return self._program.value(self._program.trace(values))
        if any(self._parameters[name] is not tensor for name, tensor in self._own.items()):
            # as torch.func.functional_call puts there: values like others
            given = {self._names[name]: self._parameters[name].reshape(()) for name in self._own}  # type: ignore[union-attr]
            return self._open.eval({**values, **given})
        value = self.loss.eval(values)
        self._program = program_for(self.loss).ready()  # planned anew where a variable turned out too large to sum over
        return value

    def extra_repr(self) -> str:
        return str(self.loss)


_PLANNED = ("_program", "_own", "_names", "_open")


def _registered(loss: Loss) -> dict[str, nn.Parameter]:
    """The coefficients of `loss` that a module registers, by their names in it."""
    found = enumerate(coefficients(loss))
    return {f"coefficient{place}": tensor for place, tensor in found if isinstance(tensor, nn.Parameter)}


def _with_numbers(node: Loss, others: Mapping[int, Loss]) -> Loss:
    """`node` with values in the place of trainable coefficients."""
    if isinstance(node, Trainable):
        return others.get(id(node.tensor), node)
    below = children(node)
    return with_children(node, [_with_numbers(child, others) for child in below]) if below else node


@evaluation.module.register
def module(loss: Loss) -> nn.Module:
    """`loss` as an nn.Module."""
    return LossModule(loss)
