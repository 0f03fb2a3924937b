"""Linear maps x = W z + b whose W is invertible for every weight: diagonal, triangular, and P L U."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probflow.errors import ArgumentError
from probflow.transforms.permutation import as_permutation, permute, permute_back, random_permutation
from probflow.transforms.transform import Pair, Transform


class LinearMap(Transform):
    """What linear maps of vectors share: the number of features, and the shift b, zero at the start."""

    event_rank = 1

    def __init__(self, features: int, bias: bool) -> None:
        super().__init__()
        self.shape = (as_features(features, type(self).__name__),)
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None

    def _shifted(self, x: Tensor) -> Tensor:
        return x if self.bias is None else x + self.bias

    def _unshifted(self, x: Tensor) -> Tensor:
        return x if self.bias is None else x - self.bias

    def extra_repr(self) -> str:
        return f"features={(self.shape or ('?',))[0]}, bias={self.bias is not None}"


class Diagonal(LinearMap):
    r""":math:`x = e^{s} \odot z + b`, with :math:`\log|\det J| = \sum_i s_i`; the identity at the start.

    A diagonal W with positive entries.  For s and b computed from a context see :class:`Affine`.

    >>> import torch
    >>> layer = Diagonal(3)
    >>> layer.forward_and_logdet(torch.ones(2, 3))[1].shape
    torch.Size([2])
    """

    def __init__(self, features: int, *, bias: bool = True) -> None:
        super().__init__(features, bias)
        self.log_diagonal = nn.Parameter(torch.zeros(features))

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        s = self.log_diagonal
        return per_row(self._shifted(z * s.exp()), s.sum())

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        s = -self.log_diagonal
        return per_row(self._unshifted(x) * s.exp(), s.sum())


class Triangular(LinearMap):
    r""":math:`x = T z + b` with T triangular and a positive diagonal :math:`e^{s}`: :math:`\log|\det J| = \sum_i s_i`.

    The identity at the start.  The inverse is one triangular solve.  As a layer, the linear case of an autoregression.

    upper: whether T is upper triangular; a lower one makes x_i depend on z_1 ... z_i.

    >>> import torch
    >>> layer = Triangular(3, upper=True)
    >>> x, logdet = layer.forward_and_logdet(torch.ones(2, 3))
    >>> x.shape, logdet.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """

    def __init__(self, features: int, upper: bool = False, *, bias: bool = True) -> None:
        super().__init__(features, bias)
        self.upper = upper
        self.entries = nn.Parameter(torch.zeros(features, features))  # s on the diagonal; the other triangle is not used

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        matrix, logdet = triangle(self.entries, self.upper)
        return per_row(self._shifted(precise(F.linear, z, matrix)), logdet)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        matrix, logdet = triangle(self.entries, self.upper)
        return per_row(solve_triangular(matrix, self._unshifted(x), self.upper), -logdet)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, upper={self.upper}"


class LUWeight(nn.Module):
    r"""A square matrix :math:`W = P L U` that is invertible for every weight (Glow, arXiv:1807.03039, section 3.2, eq. 10-11).

    P is a fixed permutation, a buffer; L is unit lower triangular; U is upper triangular with the diagonal :math:`e^{s} > 0`, so that
    :math:`\log|\det W| = \sum_i s_i` costs nothing and no weight is singular.  (Glow's fixed signs of the diagonal are left out: they
    change x by reflections only, which no symmetric base can tell.)  W = P at the start.

    The three are stored as LAPACK packs them, in one matrix: L strictly below the diagonal, U strictly above, s on it.

    permutation: None for P = 1, "random", or a list of indices; `seed` is that of "random", None for torch's global generator.

    >>> import torch
    >>> weight, logabsdet = LUWeight(3)()
    >>> torch.equal(weight, torch.eye(3)), logabsdet.item()
    (True, 0.0)
    """

    permutation: Tensor

    def __init__(self, features: int, permutation: Sequence[int] | Tensor | str | None = None, seed: int | None = None) -> None:
        super().__init__()
        self.features = as_features(features, type(self).__name__)
        self.entries = nn.Parameter(torch.zeros(features, features))
        self.register_buffer("permutation", torch.tensor(self._order(permutation, seed)))

    def _order(self, permutation: Sequence[int] | Tensor | str | None, seed: int | None) -> list[int]:
        if permutation is None:
            return list(range(self.features))
        if isinstance(permutation, str):
            if permutation != "random":
                raise ArgumentError(f"LU: permutation must be None, 'random' or a list of indices, got {permutation!r}.")
            return random_permutation(self.features, seed)
        return as_permutation(permutation, self.features, "LU")

    def forward(self) -> Pair:
        """W of shape (features, features), and log|det W|, a number."""
        upper, logabsdet = triangle(self.entries, upper=True)
        lower = self.entries.tril(-1)
        return (upper + precise(torch.mm, lower, upper)).index_select(0, self.permutation), logabsdet

    @property
    def logabsdet(self) -> Tensor:
        """log|det W|, a number."""
        return self.entries.diagonal().sum()

    def product(self, z: Tensor) -> Tensor:
        """W z for vectors ``(batch, features)``: factor by factor, which costs no product of matrices."""
        z = precise(F.linear, z, triangle(self.entries, upper=True)[0])
        return permute(z + precise(F.linear, z, self.entries.tril(-1)), self.permutation)

    def solve(self, x: Tensor) -> Tensor:
        """W⁻¹ x along dimension 1: vectors ``(batch, features)`` or images ``(batch, features, height, width)``."""
        x = permute_back(x, self.permutation)
        x = solve_triangular(self.entries, x, upper=False, unitriangular=True)
        return solve_triangular(triangle(self.entries, upper=True)[0], x, upper=True)


class LU(LinearMap):
    r""":math:`x = P L U z + b`, a full linear map that stays invertible during training: see :class:`LUWeight`.

    (Oliva et al., arXiv:1801.09819; Kingma & Dhariwal, arXiv:1807.03039, eq. 10-11; Durkan et al., arXiv:1906.04032.)
    The identity at the start, or the permutation if one is given.  The inverse is two triangular solves.

    permutation: None for none, "random", or a list of indices; fixed and saved.

    >>> import torch
    >>> x, logdet = LU(3, permutation="random", seed=1).forward_and_logdet(torch.randn(2, 3))
    >>> x.shape, logdet.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """

    def __init__(
        self,
        features: int,
        *,
        bias: bool = True,
        permutation: Sequence[int] | Tensor | str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(features, bias)
        self.weight = LUWeight(features, permutation, seed)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return per_row(self._shifted(self.weight.product(z)), self.weight.logabsdet)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return per_row(self.weight.solve(self._unshifted(x)), -self.weight.logabsdet)


def per_row(value: Tensor, logdet: Tensor) -> Pair:
    """The value, and a log-determinant that is the same for every row, once per row and in the value's dtype."""
    return value, logdet.to(value.dtype).expand(value.shape[0])


