"""Autoregressive flows: MAF with a one-pass density, IAF with one-pass sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from probflow._typing import Shape
from probflow.flows.couplings import mixer
from probflow.flows.ready_made import Common, ReadyMade, as_count, one_shape
from probflow.transforms import ScalarMap, Transform
from probflow.transforms.autoregressive import Autoregressive

if TYPE_CHECKING:
    from typing_extensions import Unpack


def autoregressions(
    shape: Shape,
    transformer: Callable[[], ScalarMap | str],
    layers: int,
    hidden: Sequence[int],
    context: Shape | None,
    activation: Callable[[], nn.Module],
    mixing: str | None = None,
) -> list[Transform]:
    """Autoregressive layers, every other one in reverse order."""
    made: list[Transform] = []
    for place in range(layers):
        order = "reverse" if place % 2 else "natural"
        made.append(Autoregressive(shape[0], transformer(), hidden=hidden, context=context, order=order, activation=activation))
        if mixing is not None:
            made.append(mixer(mixing, shape, place))
    return made


class MAF(ReadyMade):
    r"""Masked autoregressive flow (Papamakarios et al., arXiv:1705.07057, eq. 3-6): every other layer in reverse order.

    **The density is one pass**; sampling goes through the features one after the other (the masked network is evaluated
    incrementally).  transformer: "affine", "spline", ... or a function that makes a :class:`probflow.transforms.ScalarMap`.

    >>> p = MAF("p(x)", features=4, layers=2, hidden=(32,))
    >>> p.log_prob(p.sample(batch_n=5)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        statement: str | None = None,
        features: int | None = None,
        *,
        layers: int = 5,
        hidden: Sequence[int] = (128, 128),
        transformer: str | Callable[[], ScalarMap] = "affine",
        mixing: str | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        **common: Unpack[Common],
    ) -> None:
        shape, layers = one_shape(features, "MAF"), as_count(layers, "MAF: layers")
        make = maker(transformer)
        super().__init__(
            lambda c: autoregressions(shape, make, layers, hidden, c, activation, mixing), shape, statement, common
        )


class IAF(ReadyMade):
    r"""Inverse autoregressive flow (Kingma et al., arXiv:1606.04934, eq. 9-11): MAF's layers turned around.

    **Sampling, and the density of what was just sampled, is one pass**: the posterior of a VAE.  The density of given values goes
    through the features one after the other.

    >>> import torch
    >>> q = IAF("q(z | x)", features=4, context=2, layers=2, hidden=(32,))
    >>> values, log_q = q.sample_with_log_prob({"x": torch.zeros(5, 2)})
    >>> values["z"].shape, log_q.shape
    (torch.Size([5, 4]), torch.Size([5]))
    """

    def __init__(
        self,
        statement: str | None = None,
        features: int | None = None,
        *,
        layers: int = 4,
        hidden: Sequence[int] = (128, 128),
        transformer: str | Callable[[], ScalarMap] = "affine",
        activation: Callable[[], nn.Module] = nn.ReLU,
        **common: Unpack[Common],
    ) -> None:
        shape, layers = one_shape(features, "IAF"), as_count(layers, "IAF: layers")
        make = maker(transformer)
        super().__init__(
            lambda c: [layer.inv for layer in autoregressions(shape, make, layers, hidden, c, activation)],
            shape,
            statement,
            common,
        )


def maker(transformer: str | Callable[[], ScalarMap]) -> Callable[[], ScalarMap | str]:
    """One scalar map per layer: a name, or a function such as ``lambda: SplineMap(bins=16)``."""
    from probflow.errors import ArgumentError

    if isinstance(transformer, str):
        return lambda: transformer
    if isinstance(transformer, nn.Module) or not callable(transformer):
        raise ArgumentError(
            "transformer must be a name or a function that makes a scalar map for each layer: lambda: AffineMap()."
        )
    return transformer
