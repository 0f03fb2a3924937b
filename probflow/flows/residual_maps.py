"""Flows for posteriors: planar, radial, Sylvester.  Sampling is one pass; densities at their own draws need no inverse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from probflow._typing import Shape
from probflow.flows.ready_made import Common, ReadyMade, as_count, one_shape
from probflow.transforms import Transform
from probflow.transforms.planar import Planar as PlanarLayer
from probflow.transforms.radial import Radial as RadialLayer
from probflow.transforms.sylvester import Sylvester as SylvesterLayer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Planar(ReadyMade):
    r"""Planar layers :math:`x = z + \hat u \tanh(w^\top z + b)` (Rezende & Mohamed, arXiv:1505.05770, eq. 10-12).

    Sampling, and the density of what was just sampled, is one pass; densities elsewhere search one number per layer.
    With a context, û, w and b of every row are computed from it (amortised).

    >>> import torch
    >>> q = Planar("q(z | x)", features=3, context=2, layers=2)
    >>> q.sample_with_log_prob({"x": torch.zeros(5, 2)})[1].shape
    torch.Size([5])
    """

    def __init__(
        self, statement: str | None = None, features: int | None = None, *, layers: int = 8, **common: Unpack[Common]
    ) -> None:
        shape, layers = one_shape(features, "Planar"), as_count(layers, "Planar: layers")
        super().__init__(lambda c: [PlanarLayer(shape[0], context=c) for _ in range(layers)], shape, statement, common)


class Radial(ReadyMade):
    r"""Radial layers :math:`x = z + \hat\beta\,(z - z_0) / (\alpha + |z - z_0|)` (Rezende & Mohamed, arXiv:1505.05770, eq. 14).

    Sampling is one pass; see :class:`Planar`.

    >>> Radial("q(z)", features=2, layers=2).sample_with_log_prob(batch_n=5)[1].shape
    torch.Size([5])
    """

    def __init__(
        self, statement: str | None = None, features: int | None = None, *, layers: int = 8, **common: Unpack[Common]
    ) -> None:
        shape, layers = one_shape(features, "Radial"), as_count(layers, "Radial: layers")
        super().__init__(lambda c: [RadialLayer(shape[0], context=c) for _ in range(layers)], shape, statement, common)


class Sylvester(ReadyMade):
    r"""Sylvester layers :math:`x = z + Q R\, h(\tilde R Q^\top z + b)` (van den Berg et al., arXiv:1803.05649, eq. 5-15).

    rank: the width M of Q; kind: "orthogonal", "householder" or "triangular".  Sampling is one pass; see :class:`Planar`.

    >>> import torch
    >>> q = Sylvester("q(z | x)", features=4, context=2, layers=2, rank=2)
    >>> q.sample_with_log_prob({"x": torch.zeros(5, 2)})[1].shape
    torch.Size([5])
    """

    def __init__(
        self,
        statement: str | None = None,
        features: int | None = None,
        *,
        layers: int = 4,
        rank: int | None = None,
        kind: Literal["orthogonal", "householder", "triangular"] = "orthogonal",
        **common: Unpack[Common],
    ) -> None:
        shape, layers = one_shape(features, "Sylvester"), as_count(layers, "Sylvester: layers")
        size = (shape[0] if kind == "triangular" else min(shape[0], 8)) if rank is None else rank

        def build(context: Shape | None) -> list[Transform]:
            """The triangular kind takes turns with the order of the features (section 3.3)."""
            turned = [kind == "triangular" and place % 2 == 1 for place in range(layers)]
            return [SylvesterLayer(shape[0], rank=size, kind=kind, flip=flip, context=context) for flip in turned]

        super().__init__(build, shape, statement, common)
