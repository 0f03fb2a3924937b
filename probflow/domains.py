"""Sets that parameters and values live in: what they are called, who belongs to them, how that is checked cheaply."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from probflow.checks import is_lenient, require


@dataclass(frozen=True)
class Domain:
    """A set of numbers (rank 0), vectors (rank 1) or matrices (rank 2).

    ``holds`` is the exact mask, with the last ``rank`` dimensions reduced.  ``reduce`` and ``accept`` are the same question
    asked cheaply: one reduction to a number, then a comparison; NaN never passes.
    """

    text: str
    holds: Callable[[Tensor], Tensor]
    reduce: Callable[[Tensor], Tensor]
    accept: Callable[[float], bool]
    rank: int = 0
    hint: str = ""
    glance: Callable[[Tensor], bool] | None = None
    """A cheaper check on the CPU that may let infinities pass: for evaluations that look at the result as well."""
    contagious: bool = False
    """Whether an element outside makes every log-density it enters NaN or infinite, so that the result betrays it."""
    made: tuple[Callable[..., Domain], tuple[object, ...]] | None = field(default=None, repr=False, compare=False)
    """The function that made it and its arguments, where it is not one of those below."""

    def __reduce__(self) -> str | tuple[object, ...]:
        """Pickled, and copied, as what it was made from: a transform keeps its domains, and their functions have no names."""
        if self.made is not None:
            return self.made
        name = next((name for name, value in globals().items() if value is self), None)
        return super().__reduce__() if name is None else name

    def require(self, tensor: Tensor, complain: Callable[[str], Exception]) -> None:
        """Raise ``complain(offender)`` when `tensor` has an element outside this domain; "offender" says which and where."""
        if is_lenient() and (self.contagious or (self.glance is not None and tensor.is_cpu and self.glance(tensor))):
            return
        if tensor.numel() == 0:
            return
        tensor = tensor.detach()
        reduced = self.reduce(tensor)
        if reduced.is_cpu and self.accept(reduced.item()):
            return

        def look() -> Exception | None:
            offender = self.offender(tensor)
            return None if offender is None else complain(offender)

        require(reduced, self.accept, look)

    def offender(self, tensor: Tensor) -> str | None:
        """The first element outside the domain, as text: ``-0.3 at [0, 2]``; None when all are inside."""
        outside = ~self.holds(tensor)
        if not bool(outside.any()):
            return None
        place = [int(index) for index in outside.nonzero()[0]]  # older torch has no tolist under torch.func.grad
        tensor = tensor.expand(
            (*outside.shape, *tensor.shape[tensor.dim() - self.rank :])
        )  # a bound may be wider than the value
        element = tensor[tuple(place)] if place else tensor
        where = f" at {place}" if place else ""
        count = int(outside.sum())
        more = f" (and {count - 1} more)" if count > 1 else ""
        return f"{element_text(element)}{where}{more}"


def element_text(element: Tensor) -> str:
    """A number or a short vector, as a person would write it."""
    if element.dim() == 0:
        return f"{element.item():.6g}" if element.is_floating_point() else str(element.item())
    flat = [f"{number:.4g}" for number in element.flatten()[:6].tolist()]
    return "[" + ", ".join(flat) + (", ..." if element.numel() > 6 else "") + "]"


def _finite_sum(tensor: Tensor) -> Tensor:
    # float16 sums overflow at 65504; every other type has the range of float32 at least
    return tensor.sum(dtype=torch.float32) if tensor.dtype == torch.float16 else tensor.sum()


def _not_boolean(tensor: Tensor) -> Tensor:
    if tensor.dtype is torch.bool:
        return tensor.new_zeros(())
    return (tensor.square() - tensor).count_nonzero()  # inf - inf and NaN are not zero either


def _tolerance(tensor: Tensor) -> float:
    """How far from 1 the float32 sum of a probability vector may be; coarser types get more room."""
    return 3e-2 if tensor.dtype in (torch.float16, torch.bfloat16) else 1e-3


def interval(low: float, high: float, text: str | None = None, *, open_low: bool = False, open_high: bool = False) -> Domain:
    """Numbers from `low` to `high`; each end may be left out."""
    brackets = "(" if open_low else "[", ")" if open_high else "]"
    return _interval(low, high, text or f"{brackets[0]}{low:g}, {high:g}{brackets[1]}", open_low, open_high)


@cache
def _interval(low: float, high: float, text: str, open_low: bool, open_high: bool) -> Domain:
    """One object for each: an unpickled interval equals the one that it was made from."""

    def holds(t: Tensor) -> Tensor:
        return (t > low if open_low else t >= low) & (t < high if open_high else t <= high)

    return Domain(
        text=text,
        holds=holds,
        reduce=lambda t: (~holds(t)).sum(),
        accept=lambda count: count == 0,
        made=(_interval, (low, high, text, open_low, open_high)),
    )


real = Domain("real numbers", torch.isfinite, _finite_sum, math.isfinite, contagious=True)
positive = Domain("positive numbers (0, ∞)", lambda t: t > 0, torch.amin, lambda low: low > 0)
nonnegative = Domain("numbers [0, ∞)", lambda t: t >= 0, torch.amin, lambda low: low >= 0)
unit_interval = Domain(
    "the unit interval [0, 1]",
    lambda t: (t >= 0) & (t <= 1),
    lambda t: (t - 0.5).abs().amax(),
    lambda spread: spread <= 0.5,
)
open_unit_interval = Domain(
    "the open unit interval (0, 1)", lambda t: (t > 0) & (t < 1), lambda t: torch.minimum(t, 1 - t).amin(), lambda low: low > 0
)
boolean = Domain(
    "{0, 1}",
    lambda t: (t == 0) | (t == 1),
    lambda t: _not_boolean(t),
    lambda count: count == 0,
    glance=lambda t: (t * t).equal(t),
)
natural = Domain(
    "counts {0, 1, 2, ...}",
    lambda t: (t >= 0) & (t == t.floor()) & (t < math.inf) if t.is_floating_point() else t >= 0,
    lambda t: (~((t >= 0) & (t == t.floor()) & (t < math.inf))).sum() if t.is_floating_point() else (t < 0).sum(),
    lambda count: count == 0,
)
simplex = Domain(
    "probability vectors (non-negative, summing to 1)",
    lambda t: (t >= 0).all(-1) & ((t.float().sum(-1) - 1).abs() < _tolerance(t)),
    lambda t: (~((t >= 0).all(-1) & ((t.float().sum(-1) - 1).abs() < _tolerance(t)))).sum(),
    lambda count: count == 0,
    rank=1,
)
open_simplex = Domain(
    "probability vectors with positive elements (summing to 1)",
    lambda t: (t > 0).all(-1) & ((t.float().sum(-1) - 1).abs() < _tolerance(t)),
    lambda t: (~((t > 0).all(-1) & ((t.float().sum(-1) - 1).abs() < _tolerance(t)))).sum(),
    lambda count: count == 0,
    rank=1,
    hint="the density at the border is 0 or infinite; hard class labels belong to Categorical",
)
one_hot = Domain(
    "one-hot vectors (a single 1, the rest 0)",
    lambda t: ((t == 0) | (t == 1)).all(-1) & (t.sum(-1) == 1),
    lambda t: (t * (t - 1)).abs().amax() + (t.sum(-1) - 1).abs().amax(),
    lambda gap: gap == 0,
    rank=1,
    hint="integer class indices (dtype torch.long) are accepted too",
)
positive_vector = Domain("vectors of positive numbers", lambda t: (t > 0).all(-1), torch.amin, lambda low: low > 0, rank=1)
real_vector = Domain("real vectors", lambda t: t.isfinite().all(-1), _finite_sum, math.isfinite, rank=1, contagious=True)
real_matrix = Domain(
    "real matrices", lambda t: t.isfinite().all(-1).all(-1), _finite_sum, math.isfinite, rank=2, contagious=True
)
logit_vector = Domain(
    "real vectors of logits",
    lambda t: (t < math.inf).all(-1) & (t > -math.inf).any(-1),
    lambda t: t.amax(-1).abs().amax(),
    math.isfinite,
    contagious=True,
    rank=1,  # every row: a row of -inf only has no distribution
)


def _is_cholesky(t: Tensor) -> Tensor:
    lower = (t.tril() == t).flatten(-2).all(-1)
    return lower & (t.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


def _is_positive_definite(t: Tensor) -> Tensor:
    symmetric = torch.isclose(t, t.mT, atol=1e-6).all(-1).all(-1)
    return symmetric & (torch.linalg.cholesky_ex(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t).info == 0)


lower_cholesky = Domain(
    "lower-triangular matrices with a positive diagonal", _is_cholesky, lambda t: (~_is_cholesky(t)).sum(), lambda n: n == 0, 2
)
positive_definite = Domain(
    "symmetric positive-definite matrices",
    _is_positive_definite,
    lambda t: (~_is_positive_definite(t)).sum(),
    lambda n: n == 0,
    2,
)
