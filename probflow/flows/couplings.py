"""Flows of vectors made of coupling layers: both directions are one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from probflow._typing import Shape
from probflow.flows.ready_made import Common, ReadyMade, as_count, one_shape
from probflow.transforms import Affine, Coupling, ScalarMap, Transform

if TYPE_CHECKING:
    from typing_extensions import Unpack


def couplings(
    shape: Shape,
    transformer: Callable[[], ScalarMap | str],
    layers: int,
    hidden: Sequence[int],
    context: Shape | None,
    activation: Callable[[], nn.Module],
    mixing: str | None = None,
) -> list[Transform]:
    """Couplings that take turns with the halves; with `mixing`, a linear layer behind each (see `mixer`)."""
    made: list[Transform] = []
    for place in range(layers):
        flip = place % 2 == 1
        made.append(Coupling(shape, transformer(), flip=flip, hidden=hidden, context=context, activation=activation))
        if mixing is not None:
            made.append(mixer(mixing, shape, place))
    return made


def mixer(kind: str, shape: Shape, place: int) -> Transform:
    """A layer that mixes features: "lu" (trained), "permute" (random, fixed), "reverse"."""
    from probflow.errors import ArgumentError
    from probflow.transforms.linear import LU
    from probflow.transforms.permutation import RandomPermutation, Reverse

    table: dict[str, Callable[[], Transform]] = {
        "lu": lambda: LU(shape[0], permutation="random", seed=place),
        "permute": lambda: RandomPermutation(shape, seed=place),
        "reverse": lambda: Reverse(shape),
    }
    if kind not in table:
        raise ArgumentError(f"mixing must be one of {', '.join(map(repr, table))}, or None, got {kind!r}.")
    return table[kind]()


class NICE(ReadyMade):
    r"""Additive couplings, then a scale per feature (Dinh et al., arXiv:1410.8516, eq. 5-8 and section 3.3).

    Volumes change by the last layer only.  Density and sampling are one pass.

    >>> p = NICE("p(x)", features=4, layers=4, hidden=(32,))
    >>> p.log_prob(p.sample(batch_n=5)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        statement: str | None = None,
        features: int | None = None,
        *,
        layers: int = 4,
        hidden: Sequence[int] = (128, 128),
        activation: Callable[[], nn.Module] = nn.ReLU,
        **common: Unpack[Common],
    ) -> None:
        shape, layers = one_shape(features, "NICE"), as_count(layers, "NICE: layers")
        super().__init__(
            lambda c: [*couplings(shape, lambda: "additive", layers, hidden, c, activation), Affine(shape)],
            shape,
            statement,
            common,
        )


class NSF(ReadyMade):
    r"""Neural spline flow: rational-quadratic splines, in couplings or autoregressive (Durkan et al., arXiv:1906.04032, eq. 4-8).

    Identity outside [-bound, bound]; standardise the data.  autoregressive=False: density and sampling are one pass;
    autoregressive=True: the density is one pass, sampling goes through the features one after the other.
    mixing: "lu" puts a trained linear layer behind each spline layer, as in the paper.

    >>> p = NSF("p(x | y)", features=4, context=2, layers=2, bins=4, hidden=(32,))
    >>> import torch
    >>> p.log_prob({"x": torch.randn(5, 4), "y": torch.randn(5, 2)}).shape
    torch.Size([5])
    """

    def __init__(
        self,
        statement: str | None = None,
        features: int | None = None,
        *,
        layers: int = 5,
        bins: int = 8,
        bound: float = 5.0,
        hidden: Sequence[int] = (128, 128),
        autoregressive: bool = False,
        mixing: str | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        **common: Unpack[Common],
    ) -> None:
        from probflow.flows.autoregressive import autoregressions
        from probflow.transforms.spline import SplineMap

        shape, layers = one_shape(features, "NSF"), as_count(layers, "NSF: layers")

        def transformer() -> ScalarMap:
            return SplineMap(bins=bins, bound=bound)

        build = autoregressions if autoregressive or shape == (1,) else couplings
        super().__init__(lambda c: build(shape, transformer, layers, hidden, c, activation, mixing), shape, statement, common)
