"""Nonlinear functions of expectations: the gradient is that of the mean of what is computed, whichever estimator is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, IWAE, E, Function, Loss, Max, Min, Prob, Score, exp, log
from probflow.errors import LossError

N = 40_000
A = 0.4
x = torch.zeros(N, dtype=torch.float64)
F = Function(lambda y: 3 * (y - 0.3) ** 2 - 0.9, ["y"], "f")  # -0.63 and 0.57: on both sides of every kink below
G = Function(lambda y: y + 1.0, ["y"], "g")
STATES = torch.tensor([0.0, 1.0], dtype=torch.float64)


def f(y: Tensor) -> Tensor:
    return 3 * (y - 0.3) ** 2 - 0.9


FUNCTIONS: dict[str, tuple[Callable[[Any], Loss], Callable[[Tensor], Tensor]]] = {
    "exp": (lambda e: exp(2 * e[F]), lambda y: (2 * f(y).mean(0)).exp()),
    "abs": (lambda e: e[F].abs(), lambda y: f(y).mean(0).abs()),
    "free bits": (lambda e: Max(e[F], 0.2), lambda y: f(y).mean(0).clamp(min=0.2)),
    "clamp, of a sum": (lambda e: (e[F] - 2 * e[G]).clamp(-2.5, 0.0), lambda y: (f(y) - 2 * y - 2).mean(0).clamp(-2.5, 0.0)),
    "reciprocal": (lambda e: 1 / (e[F] + 2), lambda y: 1 / (f(y).mean(0) + 2)),
    "root": (lambda e: (e[F] + 2) ** 0.5, lambda y: (f(y).mean(0) + 2).sqrt()),
    "log": (lambda e: log(e[F] + 2), lambda y: (f(y).mean(0) + 2).log()),
    "log of a mean of no exponential": (lambda e: log(e[F + 2]), lambda y: (f(y).mean(0) + 2).log()),
    "of the log of a mean of exponentials": (lambda e: log(e[exp(F)]).abs(), lambda y: f(y).exp().mean(0).log().abs()),
    "function of a function": (lambda e: Min(exp(e[F]), 1.2).log(), lambda y: f(y).mean(0).exp().clamp(max=1.2).log()),
    "a term of a sum": (lambda e: e[G] - 2 * e[F].abs(), lambda y: (y + 1).mean(0) - 2 * f(y).mean(0).abs()),
}


def coin(a: Tensor) -> pf.Distribution:
    return pf.Bernoulli("q(y | x)", lambda x: {"logits": a.repeat(len(x) // len(a))})


def exact(function: Callable[[Tensor], Tensor], samples: int) -> Tensor:
    """d/da of the mean over all outcomes of so many coins."""
    a = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    outcomes = torch.tensor(list(itertools.product([0.0, 1.0], repeat=samples)), dtype=torch.float64)
    weights = (a.sigmoid() * outcomes + (-a).sigmoid() * (1 - outcomes)).prod(1)
    (gradient,) = torch.autograd.grad((weights * function(outcomes.T)).sum(), a)
    return gradient


def per_row(loss: Loss, a: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss.eval({"x": x}).sum(), a)
    return gradient


def rows() -> Tensor:
    torch.manual_seed(0)
    return torch.full((N,), A, dtype=torch.float64, requires_grad=True)


def unbiased(estimates: Tensor, truth: Tensor) -> None:
    error = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - truth).abs() <= 5 * error + 1e-10).all(), (estimates.mean(0), truth, error)


@pytest.mark.parametrize("estimator", ["score", Score(baseline="none")], ids=["baseline", "none"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradient_of_the_mean(name: str, samples: int, estimator: Any) -> None:
    make, function = FUNCTIONS[name]
    a, shape = rows(), [samples] if samples > 1 else ()
    unbiased(per_row(make(E(coin(a), shape, estimator)), a), exact(function, samples))


@pytest.mark.parametrize("samples", [1, 3])
def test_baseline_lowers_the_variance(samples: int) -> None:
    a, shape = rows(), [samples] if samples > 1 else ()
    centred, bare = (per_row(exp(E(coin(a), shape, how)[F] + 3), a).var() for how in ("score", Score(baseline="none")))
    assert centred < bare / 2


def test_weights_written_as_a_quotient_of_densities() -> None:
    """log E_q[p / q] is the importance-weighted bound, as is exp(log p - log q)."""
    p, a = pf.Bernoulli("p(y)", probs=torch.tensor(0.2, dtype=torch.float64)), rows()
    q = coin(a)
    b = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    y = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    density = b.sigmoid() * y + (-b).sigmoid() * (1 - y)
    bound = (density.prod(1) * ((0.2 * y + 0.8 * (1 - y)) / density).mean(1).log()).sum()
    (truth,) = torch.autograd.grad(bound, b)
    unbiased(per_row(log(E(q, [2], "score")[Prob(p) / Prob(q)]), a), truth)
    unbiased(per_row(log(E(q, [2], "vimco")[exp(log(p) - log(q))]), a), truth)


def test_inside_another_expectation() -> None:
    """E_z | E_{w | z}[f] |, both coins, w a copy of its own for every z."""
    a = rows()
    w = pf.Bernoulli("q(w | y)", lambda y: {"logits": 2 * y - 1})
    h = Function(lambda w, y: w - 0.6 * y - 0.2, ["w", "y"], "h")
    s, c = torch.tensor([1.0, -1.0], dtype=torch.float64).sigmoid()
    value = torch.stack([(1 - c) * 0.2 + c * 0.8, (1 - s) * 0.8 + s * 0.2])  # E_w|h| at y = 0 and y = 1
    truth = (
        torch.tensor(A, dtype=torch.float64).sigmoid() * torch.tensor(-A, dtype=torch.float64).sigmoid() * (value[1] - value[0])
    )
    for shape in ((), [2]):
        for around in ("score", "enumerate"):
            if around == "score" or not shape:
                unbiased(per_row(E(coin(a), shape, around)[E(w, estimator="score")[h].abs()], a), truth)


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(), [2]])
def test_around_a_mean_over_the_batch(how: str, shape: Any) -> None:
    """Free bits for a whole batch of two rows: their draws share one cost."""
    torch.manual_seed(0)
    a = torch.full((2,), A, dtype=torch.float64, requires_grad=True)
    inside = E(coin(a), shape, "score")[F]
    loss = Max(inside.mean() if how == "mean" else inside.sum(), 0.1)
    found = []
    for _ in range(3_000):
        found.append(torch.autograd.grad(loss.eval({"x": x[:2]}), a)[0].sum())
    samples = 2 * (shape[0] if shape else 1)
    truth = exact(lambda y: (f(y).mean(0) * (1 if how == "mean" else 2)).clamp(min=0.1), samples)
    unbiased(torch.stack(found), truth)


def test_one_row_and_one_draw_have_no_baseline() -> None:
    torch.manual_seed(0)
    a = torch.tensor([A], dtype=torch.float64, requires_grad=True)
    loss = (E(coin(a), estimator="score")[F] + 2).log()
    found = [torch.autograd.grad(loss.eval({"x": x[:1]}).sum(), a)[0] for _ in range(3_000)]
    unbiased(torch.cat(found), exact(lambda y: (f(y).mean(0) + 2).log(), 1))


def test_a_finite_variable_below_a_draw_and_one_above() -> None:
    """log(2 + E_{k} E_{y}[...]), k summed exactly, y drawn for each of its states."""
    a = rows()
    k = pf.Bernoulli("q(k | x)", lambda x: {"logits": torch.full_like(x, 0.2)})
    y = pf.Bernoulli("q(y | x, k)", lambda x, k: {"logits": a.repeat(len(x) // N) + k})
    h = Function(lambda y, k: f(y) * (1 + k), ["y", "k"], "h")
    b = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    pk = torch.tensor(0.2, dtype=torch.float64).sigmoid()
    value = torch.zeros((), dtype=torch.float64)
    for y0, y1 in itertools.product(STATES, repeat=2):  # a draw for each state of k
        weight = (b.sigmoid() if y0 else (-b).sigmoid()) * ((b + 1).sigmoid() if y1 else (-b - 1).sigmoid())
        value = value + weight * (2 + (1 - pk) * f(y0) + pk * 2 * f(y1)).log()
    (truth,) = torch.autograd.grad(value, b)
    unbiased(per_row(log(2 + E(k * y, estimator={"y": "score"})[h]), a), truth)


def test_sticking_the_landing_is_for_sums_only() -> None:
    """Inside a nonlinear function what it leaves out would not be 0 on average."""
    a = rows()
    q = pf.Normal("q(y | x)", lambda x: {"loc": a.repeat(len(x) // N), "scale": torch.full_like(x, 0.8)})
    p = pf.Normal("p(y)", loc=1.0, scale=1.0)
    for make in (lambda how: ELBO(p, q, estimator=how).abs(), lambda how: exp(IWAE(p, q, 3, "dreg" if how == "stl" else how))):
        found = []
        for how in ("stl", "pathwise"):
            torch.manual_seed(1)
            found.append(per_row(make(how), a))
        assert_close(*found)


def test_a_detached_part_has_no_score() -> None:
    a = rows()
    e = E(coin(a), estimator="score")
    assert not exp(e[F].detach()).eval({"x": x}).requires_grad
    half = per_row(exp(e[F].detach()) * e[G], a)  # two draws: E exp(f) times d/da E g
    unbiased(half, mean_of_exp() * sigmoid_slope())


def mean_of_exp() -> Tensor:
    p = torch.tensor(A, dtype=torch.float64).sigmoid()
    return (1 - p) * f(STATES[0]).exp() + p * f(STATES[1]).exp()


def sigmoid_slope() -> Tensor:
    p = torch.tensor(A, dtype=torch.float64).sigmoid()
    return p * (1 - p)


def test_estimators_that_know_sums_only() -> None:
    a = rows()
    learned = Score(baseline=Function(lambda x: x, ["x"], "b"))
    for how in ("rebar", learned):
        with pytest.raises(LossError, match="nonlinear function of E_q"):
            exp(E(coin(a), estimator=how)[F]).eval({"x": x})


def test_the_plan_says_so() -> None:
    a = rows()
    assert "weighted with the function: unbiased" in str(E(coin(a), [2], "score")[F].abs().plan())
    plain = str(E(coin(a), [2], "score")[F].plan())
    assert "weighted with the function" not in plain
