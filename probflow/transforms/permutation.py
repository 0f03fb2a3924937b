"""Fixed permutations of dimension 1: features of vectors, channels of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.printing import shape_text
from probflow.transforms.transform import Pair, Transform, as_shape, no_logdet


class Permute(Transform):
    r"""A fixed permutation along dimension 1: :math:`x_i = z_{\pi(i)}`, with :math:`\log|\det J| = 0`.

    Between couplings it lets every feature be changed in turn.  The permutation is a buffer: saved and loaded with the weights.

    permutation: the indices 0 ... n - 1 in their new order: ``[2, 0, 1]`` puts the last of three features first.
    shape: the event shape, ``(n,)`` if it is left out; ``(n, height, width)`` permutes the channels of images.

    Errors: ArgumentError where the indices are not a permutation or do not fit the shape.

    >>> import torch
    >>> x, logdet = Permute([2, 0, 1]).forward_and_logdet(torch.tensor([[10.0, 11.0, 12.0]]))
    >>> x, logdet
    (tensor([[12., 10., 11.]]), tensor([0.]))
    """

    permutation: Tensor

    def __init__(self, permutation: Sequence[int] | Tensor, shape: int | Shape | None = None) -> None:
        super().__init__()
        title = type(self).__name__
        indices = as_permutation(permutation, None, title)
        self.shape = (len(indices),) if shape is None else as_shape(shape, title)
        if self.shape[0] != len(indices):
            raise ArgumentError(
                f"{title}: {len(indices)} indices permute dimension 1 of events of shape ({len(indices)}, ...), "
                f"got shape={shape_text(self.shape)}."
            )
        self.event_rank = len(self.shape)
        self.register_buffer("permutation", torch.tensor(indices))

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return permute(z, self.permutation), no_logdet(z)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return permute_back(x, self.permutation), no_logdet(x)

    def extra_repr(self) -> str:
        return f"shape={shape_text(self.shape or ())}"


class Reverse(Permute):
    """Dimension 1 in reverse order: :math:`x_i = z_{n-1-i}`, the usual permutation between autoregressive layers
    (Papamakarios et al., arXiv:1705.07057, section 4).

    shape: the number of features, or (channels, height, width).

    >>> import torch
    >>> Reverse(3)(torch.tensor([[10.0, 11.0, 12.0]]))
    tensor([[12., 11., 10.]])
    """

    def __init__(self, shape: int | Shape) -> None:
        shape = as_shape(shape, type(self).__name__)
        super().__init__(range(shape[0] - 1, -1, -1), shape)


class RandomPermutation(Permute):
    """Dimension 1 in a random order, drawn once, at construction (Kingma & Dhariwal, arXiv:1807.03039, section 3.2: "shuffle").

    shape: the number of features, or (channels, height, width).
    seed: of the draw; None draws with torch's global generator.

    >>> import torch
    >>> layer = RandomPermutation(5, seed=0)
    >>> torch.equal(layer.inverse(layer(torch.arange(5.0)[None])), torch.arange(5.0)[None])
    True
    """

    def __init__(self, shape: int | Shape, seed: int | None = None) -> None:
        shape = as_shape(shape, type(self).__name__)
        super().__init__(random_permutation(shape[0], seed), shape)


def permute(z: Tensor, permutation: Tensor) -> Tensor:
    """x with ``x[:, i] = z[:, permutation[i]]``."""
    return z.index_select(1, permutation)


def permute_back(x: Tensor, permutation: Tensor) -> Tensor:
    """z with ``z[:, permutation[i]] = x[:, i]``, from the same indices: an inverse stored beside them could go stale in a load."""
    return torch.empty_like(x).index_copy(1, permutation, x)


def random_permutation(n: int, seed: int | None) -> list[int]:
    """0 ... n - 1 in random order."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator, device="cpu").tolist()


def as_permutation(value: Sequence[int] | Tensor, n: int | None, title: str) -> list[int]:
    """The indices as a list, once they are known to be 0 ... n - 1, each once."""
    found = value.tolist() if isinstance(value, Tensor) else list(value)
    n = len(found) if n is None else n
    whole = all(isinstance(index, int) and not isinstance(index, bool) for index in found)
    if not found or not whole or sorted(found) != list(range(n)):
        raise ArgumentError(
            f"{title}: a permutation names the indices 0 ... {n - 1}, each once, got {found}."
            if n
            else f"{title}: a permutation needs at least one index, got {found}."
        )
    return found
