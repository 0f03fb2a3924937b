"""Bounds on log p(x): how they print, how they compare, and where they are exact."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import probflow as pf
from probflow import ELBO, E, Entropy, Loss, exp, log
from probflow.distributions.empirical import EmpiricalDistribution
from probflow.errors import LossError
from probflow.losses.bounds import IWAE, Renyi

p_x, p_z = pf.Normal("p(x | z)", loc="z", scale=1.0), pf.Normal("p(z)", loc=0.0, scale=1.0)
p = p_x * p_z
q = pf.Normal("q(z | x)", lambda x: {"loc": 0.2 * x, "scale": 0.9 + 0 * x})
posterior = pf.Normal("q(z | x)", lambda x: {"loc": x / 2, "scale": 0.5**0.5 + 0 * x})
N = 100_000


def log_evidence(x: float) -> float:
    return -0.25 * x * x - 0.5 * math.log(4 * math.pi)


def mean(loss: Loss, x: float = 1.3, seed: int = 0) -> tuple[float, float]:
    """Its mean over independent rows, and the standard error."""
    torch.manual_seed(seed)
    value = loss.eval({"x": torch.full((N,), x)}).detach()
    return float(value.mean()), float(value.std()) / N**0.5


FORMS = {
    "log(1/5 sum_q(z|x)[exp(log p(x,z) - log q(z|x))])": IWAE(p, q, samples=5),
    "2 * log(1/5 sum_q(z|x)[exp(0.5 * (log p(x,z) - log q(z|x)))])": Renyi(p, q, 0.5, samples=5),
    "E_q(z|x)[log p(x,z) - log q(z|x)]": ELBO(p, q),
    "E_q(z|x)[log p(x|z)] - KL[q(z|x) || p(z)]": ELBO(p, q, form="kl"),
    "E_q(z|x)[log p(x,z)] + H[q(z|x)]": ELBO(p, q, form="entropy"),
}


@pytest.mark.parametrize("shown", FORMS)
def test_printed_as_in_the_paper(shown: str) -> None:
    assert str(FORMS[shown]) == shown
    assert FORMS[shown].input_var == ("x",)
    assert FORMS[shown].latex()


def test_made_of_the_nodes_that_are_there() -> None:
    assert IWAE(p, q, 5) is log(E(q, [5])[exp(log(p) - log(q))])
    assert Renyi(p, q, 0, 5) is IWAE(p, q, 5) is Renyi(p, q, 0.0, 5)
    assert Renyi(p, q, 1, 5) is ELBO(p, q, [5])
    assert ELBO(p, q, form="entropy") is E(q)[log(p)] + Entropy(q)


def test_the_three_forms_of_the_elbo_agree() -> None:
    """Within 5 standard errors of the closed form."""
    x, loc, scale = 1.3, 0.26, 0.9
    energy = -0.5 * ((x - loc) ** 2 + scale**2) - 0.5 * (loc**2 + scale**2) - math.log(2 * math.pi)
    exact = energy + math.log(scale) + 0.5 * math.log(2 * math.pi * math.e)
    for form in ("joint", "kl", "entropy"):
        for estimator in (None, "pathwise", "stl", "score"):
            for shape in ((), [3]):
                found, error = mean(ELBO(p, q, shape, estimator, form))
                assert abs(found - exact) < 5 * error + 1e-12


def test_gradients_of_the_three_forms_agree() -> None:
    a = torch.full((20_000,), 0.3, requires_grad=True)
    r = pf.Normal("q(z | x)", lambda x: {"loc": a, "scale": a.exp()})
    exact = (1.3 - 2 * 0.3) - 2 * math.exp(0.6) + 1  # d/da of the closed form, loc = a and scale = e^a
    for form in ("joint", "kl", "entropy"):
        for estimator in (None, "pathwise", "stl", "score"):
            torch.manual_seed(0)
            value = ELBO(p, r, estimator=estimator, form=form).eval({"x": torch.full((20_000,), 1.3)})
            (gradient,) = torch.autograd.grad(value.sum(), a)
            assert (gradient.mean() - exact).abs() < 5 * gradient.std() / 20_000**0.5 + 1e-12


def test_at_the_posterior_every_bound_is_exact() -> None:
    bounds = [IWAE(p, posterior, 3), *(Renyi(p, posterior, alpha, 3) for alpha in (-1.0, 0.0, 0.5, 0.999, 1.0, 2.0))]
    bounds += [ELBO(p, posterior, estimator="pathwise")]
    for bound in bounds:
        value = bound.eval({"x": torch.full((10,), 1.3)})
        assert (value - log_evidence(1.3)).abs().max() < 1e-9


def test_the_order_of_the_bounds() -> None:
    """ELBO < Renyi 1/2 < IWAE < IWAE with more samples < log p(x), each by more than 5 standard errors; 500 samples come close."""
    rising = [ELBO(p, q, [5]), Renyi(p, q, 0.5, 5), IWAE(p, q, 5), IWAE(p, q, 20)]
    found = [mean(bound) for bound in rising]
    for (low, e1), (high, e2) in itertools.pairwise(found):
        assert high - low > 5 * (e1**2 + e2**2) ** 0.5
    torch.manual_seed(0)
    many = IWAE(p, q, 500).eval({"x": torch.full((500,), 1.3)})
    assert found[-1][0] < log_evidence(1.3) and (many.mean() - log_evidence(1.3)).abs() < 0.01


def test_limits_in_alpha() -> None:
    """Common draws: Renyi is continuous in alpha, at 1 with the ELBO and at 0 with IWAE."""
    x = {"x": torch.full((50,), 1.3)}

    def at(loss: Loss) -> torch.Tensor:
        torch.manual_seed(1)
        return loss.eval(x)

    assert (at(Renyi(p, q, 1 - 1e-5, 8)) - at(ELBO(p, q, [8]))).abs().max() < 1e-3
    assert (at(Renyi(p, q, 1e-5, 8)) - at(IWAE(p, q, 8))).abs().max() < 1e-3


def test_far_out_in_log_space() -> None:
    far = IWAE(p, q, 4).eval({"x": torch.full((3,), 100.0)})
    assert far.isfinite().all() and (far < -1000).all()


def test_one_sample_is_the_elbo() -> None:
    x = {"x": torch.randn(7)}
    torch.manual_seed(0)
    one = IWAE(p, q, 1).eval(x)
    torch.manual_seed(0)
    assert (one - ELBO(p, q, [1]).eval(x)).abs().max() < 1e-12


def test_a_discrete_latent() -> None:
    """log p(x) = log sum_y p(y) p(x|y); a bound below it, with a gradient for q."""
    model = pf.Bernoulli("p(y)", probs=0.3) * pf.Normal("p(x | y)", loc="y", scale=1.0)
    logits = torch.zeros(1000, requires_grad=True)
    guide = pf.Bernoulli("q(y | x)", lambda x: {"logits": logits})
    bound = IWAE(model, guide, 10, "vimco")
    bound.mean().eval({"x": torch.full((1000,), 1.0)}).backward()
    assert logits.grad is not None and logits.grad.abs().max() > 0


MISTAKES = {
    "arguments are swapped": lambda: IWAE(q, p, 5),
    "positive number of samples": lambda: IWAE(p, q, 0),
    "samples=K": lambda: Renyi(p, q, 0.5, 2.0),  # type: ignore[arg-type]
    "finite number alpha": lambda: Renyi(p, q, math.inf, 3),
    "Ask for 'dreg'": lambda: Renyi(p, q, 0.5, 3, {"z": "stl"}),
    "no form 'free'": lambda: ELBO(p, q, form="free"),  # type: ignore[arg-type]
    "has no factor for z alone": lambda: ELBO(
        EmpiricalDistribution("p(x, z)", {"x": torch.zeros(2), "z": torch.zeros(2)}), q, form="kl"
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message: str) -> None:
    with pytest.raises(LossError, match=message):
        MISTAKES[message]()
