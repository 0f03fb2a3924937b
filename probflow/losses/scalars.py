"""Leaves that are numbers: constants, trainable coefficients, named parameters, and functions of named variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from probflow._typing import Names
from probflow.errors import LossError
from probflow.graph import names
from probflow.losses.node import Loss, intern


class Constant(Loss):
    """A number."""

    __slots__ = ("value",)
    fields = ("value",)
    value: float | int

    def __new__(cls, value: float | int) -> Constant:
        return intern(cls, value)


class Trainable(Loss):
    """A scalar tensor that is trained, by identity: ``nn.Parameter(torch.tensor(1.0)) * loss`` makes one.

    Written out where a function of it is meant: ``Trainable(log_beta).exp() * KL(q, p)``.

    >>> import torch
    >>> import probflow as pf
    >>> log_beta = torch.nn.Parameter(torch.zeros(()))
    >>> loss = pf.Trainable(log_beta).exp() * pf.Parameter("a")
    >>> loss.eval({"a": 3.0}).item(), list(loss.parameters())[0] is log_beta
    (3.0, True)
    """

    __slots__ = ("tensor",)
    fields = ("tensor",)
    tensor: Tensor

    def __new__(cls, tensor: Tensor) -> Trainable:
        if not isinstance(tensor, Tensor) or tensor.numel() != 1:
            raise LossError("Trainable takes a tensor with one element: Trainable(nn.Parameter(torch.tensor(1.0))).")
        if not tensor.is_leaf:
            raise LossError(
                "A coefficient must be a leaf tensor such as nn.Parameter; this one was computed by torch already, so that its graph\n"
                "would serve a single backward pass.  Compute with the loss instead: Trainable(weight).exp() * loss."
            )
        return intern(cls, tensor)


class Parameter(Loss):
    """A named number that a batch supplies: ``Parameter("beta") * KL(q, p)``, then ``loss.eval({"x": x, "beta": 0.5})``.

    Its value is a number, a tensor of shape (), or one number per batch element, shape (batch,).

    >>> import torch
    >>> import probflow as pf
    >>> q, p = pf.Normal("q(z | x)", loc="x", scale=1.0), pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=1)
    >>> loss = pf.Parameter("beta") * pf.KL(q, p)
    >>> print(loss, loss.input_var)
    beta * KL[q(z|x) || p(z)] ('beta', 'x')
    >>> loss.eval({"x": torch.full((1, 1), 2.0), "beta": 0.5})
    tensor([1.])
    """

    __slots__ = ("name",)
    fields = ("name",)
    name: str

    def __new__(cls, name: str) -> Parameter:
        if not isinstance(name, str):
            raise LossError(f'Parameter takes a name: Parameter("beta"), got a {type(name).__name__}.')
        return intern(cls, names(name, "Parameter")[0])


class Function(Loss):
    """Any tensor function of named variables as a term: ``Function(lambda x, x_hat: ..., ["x", "x_hat"], "d")``.

    The callable gets the variables in this order, each with one batch dimension, and returns shape (batch,).  Parameters of a
    module are trained with the rest.

    >>> import torch
    >>> import probflow as pf
    >>> distance = pf.Function(lambda a, b: (a - b).abs().sum(1), ["x", "x_hat"], "d")
    >>> print(distance)
    d(x, x_hat)
    >>> distance.eval({"x": torch.zeros(2, 3), "x_hat": torch.ones(2, 3)})
    tensor([3., 3.])
    """

    __slots__ = ("function", "name", "variables")
    fields = ("function", "variables", "name")
    function: Callable[..., Any]
    variables: Names
    name: str

    def __new__(cls, function: Callable[..., Any], variables: str | Sequence[str], name: str | None = None) -> Function:
        if not callable(function):
            raise LossError(f"Function takes a callable first, got a {type(function).__name__}.")
        shown = name or (type(function).__name__ if isinstance(function, nn.Module) else getattr(function, "__name__", "f"))
        return intern(cls, function, names(variables, "Function variables"), "f" if shown == "<lambda>" else shown)
