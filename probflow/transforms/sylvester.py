"""Sylvester layers: planar layers with many hidden units, whose determinant is that of a small triangular matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.transforms.amortised import Amortised
from probflow.transforms.fixed_point import Tanh, above_minus_one
from probflow.transforms.linear import precise, solver_dtype
from probflow.transforms.mixture_cdf import soft_clamp
from probflow.transforms.orthogonal import reflect
from probflow.transforms.transform import Pair

Kind: TypeAlias = Literal["orthogonal", "householder", "triangular"]
KINDS = ("orthogonal", "householder", "triangular")
Map: TypeAlias = Callable[[Tensor], Tensor]


class Sylvester(Amortised):
    r"""A Sylvester layer (van den Berg et al., *Sylvester Normalizing Flows*, arXiv:1803.05649, section 3):

    .. math:: x = z + Q R\, \tanh(\tilde R Q^\top z + b), \qquad
              \log|\det J| = \sum_{i=1}^{M} \log\left(1 + h'_i\, r_{ii} \tilde r_{ii}\right),
              \quad h' = 1 - \tanh^2(\tilde R Q^\top z + b).

    Q has M = `rank` orthonormal columns; R and :math:`\tilde R` are upper triangular, M × M.  It is invertible for all weights: the
    products of diagonal entries, :math:`r_{ii} \tilde r_{ii}`, stay above -0.99 (their theorem 2 asks for more than -1), and those of
    :math:`\tilde R` are positive, which is no restriction, tanh being odd.

    kind: what Q is.  "orthogonal": a free D × M matrix, orthonormalised (Gram-Schmidt, by a QR decomposition).  "householder": the
    first M columns of a product of `householders` reflections.  "triangular": the first M columns of the identity, or with `flip`
    of the reversing permutation; let layers of this kind alternate.
    rank: M, at most `features`, which it is where none is given.

    z → x is one pass.  x → z is iterative, exact and differentiable: :math:`v = Q^\top z` solves
    :math:`v + R \tanh(\tilde R v + b) = Q^\top x`, M increasing scalar equations one after the other, from the last coordinate up.

    Q, R, :math:`\tilde R` and b are trained; with a context, those of every row are these plus the output of a conditioner network
    on the context, ``(N, width)`` numbers (amortised, section 3.3).  It starts as the identity, R = 0, with random Q and
    :math:`\tilde R`.

    conditioner, hidden: the network, or the widths of the default one; `layer.width` says how many outputs it has.

    Shapes: z and x are ``(batch, features)``; the log-determinant, in nats, ``(batch,)``.
    Errors: ArgumentError for an unknown kind, a rank or a number of reflections that makes no sense, a conditioner without a context.

    >>> import torch
    >>> layer = Sylvester(6, rank=3, kind="householder", context=2)
    >>> x, logdet = layer.forward_and_logdet(torch.ones(5, 6), torch.randn(5, 2))
    >>> torch.allclose(x, torch.ones(5, 6)), logdet.shape
    (True, torch.Size([5]))
    """

    inverse_cost = "iterative"

    def __init__(
        self,
        features: int,
        rank: int | None = None,
        kind: Kind = "orthogonal",
        *,
        householders: int = 8,
        flip: bool = False,
        context: int | Shape | None = None,
        conditioner: nn.Module | None = None,
        hidden: Sequence[int] = (128,),
    ) -> None:
        super().__init__(features, context)
        title = self._title()
        if kind not in KINDS:
            raise ArgumentError(f"{title}: kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}.")
        self.rank = _count(features if rank is None else rank, f"{title}: rank, the number of columns of Q,")
        if self.rank > features:
            raise ArgumentError(
                f"{title}: {features} feature(s) have no {self.rank} orthogonal directions; rank is at most {features}."
            )
        if flip and kind != "triangular":
            raise ArgumentError(f"{title}: flip is for kind='triangular'; the Q of kind={kind!r} is trained.")
        self.kind, self.flip, self.h = kind, flip, Tanh()
        m = self.rank
        # R on and above the diagonal, the other triangle is that of R̃ transposed: tanh units start with different inputs
        self.entries = nn.Parameter(torch.randn(m, m).tril(-1) / math.sqrt(m))
        self.log_diagonal = nn.Parameter(torch.zeros(m))
        self.b = nn.Parameter(torch.zeros(m))
        self.directions: nn.Parameter | None = None
        if kind == "orthogonal":
            self.directions = nn.Parameter(torch.randn(features, m))
        elif kind == "householder":
            count = _count(householders, f"{title}: householders, the number of reflections,")
            self.directions = nn.Parameter(torch.randn(count, features))
        self._condition(self.width, conditioner, hidden)

    @property
    def width(self) -> int:
        """How many numbers a conditioner supplies."""
        return sum(parameter.numel() for parameter in self._trained())

    def _trained(self) -> tuple[Tensor, ...]:
        own = (self.entries, self.log_diagonal, self.b)
        return own if self.directions is None else (*own, self.directions)

    def _constants(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Map, Map]:
        """R, R̃, b, and the maps z ↦ Qᵀz and y ↦ Qy."""
        entries, log_diagonal, b, *directions = self._rows(context, *self._trained())
        inner = soft_clamp(log_diagonal, 2.0).exp()
        outer = above_minus_one(entries.diagonal(dim1=-2, dim2=-1) * inner) / inner
        R = entries.triu(1) + outer.diag_embed()
        R_inner = entries.tril(-1).mT + inner.diag_embed()
        return R, R_inner, b, *self._frame(*directions)

    def _frame(self, directions: Tensor | None = None) -> tuple[Map, Map]:
        """z ↦ Qᵀz and y ↦ Qy."""
        m, pad = self.rank, (0, self._features - self.rank)
        if directions is None:
            if self.flip:
                return (lambda z: z.flip(1)[:, :m]), (lambda y: F.pad(y, pad).flip(1))
            return (lambda z: z[:, :m]), (lambda y: F.pad(y, pad))
        if self.kind == "householder":
            return (lambda z: reflect(directions, z, transpose=True)[:, :m]), (lambda y: reflect(directions, F.pad(y, pad)))
        q = orthonormal(directions)
        return (lambda z: product(q.mT, z)), (lambda y: product(q, y))

    @property
    def _features(self) -> int:
        return (self.shape or (0,))[0]

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        R, R_inner, b, down, up = self._constants(context)
        h, slope = self.h(product(R_inner, down(z)) + b)
        return z + up(product(R, h)), _logdet(R, R_inner, slope)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        R, R_inner, b, down, up = self._constants(context)
        v = self._solve(R, R_inner, b, down(x))
        h, slope = self.h(product(R_inner, v) + b)
        return x - up(product(R, h)), -_logdet(R, R_inner, slope)

    def _solve(self, R: Tensor, R_inner: Tensor, b: Tensor, y: Tensor) -> Tensor:
        """The v with v + R h(R̃ v + b) = y: found without gradients, which two Newton steps then carry (see `Tanh.solve`)."""
        out, dtype = y.dtype, solver_dtype(y.dtype, R.dtype)
        R, R_inner, b, y = R.to(dtype), R_inner.to(dtype), b.to(dtype), y.to(dtype)
        v = self._substitute(R, R_inner, b, y)
        for _ in range(2 if torch.is_grad_enabled() else 0):
            h, slope = self.h(product(R_inner, v) + b)
            gap = v + product(R, h) - y
            jacobian = precise(torch.matmul, R * slope.unsqueeze(1), R_inner)
            jacobian = jacobian + torch.ones_like(v).diag_embed()
            v = v - torch.linalg.solve_triangular(jacobian, gap.unsqueeze(2), upper=True).squeeze(2)
        return v.to(out)

    @torch.no_grad()
    def _substitute(self, R: Tensor, R_inner: Tensor, b: Tensor, y: Tensor) -> Tensor:
        """Back-substitution: the last equation has one unknown, the one above it one more, and so on."""
        v, h = torch.zeros_like(y), torch.zeros_like(y)
        for i in reversed(range(self.rank)):
            r, r_inner = R[..., i, i], R_inner[..., i, i]
            known = (R[..., i, i + 1 :] * h[:, i + 1 :]).sum(1)
            shift = (R_inner[..., i, i + 1 :] * v[:, i + 1 :]).sum(1) + b[..., i]
            rest = y[:, i] - known
            h[:, i] = self.h.solve(r * r_inner, r_inner * rest + shift).tanh()
            v[:, i] = rest - r * h[:, i]
        return v

    def extra_repr(self) -> str:
        return f"features={self._features}, rank={self.rank}, kind={self.kind!r}" + (", flip=True" if self.flip else "")


def _logdet(R: Tensor, R_inner: Tensor, slope: Tensor) -> Tensor:
    """Sylvester's identity: det(I + Q R h' R̃ Qᵀ) = det(I + h' R̃ R), whose matrix is upper triangular."""
    diagonal = R.diagonal(dim1=-2, dim2=-1) * R_inner.diagonal(dim1=-2, dim2=-1)
    return (diagonal * slope).log1p().sum(1)


def orthonormal(directions: Tensor) -> Tensor:
    """The columns of `(..., features, rank)`, orthonormalised from left to right.

    The signs that a QR decomposition leaves open are those of Gram and Schmidt, so that Q depends continuously on the columns.
    """
    q, r = torch.linalg.qr(directions.to(solver_dtype(directions.dtype)))
    turned = r.diagonal(dim1=-2, dim2=-1).unsqueeze(-2) < 0
    return torch.where(turned, -q, q).to(directions.dtype)


def product(matrix: Tensor, z: Tensor) -> Tensor:
    """Matrix times vector, row by row: ``(m, n)`` or ``(N, m, n)`` times ``(N, n)``."""
    if matrix.dim() == 2:
        return precise(F.linear, z, matrix)
    return precise(torch.matmul, matrix, z.unsqueeze(2)).squeeze(2)


def _count(value: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{what} must be a positive integer, got {value!r}.")
    return value
