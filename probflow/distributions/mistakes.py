"""What newcomers try on a distribution, and what to write instead.  Nothing here computes anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from probflow.errors import ArgumentError, LossError
from probflow.printing import did_you_mean, shape_text

if TYPE_CHECKING:
    from probflow.distributions.base import Distribution

OTHER_NAMES = {
    "mu": "loc", "mean": "loc", "sigma": "scale", "std": "scale", "stddev": "scale", "p": "probs", "prob": "probs", "pi": "probs",
    "logit": "logits", "lam": "rate", "lambda_": "rate", "nu": "df", "alpha": "concentration",
}  # fmt: skip
"""Parameters as papers and other libraries call them."""

LOGARITHMS = {
    "log_scale": "scale",
    "log_sigma": "scale",
    "log_std": "scale",
    "logstd": "scale",
    "logvar": "scale",
    "log_var": "scale",
}


def parameter_hint(name: str, known: Iterable[str]) -> str:
    """What a parameter is called here, with a leading space; nothing where no name is close."""
    known = list(known)
    for table in (OTHER_NAMES, LOGARITHMS):
        if table.get(name.lower()) in known:
            meant = table[name.lower()]
            half = "(0.5 * " if "var" in name else ""
            made = (
                f" Write {meant}={half}{name}{')' if half else ''}.exp()."
                if table is LOGARITHMS
                else f" It is called {meant!r} here."
            )
            return made
    return did_you_mean(name, known)


def unknown_keywords(what: str, given: Mapping[str, object], known: Iterable[str], hints: Mapping[str, str]) -> ArgumentError:
    """Keywords that do not exist; `hints` say what to write for those that are common elsewhere."""
    name = next(iter(given))
    hint = hints.get(name)
    return ArgumentError(
        f"{what} has no argument {name!r}.{'' if hint else did_you_mean(name, list(known))}\n"
        + (hint if hint else f"  its arguments: {', '.join(known)}")
    )


def values_as_keywords(
    p: Distribution, what: str, given: Mapping[str, object], known: Iterable[str], hints: Mapping[str, str]
) -> ArgumentError:
    """Keywords where a dict of values is meant, or that do not exist."""
    if set(given) & {*p.var, *p.cond_var}:
        return ArgumentError(f"{what}: values go in a dict: {{{', '.join(f'{n!r}: ...' for n in given)}}}.")
    return unknown_keywords(what, given, known, hints)


def not_values(p: Distribution, what: str, value: object) -> None:
    """A number of samples in the place of the values."""
    if isinstance(value, int) and not isinstance(value, bool):
        how = f"sample_shape={value}" if p.cond_var else f"batch_n={value}"
        raise ArgumentError(
            f"{what}: the first argument is a dict of values, got {value}.\nFor {value} draws write sample({how})."
        )
    if isinstance(value, (tuple, list)) and all(isinstance(size, int) for size in value):
        raise ArgumentError(
            f"{what}: the first argument is a dict of values, got {shape_text(value)}.\nWrite sample_shape={list(value)}."
        )


def called(p: Distribution) -> NoReturn:
    """``p(x)``: a distribution is no function."""
    names = ", ".join(f"{n!r}: ..." for n in p.var + p.cond_var)
    conditions = "{" + ", ".join(f"{n!r}: ..." for n in p.cond_var) + "}" if p.cond_var else "batch_n=..."
    raise ArgumentError(
        f"{p.statement} is not called.\n"
        f"  its log-density:   p.log_prob({{{names}}})\n  a draw:            p.sample({conditions})\n  in an expression:  log(p)"
    )


def in_arithmetic(p: Distribution, other: Any, sign: str) -> NoReturn:
    """``p - q``, ``2 * p``: only products of distributions have a meaning."""
    shown = "a tensor" if isinstance(other, Tensor) else getattr(other, "statement", other)
    raise LossError(
        f"{p.statement} is a distribution, not a loss: '{sign}' (with {shown}) has no meaning.\n"
        "Distributions are multiplied with distributions, p * q; in a loss write log(p), Prob(p) or KL(q, p)."
    )


def as_tensor_function(function: Any, arguments: Iterable[Any]) -> NoReturn:
    """``torch.log(p)``: torch's functions take tensors."""
    from probflow.distributions.base import Distribution

    name = getattr(function, "__name__", "").strip("_")
    p = next(a for a in arguments if isinstance(a, Distribution))
    meant = {
        "log": "Write pf.log(p), its log-density as an expression.",
        "exp": "Write pf.Prob(p), its density as an expression.",
    }
    raise LossError(
        f"torch.{name} takes tensors, and {p.statement} is a distribution.\n"
        + meant.get(name, "In a loss write pf.log(p); for numbers p.log_prob({...}) or p.sample(...).")
    )


def torch_hint(value: object) -> str:
    """For a torch distribution: ours has a statement."""
    if not isinstance(value, torch.distributions.Distribution):
        return ""
    kind = type(value).__name__
    names = ", ".join(f"{n}=..." for n in value.arg_constraints)
    return f'\nWrite pf.{kind}("p(x)", {names}): a distribution of this library says what it is a distribution of.'
