"""What all ready-made flows share: statement, event shape, context, base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, TypeAlias, TypedDict

from torch import Tensor, nn

from probflow._typing import NamesLike, Shape
from probflow.distributions import Factor, Flow, Normal
from probflow.errors import ArgumentError
from probflow.graph import Statement, make_statement
from probflow.transforms import Compose, Transform
from probflow.transforms.compose import Memory
from probflow.transforms.transform import as_shape

Context: TypeAlias = "int | Shape | nn.Module | tuple[nn.Module, int | Shape] | None"


class Common(TypedDict, total=False):
    """The keywords that every ready-made flow takes besides its own."""

    context: Context
    base: Factor | None
    var: NamesLike | None
    cond_var: NamesLike | None
    name: str | None
    context_var: NamesLike | None
    memory: Memory


class ReadyMade(Flow):
    """A :class:`Flow` whose layers are assembled from a few numbers.

    statement: ``"p(x)"``, ``"q(z | x, y)"``, or ``var=, cond_var=, name=``.
    context: the total width of the conditioning variables, flattened and concatenated in the order of the statement; a shape
    ``(channels, height, width)`` for an image; or a module that embeds them (called with the variables by name), with its width
    beside it, ``(module, width)``, where its last layer does not tell.  Every layer gets it.
    context_var: the conditioning variables that the layers get, where a conditional base gets the others.
    base: any distribution of one variable; a standard Normal when left out.
    memory: "invert" keeps activation memory constant in depth (see :class:`probflow.transforms.Compose`).
    """

    def __init__(
        self, layers: Callable[[Shape | None], Sequence[Transform]], shape: Shape, statement: str | None, common: Common
    ):
        said = _read(common, type(self))
        own = make_statement(statement, var=said.var, cond_var=said.cond_var, name=said.name)
        label = f"{type(self).__name__} {own}"
        context, embedding = read_context(said.context, label)
        if own.cond_var and context is None and (said.base is None or not said.base.cond_var):
            raise ArgumentError(
                f"{label}: say how wide {', '.join(own.cond_var)} {'is' if len(own.cond_var) == 1 else 'are together'}: context=..., "
                "the number of features, or a module that embeds."
            )
        made = Compose(layers(context), memory=said.memory)
        super().__init__(
            standard_normal(made.inverse_shape(shape), own) if said.base is None else said.base,
            made,
            str(own),
            embedding=embedding,
            context=said.context_var,
        )


class _Said:
    """The common keywords with their defaults; an unknown one is an error, not swallowed."""

    def __init__(
        self,
        context: Context = None,
        base: Factor | None = None,
        var: NamesLike | None = None,
        cond_var: NamesLike | None = None,
        name: str | None = None,
        context_var: NamesLike | None = None,
        memory: Memory = "store",
    ) -> None:
        self.context, self.base, self.var, self.cond_var, self.name = context, base, var, cond_var, name
        self.context_var, self.memory = context_var, memory


def _read(common: Common, kind: type[ReadyMade]) -> _Said:
    unknown = [key for key in common if key not in Common.__annotations__]
    if unknown:
        from probflow.printing import did_you_mean

        own = [name for name in signature(kind).parameters if name not in ("statement", "common")]
        hint = did_you_mean(unknown[0], [*own, *Common.__annotations__])
        raise ArgumentError(
            f"{kind.__name__} has no argument {unknown[0]!r}.{hint}\n  its own: {', '.join(own)}\n"
            f"  of every flow: {', '.join(Common.__annotations__)}"
        )
    return _Said(**common)


def standard_normal(shape: Shape, statement: Statement) -> Normal:
    """N(0, I) under a name that the statement does not have: z for p(x), z_0 for p(z) and p(x | z)."""
    taken = statement.var + statement.cond_var
    name = "z" if "z" not in taken else next(f"z_{i}" for i in range(len(taken) + 1) if f"z_{i}" not in taken)
    return Normal(var=[name], name=statement.name, loc=0.0, scale=1.0, features_shape=shape)


def as_count(value: object, what: str) -> int:
    """A number of layers: an integer, not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"{what} must be a number of layers, an integer of at least 0, got {value!r}.")
    return value


def one_shape(features: int | None, title: str) -> Shape:
    """The event shape of a flow of vectors."""
    if features is None:
        raise ArgumentError(f'{title}: how many features? Write {title}("p(x)", features=...).')
    shape = as_shape(features, f"{title}: features")
    if len(shape) != 1:
        raise ArgumentError(
            f"{title}: features is one number, got {features!r}; for images write shape=(channels, height, width)."
        )
    return shape


def image_shape(shape: Sequence[int] | None, title: str) -> Shape:
    """The event shape of a flow of images."""
    if shape is None or isinstance(shape, int) or len(tuple(shape)) != 3:
        raise ArgumentError(f"{title}: write shape=(channels, height, width), got {shape!r}.")
    return as_shape(tuple(shape), f"{title}: shape")


def read_context(context: Context, label: str) -> tuple[Shape | None, Callable[..., Tensor] | None]:
    """The shape of the context, and the module that makes it."""
    if context is None:
        return None, None
    if isinstance(context, tuple) and context and isinstance(context[0], nn.Module):
        module, width = context
        return as_shape(width, f"{label}: context"), module
    if isinstance(context, nn.Module):
        found = _width(context)
        if found is None:
            raise ArgumentError(
                f"{label}: how wide is what {type(context).__name__} returns? Write context=({type(context).__name__.lower()}, width)."
            )
        return (found,), context
    if isinstance(context, type) or callable(context):
        raise ArgumentError(f"{label}: context must be a number, a shape, or a module, got {context!r}.")
    return as_shape(context, f"{label}: context"), None


def _width(module: nn.Module) -> int | None:
    """The number of features that a module returns, from its last layer of a known kind."""
    last: Any = None
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Embedding, nn.Bilinear)):
            last = layer
    if last is None:
        return None
    return int(last.embedding_dim if isinstance(last, nn.Embedding) else last.out_features)
