"""Every estimator on a small model whose exact gradient is known, one line each; `print_table()` prints bias, variance and cost.

    python -c "import sys; sys.path[:0] = ['tests']; from inference.estimators_registry import print_table; print_table()"

A parameter has one copy per batch row, so one backward pass gives as many independent gradients as there are rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import probflow as pf
from probflow import ELBO, E, Function, Loss
from probflow.losses.bounds import IWAE, Renyi
from probflow.losses.estimators import VIMCO, GumbelSoftmax, Rebar, Score

ROWS = 40_000
X, LOC, LOG_SCALE, LOGIT = 1.2, 0.3, -0.4, 0.4


@dataclass(frozen=True)
class Case:
    """An estimator: the model it is tried on, the loss of one parameter per row, and whether it is biased."""

    model: str
    make: Callable[[Tensor], Loss]
    exact: Callable[[Tensor], Tensor]
    at: tuple[float, ...]
    biased: bool = False

    def gradients(self, rows: int = ROWS, seed: int = 0) -> Tensor:
        """One estimate per row, ``(rows, parameters)``."""
        torch.manual_seed(seed)
        parameter = torch.tensor([self.at] * rows, dtype=torch.float64).requires_grad_()
        value = self.make(parameter).eval({"x": torch.full((rows,), X, dtype=torch.float64)})
        (gradient,) = torch.autograd.grad(value.sum(), parameter)
        return gradient

    def truth(self) -> Tensor:
        """The exact gradient."""
        at = torch.tensor(self.at, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(self.exact(at), at)
        return gradient


# ---------------------------------------------------------------------- a Gaussian latent: p(x, z) = N(x; z, 1) N(z; 0, 1)

JOINT = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)


def gaussian(a: Tensor) -> pf.Distribution:
    return pf.Normal("q(z | x)", lambda x: {"loc": a[:, 0], "scale": a[:, 1].exp()})


def elbo(at: Tensor) -> Tensor:
    loc, scale = at[0], at[1].exp()
    energy = -0.5 * ((X - loc) ** 2 + scale**2) - 0.5 * (loc**2 + scale**2) - math.log(2 * math.pi)
    return energy + scale.log() + 0.5 * math.log(2 * math.pi * math.e)


def grid(points: int = 400) -> tuple[Tensor, Tensor]:
    """Noise and its weights under N(0, 1), to integrate over: the trapezoid rule is exact to rounding."""
    noise = torch.linspace(-9, 9, points, dtype=torch.float64)
    return noise, torch.distributions.Normal(0.0, 1.0).log_prob(noise).exp() * (noise[1] - noise[0])


def log_ratio(at: Tensor, noise: Tensor) -> Tensor:
    z = at[0] + at[1].exp() * noise
    model = -0.5 * (X - z) ** 2 - 0.5 * z**2 - math.log(2 * math.pi)
    return model + 0.5 * noise**2 + at[1] + 0.5 * math.log(2 * math.pi)


def two_sample_bound(at: Tensor, power: float = 1.0) -> Tensor:
    """E (1/c) log (w_1^c + w_2^c)/2, by integrating over both draws."""
    noise, weight = grid()
    g = power * log_ratio(at, noise)
    return (weight[:, None] * weight * (torch.logaddexp(g[:, None], g[None, :]) - math.log(2))).sum() / power


class Centre(nn.Module):
    """A baseline to be learned; here a fixed number of rows, one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x))


GIVEN = Function(lambda x: -1.0 - x, ["x"], "b")
G = (LOC, LOG_SCALE)

# ---------------------------------------------------------------------- a coin and a die, with costs that are not linear

COIN = Function(lambda y: (y - 0.3) ** 2 * 3 + 2 * y, ["y"], "f")
COSTS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
DIE = Function(lambda y: torch.sin(y @ COSTS) * 2 + (y**2).sum(-1), ["y"], "f")


