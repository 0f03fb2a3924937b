"""Importance sampling: against integrals that are known, or computed on a grid; within five of its own standard errors."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import KL, flows, log
from probflow.errors import ArgumentError, MissingVariable, NoSampler, ShapeError, ValuesError


def gaussian_model() -> pf.Distribution:
    """p(x) = N(0, 2) and p(z | x) = N(x / 2, 1/2)."""
    return pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)


def proposal(scale: float = 0.8) -> pf.Normal:
    return pf.Normal("q(z | x)", lambda x: {"loc": x / 2, "scale": torch.full_like(x, scale)})


def evidence(x: Tensor) -> Tensor:
    return torch.distributions.Normal(0.0, math.sqrt(2.0)).log_prob(x).sum(1)


MIXED = pf.Categorical("q(k)", probs=torch.tensor([0.5, 0.5]))
PROPOSALS = {
    "a Normal": proposal,
    "a flow without an inverse in one pass": lambda: flows.IAF("q(z | x)", features=2, layers=1, hidden=(8,), context=2),
    "a planar flow on an encoder": lambda: flows.Planar(
        "q(z | x)", features=2, layers=2, base=pf.Normal("q(z_0 | x)", lambda x: {"loc": x / 2, "scale": torch.ones_like(x)})
    ),
    "a mixture of a flow and a Normal": lambda: pf.MixtureModel(
        [flows.RealNVP("q(z | x)", features=2, layers=2, hidden=(8,), context=2), proposal(1.0)], MIXED, name="q"
    ),
}


@pytest.mark.parametrize("make", PROPOSALS.values(), ids=PROPOSALS)
def test_the_evidence_of_a_linear_gaussian_model(make) -> None:
    torch.manual_seed(0)
    q, x = make(), torch.randn(5, 2)
    result = pf.importance(gaussian_model(), q, {"x": x}, samples=20_000, chunk=6_000)
    assert result.log_weights.shape == (20_000, 5) and not result.log_evidence.requires_grad
    assert bool(((result.log_evidence - evidence(x)).abs() < 5 * result.standard_error).all())
    assert bool((result.standard_error < 0.05).all())


def test_the_numbers_are_those_of_the_weights() -> None:
    torch.manual_seed(0)
    result = pf.importance(gaussian_model(), proposal(), {"x": torch.randn(5, 2)}, samples=300, chunk=77)
    w = result.log_weights.exp()
    assert w.shape == (300, 5)
    assert_close(result.log_evidence, w.mean(0).log())
    assert_close(result.effective_samples, w.sum(0).square() / w.square().sum(0))
    assert_close(result.standard_error, w.std(0, correction=0) / math.sqrt(300) / w.mean(0))


def test_the_standard_error_is_the_spread_of_repeated_estimates() -> None:
    torch.manual_seed(0)
    x, n = torch.randn(1, 2), 400
    found = [pf.importance(gaussian_model(), proposal(1.2), {"x": x}, samples=500) for _ in range(n)]
    spread = torch.stack([r.log_evidence for r in found]).std()
    said = torch.stack([r.standard_error for r in found]).mean()
    assert abs(spread / said - 1) < 5 / math.sqrt(2 * n)  # the relative error of a standard deviation


def test_the_exact_posterior_has_weights_without_spread() -> None:
    x = torch.randn(4, 2)
    result = pf.importance(gaussian_model(), proposal(math.sqrt(0.5)), {"x": x}, samples=9)
    assert_close(result.log_evidence, evidence(x))
    assert_close(result.effective_samples, torch.full((4,), 9.0))
    assert bool((result.standard_error < 1e-6).all())


def test_two_layers_of_latents_and_other_names() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 2)
    p = gaussian_model().factors[0] * pf.Normal("p(z | w)", loc="w", scale=1.0)
    p = p * flows.RealNVP("p(w)", features=2, layers=2, hidden=(8,))  # starts as N(0, I)
    q = pf.Normal("q(w | z)", lambda z: {"loc": z / 2, "scale": torch.ones_like(z)}) * proposal(1.0)
    result = pf.importance(p, q, {"x": x}, samples=20_000)
    truth = torch.distributions.Normal(0.0, math.sqrt(3.0)).log_prob(x).sum(1)
    assert bool(((result.log_evidence - truth).abs() < 5 * result.standard_error).all())
    table = {"x": "a", "z": "b", "w": "c"}
    assert pf.importance(p.replace_var(table), q.replace_var(table), {"a": x}, samples=7).log_weights.shape == (7, 4)
    given = pf.importance(p.given(x=x), q.given(x=x), samples=20_000)
    assert bool(((given.log_evidence - truth).abs() < 5 * given.standard_error).all())


# ------------------------------------------------------------------ log Z of energies


def wide(statement: str = "q(x)") -> pf.Normal:
    return pf.Normal(statement, loc=0.0, scale=3.0, features_shape=2)


def quadrature(target: pf.CustomProb) -> float:
    """log ∫ exp(-U) on a grid with step 1/100; the integrands are smooth and vanish at the border."""
    grid = torch.linspace(-10.0, 10.0, 2001)
    return (target.log_prob({"x": torch.cartesian_prod(grid, grid)}).logsumexp(0) + 2 * math.log(0.01)).item()


def gap(q: pf.Flow, target: pf.CustomProb, log_z: float) -> tuple[float, float]:
    """KL(q, p/Z) = E_q[log q - log p] + log Z, and its standard error."""
    values, log_q = q.sample_with_log_prob(batch_n=20_000)
    terms = log_q - target.log_prob(values)
    return terms.mean().item() + log_z, terms.std().item() / math.sqrt(20_000)


@cache
def fitted(name: str) -> tuple[pf.CustomProb, pf.Flow, float, float]:
    """A small RealNVP after 150 steps of reverse KL; log Z; the divergence it started from."""
    torch.manual_seed(0)
    target = pf.CustomProb("p(x)", pf.data.energy(name))
    base = pf.Normal("q(z)", loc=0.0, scale=2.0, features_shape=2)
    q, log_z = flows.RealNVP("q(x)", features=2, layers=4, hidden=(32,), base=base), quadrature(target)
    before, _ = gap(q, target, log_z)
    model = pf.Model(KL(q, target, sample_shape=[256]).mean(), optimizer_params={"lr": 5e-3})
    for _ in range(150):
        model.train({})
    return target, q, log_z, before


@pytest.mark.parametrize("name", sorted(pf.data.energies.ENERGIES))
def test_a_flow_fitted_by_reverse_kl_bounds_the_normaliser(name: str) -> None:
    target, q, log_z, before = fitted(name)
    after, error = gap(q, target, log_z)
    assert -5 * error < after < 0.2 * before  # a divergence is not negative: -loss is a lower bound on log Z


@pytest.mark.parametrize("name", sorted(pf.data.energies.ENERGIES))
def test_log_z_by_a_mixture_of_the_flow_and_a_wide_normal(name: str) -> None:
    """Reverse KL may leave parts of p out; a share of a wide Normal bounds the weights (Hesterberg, Technometrics 37, 1995)."""
    target, q, log_z, _ = fitted(name)
    defensive = pf.MixtureModel([q, wide()], pf.Categorical("q(k)", probs=torch.tensor([0.8, 0.2])), name="q")
    torch.manual_seed(1)
    result = pf.importance(target, defensive, samples=20_000, chunk=20_000)
    assert result.standard_error < 0.05
    assert abs(result.log_evidence.item() - log_z) < 5 * result.standard_error.item()


def test_a_fitted_flow_needs_fewer_samples_than_a_wide_normal() -> None:
    target, q, log_z, _ = fitted("double_well")  # where the flow has found both wells
    torch.manual_seed(1)
    flow, plain = (pf.importance(target, proposal, samples=5000, chunk=5000) for proposal in (q, wide()))
    assert flow.effective_samples > 4000 > 3 * plain.effective_samples
    assert flow.standard_error < plain.standard_error / 3
    assert abs(plain.log_evidence.item() - log_z) < 5 * plain.standard_error.item()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two_moons", "wave", "split_wave"])
def test_a_larger_flow_covers_the_energies_of_rezende_and_mohamed(name: str) -> None:
    torch.manual_seed(0)
    target = pf.CustomProb("p(x)", pf.data.energy(name))
    base = pf.Normal("q(z)", loc=0.0, scale=2.0, features_shape=2)
    q = flows.RealNVP("q(x)", features=2, layers=8, hidden=(64,), base=base)
    model = pf.Model(KL(q, target, sample_shape=[256]).mean(), optimizer_params={"lr": 2e-3})
    for _ in range(1500):
        model.train({})
    wide = pf.Normal("q(x)", loc=0.0, scale=4.0, features_shape=2)  # a part of the proposal that no training can narrow
    proposal = pf.MixtureModel([q, wide], pf.Categorical("q(k)", probs=torch.tensor([0.8, 0.2])))
    result = pf.importance(target, proposal, samples=20_000, chunk=20_000)
    assert result.effective_samples > 5_000
    assert abs(result.log_evidence.item() - quadrature(target)) < 5 * result.standard_error.item()


@pytest.mark.parametrize("spelled", ["divergence", "expectation"])
def test_reverse_kl_to_an_energy_is_the_expectation_of_both_logs(spelled: str) -> None:
    target, q = pf.CustomProb("p(x)", pf.data.energy("wave")), flows.RealNVP("q(x)", features=2, layers=2, hidden=(8,))
    difference = pf.E(q, sample_shape=[50])[log(q) - log(target)].mean()
    assert str(difference) == "mean(E_q(x)[log q(x) - log p(x)])"
    loss = KL(q, target, sample_shape=[50]).mean() if spelled == "divergence" else difference
    torch.manual_seed(1)
    got = loss.eval()
    torch.manual_seed(1)
    z = torch.randn(50, 1, 2)[:, 0]
    x, logdet = q.transform.forward_and_logdet(z)
    expected = (torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) - logdet - pf.data.energy("wave")(x)).mean()
    assert_close(got, expected)
    for a, b in zip(*(torch.autograd.grad(v, list(q.parameters())) for v in (got, expected)), strict=True):
        assert_close(a, b)


# ------------------------------------------------------------------ edges and mistakes


def test_where_nothing_is_known_nothing_is_claimed() -> None:
    never = pf.CustomProb("p(x)", lambda x: torch.full((len(x),), -math.inf))
    result = pf.importance(never, wide(), samples=10)
    assert (result.log_evidence.item(), result.effective_samples.item(), result.standard_error.item()) == (
        -math.inf,
        0,
        math.inf,
    )
    assert (
        pf.importance(pf.CustomProb("p(x)", lambda x: -x.square().sum(1)), wide(), samples=1).standard_error.item() == math.inf
    )
    half = pf.CustomProb("p(x)", lambda x: torch.where(x[:, 0] > 0, -0.5 * x.square().sum(1), -math.inf))
    result = pf.importance(half, wide(), samples=20_000)
    assert abs(result.log_evidence.item() - math.log(math.pi)) < 5 * result.standard_error.item()
    huge = pf.CustomProb("p(x)", lambda x: 2000.0 - 0.5 * x.square().sum(1))  # exp overflows, the logarithm does not
    result = pf.importance(huge, wide(), samples=20_000)
    assert abs(result.log_evidence.item() - 2000 - math.log(2 * math.pi)) < 5 * result.standard_error.item()
    assert pf.importance(gaussian_model(), proposal(), {"x": torch.zeros(0, 2)}, samples=3).log_weights.shape == (3, 0)


def test_other_values_of_a_batch_are_not_looked_at() -> None:
    x = torch.zeros(2, 2)
    torch.manual_seed(0)
    a = pf.importance(gaussian_model(), proposal(), {"x": x}, samples=5).log_evidence
    torch.manual_seed(0)
    assert_close(pf.importance(gaussian_model(), proposal(), {"x": x, "label": torch.zeros(7)}, samples=5).log_evidence, a)


def test_weights_get_no_gradient() -> None:
    p = pf.Normal("p(x | z)", loc="z", scale=nn.Parameter(torch.ones(2))) * gaussian_model().factors[1]
    assert not pf.importance(p, proposal(), {"x": torch.zeros(2, 2)}, samples=3).log_weights.requires_grad


P, Q, VALUES = gaussian_model, proposal, {"x": torch.zeros(3, 2)}
MISTAKES = {
    "swapped": (lambda: pf.importance(Q(), P(), VALUES), ArgumentError, "x of p.x,z. is not a variable of q.*model comes first"),
    "a loss": (lambda: pf.importance(log(P()), Q(), VALUES), ArgumentError, "two distributions, got a LogProb"),  # type: ignore[arg-type]
    "no value": (lambda: pf.importance(P(), Q()), MissingVariable, "needs a value for 'x'"),
    "a tensor": (lambda: pf.importance(P(), Q(), VALUES["x"]), ValuesError, r"Write \{'x': \.\.\.\}"),  # type: ignore[arg-type]
    "no samples": (lambda: pf.importance(P(), Q(), VALUES, samples=0), ArgumentError, "samples must be a positive integer, got 0"),
    "a shape": (lambda: pf.importance(P(), Q(), VALUES, samples=[3]), ArgumentError, r"samples must be .*\[3\]"),  # type: ignore[arg-type]
    "no chunk": (lambda: pf.importance(P(), Q(), VALUES, chunk=0), ArgumentError, "chunk must be a positive integer, got 0"),
    "samples of x": (
        lambda: pf.importance(P(), Q(), pf.Samples({"x": torch.zeros(4, 3, 2)}, {"x": 1})), ArgumentError, "sample dimensions",
    ),
    "batches": (
        lambda: pf.importance(
            P() * pf.Normal("p(v | z)", loc="z", scale=1.0), Q(), {"x": torch.zeros(3, 2), "v": torch.zeros(4, 2)}
        ), ShapeError, "batch sizes differ",
    ),
    "an energy as the proposal": (
        lambda: pf.importance(wide("p(z)"), pf.CustomProb("q(z)", lambda z: -z.square().sum(1))), NoSampler, "q.z.",
    ),
}  # fmt: skip


def test_what_it_shows_is_short() -> None:
    q = pf.Normal("q(z)", loc=0.0, scale=1.0)
    shown = repr(pf.importance(pf.CustomProb("p(z)", lambda z: -z.square()), q, samples=500))
    assert "log_evidence=" in shown and "effective_samples=" in shown and len(shown) < 200


@pytest.mark.parametrize(("make", "error", "match"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(make, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
