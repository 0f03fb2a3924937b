"""The inverse of an increasing function where there is no formula: an expanding bracket, bisection, Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from probflow import domains
from probflow.domains import Domain
from probflow.transforms.transform import Pair

Increasing: TypeAlias = Callable[[Tensor], Pair]
"""z ↦ f(z) and log f'(z), elementwise, for an increasing f."""

_NEWTON_ROUNDS = 32
_INTEGERS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}


def invert(function: Increasing, x: Tensor, codomain: Domain = domains.real) -> Pair:
    r"""z = f⁻¹(x) and log dz/dx, elementwise, with gradients for x and for everything that `function` depends on.

    The root z₀ is found without a graph, to the precision of the dtype.  Its derivatives are those of one Newton step,

    .. math:: z = z_0 - \frac{f(z_0; \theta) - x}{f'(z_0)}, \qquad
              \frac{\partial z}{\partial x} = \frac{1}{f'(z_0)}, \quad
              \frac{\partial z}{\partial \theta} = -\frac{1}{f'(z_0)} \frac{\partial f}{\partial \theta},

    with f' held constant: the implicit function theorem, exact to first order (second derivatives are not).

    Where x has no preimage, is outside `codomain`, or is not finite, z is a finite number and the logarithm -inf.

    >>> import torch
    >>> invert(lambda z: (z**3 + z, (3 * z**2 + 1).log()), torch.tensor([10.0]))
    (tensor([2.]), tensor([-2.5649]))
    """
    root, found = search(function, x)
    if codomain.rank == 0:
        found = found & codomain.holds(x)  # on its border rounding alone may give f that value
    z = torch.where(found, root, 0)
    if torch.is_grad_enabled():
        value, log_slope = function(z)
        slope = torch.where(found, log_slope.detach(), 0).exp().clamp(min=torch.finfo(x.dtype).tiny)
        # the value stays z0, which is as good as it gets; only the derivatives of the step are wanted
        gap = torch.where(found, value - torch.where(found, x, 0), 0)
        z = z - (gap - gap.detach()) / slope
    logdet = -function(z)[1]
    return torch.where(found, z, root), torch.where(found, logdet, -torch.inf)


@torch.no_grad()
def search(function: Increasing, x: Tensor) -> tuple[Tensor, Tensor]:
    """A root of f(z) = x for every element, without gradients, and whether there is one.

    From z = x, steps that grow without bound look for a second point on the other side of the root, up to the largest finite
    number.  Then Newton's method, with a bisection wherever it leaves the bracket, and every fourth time.  After 32 rounds only
    bisections are left, of the interval and, in turn, of the floating-point numbers in it: at most as many as a number has bits.
    The search ends when the bracket itself is a few units of rounding wide: a small step alone proves nothing.

    Every element goes its own way: the others decide only when the loop ends.  Where no root is found, z is x, or 0.
    """
    top, eps, bits = torch.finfo(x.dtype).max, torch.finfo(x.dtype).eps, torch.finfo(x.dtype).bits
    worst = min(1024.0, 1 / (64 * eps))  # the condition number that is believed at most
    finite = x.isfinite()
    x = torch.where(finite, x, 0)
    best, (value, log_slope) = x, function(x)
    gap = value - x
    up, stride = gap < 0, 1 + x.abs()

    # the bracket: `near` is on this side of the root, `far` beyond it
    near = far = x
    open_, growth, rounds = finite & (gap != 0), 1.0, 0
    while growth < top and bool(open_.any()):
        probe = (near + growth * torch.where(up, stride, -stride)).clamp(-top, top)
        value = function(probe)[0]
        passed = open_ & torch.where(up, value >= x, value <= x)
        far = torch.where(passed, probe, far)
        open_ = open_ & ~passed
        near = torch.where(open_ & ~value.isnan(), probe, near)
        rounds += 1
        growth *= 2.0 ** min(rounds, 64)
    low, high = torch.where(up, near, far), torch.where(up, far, near)

    done = open_ | ~finite
    for k in range(_NEWTON_ROUNDS + 2 * bits):
        slope = log_slope.exp()
        # the resolution of z itself, and that of x, seen through the slope
        size = 1 + best.abs()
        unit = 4 * eps * size * (1 + ((1 + x.abs()) / (slope * size)).clamp(max=worst))
        done = done | (gap == 0) | (high - low <= 2 * unit) | (_ordinal(low) + 1 >= _ordinal(high))
        if bool(done.all()):
            break
        # halving the numbers instead of the interval crosses hundreds of orders of magnitude in a few steps
        turn = k // 4 if k < _NEWTON_ROUNDS else k
        z = middle = low / 2 + high / 2 if turn % 2 == 0 else _from_ordinal(_middle(_ordinal(low), _ordinal(high)), x.dtype)
        step = gap / slope
        # a step that is hardly one goes a unit beyond the root it claims: only a change of sign proves the root
        small = step.abs() <= unit
        newton = best - torch.where(small, gap.sign() * unit, step)
        wanted = small if k >= _NEWTON_ROUNDS or k % 4 == 3 else torch.ones_like(small)
        z = torch.where(wanted & (newton > low) & (newton < high), newton, middle)
        value, z_log_slope = function(z)
        z_gap = value - x
        low, high = torch.where(~done & (z_gap < 0), z, low), torch.where(~done & (z_gap >= 0), z, high)
        better = ~done & ((z_gap.abs() < gap.abs()) | gap.isnan())
        best, gap = torch.where(better, z, best), torch.where(better, z_gap, gap)
        log_slope = torch.where(better, z_log_slope, log_slope)
    found = finite & ~open_ & gap.isfinite() & log_slope.isfinite()
    polished = best - gap * (-log_slope).exp()
    return torch.where(found, torch.where((polished > low) & (polished < high), polished, best), x), found


def _ordinal(x: Tensor) -> Tensor:
    """The place of a floating-point number among all of its type: neighbours differ by one, 0 is at 0."""
    bits = x.view(_INTEGERS[x.dtype])
    return torch.where(bits < 0, -(bits & torch.iinfo(bits.dtype).max), bits)


def _from_ordinal(place: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(place < 0, -place | torch.iinfo(place.dtype).min, place).view(dtype)


def _middle(a: Tensor, b: Tensor) -> Tensor:
    """(a + b) / 2 rounded down, where a + b may overflow."""
    return (a >> 1) + (b >> 1) + (a & b & 1)
