"""`check_distribution`: the laws of a density and its sampler."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from probflow._typing import Values
from probflow.distributions import Distribution
from probflow.errors import ArgumentError
from probflow.testing import distribution_laws, probability_laws
from probflow.testing.distribution_laws import Subject
from probflow.testing.report import Outcome, Report, hold

ROWS = 4

LAWS: dict[str, Callable[[Subject], Outcome]] = {
    "shapes": distribution_laws.shapes,
    "sample dimensions": distribution_laws.sample_dimensions,
    "rows": distribution_laws.rows,
    "batches": distribution_laws.batches,
    "total probability": probability_laws.total_probability,
    "samples": probability_laws.samples,
    "moments": probability_laws.moments,
    "pathwise gradient": probability_laws.pathwise_gradient,
    "gradients": probability_laws.gradients,
    "dtype": distribution_laws.dtype,
    "copies": distribution_laws.copies,
}


def check_distribution(
    p: Distribution,
    values: Values | None = None,
    *,
    draws: int = 20_000,
    tolerance: float = 0.01,
    exempt: Sequence[str] = (),
    without: Sequence[str] = (),
    seed: int = 0,
) -> Report:
    r"""Hold a distribution to the laws of its kind; gives a table of what was found, to be printed.

    The laws: *shapes*; *sample dimensions* (a block of samples is what its slices are); *rows* (no row of a batch influences another, and
    rows are drawn apart); *batches* (of none and of one); *total probability* (:math:`\int p = 1`, for one number or two, and for
    discrete values); *samples* (follow the density: Kolmogorov-Smirnov or χ²); *moments* (mean, variance and entropy, where they
    are known, are those of the draws); *pathwise gradient* (of a draw, against the score function's); *gradients* (of the density
    reach every weight); *dtype*; *copies* (deepcopy, pickle and state_dict).

    A density on a circle has no integral over the line: leave *total probability* and *samples* out.
    They are looked at on a copy in float64; `p` itself is left alone, and so is the random state.  A statistical law is called
    broken at five standard errors.

    values: the conditioning variables, if there are any, at least two rows; integrals and draws are those of row 0.
    draws: how many.  tolerance: of the total probability.  exempt: parts of names of weights that need get no gradient.
    without: names of laws to leave out.

    Errors: BrokenLaw, naming the law and the numbers; NoDensity, NoSampler where one of the two does not exist.

    >>> from probflow.distributions import Gumbel
    >>> print(check_distribution(Gumbel("p(x)", loc=0.0, scale=1.0, features_shape=1))["total probability"])
    ok          1.0000
    """
    if not isinstance(p, Distribution):
        raise ArgumentError(f"check_distribution takes a Distribution, got a {type(p).__name__}.")
    for factor in p.factors:
        factor.check_sampler()
        factor.check_density()
    given = {name: _double(value) for name, value in (values or {}).items()}
    missing = [name for name in p.cond_var if name not in given]
    if missing:
        raise ArgumentError(
            f"check_distribution: {p.statement} is conditioned on {', '.join(missing)}.\n"
            f"Pass values to test at: check_distribution(p, {{{missing[0]!r}: ...}})."
        )
    rows = min((len(value) for value in given.values()), default=ROWS)
    if rows < 2:
        raise ArgumentError("check_distribution needs two rows of the conditioning variables at least.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        subject = Subject(copy.deepcopy(p).double().eval(), given, rows, draws, tolerance, tuple(exempt))
        return hold(subject, LAWS, without, f"{p.statement}: all laws hold")


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value
