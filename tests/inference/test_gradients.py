"""Gradients are right by default: every estimator against the exact derivative, never None, never silently zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import KL, E, Entropy, Function, Loss, Prob, exp, log
from probflow.errors import LossError

N = 20_000
x = torch.zeros(N, dtype=torch.float64)
z = Function(lambda z: z, ["z"], "z")
s = Function(lambda y: y.flatten(1).sum(1) if y.dim() > 1 else y, ["y"], "s")
batch = Function(lambda x: x * 0, ["x"], "0")


def per_row(loss: Loss, parameter: Tensor) -> Tensor:
    """d loss_b / d parameter_b: the parameter has one copy per batch element, so one backward gives N estimates."""
    value = loss.eval({"x": x})
    assert value.shape == (N,)
    (gradient,) = torch.autograd.grad(value.sum(), parameter)
    return gradient


def unbiased(estimates: Tensor, exact: float | Tensor) -> None:
    error = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - exact).abs() <= 5 * error + 1e-10).all(), (estimates.mean(0), exact, error)


def rows(value: float) -> Tensor:
    return torch.full((N,), value, dtype=torch.float64, requires_grad=True)


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


# ---------------------------------------------------------------------- one variable, exact derivative

A = 0.4
ESTIMATES: dict[str, tuple[Callable[[Tensor], Loss], float]] = {
    # q = N(a, 1): d/da E[z^2] = 2a
    "pathwise": (lambda a: E(pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)}))[z**2], 2 * A),
    "pathwise, K": (lambda a: E(pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)}), [4])[z**2], 2 * A),
    "pathwise, asked": (
        lambda a: E(pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)}), estimator="pathwise")[z**2],
        2 * A,
    ),
    "score, Normal": (
        lambda a: E(pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)}), estimator="score")[z**2],
        2 * A,
    ),
    "score, Normal, K": (
        lambda a: E(pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)}), [4], estimator="score")[z**2],
        2 * A,
    ),
    "score, Normal, 2 x 3": (
        lambda a: E(pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)}), [2, 3], estimator="score")[z**2],
        2 * A,
    ),
    # a coin: d/da E[3 y + 1] = 3 s (1 - s)
    "enumerate": (lambda a: E(pf.Bernoulli("q(y|x)", lambda x: {"logits": a}))[3 * s + 1], 3 * sigmoid(A) * sigmoid(-A)),
    "score, coin": (
        lambda a: E(pf.Bernoulli("q(y|x)", lambda x: {"logits": a}), estimator="score")[3 * s + 1],
        3 * sigmoid(A) * sigmoid(-A),
    ),
    "score, coin, K": (
        lambda a: E(pf.Bernoulli("q(y|x)", lambda x: {"logits": a}), [3])[3 * s + 1],
        3 * sigmoid(A) * sigmoid(-A),
    ),
    # ten coins have too many states; a square, so that the draws matter: E[S^2] = 10 s(1-s) + 100 s^2
    "too many states": (
        lambda a: E(pf.Bernoulli("q(y|x)", lambda x: {"logits": a[:, None].expand(-1, 10)}))[s**2],
        sigmoid(A) * sigmoid(-A) * (10 * (1 - 2 * sigmoid(A)) + 200 * sigmoid(A)),
    ),
    # Poisson with rate exp(a): d/da E[y^2] = d/da (r + r^2) = r + 2 r^2
    "Poisson": (lambda a: E(pf.Poisson("q(y|x)", lambda x: {"rate": a.exp()}))[s**2], math.exp(A) + 2 * math.exp(2 * A)),
    "Poisson, K": (
        lambda a: E(pf.Poisson("q(y|x)", lambda x: {"rate": a.exp()}), [4])[s**2],
        math.exp(A) + 2 * math.exp(2 * A),
    ),
    # functions of an expectation
    "square of an expectation": (
        lambda a: E(pf.Poisson("q(y|x)", lambda x: {"rate": a.exp()}))[s] ** 2,
        2 * math.exp(2 * A),
    ),
    "product of two": (
        lambda a: (lambda e: e[z] * e[z**2])(E(pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)}))),
        (1 + A**2) + A * 2 * A,
    ),
    "nested": (
        lambda a: (lambda e: e[(z - e[z]) ** 2 * 1.0])(E(pf.Poisson("q(z|x)", lambda x: {"rate": a.exp()}))),
        math.exp(A),  # the variance is the rate
    ),
    "a minus in front": (lambda a: -E(pf.Poisson("q(y|x)", lambda x: {"rate": a.exp()}))[-s], math.exp(A)),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_one_variable(name: str) -> None:
    make, exact = ESTIMATES[name]
    a = rows(A)
    unbiased(per_row(make(a), a), exact)


def test_the_exact_sum_has_no_variance() -> None:
    a = rows(A)
    gradient = per_row(E(pf.Bernoulli("q(y|x)", lambda x: {"logits": a}))[3 * s + 1], a)
    assert_close(gradient, torch.full_like(gradient, 3 * sigmoid(A) * sigmoid(-A)))


def test_categorical() -> None:
    logits = torch.tensor([0.3, -0.4, 0.1, 0.9], dtype=torch.float64).repeat(N, 1).requires_grad_()
    cost = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    q = pf.Categorical("q(y|x)", lambda x: {"logits": logits})
    f = Function(lambda y: y @ cost, ["y"], "f")
    probs = logits[0].detach().softmax(0)
    exact = probs * (cost - probs @ cost)
    assert_close(per_row(E(q)[f], logits), exact.expand(N, -1))
    unbiased(per_row(E(q, estimator="score")[f], logits), exact)
    unbiased(per_row(E(q, [3])[f], logits), exact)


def test_leave_one_out_lowers_the_variance() -> None:
    a = rows(A)
    q = pf.Poisson("q(y|x)", lambda x: {"rate": a.exp()})
    shifted = per_row(E(q, [4])[s + 100], a)
    assert shifted.var() < 20 * per_row(E(q, [4])[s], a).var()


# ---------------------------------------------------------------------- chains and mixtures


def test_pathwise_then_score() -> None:
    """z ~ N(a, 1), y ~ Bernoulli(sigmoid(z)), f = y + z^2: d/da (E sigmoid(z) + a^2 + 1)."""
    a = rows(A)
    q = pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)}) * pf.Bernoulli("q(y|z)", lambda z: {"logits": z})
    f = Function(lambda y, z: y * 3 + z**2, ["y", "z"], "f")
    t = torch.linspace(-9, 9, 20_001, dtype=torch.float64) + A
    density = torch.distributions.Normal(A, 1.0).log_prob(t).exp() * (t[1] - t[0])
    exact = 3 * (density * t.sigmoid() * (-t).sigmoid()).sum() + 2 * A
    for shape, estimator in (((), None), ([3], None), ((), "score"), ([3], "score")):
        unbiased(per_row(E(q, shape, estimator=estimator)[f], a), exact)


def test_score_then_pathwise() -> None:
    """y ~ Bernoulli(sigmoid(a)), z ~ N(a y, 1), f = z^2: E f = s a^2 + 1."""
    a = rows(A)
    exact = sigmoid(A) * sigmoid(-A) * A**2 + sigmoid(A) * 2 * A
    q = pf.Bernoulli("q(y|x)", lambda x: {"logits": a}) * pf.Normal("q(z|x, y)", Slope(a))
    unbiased(per_row(E(q)[z**2], a), exact)
    for shape in ((), [3]):
        unbiased(per_row(E(q, shape, estimator="score")[z**2], a), exact)


class Slope(nn.Module):
    """loc = a y with one a per row, whatever stands in front of the batch."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = [a]

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        a = self.a[0].repeat(len(y) // len(self.a[0]))
        return {"loc": a * y, "scale": torch.ones_like(y)}


def test_score_through_a_chain() -> None:
    """y1 ~ Poisson(e^a), y2 ~ Poisson(e^a (1 + y1)), f = y2^2."""
    a = rows(A)

    def second(y1: Tensor) -> dict[str, Tensor]:
        return {"rate": a.exp().repeat(len(y1) // N) * (1 + y1)}

    q = pf.Poisson("q(u|x)", lambda x: {"rate": a.exp()}) * pf.Poisson("q(y|u)", second)
    b = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    r = b.exp()
    square = r * (1 + r) + r**2 * (1 + 2 * r + r + r**2)  # E[rate] + E[rate^2]
    (exact,) = torch.autograd.grad(square, b)
    for shape in ((), [3]):
        unbiased(per_row(E(q, shape)[s**2], a), exact)


def test_scalar_losses_outside_and_inside() -> None:
    """.mean() outside the expectation or inside it: the same gradient."""
    n, repeats = 50, 2000
    w = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    q = pf.Poisson("q(y|x)", lambda x: {"rate": w.exp().expand(len(x))})
    exact = math.exp(A) + 2 * math.exp(2 * A)
    for loss in (
        E(q)[s**2].mean(),
        E(q, [2])[s**2].mean(),
        E(q, [2])[(s**2).mean()],
        E(q)[(s**2).mean()],
        E(q)[s**2].sum() / n,
    ):
        gradients = []
        for _ in range(repeats // 10):
            (gradient,) = torch.autograd.grad(loss.eval({"x": x[:n]}), w)
            gradients.append(gradient)
        unbiased(torch.stack(gradients), exact)


def test_batch_of_one() -> None:
    w = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    q = pf.Poisson("q(y|x)", lambda x: {"rate": w.exp().expand(len(x))})
    loss = E(q)[s]
    gradients = torch.stack([torch.autograd.grad(loss.eval({"x": x[:1]}).sum(), w)[0] for _ in range(3000)])
    unbiased(gradients, math.exp(A))


# ---------------------------------------------------------------------- never None, never zero

FINITE: dict[str, Callable[[nn.Module], pf.Distribution]] = {
    "Bernoulli": lambda net: pf.Bernoulli("q(y|x)", lambda x: {"logits": net(x)}),
    "Categorical": lambda net: pf.Categorical("q(y|x)", lambda x: {"logits": net(x)}),
    "Poisson": lambda net: pf.Poisson("q(y|x)", lambda x: {"rate": net(x).exp()}),
    "Geometric": lambda net: pf.Geometric("q(y|x)", lambda x: {"logits": net(x)}),
    "Binomial": lambda net: pf.Binomial("q(y|x)", lambda x: {"logits": net(x), "total_count": torch.full((len(x), 3), 4.0)}),
    "Normal": lambda net: pf.Normal("q(y|x)", lambda x: {"loc": net(x), "scale": net(x).exp()}),
}


@pytest.mark.parametrize("name", FINITE)
@pytest.mark.parametrize("shape", [(), [3]])
def test_an_encoder_always_has_a_gradient(name: str, shape: Any) -> None:
    net = nn.Linear(2, 3)
    loss = E(FINITE[name](net), shape)[Function(lambda y: (y * torch.arange(1.0, 4.0)).sum(1), ["y"], "f")].mean()
    loss.eval({"x": torch.randn(8, 2)}).backward()
    assert net.weight.grad is not None and net.weight.grad.abs().max() > 0


def test_estimators_that_do_not_exist() -> None:
    normal, coin = pf.Normal("q(z|x)", loc="x", scale=1.0), pf.Bernoulli("q(y|x)", lambda x: {"logits": x})
    with pytest.raises(LossError, match="not finite"):
        E(normal, estimator="enumerate")[z].eval({"x": x[:3]})
    with pytest.raises(LossError, match="no reparameterised draw"):
        E(coin, estimator="pathwise")[s].eval({"x": x[:3]})
    wide = pf.Bernoulli("q(y|x)", lambda x: {"logits": x[:, None].expand(-1, 20)})
    with pytest.raises(LossError, match="more than 65536 states"):
        E(wide, estimator="enumerate")[s].eval({"x": x[:3]})


def test_a_plan_without_values_does_not_promise_a_sum_over_too_many_states() -> None:
    bits = pf.Bernoulli("q(y|x)", lambda x: {"logits": x[:, None].expand(-1, 20)})
    few = E(pf.Bernoulli("q(y|x)", lambda x: {"logits": x}))[s]
    for loss in (E(bits)[s], few):
        assert "every state, summed exactly (drawn if more than 128)" in str(loss.plan())
        assert "(drawn if more than 128)" in next(note for _, note in loss.plan().graph.nodes(data="note") if "every" in note)
    assert "every state" not in str(E(bits)[s].plan({"x": x[:3]}))
    assert str(few.plan({"x": x[:3]})).splitlines()[3].endswith("every state, summed exactly")
    assert "drawn if" not in few.plan({"x": x[:3]}).to_python()
    asked = E(pf.Bernoulli("q(y|x)", lambda x: {"logits": x}), estimator="enumerate")[s]
    assert "every state, summed exactly, as asked" in str(asked.plan())


def test_a_long_formula_does_not_push_the_notes_of_a_plan_out_of_sight() -> None:
    parts = [pf.Normal(f"q(z{i}|x)", loc="x", scale=1.0) for i in range(9)]
    total: Loss = E(parts[0])[pf.log(parts[0])]
    for part in parts[1:]:
        total = total - E(part, [2])[pf.log(part)]
    lines = str(total.mean().plan()).splitlines()[1:]
    assert max(map(len, lines)) > 200
    assert all(len(line) < 150 for line in lines if "draw " in line)
    assert len({line.index("per batch element") for line in lines if "draw " in line}) == 1


def test_the_plan_says_which() -> None:
    coin = pf.Bernoulli("q(y|x)", lambda x: {"logits": x})
    many = pf.Bernoulli("q(y|x)", lambda x: {"logits": x[:, None].expand(-1, 20)})
    assert "summed exactly" in str(E(coin)[s].plan())
    assert "score function" in str(E(coin, [2])[s].plan())
    assert "pathwise" in str(E(pf.Normal("q(z|x)", loc="x", scale=1.0))[z].plan())
    loss = E(many)[s]
    loss.eval({"x": x[:3]})  # only the network knows how many states there are
    assert "score function" in str(loss.plan())


def test_states_of_many_variables_are_not_all_combined() -> None:
    """Five variables of ten states are 100,000 combinations: some are summed, the others drawn; the gradient stays right."""
    logit = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    parts = [
        pf.Categorical(f"q(y{i}|x)", lambda x: {"logits": torch.cat([logit.expand(len(x), 1), torch.zeros(len(x), 9)], 1)})
        for i in range(5)
    ]
    q = parts[0] * parts[1] * parts[2] * parts[3] * parts[4]
    f = Function(lambda *y: torch.stack([t[:, 0] for t in y]).prod(0), [f"y{i}" for i in range(5)], "f")
    g = Function(lambda *y: torch.stack([t[:, 0] for t in y]).sum(0), [f"y{i}" for i in range(5)], "g")
    gradients = torch.stack([torch.autograd.grad(E(q)[g].mean().eval({"x": torch.zeros(20)}), logit)[0] for _ in range(20)])
    unbiased(gradients, 5 * 0.1 * 0.9)
    assert E(q)[f].eval({"x": torch.zeros(2)}).shape == (2,)


# ---------------------------------------------------------------------- the rest


def test_detach() -> None:
    a = rows(A)
    q = pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)})
    loss = E(q)[z**2]
    assert_close(per_row(loss.detach() * 3 + E(q)[z], a), torch.ones(N, dtype=torch.float64))
    assert not loss.detach().eval({"x": x}).requires_grad


def test_no_gradient_where_none_is_wanted() -> None:
    a = rows(A)
    with torch.no_grad():
        assert not E(pf.Poisson("q(y|x)", lambda x: {"rate": a.exp()}))[s].eval({"x": x}).requires_grad


def test_closed_forms_have_the_gradient_of_the_formula() -> None:
    a = rows(A)
    q, p = pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": a.exp()}), pf.Normal("p(z)", loc=0.0, scale=2.0)
    assert_close(per_row(KL(q, p), a), torch.full((N,), A / 4 + math.exp(2 * A) / 4 - 1, dtype=torch.float64))
    assert_close(per_row(Entropy(q), a), torch.ones(N, dtype=torch.float64))
    unbiased(per_row(KL(q, p, sample_shape=[2]), a), A / 4 + math.exp(2 * A) / 4 - 1)


# ---------------------------------------------------------------------- log E[exp]


def test_importance_weighted_bound_far_out() -> None:
    """Log-weights around -1000: exp underflows, the bound and its gradient do not."""
    torch.manual_seed(0)
    a = torch.tensor([0.5, -0.2, 1.0], dtype=torch.float64, requires_grad=True)
    q = pf.Normal("q(z|x)", lambda x: {"loc": a, "scale": torch.ones_like(a)})
    f = Function(lambda z: -1000 - z**2, ["z"], "f")
    loss = log(E(q, [5])[exp(f)])
    torch.manual_seed(1)
    value = loss.eval({"x": torch.zeros(3)})
    torch.manual_seed(1)
    drawn = a + torch.randn(5, 3)
    by_hand = (-1000 - drawn**2).logsumexp(0) - math.log(5)
    assert_close(value, by_hand)
    assert_close(torch.autograd.grad(value.sum(), a)[0], torch.autograd.grad(by_hand.sum(), a)[0])


def test_marginal_likelihood_by_summing_far_out() -> None:
    """log sum_y p(y) p(x|y), with p(x|y) of e^-1000."""
    prior = pf.Categorical("p(y)", probs=torch.tensor([0.2, 0.8], dtype=torch.float64))
    far = torch.tensor([-1000.0, -1001.0], dtype=torch.float64, requires_grad=True)
    f = Function(lambda y: y @ far, ["y"], "f")
    value = log(E(prior)[exp(f)]).eval({})
    exact = (far + torch.tensor([0.2, 0.8], dtype=torch.float64).log()).logsumexp(0)
    assert_close(value[0], exact)
    assert_close(torch.autograd.grad(value.sum(), far)[0], torch.autograd.grad(exact, far)[0])


def test_importance_weighted_score_gradient() -> None:
    """K = 1: log E[exp f] of one draw is f, so its gradient is that of E[f]."""
    a = rows(A)
    q = pf.Poisson("q(y|x)", lambda x: {"rate": a.exp()})
    unbiased(per_row(log(E(q, [1])[exp(0.1 * s)]), a), 0.1 * math.exp(A))
    # K = 2: d/da E log((e^{f1} + e^{f2}) / 2), by summing over all pairs of counts
    counts = torch.arange(40.0, dtype=torch.float64)
    b = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    mass = torch.distributions.Poisson(b.exp()).log_prob(counts).exp()
    inner = torch.logaddexp(counts[:, None], counts[None, :]) - math.log(2)
    (exact,) = torch.autograd.grad((mass[:, None] * mass * inner).sum(), b)
    unbiased(per_row(log(E(q, [2])[exp(s)]), a), exact)


@pytest.mark.parametrize("shape", [[2], [1, 2]])
def test_importance_weighted_score_gradient_beside_a_sum_of_states(shape: list[int]) -> None:
    """log E_u[log E ...]: a coin outside, Poisson draws inside; the same as the two cases weighted."""
    a = rows(A)
    q = pf.Poisson("q(y|x)", lambda x: {"rate": a.exp()})
    coin = pf.Bernoulli("q(u)", probs=torch.tensor(0.3, dtype=torch.float64))
    both = Function(lambda y, u: y * (1 + u), ["y", "u"], "f")
    torch.manual_seed(2)
    one = per_row(E(coin)[log(E(q, shape)[exp(both)])], a)
    torch.manual_seed(2)
    two = per_row(0.7 * log(E(q, shape)[exp(s)]) + 0.3 * log(E(q, shape)[exp(2 * s)]), a)
    assert_close(one, two)


def test_score_of_a_reduced_body_inside_a_logarithm() -> None:
    w = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    q = pf.Poisson("q(y|x)", lambda x: {"rate": w.exp().expand(len(x))})
    loss = log(E(q, [3])[exp((0.1 * s).mean())])
    value = loss.eval({"x": torch.zeros(3)})
    assert value.shape == ()
    singles = log(E(q, [1])[exp((0.1 * s).mean())])
    gradients = torch.stack([torch.autograd.grad(singles.eval({"x": torch.zeros(3)}), w)[0] for _ in range(1000)])
    unbiased(gradients, 0.1 * math.exp(A))


def test_trained_coefficients_and_densities() -> None:
    weight = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
    q, p = pf.Normal("q(z|x)", loc="x", scale=0.5), pf.Normal("p(z)", loc=nn.Parameter(torch.tensor(0.3)), scale=1.0)
    loss = (weight * KL(q, p) + Prob(p.given(z=torch.zeros(4)))).mean()
    loss.eval({"x": torch.zeros(4)}).backward()
    assert_close(weight.grad, KL(q, p).mean().eval({"x": torch.zeros(4)}).detach())
    assert all(tensor.grad is not None and tensor.grad != 0 for tensor in loss.parameters())


# ---------------------------------------------------------------------- an estimator for all of q, a point mass among it


@pytest.mark.parametrize("estimator", ["score", pf.Score(baseline="none"), pf.PerVariable(y="score", z="score")], ids=str)
@pytest.mark.parametrize("renamed", [False, True])
def test_a_point_mass_is_left_out_of_what_is_asked_for(estimator: Any, renamed: bool) -> None:
    """y ~ Bernoulli(σ(a)), z = c y: E[z²] = c² σ(a)."""
    a, c = rows(A), rows(1.5)
    y = pf.Bernoulli("q(y|x)", lambda x: {"logits": a})
    z_of_y: pf.Distribution = pf.Deterministic("q(z|y)", lambda y: c * y)
    if renamed:
        z_of_y = pf.Deterministic("q(h|y)", lambda y: c * y).replace_var(h="z")
    loss = E(y * z_of_y, estimator=estimator)[z**2]
    p = sigmoid(A)
    unbiased(per_row(loss, a), 1.5**2 * p * (1 - p))
    unbiased(per_row(loss, c), 2 * 1.5 * p)
