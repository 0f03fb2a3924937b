"""A score-function term written by hand beside the one that the estimator adds is pointed out; nothing else is."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

import probflow as pf
from probflow import IWAE, E, Parameter, Score, exp, log

Q = pf.Bernoulli("q(z | x)", nn.Linear(2, 2))
Y = pf.Bernoulli("q(y | z)", nn.Linear(2, 2))
R = pf.Normal("q(z | x)", loc="x", scale=1.0)
PZ, PX = pf.Bernoulli("p(z)", probs=torch.full((2,), 0.4)), pf.Normal("p(x | z)", loc="z", scale=1.0)
F = pf.Function(lambda z: z.sum(1), ["z"], "f")
G = pf.Function(lambda x: x.sum(1), ["x"], "g")

TWICE = {  # the loss, and what the message says to write
    "a surrogate": (E(Q, estimator="score")[F.detach() * log(Q)], "Write E_q(z|x)[f(z)];"),
    "beside the cost": (E(Q, estimator="score")[F + F.detach() * log(Q)], "Write E_q(z|x)[f(z)];"),
    "with a baseline": (E(Q, estimator="score")[(F.detach() - G) * log(Q)], "Write E_q(z|x)[detach(f(z)) - g(x)];"),
    "with samples": (E(Q, sample_shape=[4])[log(Q) * (F - G).detach()], "Write E_q(z|x)[f(z) - g(x)];"),
    "inside a sum, negative": (E(Q, estimator=Score())[G - 2 * F.detach() * log(Q)], "Write E_q(z|x)[2 * f(z)];"),
    "of a product": (E(Q * Y, estimator="score")[F.detach() * log(Q * Y)], "Write E_q(z,y|x)[f(z)];"),
    "a normal, on request": (E(R, estimator="score")[F + F.detach() * log(R)], "is estimated by its score"),
    "importance weights": (
        E(Q, estimator="score")[exp(log(PZ) - log(Q)).detach() * log(Q)],
        "Write E_q(z|x)[exp(log p(z) - log q(z|x))];",
    ),
}

RIGHT = {
    "the ELBO": pf.ELBO(PX * PZ, Q, estimator="score"),
    "an importance-weighted bound": IWAE(PX * PZ, Q, samples=3),
    "sticking the landing": pf.ELBO(PX * pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2), R, estimator="stl"),
    "DReG": IWAE(PX * pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2), R, samples=3, estimator="dreg"),
    "a pathwise draw": E(R)[F.detach() * log(R)],
    "an exact sum": E(Q, estimator="enumerate")[F.detach() * log(Q)],
    "an entropy with a detached weight": E(Q, estimator="score")[F - G.detach() * log(Q)],
    "a named weight": E(Q, estimator="score")[F - Parameter("beta").detach() * log(Q)],
    "a weight with gradient": E(Q, estimator="score")[F * log(Q)],
    "the log-density of another": E(Q, estimator="score")[F.detach() * log(PZ)],
    "a stopped gradient": E(Q, estimator="score")[F + (F * log(Q)).detach()],
    "another network of that name": E(Q, estimator="score")[F.detach() * log(pf.Bernoulli("q(z | x)", nn.Linear(2, 2)))],
}


@pytest.mark.parametrize("name", TWICE)
def test_said_once_with_what_to_write(name: str) -> None:
    loss, write = TWICE[name]
    with pytest.warns(UserWarning) as caught:
        (2 * loss).mean().plan()
    assert len({str(w.message) for w in caught}) == 1
    assert all(write in str(w.message) and "twice" in str(w.message) for w in caught)
    assert {w.filename for w in caught} == {__file__}, "it points at the user's line"


@pytest.mark.parametrize("name", RIGHT)
def test_no_false_alarm(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RIGHT[name].mean().plan()


def test_the_gradient_would_be_wrong() -> None:
    """What the message says is true: the score is in the gradient twice."""
    q = pf.Bernoulli("q(z)", logits=nn.Parameter(torch.zeros(1)))
    f = pf.Function(lambda z: 3 * z.sum(1), ["z"], "f")
    (weight,) = q.parameters()

    def gradient(loss: pf.losses.Loss) -> float:
        torch.manual_seed(0)
        return float(torch.autograd.grad(loss.eval(), weight)[0].item())

    exact = gradient(E(q)[f])
    with pytest.warns(UserWarning, match="twice"):
        twice = gradient(E(q, sample_shape=[20_000], estimator=Score(baseline="none"))[f + f.detach() * log(q)])
    once = gradient(E(q, sample_shape=[20_000], estimator=Score(baseline="none"))[f])
    assert exact == pytest.approx(0.75) and once == pytest.approx(exact, abs=0.05)
    # 2 E[f ∇log q] + E[f log q ∇log q], with log q = -log 2 for both states
    assert twice == pytest.approx((2 - math.log(2)) * exact, abs=0.05)
