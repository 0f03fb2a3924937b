"""The nodes of a loss: frozen, hash-consed, compared by identity.

Two spellings of the same expression are the same object, so common subexpressions are found by looking, and an expression can
be a dictionary key.  A node holds other nodes, distributions and plain values; never a result, never a tensor of data.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeAlias, overload

from torch import Tensor, nn

from probflow._typing import Inputs, Names
from probflow.distributions import Samples
from probflow.errors import LossError
from probflow.losses import evaluation, mistakes

if TYPE_CHECKING:
    from probflow.losses.evaluation import CompiledLike, PlanLike

Scalar: TypeAlias = float | int | Tensor

_NODES: weakref.WeakValueDictionary[tuple[Any, ...], Loss] = weakref.WeakValueDictionary()


def _identity(value: Any) -> Any:
    """What two equal fields have in common: identity for everything but plain values and tuples."""
    if isinstance(value, Loss):
        return id(value)
    if isinstance(value, tuple):
        return tuple(map(_identity, value))
    if isinstance(value, float):
        return type(value), repr(value)  # 0.0 and -0.0 are different
    if value is None or isinstance(value, (str, int)):
        return type(value), value  # 1 and True are different
    return id(value)


class Loss:
    """A symbolic expression: one number per batch element, or one number after ``.mean()`` or ``.sum()``.

    Build it from `LogProb`, `KullbackLeibler`, `Expectation`, ... and arithmetic; evaluate it with ``loss.eval(values)``.

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x | z)", loc="z", scale=1.0)
    >>> loss = (0.5 - pf.log(p)).mean()
    >>> print(loss)
    mean(0.5 - log p(x|z))
    >>> print(loss.latex())
    \\operatorname{mean}\\left(0.5 - \\log p(x \\mid z)\\right)
    >>> loss.input_var
    ('x', 'z')
    >>> loss.eval({"x": torch.zeros(4, 1), "z": torch.zeros(4, 1)})
    tensor(1.4189)
    """

    __slots__ = ("__weakref__", "_plans")
    _plans: evaluation.PlansLike | None
    """What probflow.inference has planned for it; no part of the expression."""
    fields: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        raise LossError("A loss is frozen: build a new expression instead of changing this one.")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), *(getattr(self, name) for name in type(self).fields))

    # tensors, arrays and numbers on the left leave the operation to us
    __array_ufunc__ = None

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        ours = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "true_divide": "divide", "pow": "power"}
        plain = name.strip("_")
        if plain in ours and len(args) == 2 and not kwargs:
            return getattr(_arithmetic(), ours[plain])(*args)
        raise LossError(
            f"torch.{name} takes tensors, not a loss.\n"
            "Use the loss's own methods (.exp(), .mean(), ...) or Function(callable, variables)."
        )

    # ------------------------------------------------------------------ arithmetic

    def __add__(self, other: Loss | Scalar) -> Loss:
        return _arithmetic().add(self, other)

    def __radd__(self, other: Loss | Scalar) -> Loss:
        if isinstance(other, (int, float)) and other == 0:  # sum([...]) starts from 0
            return self
        return _arithmetic().add(other, self)

    def __sub__(self, other: Loss | Scalar) -> Loss:
        return _arithmetic().subtract(self, other)

    def __rsub__(self, other: Loss | Scalar) -> Loss:
        return _arithmetic().subtract(other, self)

    def __mul__(self, other: Loss | Scalar) -> Loss:
        return _arithmetic().multiply(self, other)

    def __rmul__(self, other: Loss | Scalar) -> Loss:
        return _arithmetic().multiply(other, self)

    def __truediv__(self, other: Loss | Scalar) -> Loss:
        return _arithmetic().divide(self, other)

    def __rtruediv__(self, other: Loss | Scalar) -> Loss:
        return _arithmetic().divide(other, self)

    def __pow__(self, other: Loss | Scalar) -> Loss:
        return _arithmetic().power(self, other)

    def __rpow__(self, other: Loss | Scalar) -> Loss:
        return _arithmetic().power(other, self)

    def __neg__(self) -> Loss:
        return _arithmetic().negate(self)

    def __abs__(self) -> Loss:
        return self.abs()

    if not TYPE_CHECKING:  # to a type checker every name would be there, a misspelled one too

        def __getattr__(self, name: str) -> NoReturn:
            raise mistakes.no_attribute(self, name)

    def __bool__(self) -> bool:
        raise LossError(
            f"A loss has no truth value: {self}.\n"
            "Use Min(a, b) or Max(a, b) to compare losses; what torch.compile(loss) is for, loss.compile() does."
        )

    def __iter__(self) -> Iterator[Loss]:
        raise LossError(f"A loss is not a sequence: {self}.")

    def __float__(self) -> float:
        raise LossError(f"A loss has no value without data: {self}.\nWrite loss.eval({{...}}).")

    def abs(self) -> Loss:
        """The absolute value."""
        return _arithmetic().Elementwise("abs", self)

    def exp(self) -> Loss:
        """exp(loss)."""
        return _arithmetic().Elementwise("exp", self)

    def log(self) -> Loss:
        """log(loss), natural."""
        return _arithmetic().Elementwise("log", self)

    def detach(self) -> Loss:
        """The same value without gradient."""
        return _arithmetic().Detach(self)

    def clamp(self, min: float | None = None, max: float | None = None) -> Loss:
        """The value limited to [min, max]."""
        return _arithmetic().clamp(self, min, max)

    def mean(self, *dim: NoReturn, **options: NoReturn) -> Loss:
        """The average over the batch: one number."""
        if dim or options:
            mistakes.over_the_batch("mean", self)
        return _arithmetic().Reduce("mean", self)

    def sum(self, *dim: NoReturn, **options: NoReturn) -> Loss:
        """The sum over the batch: one number."""
        if dim or options:
            mistakes.over_the_batch("sum", self)
        return _arithmetic().Reduce("sum", self)

    # ------------------------------------------------------------------ readings, each a generic function elsewhere

    @property
    def input_var(self) -> Names:
        """Its free variables: what a batch has to supply."""
        from probflow.losses.free import free_variables

        return free_variables(self)

    @property
    def distributions(self) -> tuple[Any, ...]:
        """The atomic distributions that occur in it, in order of appearance."""
        from probflow.losses.free import atoms

        return atoms(self)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every trainable tensor behind it, once: networks, constants, coefficients."""
        from probflow.losses.free import trainable

        return trainable(self)

    def __str__(self) -> str:
        from probflow.losses.text import text

        return text(self)

    __repr__ = __str__

    def latex(self) -> str:
        """The expression in LaTeX, without dollar signs."""
        from probflow.losses.latex import latex

        return latex(self)

    def to_sympy(self) -> Any:
        """The expression in sympy, for its algebra of coefficients: see :mod:`probflow.losses.sympy_form` for what it keeps.

        >>> from probflow.distributions import Normal
        >>> from probflow.losses import KL, Parameter
        >>> q, p = Normal("q(z)", loc=0.0, scale=1.0), Normal("p(z)", loc=1.0, scale=1.0)
        >>> (Parameter("beta") * KL(q, p) + 0.5 * KL(q, p)).to_sympy().factor()
        (2*beta + 1)*KL(q(z), p(z))/2
        """
        from probflow.losses.sympy_form import sympy_form

        return sympy_form(self)

    def _repr_latex_(self) -> str:
        return f"${self.latex()}$"

    @property
    def _ipython_display_(self) -> Callable[[], None] | None:
        from probflow.graph.notebook import displayer
        from probflow.losses.drawing import picture

        return displayer(self.__str__, self._repr_latex_, lambda: picture(self))

    def expand(self) -> Loss:
        """Logarithms of products, expectations of sums and densities of flows written out; the value is the same.

        >>> from probflow.distributions import Flow, Normal
        >>> from probflow.losses import log
        >>> from probflow.transforms import Affine
        >>> print(log(Flow(Normal("p(z)", loc=0.0, scale=1.0, features_shape=2), Affine(2), "p(x)")).expand())
        log p_z(f^-1(x)) + log|det df^-1(x)/dx|
        """
        from probflow.losses.expand import expand

        return expand(self)

    def replace_var(self, mapping: Mapping[str, str] | None = None, **renames: str) -> Loss:
        """The same expression of the same factors and weights under other variable names; swaps are allowed.

        Free variables and those that an expectation draws are renamed wherever they occur, so that the value of the new loss at
        the renamed data is that of this one.  Names that are not Python identifiers go in a dict, ``{"z": "z'"}``.

        Errors: UnknownVariable for a name that does not occur, DuplicateVariable where two variables would become one.

        >>> from probflow.distributions import Normal
        >>> from probflow.losses import ELBO
        >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
        >>> bound = ELBO(p, Normal("q(z | x)", loc="x", scale=1.0))
        >>> print(bound.mean() + bound.replace_var(x="x_u", z="z_u").mean())
        mean(E_q(z|x)[log p(x,z) - log q(z|x)]) + mean(E_q(z_u|x_u)[log p(x_u,z_u) - log q(z_u|x_u)])
        """
        from probflow.losses.renaming import replace_var

        return replace_var(self, mapping, renames)

    def simplify(self) -> Loss:
        """What is computed in its place: closed forms taken out, what nothing needs dropped; the value is the same.

        >>> from probflow.distributions import Normal
        >>> from probflow.losses import ELBO
        >>> p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
        >>> print(ELBO(p, Normal("q(z | x)", loc="x", scale=1.0)).simplify())
        E_q(z|x)[log p(x|z)] - KL[q(z|x) || p(z)]
        """
        return evaluation.simplified(self)

    def derive(self, to: str | None = None, q: Any = None, samples: int = 10) -> Any:
        """The steps from what was typed to what is computed, each with its rule; see :func:`probflow.derive`."""
        return evaluation.derivation(self, to, q, samples)

    # ------------------------------------------------------------------ evaluation, provided by probflow.inference

    @overload
    def eval(self, values: Inputs | None = None, return_dict: Literal[False] = False) -> Tensor: ...

    @overload
    def eval(self, values: Inputs | None, return_dict: Literal[True]) -> tuple[Tensor, Samples]: ...

    @overload
    def eval(self, values: Inputs | None = None, *, return_dict: Literal[True]) -> tuple[Tensor, Samples]: ...

    def eval(
        self, values: Inputs | None = None, return_dict: bool = False, **named: NoReturn
    ) -> Tensor | tuple[Tensor, Samples]:
        """Its value: shape (batch,), or () after ``.mean()`` or ``.sum()``; with `return_dict` also the samples drawn."""
        if named:
            mistakes.not_a_dict(self, named)
        plans = self._plans
        if plans is not None and values.__class__ is dict and not return_dict:  # the second time, and all that follow
            value = plans.value(values)  # a cast is a call, and this is the way of every step
            if value is not None:
                return value
        return evaluation.evaluate(self, {} if values is None else values, return_dict)

    def backward(self) -> NoReturn:
        """An expression has no gradient, its value has: ``loss.eval(values).backward()``."""
        raise LossError(
            f"{self} is an expression, not a value.\nWrite loss.eval(values).backward(), or Model(loss).train(values)."
        )

    def __call__(self, values: Inputs | None = None, *more: NoReturn, **named: NoReturn) -> Tensor:
        """Short for :meth:`eval`."""
        if more or named:
            mistakes.not_a_dict(self, named)
        return self.eval(values)

    def terms(self, values: Inputs | None = None) -> dict[str, Tensor]:
        """Every printed term with its value, all from one evaluation."""
        return evaluation.terms(self, {} if values is None else values)

    def plan(self, values: Inputs | None = None) -> PlanLike:
        """What will be computed, op by op: ``print(loss.plan())``.

        With example `values` every op's result is shown with its shape: one run without gradient, random state put back.
        ``.to_python()`` writes the plan as a plain PyTorch function, ``.graph`` and ``.draw()`` give its data flow.
        """
        return evaluation.plan(self, values)

    def module(self) -> nn.Module:
        """An ``nn.Module`` whose ``forward(values)`` is this loss: for torch.compile, DDP, Lightning, Accelerate."""
        return evaluation.module(self)

    def compile(self, **options: Any) -> CompiledLike:
        """A function ``compiled(values)``, the same value as ``loss.eval(values)``, from one graph of ``torch.compile``; and
        ``compiled.terms(values)``.

        The graph is made at the first call (seconds to minutes) and serves every batch size. Names, shapes and supports are
        checked before it runs, and a result that is not finite is explained, with the errors of ``loss.eval``; only a support
        that depends on the parameters (of a Uniform, say) is not checked unless the result is not finite. With the same seed
        it draws the same random numbers as ``loss.eval`` (except Bernoulli draws: inductor has its own).
        `options` are those of ``torch.compile``, such as ``mode`` or ``backend``.

        Errors: `MissingDependency` without a C++ compiler; torch's own error where a network cannot be traced in one graph
        (``fullgraph=False`` then lets it run in pieces).

        >>> import torch
        >>> from probflow.distributions import Normal
        >>> from probflow.losses import log
        >>> compiled = log(Normal("p(x)", loc=0.0, scale=1.0)).mean().compile(backend="eager")
        >>> compiled({"x": torch.zeros(3)})
        tensor(-0.9189)
        """
        return evaluation.compiled(self, options)


