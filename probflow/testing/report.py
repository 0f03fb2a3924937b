"""What a check says: a table of laws, or an error with the law that is broken and the numbers that disagree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from probflow.errors import ArgumentError, BrokenLaw
from probflow.printing import did_you_mean

S = TypeVar("S")


@dataclass(frozen=True)
class Outcome:
    """What became of one law: a measured number, or why it was not checked.

    >>> import probflow as pf
    >>> outcome = pf.testing.check_transform(pf.transforms.Affine(2))["round trip"]
    >>> outcome.checked, type(outcome).__name__
    (True, 'Outcome')
    """

    note: str
    checked: bool = True

    def __str__(self) -> str:
        return f"{'ok' if self.checked else 'not checked':12}{self.note}".rstrip()


@dataclass(frozen=True)
class Report:
    """The laws that were looked at, in order; print it.

    >>> import probflow as pf
    >>> report = pf.testing.check_transform(pf.transforms.Affine(2))
    >>> type(report).__name__, report["round trip"].checked
    ('Report', True)
    """

    title: str
    outcomes: Mapping[str, Outcome]

    def __getitem__(self, law: str) -> Outcome:
        if law not in self.outcomes:
            raise ArgumentError(f"There is no law {law!r}.{did_you_mean(law, list(self.outcomes))}")
        return self.outcomes[law]

    def __str__(self) -> str:
        width = max(len(law) for law in self.outcomes) + 2
        return "\n".join([self.title, *(f"  {law:{width}}{outcome}".rstrip() for law, outcome in self.outcomes.items())])

    __repr__ = __str__


def hold(subject: S, laws: Mapping[str, Callable[[S], Outcome]], without: Sequence[str], title: str) -> Report:
    """Every law of `laws`, except those left out by name."""
    for name in without:
        if name not in laws:
            raise ArgumentError(
                f"There is no law {name!r} to leave out.{did_you_mean(name, list(laws))}\n  laws: {', '.join(laws)}"
            )
    outcomes = {}
    for name, law in laws.items():
        if name in without:
            outcomes[name] = Outcome("left out on request", checked=False)
            continue
        outcomes[name] = _held(subject, law, name)
    return Report(title, outcomes)


def _held(subject: S, law: Callable[[S], Outcome], name: str) -> Outcome:
    try:
        return law(subject)
    except BrokenLaw:
        raise
    except Exception as error:
        raise BrokenLaw(f"{subject}, law {name!r}: it fails with {type(error).__name__}.\n{error}") from error


def difference(got: Tensor, expected: Tensor) -> float:
    """The largest difference; infinite where only one of the two is NaN."""
    if got.numel() == 0:
        return 0.0
    gap = torch.where(got.isnan() & expected.isnan(), 0.0, (got - expected).abs())
    gap = torch.where(got == expected, 0.0, gap)  # infinities that agree
    return float(gap.nan_to_num(nan=torch.inf).max())


def require_close(
    who: object, law: str, got: Tensor, expected: Tensor, rtol: float, atol: float, said: tuple[str, str]
) -> float:
    """The largest difference, where it is allowed; `said` names the two tensors.

    Errors: BrokenLaw with the first row that disagrees, its two values, and a guess at the fault.
    """
    got, expected = got.detach(), expected.detach()
    if got.shape != expected.shape:
        raise BrokenLaw(
            f"{who} breaks the law {law!r}: {said[0]} has shape {tuple(got.shape)}, {said[1]} {tuple(expected.shape)}."
        )
    near = torch.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    if not bool(near.all()):
        place = tuple((~near).nonzero()[0].tolist())
        a, b = float(got[place]), float(expected[place])
        raise BrokenLaw(
            f"{who} breaks the law {law!r} in {int((~near).sum())} of {near.numel()} numbers.\n"
            f"  at {list(place)}: {said[0]} {a:.6g}, {said[1]} {b:.6g}, difference {a - b:.3g}{_guess(got, expected, rtol, atol)}"
        )
    return difference(got, expected)


def _guess(got: Tensor, expected: Tensor, rtol: float, atol: float) -> str:
    """What the numbers have in common."""
    if torch.allclose(got, -expected, rtol=rtol, atol=atol):
        return "\nAll of them have the wrong sign."
    gap = (got - expected).flatten()
    if gap.numel() > 1 and torch.allclose(gap, gap[:1].expand_as(gap), rtol=1e-6, atol=max(atol, 1e-9)):
        return f"\nThe difference is the same everywhere, {float(gap[0]):.6g}: a constant is missing or too much."
    return ""


def require(truth: bool, message: Callable[[], str]) -> None:
    """BrokenLaw with `message` unless `truth`."""
    if not truth:
        raise BrokenLaw(message())