def triangle(entries: Tensor, upper: bool) -> Pair:
    """The triangle of `entries`, with its diagonal s read as e^s, and the log-determinant Σ s."""
    s = entries.diagonal()
    strict = entries.triu(1) if upper else entries.tril(-1)
    return strict + s.exp().diag_embed(), s.sum()


def solve_triangular(matrix: Tensor, x: Tensor, upper: bool, unitriangular: bool = False) -> Tensor:
    """matrix⁻¹ x along dimension 1 of ``(batch, features, *rest)``; only the named triangle of the matrix is read."""
    dtype = solver_dtype(matrix.dtype, x.dtype)
    columns = x.movedim(1, 0)
    found = torch.linalg.solve_triangular(
        matrix.to(dtype), columns.flatten(1).to(dtype), upper=upper, unitriangular=unitriangular
    )
    return found.to(x.dtype).reshape(columns.shape).movedim(0, 1)


def precise(product: Callable[..., Tensor], *factors: Tensor) -> Tensor:
    """A product without the casts of autocast: those are for networks; an inverse and a determinant need all digits."""
    device = factors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return product(*factors)
    dtype = solver_dtype(*(factor.dtype for factor in factors))
    with torch.autocast(device, enabled=False):
        return product(*(factor.to(dtype) for factor in factors))


def solver_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """The widest, at least float32: there are no solvers for float16 and bfloat16."""
    widest = torch.float32
    for dtype in dtypes:
        widest = torch.promote_types(widest, dtype)
    return widest


def as_features(value: int, title: str) -> int:
    """A number of features, at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{title} maps vectors: expected the number of features, a positive integer, got {value!r}.")
    return value
