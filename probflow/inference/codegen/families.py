"""How the families are written in plain PyTorch: log-densities, draws and divergences as expressions.

A draw uses up random numbers exactly as the library's own does; the formulas are the textbook's.  A family without a row here is
written with its ``torch.distributions`` class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import distributions as td

from probflow.distributions import families as f
from probflow.distributions.family import Family
from probflow.distributions.parametric import Parametric

Codes: TypeAlias = Mapping[str, str]
"""Parameter name -> expression."""

_NUMBER = re.compile(r"-?\d+(\.\d*)?(e-?\d+)?")

# ---------------------------------------------------------------------- small expressions, neutral elements left out


def is_number(code: str) -> bool:
    """Whether an expression is a literal."""
    return _NUMBER.fullmatch(code) is not None


def atom(code: str) -> str:
    """In parentheses, unless a method call or a power can follow."""
    depth = 0
    for character in code:
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and not (character.isalnum() or character in "_.)]}"):
            return f"({code})"
    return f"({code})" if is_number(code) else code


def operand(code: str) -> str:
    """In parentheses, unless it can stand in a product."""
    return code if is_number(code) and not code.startswith("-") else atom(code)


def minus(a: str, b: str) -> str:
    """a - b."""
    if is_number(b) and float(b) == 0:
        return a
    return f"{a} - {operand(b)}"


def over(a: str, b: str) -> str:
    """a / b."""
    if is_number(b) and float(b) == 1:
        return a
    return f"{operand(a)} / {operand(b)}"


def times(a: str, b: str) -> str:
    """a * b."""
    if is_number(a) and float(a) == 1:
        return b
    return f"{operand(a)} * {operand(b)}"


def plus(a: str, b: str) -> str:
    """a + b."""
    if is_number(a) and float(a) == 0:
        return b
    if is_number(b) and float(b) == 0:
        return a
    return f"{a} + {b}"


def log(a: str) -> str:
    """log a."""
    if is_number(a):
        return "0.0" if float(a) == 1 else f"math.log({a})"
    return f"{atom(a)}.log()"


def square(a: str) -> str:
    """a²."""
    code = operand(a)
    return f"{code}**2" if code.isidentifier() else f"{code} ** 2"


# ---------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Written:
    """One family: its log-density (or the negative, where the library computes that), and its draw from standard noise."""

    equation: str = ""
    log_prob: Callable[[Codes, str], str] | None = None
    negative: Callable[[Codes, str], str] | None = None
    drawn: str = ""
    draw: Callable[[Codes, str], str] | None = None
    noise: Literal["randn", "rand", "exponential"] = "randn"
    own_noise: bool = True
    """Whether torch's own rsample would use up other random numbers than the library's."""

    tensors: bool = False
    """Whether torch's class takes no plain numbers."""


def _normal_nll(p: Codes, x: str) -> str:
    z = over(minus(x, p["loc"]) if p["loc"] == "0.0" else f"({minus(x, p['loc'])})", p["scale"])
    return plus(f"0.5 * {square(z)}", plus(log(p["scale"]), "0.5 * math.log(2 * math.pi)"))


def _log_normal(p: Codes, x: str) -> str:
    z = over(f"({minus(f'{atom(x)}.log()', p['loc'])})", p["scale"])
    return minus(minus(f"-0.5 * {square(z)} - {atom(x)}.log()", log(p["scale"])), "0.5 * math.log(2 * math.pi)")


def _bernoulli_nll(p: Codes, x: str) -> str:
    if "logits" in p:
        return f'F.binary_cross_entropy_with_logits({p["logits"]}, {x}, reduction="none")'
    return f'F.binary_cross_entropy({p["probs"]}, {x}, reduction="none")'


def log_probs(p: Codes) -> str:
    """The logarithms of a Categorical's probabilities."""
    if "logits" in p:
        return f"{atom(p['logits'])}.log_softmax(-1)"
    return f"({p['probs']} / {atom(p['probs'])}.sum(-1, keepdim=True)).log()"


def _categorical(p: Codes, x: str) -> str:
    if "logits" in p:
        return f"({x} * {log_probs(p)}).sum(-1)"
    return f"torch.xlogy({x}, {p['probs']}).sum(-1) - {atom(p['probs'])}.sum(-1).log()"  # 0 log 0 = 0


def _exponential(p: Codes, x: str) -> str:
    return f"{log(p['rate'])} - {times(p['rate'], x)}"


def _logistic(p: Codes, x: str) -> str:
    z = over(f"({minus(x, p['loc'])})", p["scale"])
    return minus(f"F.logsigmoid({z}) + F.logsigmoid(-({z}))", log(p["scale"]))


def _location_scale(p: Codes, noise: str) -> str:
    return plus(p["loc"], times(p["scale"], noise))


