"""Supports that depend on the parameters: intervals [low, high], counts up to n, count vectors that sum to n."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from probflow.domains import Domain


def between(low: Tensor, high: Tensor) -> Domain:
    """The interval [low, high], elementwise."""
    low, high = low.detach(), high.detach()
    return _domain(f"[{_shown(low, 'low')}, {_shown(high, 'high')}]", lambda x: (x >= low) & (x <= high))


def counts_up_to(total: Tensor) -> Domain:
    """{0, 1, ..., total}, elementwise."""
    total = total.detach()
    return _domain(
        f"counts {{0, 1, ..., {_shown(total, 'total_count')}}}", lambda x: (x >= 0) & (x <= total) & (x == x.floor())
    )


def count_vectors(total: Tensor) -> Domain:
    """Vectors of counts that sum to total."""
    total = total.detach()
    return _domain(
        f"vectors of counts that sum to {_shown(total, 'total_count')}",
        lambda x: ((x >= 0) & (x == x.floor())).all(-1) & (x.sum(-1) == total),
        rank=1,
    )


def _domain(text: str, holds: Callable[[Tensor], Tensor], rank: int = 0) -> Domain:
    return Domain(text, holds, lambda x: (~holds(x)).sum(), lambda count: count == 0, rank)


def _shown(tensor: Tensor, name: str) -> str:
    """The number, where one number is all there is and reading it does not stop an accelerator's stream; else the name."""
    single = all(size == 1 or stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return f"{tensor.flatten()[0].item():g}" if single and tensor.numel() and tensor.device.type == "cpu" else name