def intern(cls: type[Loss], *values: Any) -> Any:
    """The one node of this class with these fields."""
    key = (cls, *map(_identity, values))
    node = _NODES.get(key)
    if node is None:
        node = object.__new__(cls)
        object.__setattr__(node, "_plans", None)
        for name, value in zip(cls.fields, values, strict=True):
            object.__setattr__(node, name, value)
        node = _NODES.setdefault(key, node)
    return node


def _rebuild(cls: type[Loss], *values: Any) -> Loss:
    return intern(cls, *values)


def children(node: Loss) -> tuple[Loss, ...]:
    """The expressions directly inside `node`, in the author's order."""
    found: list[Loss] = []
    for name in type(node).fields:
        value = getattr(node, name)
        if isinstance(value, Loss):
            found.append(value)
        elif isinstance(value, tuple):
            found += [entry for entry in value if isinstance(entry, Loss)]
    return tuple(found)


def with_children(node: Loss, new: Sequence[Loss]) -> Loss:
    """`node` rebuilt around other expressions; itself when they are the same."""
    rest = iter(new)
    values: list[Any] = []
    for name in type(node).fields:
        value = getattr(node, name)
        if isinstance(value, Loss):
            values.append(next(rest))
        elif isinstance(value, tuple) and any(isinstance(entry, Loss) for entry in value):
            values.append(tuple(next(rest) if isinstance(entry, Loss) else entry for entry in value))
        else:
            values.append(value)
    return intern(type(node), *values)


def walk(node: Loss) -> Iterator[Loss]:
    """`node` and everything below it, parents first, left to right; without recursion, as sums can be long."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(children(current)))


def as_loss(value: object, where: str = "a loss") -> Loss:
    """Numbers, one-element tensors and nn.Parameters as nodes; anything else is an error that says what to write."""
    from probflow.distributions import Distribution
    from probflow.losses.scalars import Constant, Trainable

    if isinstance(value, Loss):
        return value
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise LossError(
                f"{where} can be combined with numbers and one-element tensors, not with a tensor of shape "
                f"{tuple(value.shape)}.\n"
                'Make it a named value: Parameter("w"), or Function(callable, ["w"], "f"), and pass it with the batch.'
            )
        return Trainable(value) if value.requires_grad else Constant(value.item())
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Constant(value)
    if isinstance(value, Distribution):
        raise LossError(f"{value.statement} is a distribution, not a loss.\nWrite log(p) for its log-density, or KL(q, p).")
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # numpy scalars
        return Constant(float(value.item()))
    raise LossError(f"{where} cannot be combined with a {type(value).__name__}.")


def _arithmetic() -> Any:
    from probflow.losses import arithmetic

    return arithmetic