def coin(a: Tensor) -> pf.Distribution:
    return pf.Bernoulli("q(y | x)", lambda x: {"logits": a[:, 0]})


def die(a: Tensor) -> pf.Distribution:
    return pf.Categorical("q(y | x)", lambda x: {"logits": a})


def coin_exact(at: Tensor) -> Tensor:
    s = at[0].sigmoid()
    y = torch.tensor([0.0, 1.0], dtype=torch.float64)
    return (torch.stack([1 - s, s]) * ((y - 0.3) ** 2 * 3 + 2 * y)).sum()


def die_exact(at: Tensor) -> Tensor:
    return at.softmax(0) @ (torch.sin(COSTS) * 2 + 1)


COIN_MODEL = pf.Bernoulli("p(y)", probs=torch.tensor(0.2, dtype=torch.float64)) * pf.Normal(
    "p(x | y)", loc="y", scale=torch.tensor(0.7, dtype=torch.float64)
)


def coin_elbo(at: Tensor) -> Tensor:
    s = at[0].sigmoid()
    y, q = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.stack([1 - s, s])
    prior = torch.tensor([0.8, 0.2], dtype=torch.float64).log()
    return (q * (prior + torch.distributions.Normal(y, 0.7).log_prob(torch.tensor(X)) - q.log())).sum()


def coin_iwae(at: Tensor) -> Tensor:
    """Three samples: all eight outcomes."""
    s = at[0].sigmoid()
    y, q = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.stack([1 - s, s])
    w = (
        torch.tensor([0.8, 0.2], dtype=torch.float64).log()
        + torch.distributions.Normal(y, 0.7).log_prob(torch.tensor(X))
        - q.log()
    )
    total = torch.zeros((), dtype=torch.float64)
    for i in range(2):
        for j in range(2):
            for k in range(2):
                total = total + q[i] * q[j] * q[k] * (torch.stack([w[i], w[j], w[k]]).logsumexp(0) - math.log(3))
    return total


# ---------------------------------------------------------------------- both: z ~ N(a, 1), y ~ Bernoulli(sigmoid(z + b)), f = y (1 + z) + z^2

MIXED = Function(lambda y, z: y * (1 + z) + z**2, ["y", "z"], "f")


