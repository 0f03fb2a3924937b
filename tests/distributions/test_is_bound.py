"""A density that is a lower bound says so, through whatever is built of it."""

from __future__ import annotations

import pytest
import torch

from probflow.distributions import Categorical, Distribution, Flow, MixtureModel, Normal
from probflow.errors import LossError
from probflow.losses import E, log
from probflow.transforms import Affine, Augment, Compose, UniformDequantise


def flow(statement: str = "p(x)", noisy: bool = True) -> Flow:
    base = Normal("p(u)", loc=2.0, scale=1.0, features_shape=1)
    return Flow(base, Compose([Affine(1), *([UniformDequantise(4)] if noisy else [])]), statement)


def index() -> Categorical:
    return Categorical("p(k)", probs=torch.tensor([0.3, 0.7]))


X = torch.tensor([[1.0], [2.0], [0.0]])
BOUNDS = {
    "a flow": lambda noisy: flow(noisy=noisy),
    "renamed": lambda noisy: flow(noisy=noisy).replace_var(x="y"),
    "observed": lambda noisy: flow(noisy=noisy).given(x=X),
    "a mixture": lambda noisy: MixtureModel([flow(), flow(noisy=noisy)] if noisy else [flow(noisy=False)] * 2, index()),
    "a product": lambda noisy: flow(noisy=noisy) * Normal("p(w)", loc=0.0, scale=1.0),
    "a marginal": lambda noisy: (flow(noisy=noisy) * index()).marginalize_var("k"),
    "a mixture as a marginal": lambda noisy: (
        MixtureModel([flow(noisy=noisy), flow(noisy=False)], index()) * Categorical("p(c)", probs=torch.ones(2) / 2)
    ).marginalize_var("c"),
}


@pytest.mark.parametrize("make", BOUNDS.values(), ids=BOUNDS)
def test_says_so(make) -> None:
    bound, exact = make(True), make(False)
    assert bound.is_bound and not exact.is_bound
    assert "lower bound" in str(bound) and "lower bound" not in str(exact)
    assert "a lower bound, in expectation" in str(log(bound).plan())
    assert "lower bound" not in str(log(exact).plan())


def test_the_responsibilities_of_a_bound() -> None:
    mixture = MixtureModel([flow(), flow()], index())
    assert "by lower bounds" in str(mixture.posterior("k")) and "exact" not in str(mixture.posterior("k"))
    assert "exact" in str(MixtureModel([flow(noisy=False)] * 2, index()).posterior("k"))


def test_the_density_of_a_mixture_is_a_bound() -> None:
    """Over the noise, the mean of the mixture's log-density is below the logarithm of the mean density."""
    torch.manual_seed(0)
    mixture: Distribution = MixtureModel([flow(), flow()], index())
    draws = mixture.log_prob({"x": X[:1].expand(20_000, 1)})
    assert draws.std() > 0.05
    assert draws.mean() < draws.logsumexp(0) - torch.tensor(20_000.0).log() - 5 * draws.std() / 20_000**0.5


@pytest.mark.parametrize("made", [lambda q: q, lambda q: q.replace_var(x="y"), lambda q: q.given(c=torch.zeros(1, 2))])
def test_estimators_that_need_the_density_itself(made) -> None:
    base = Normal("p(u)", loc=0.0, scale=1.0, features_shape=3)
    q = made(Flow(base, Compose([Affine(3, context=2), Augment(2, 1)]), "q(x | c)"))
    with pytest.raises(LossError, match="leaves a bound"):
        E(q, estimator="stl")[log(q)].plan()
