"""Logarithms of products, quotients, sums and averages of densities, as papers write them, do not underflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import probflow as pf
from probflow import IWAE, E, Prob, log
from probflow.losses import Function, Loss

PIXELS = 2000  # a density is about exp(-1400)


class Model:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.p = pf.Bernoulli("p(x | z)", pf.nn.MLP(2, [], {"logits": PIXELS}))
        self.prior = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
        net, other = nn.Linear(PIXELS, 2), nn.Linear(PIXELS, 2)
        self.q = pf.Normal("q(z | x)", lambda x: {"loc": net(x)}, scale=0.5)
        self.r = pf.Normal("r(z | x)", lambda x: {"loc": other(x)}, scale=0.7)
        self.joint = self.p * self.prior
        self.x = torch.bernoulli(torch.full((4, PIXELS), 0.5))
        self.weights = [*self.p.parameters(), *net.parameters(), *other.parameters()]

    def value_and_gradient(self, loss: Loss) -> list[torch.Tensor]:
        torch.manual_seed(1)
        value = loss.mean().eval({"x": self.x})
        found = torch.autograd.grad(value, self.weights, allow_unused=True)
        return [value, *(torch.zeros(()) if g is None else g for g in found)]


# as the paper writes it, and in log space by hand
SAME: dict[str, tuple[Callable[[Model], Loss], Callable[[Model], Loss]]] = {
    "IWAE": (lambda m: log(E(m.q, sample_shape=[5])[Prob(m.joint) / Prob(m.q)]), lambda m: IWAE(m.joint, m.q, 5)),
    "IWAE, factor by factor": (
        lambda m: log(E(m.q, sample_shape=[5])[Prob(m.p) * Prob(m.prior) / Prob(m.q)]),
        lambda m: IWAE(m.joint, m.q, 5),
    ),
    "Renyi": (
        lambda m: 2 * log(E(m.q, sample_shape=[5])[(Prob(m.joint) / Prob(m.q)) ** 0.5]),
        lambda m: pf.Renyi(m.joint, m.q, 0.5, 5),
    ),
    "Jensen": (lambda m: E(m.q)[log(Prob(m.joint) / Prob(m.q))], lambda m: pf.ELBO(m.joint, m.q)),
    "half": (
        lambda m: log(E(m.q, sample_shape=[5])[Prob(m.joint) / Prob(m.q)] / 2),
        lambda m: IWAE(m.joint, m.q, 5) - 0.6931471805599453,
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_as_papers_write_it(name: str) -> None:
    m = Model()
    written, by_hand = (m.value_and_gradient(make(m)) for make in SAME[name])
    assert -1600 < written[0] < -1000
    for a, b in zip(written, by_hand, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_mixture_of_two_bounds() -> None:
    """log of the mean over two proposals with their own samples: the larger term decides, exp of neither is above 0."""
    m = Model()
    mixture = sum(E(q, sample_shape=[5])[Prob(m.joint) / Prob(q)] / 2 for q in (m.q, m.r))
    assert isinstance(mixture, Loss)
    loss = log(mixture)
    value, *gradient = m.value_and_gradient(loss)
    torch.manual_seed(1)
    log_weights = []
    for q in (m.q, m.r):
        z = q.sample({"x": m.x}, sample_shape=[5])
        log_weights.append(m.joint.log_prob(z) - q.log_prob(z))
    expected = (torch.cat(log_weights).logsumexp(0) - torch.tensor(10.0).log()).mean()
    assert_close(value, expected)
    assert all(g.isfinite().all() for g in gradient) and sum(g.abs().sum() for g in gradient) > 0


def test_softplus_does_not_overflow() -> None:
    f = Function(lambda x: x.sum(1), ["x"], "T")
    x = torch.tensor([[-300.0], [0.5], [300.0]], requires_grad=True)
    loss = log(1 + f.exp())
    value = loss.eval({"x": x})
    assert_close(value, nn.functional.softplus(x[:, 0]))
    value.sum().backward()
    assert_close(x.grad, x.detach().sigmoid())


def test_what_is_drawn_with_a_score_function_stays_an_average_of_the_values() -> None:
    """The score of a part would be weighed with the logarithm of that part alone."""
    b = pf.Bernoulli("q(b)", logits=nn.Parameter(torch.zeros(1)))
    f = Function(lambda b: b.sum(1), ["b"], "f")
    scored = log(E(b, sample_shape=[4], estimator="score")[f.exp()] + 1)
    assert "exp(f(b))" in str(scored.plan()) and "log-mean-exp" not in str(scored.plan())
    assert "log-mean-exp" in str(log(E(pf.Normal("q(b)", loc=0.0, scale=1.0), sample_shape=[4])[f.exp()] + 1).plan())


def test_the_steps_say_so() -> None:
    m = Model()
    steps = E(m.q)[log(Prob(m.joint) / Prob(m.q))].derive().steps
    assert [step.rule for step in steps] == ["log of positive factors", "log of a product", "log-ratio to KL"]