def mixed(a: Tensor) -> pf.Distribution:
    def below(z: Tensor) -> dict[str, Tensor]:
        return {"logits": z + a[:, 1].repeat(len(z) // len(a))}

    q = pf.Normal("q(z | x)", lambda x: {"loc": a[:, 0], "scale": torch.ones_like(a[:, 0])})
    return q * pf.Bernoulli("q(y | z)", below)


def mixed_exact(at: Tensor) -> Tensor:
    noise, weight = grid(4000)
    z = at[0] + noise
    return (weight * ((z + at[1]).sigmoid() * (1 + z) + z**2)).sum()


def gaussian_elbo(estimator: Any, shape: Any = ()) -> Callable[[Tensor], Loss]:
    return lambda a: ELBO(JOINT, gaussian(a), shape, estimator=estimator)


def coin_of(estimator: Any, shape: Any = ()) -> Callable[[Tensor], Loss]:
    return lambda a: E(coin(a), shape, estimator=estimator)[COIN]


def die_of(estimator: Any, shape: Any = ()) -> Callable[[Tensor], Loss]:
    return lambda a: E(die(a), shape, estimator=estimator)[DIE]


D = (0.3, -0.4, 0.9)
CASES: dict[str, Case] = {
    "pathwise": Case("ELBO", gaussian_elbo("pathwise"), elbo, G),
    "pathwise, K=4": Case("ELBO", gaussian_elbo("pathwise", [4]), elbo, G),
    "stl": Case("ELBO", gaussian_elbo("stl"), elbo, G),
    "stl, K=4": Case("ELBO", gaussian_elbo("stl", [4]), elbo, G),
    "score": Case("ELBO", gaussian_elbo("score"), elbo, G),
    "score, no baseline": Case("ELBO", gaussian_elbo(Score(baseline="none")), elbo, G),
    "score, given baseline": Case("ELBO", gaussian_elbo(Score(baseline=GIVEN)), elbo, G),
    "score, learned baseline": Case("ELBO", gaussian_elbo(Score(baseline=Function(Centre(), ["x"], "b"))), elbo, G),
    "score, K=4": Case("ELBO", gaussian_elbo("score", [4]), elbo, G),
    "iwae, pathwise": Case("IWAE, K=2", lambda a: IWAE(JOINT, gaussian(a), 2, "pathwise"), two_sample_bound, G),
    "iwae, dreg": Case("IWAE, K=2", lambda a: IWAE(JOINT, gaussian(a), 2, "dreg"), two_sample_bound, G),
    "iwae, score": Case("IWAE, K=2", lambda a: IWAE(JOINT, gaussian(a), 2, "score"), two_sample_bound, G),
    "iwae, vimco": Case("IWAE, K=2", lambda a: IWAE(JOINT, gaussian(a), 2, "vimco"), two_sample_bound, G),
    "renyi, pathwise": Case(
        "Renyi 0.3", lambda a: Renyi(JOINT, gaussian(a), 0.3, 2, "pathwise"), lambda at: two_sample_bound(at, 0.7), G
    ),
    "renyi, dreg": Case(
        "Renyi 0.3", lambda a: Renyi(JOINT, gaussian(a), 0.3, 2, "dreg"), lambda at: two_sample_bound(at, 0.7), G
    ),
    "coin, enumerate": Case("coin", coin_of("enumerate"), coin_exact, (LOGIT,)),
    "coin, score": Case("coin", coin_of("score"), coin_exact, (LOGIT,)),
    "coin, score, no baseline": Case("coin", coin_of(Score(baseline="none")), coin_exact, (LOGIT,)),
    "coin, score, K=4": Case("coin", coin_of("score", [4]), coin_exact, (LOGIT,)),
    "coin, rebar": Case("coin", coin_of("rebar"), coin_exact, (LOGIT,)),
    "coin, rebar, K=4": Case("coin", coin_of(Rebar(temperature=0.3, eta=0.8), [4]), coin_exact, (LOGIT,)),
    "coin, straight-through": Case("coin", coin_of("straight-through"), coin_exact, (LOGIT,), biased=True),
    "coin, gumbel-softmax": Case("coin", coin_of("gumbel-softmax"), coin_exact, (LOGIT,), biased=True),
    "coin, gumbel-softmax, hard": Case(
        "coin", coin_of(GumbelSoftmax(temperature=0.5, hard=True)), coin_exact, (LOGIT,), biased=True
    ),
    "die, enumerate": Case("die", die_of("enumerate"), die_exact, D),
    "die, score, K=4": Case("die", die_of("score", [4]), die_exact, D),
    "die, rebar": Case("die", die_of("rebar"), die_exact, D),
    "die, rebar, K=4": Case("die", die_of(Rebar(temperature=0.8), [4]), die_exact, D),
    "die, straight-through": Case("die", die_of("straight-through"), die_exact, D, biased=True),
    "die, gumbel-softmax": Case("die", die_of("gumbel-softmax"), die_exact, D, biased=True),
    "coin elbo, enumerate": Case("coin ELBO", lambda a: ELBO(COIN_MODEL, coin(a), estimator="enumerate"), coin_elbo, (LOGIT,)),
    "coin elbo, score": Case("coin ELBO", lambda a: ELBO(COIN_MODEL, coin(a), estimator="score"), coin_elbo, (LOGIT,)),
    "coin elbo, rebar": Case("coin ELBO", lambda a: ELBO(COIN_MODEL, coin(a), estimator="rebar"), coin_elbo, (LOGIT,)),
    "coin elbo, gumbel-softmax": Case(
        "coin ELBO", lambda a: ELBO(COIN_MODEL, coin(a), estimator="gumbel-softmax"), coin_elbo, (LOGIT,), biased=True
    ),
    "coin iwae, score": Case("coin IWAE, K=3", lambda a: IWAE(COIN_MODEL, coin(a), 3, "score"), coin_iwae, (LOGIT,)),
    "coin iwae, no baseline": Case(
        "coin IWAE, K=3", lambda a: IWAE(COIN_MODEL, coin(a), 3, Score(baseline="none")), coin_iwae, (LOGIT,)
    ),
    "coin iwae, vimco": Case("coin IWAE, K=3", lambda a: IWAE(COIN_MODEL, coin(a), 3, "vimco"), coin_iwae, (LOGIT,)),
    "coin iwae, vimco, arithmetic": Case(
        "coin IWAE, K=3", lambda a: IWAE(COIN_MODEL, coin(a), 3, VIMCO(mean="arithmetic")), coin_iwae, (LOGIT,)
    ),
    "mixed, chosen": Case("mixed", lambda a: E(mixed(a))[MIXED], mixed_exact, (0.3, -0.2)),
    "mixed, pathwise + score": Case(
        "mixed", lambda a: E(mixed(a), estimator={"z": "pathwise", "y": "score"})[MIXED], mixed_exact, (0.3, -0.2)
    ),
    "mixed, pathwise + score, K=4": Case(
        "mixed", lambda a: E(mixed(a), [4], estimator={"z": "pathwise", "y": "score"})[MIXED], mixed_exact, (0.3, -0.2)
    ),
    "mixed, score + enumerate": Case(
        "mixed", lambda a: E(mixed(a), estimator={"z": "score", "y": "enumerate"})[MIXED], mixed_exact, (0.3, -0.2)
    ),
    "mixed, pathwise + rebar": Case(
        "mixed", lambda a: E(mixed(a), estimator={"z": "pathwise", "y": "rebar"})[MIXED], mixed_exact, (0.3, -0.2)
    ),
    "mixed, all score": Case("mixed", lambda a: E(mixed(a), estimator="score")[MIXED], mixed_exact, (0.3, -0.2)),
    "mixed, straight-through": Case(
        "mixed",
        lambda a: E(mixed(a), estimator={"y": "straight-through"})[MIXED**2],
        lambda at: _square_exact(at),
        (0.3, -0.2),
        biased=True,
    ),
}


def _square_exact(at: Tensor) -> Tensor:
    noise, weight = grid(4000)
    z, s = at[0] + noise, (at[0] + noise + at[1]).sigmoid()
    return (weight * (s * (1 + z + z**2) ** 2 + (1 - s) * z**4)).sum()


def errors(case: Case, rows: int = ROWS) -> tuple[float, float]:
    """The bias in standard errors (the worst parameter's), and the variance of one gradient, summed over the parameters."""
    gradients = case.gradients(rows)
    error = gradients.std(0) / rows**0.5
    distance = (gradients.mean(0) - case.truth()).abs()
    return float((distance / (error + 1e-11)).max()), float(gradients.var(0).sum())


def table(rows: int = ROWS) -> str:
    """Name, bias in standard errors, variance, and time, relative to the first estimator of the same model."""
    lines = [f"{'estimator':<32}{'model':<16}{'bias / s.e.':>12}{'variance':>12}{'cost':>7}"]
    first: dict[str, float] = {}
    for name, case in CASES.items():
        bias, variance = errors(case, rows)
        case.gradients(rows)
        start = time.perf_counter()
        for _ in range(3):
            case.gradients(rows)
        took = time.perf_counter() - start
        cost = took / first.setdefault(case.model, took)
        note = "  biased" if case.biased else ""
        lines.append(f"{name:<32}{case.model:<16}{bias:>12.2f}{variance:>12.4g}{cost:>7.2f}{note}")
    return "\n".join(lines)


def print_table(rows: int = ROWS) -> None:
    """Print it."""
    print(table(rows))