_TABLE: dict[type[Parametric], Written] = {
    f.Normal: Written(
        "Σ -½ ((x - μ) / σ)² - log σ - ½ log 2π",
        negative=_normal_nll,
        drawn="{x} = μ + σ ε, ε ~ N(0, 1)",
        draw=_location_scale,
    ),
    f.LogNormal: Written(
        "Σ log N(log x; μ, σ²) - log x",
        log_prob=_log_normal,
        drawn="log {x} = μ + σ ε, ε ~ N(0, 1)",
        draw=lambda p, noise: f"({_location_scale(p, noise)}).exp()",
    ),
    f.Bernoulli: Written("Σ x log π + (1 - x) log(1 - π)", negative=_bernoulli_nll),
    f.Categorical: Written("Σ_k y_k log π_k, y one-hot", log_prob=_categorical),
    f.Exponential: Written(
        "Σ log λ - λ x",
        log_prob=_exponential,
        drawn="{x} = ε / λ, ε ~ Exponential(1)",
        draw=lambda p, noise: over(noise, p["rate"]),
        noise="exponential",
    ),
    f.Logistic: Written(
        "Σ log σ(z) + log σ(-z) - log s, z = (x - μ) / s",
        log_prob=_logistic,
        drawn="{x} = μ + s logit(u), u ~ Uniform(0, 1)",
        draw=lambda p, noise: plus(p["loc"], times(p["scale"], f"torch.logit({noise})")),
        noise="rand",
    ),
    f.Uniform: Written(
        drawn="{x} = low + (high - low) u, u ~ Uniform(0, 1)",
        draw=lambda p, noise: plus(p["low"], f"({minus(p['high'], p['low'])}) * {noise}"),
        noise="rand",
    ),
    f.HalfNormal: Written(drawn="{x} = σ |ε|, ε ~ N(0, 1)", draw=lambda p, noise: times(p["scale"], f"{atom(noise)}.abs()")),
    f.Weibull: Written(
        drawn="{x} = λ ε^(1/k), ε ~ Exponential(1)",
        draw=lambda p, noise: times(p["scale"], f"{atom(noise)} ** (1 / {operand(p['concentration'])})"),
        noise="exponential",
    ),
    f.Kumaraswamy: Written(
        drawn="{x} = (1 - u^(1/b))^(1/a), u ~ Uniform(0, 1)",
        draw=lambda p, noise: (
            f"(1 - {atom(noise)} ** (1 / {operand(p['concentration0'])})) ** (1 / {operand(p['concentration1'])})"
        ),
        noise="rand",
    ),
    f.RelaxedBernoulli: Written(
        drawn="{x} = sigmoid((l + logit u) / τ), u ~ Uniform(0, 1)",
        draw=lambda p, noise: f"torch.sigmoid({over(f'({_logits(p)} + torch.logit({noise}))', p['temperature'])})",
        noise="rand",
        tensors=True,
    ),
    f.Beta: Written(own_noise=False),
    f.InverseGamma: Written(own_noise=False),
}

WRITTEN: dict[Family, Written] = {cls.family: row for cls, row in _TABLE.items()}


def _logits(p: Codes) -> str:
    return p["logits"] if "logits" in p else f"torch.logit({p['probs']})"


# ---------------------------------------------------------------------- divergences


def _kl_normal(q: Codes, p: Codes) -> str:
    if p["loc"] == "0.0" and p["scale"] == "1.0":
        return minus(f"0.5 * ({square(q['loc'])} + {square(q['scale'])} - 1)", log(q["scale"]))
    gap = square(f"({minus(q['loc'], p['loc'])})" if p["loc"] != "0.0" else q["loc"])
    moments = over(f"0.5 * ({square(q['scale'])} + {gap})", square(p["scale"]) if p["scale"] != "1.0" else "1.0")
    return minus(plus(f"{moments} - 0.5", log(p["scale"])), log(q["scale"]))


def _kl_bernoulli(q: Codes, p: Codes) -> str:
    a, b = (_tensor_logits(params) for params in (q, p))
    return f"torch.sigmoid({a}) * ({a} - {b}) + F.softplus({b}) - F.softplus({a})"


def _tensor_logits(p: Codes) -> str:
    (name, code), *_ = p.items()
    code = f"torch.as_tensor({code})" if is_number(code) else code
    return code if name == "logits" else f"torch.logit({code})"


def _kl_exponential(q: Codes, p: Codes) -> str:
    return f"{minus(log(q['rate']), log(p['rate']))} + {over(p['rate'], q['rate'])} - 1"


KL_WRITTEN: dict[tuple[Family, Family], tuple[str, Callable[[Codes, Codes], str]]] = {
    (f.Normal.family, f.Normal.family): ("Σ ½ (σ_q² + (μ_q - μ_p)²) / σ_p² - ½ + log σ_p - log σ_q", _kl_normal),
    (f.LogNormal.family, f.LogNormal.family): ("that of the normal logarithms", _kl_normal),
    (f.Bernoulli.family, f.Bernoulli.family): (
        "Σ π (l - m) + log(1 - π) - log(1 - ρ), l and m the logits of π and ρ",
        _kl_bernoulli,
    ),
    (f.Exponential.family, f.Exponential.family): ("Σ log λ_q - log λ_p + λ_p / λ_q - 1", _kl_exponential),
}

# ---------------------------------------------------------------------- torch.distributions


_OURS = frozenset(cls.family for cls in (getattr(f, name) for name in f.__all__))


def torch_name(family: Family, what: str = "") -> str | None:
    """The name of the class in ``torch.distributions`` that says the same; None where there is none.

    what: "draw" where it must use up the same random numbers, "entropy" where it must know its entropy.
    """
    formulas = (family.log_prob, family.event_nll, family.rsample)
    if family not in _OURS and any(formula is not None for formula in formulas):
        return None  # a family of the user's own, with formulas of its own
    row = WRITTEN.get(family)
    if what == "draw" and family.rsample is not None and (row is None or row.own_noise):
        return None
    if not isinstance(family.torch_class, type):
        return None
    for cls in family.torch_class.__mro__:
        if cls.__module__.startswith("torch.distributions.") and hasattr(td, cls.__name__):
            abstract = cls in (td.Distribution, td.TransformedDistribution, td.ExponentialFamily)
            entropies = (td.Distribution.entropy, td.TransformedDistribution.entropy)
            unknown = what == "entropy" and getattr(cls, "entropy", None) in entropies
            return None if abstract or unknown else cls.__name__
    return None


def torch_object(name: str, params: Codes) -> str:
    """``td.Gamma(concentration=a, rate=b)``."""
    return f"td.{name}({', '.join(f'{key}={code}' for key, code in params.items())})"
