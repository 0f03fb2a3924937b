"""Orthogonal maps, which keep volumes: products of Householder reflections, and maps of a skew-symmetric matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.errors import ArgumentError
from probflow.nn.conditioners import DenseConditioner
from probflow.transforms.linear import as_features, precise, solver_dtype
from probflow.transforms.transform import Pair, Transform, as_context, no_logdet

OrthogonalMap = Literal["cayley", "exp"]


class Householder(Transform):
    r"""A product of Householder reflections (Tomczak & Welling, arXiv:1611.09630):

    .. math:: x = H_k \cdots H_1 z, \qquad H_t = I - 2\, \frac{v_t v_t^\top}{\lVert v_t \rVert^2}, \qquad \log|\det J| = 0.

    The inverse is the transpose.  Reflections start in pairs of equal vectors, :math:`H_v H_v = I`: an even number of them is the
    identity at the start, with gradients that draw the vectors of a pair apart.  An odd number has determinant -1, so that it can
    be no identity: it starts as one random reflection.  A vector of zeros reflects nothing.

    reflections: k; `features` of them reach every orthogonal matrix of determinant :math:`(-1)^k`.
    context: its width makes this the Householder flow of a posterior: the :math:`v_t` are trained vectors plus the output of
    a conditioner network on the context, zero at the start.

    >>> import torch
    >>> layer = Householder(4, reflections=2, context=3)
    >>> x, logdet = layer.forward_and_logdet(torch.ones(5, 4), torch.randn(5, 3))
    >>> torch.allclose(x, torch.ones(5, 4)), logdet
    (True, tensor([0., 0., 0., 0., 0.]))
    """

    event_rank = 1

    def __init__(
        self,
        features: int,
        reflections: int = 2,
        *,
        context: int | Shape | None = None,
        conditioner: nn.Module | None = None,
        hidden: Sequence[int] = (128,),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        title = type(self).__name__
        self.shape = (as_features(features, title),)
        if isinstance(reflections, bool) or not isinstance(reflections, int) or reflections < 1:
            raise ArgumentError(f"{title}: reflections must be a positive integer, got {reflections!r}.")
        self.context = as_context(context, title)
        if conditioner is not None and self.context is None:
            raise ArgumentError(f"{title}: a conditioner needs a context to look at: pass context=<its width> as well.")
        pairs = torch.randn((reflections + 1) // 2, features).repeat_interleave(2, 0)
        self.vectors = nn.Parameter(pairs[:reflections].clone())
        self.conditioner: nn.Module | None = None
        if self.context is not None:
            width = reflections * features
            self.conditioner = conditioner or DenseConditioner(math.prod(self.context), hidden, width, activation=activation)

    def _vectors(self, context: Tensor | None) -> Tensor:
        """v, of shape (k, features), or one set per row, (N, k, features)."""
        if self.conditioner is None or context is None:
            return self.vectors
        return self.vectors + self.conditioner(context.flatten(1)).unflatten(1, tuple(self.vectors.shape))

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return reflect(self._vectors(context), z), no_logdet(z)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return reflect(self._vectors(context), x, transpose=True), no_logdet(x)

    def extra_repr(self) -> str:
        return f"features={self.vectors.shape[1]}, reflections={self.vectors.shape[0]}"


class Orthogonal(Transform):
    r"""A rotation :math:`x = Q z` from a free skew-symmetric matrix A, :math:`\log|\det J| = 0`; the identity at the start.

    map: "cayley", :math:`Q = (I - A)(I + A)^{-1}`, which reaches every rotation without an eigenvalue of -1; or "exp",
    :math:`Q = e^{A}`, which reaches every rotation (Lezcano-Casado & Martínez-Rubio, arXiv:1901.08428, section 3).

    The inverse is the transpose.  Q is computed anew at every call, at O(features³).

    >>> import torch
    >>> x, logdet = Orthogonal(3, map="exp").forward_and_logdet(torch.ones(2, 3))
    >>> torch.allclose(x, torch.ones(2, 3)), logdet
    (True, tensor([0., 0.]))
    """

    event_rank = 1

    def __init__(self, features: int, map: OrthogonalMap = "cayley") -> None:
        super().__init__()
        title = type(self).__name__
        self.shape = (as_features(features, title),)
        if map not in ("cayley", "exp"):
            raise ArgumentError(f"{title}: map must be 'cayley' or 'exp', got {map!r}.")
        self.map = map
        self.entries = nn.Parameter(torch.zeros(features, features))  # A above the diagonal; the rest is not used

    @property
    def matrix(self) -> Tensor:
        """Q, of shape (features, features), in float32 at least."""
        above = self.entries.triu(1)
        above = above.to(solver_dtype(above.dtype))
        skew = above - above.mT
        if self.map == "exp":
            return torch.matrix_exp(skew)
        one = torch.eye(skew.shape[0], dtype=skew.dtype, device=skew.device)
        # the two factors commute; I + A is never singular, so that asking whether it was (a wait for the device) is no use
        return torch.linalg.solve_ex(one + skew, one - skew)[0]

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return precise(F.linear, z, self.matrix.to(z.dtype)), no_logdet(z)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return precise(F.linear, x, self.matrix.mT.to(x.dtype)), no_logdet(x)

    def extra_repr(self) -> str:
        return f"features={self.entries.shape[0]}, map={self.map!r}"


def reflect(vectors: Tensor, z: Tensor, transpose: bool = False) -> Tensor:
    r""":math:`H_k \cdots H_1 z`, or with `transpose` :math:`H_1 \cdots H_k z`.

    vectors: ``(k, features)``, or one set per row, ``(N, k, features)``; z: ``(N, features)``.

    All reflections at once: with the :math:`v_t` as rows of V, :math:`H_k \cdots H_1 = I - V^\top M^{-1} V`, where M is
    :math:`V V^\top` below its diagonal, and half of it on it (the "UT transform": Joffrain et al., *Accumulating Householder
    transformations, revisited*, ACM TOMS 32(2), 2006).
    """
    dtype = solver_dtype(vectors.dtype, z.dtype)
    v = vectors.to(dtype)
    # H does not change with the length of v, so that this scale, taken as a constant, leaves its gradient exact
    v = v / v.detach().abs().amax(-1, keepdim=True).clamp_min(torch.finfo(dtype).tiny)
    gram = precise(torch.matmul, v, v.mT)
    half = gram.diagonal(dim1=-2, dim2=-1) / 2
    half = torch.where(half == 0, 1, half)  # v = 0 reflects nothing
    solved = torch.linalg.solve_triangular(gram.tril(-1) + half.diag_embed(), v, upper=False)
    first, second = (v, solved) if transpose else (solved, v)
    rows = z.to(dtype).unsqueeze(1)
    along = precise(torch.matmul, rows, first.mT)
    return (rows - precise(torch.matmul, along, second)).squeeze(1).to(z.dtype)
