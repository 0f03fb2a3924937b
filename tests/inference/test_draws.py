"""Draws: once where the same, independent where they must be, vectorised, and forgotten after the evaluation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, E, Entropy, Function, Loss, exp, log

q = pf.Normal("q(z | x)", loc="x", scale=0.5)
r = pf.Normal("r(w | x)", loc="x", scale=0.5)
p = pf.Normal("p(x | z)", loc="z", scale=1.0)
prior = pf.Normal("p(z)", loc=0.0, scale=1.0)
z = Function(lambda z: z, ["z"], "z")
w = Function(lambda w: w, ["w"], "w")
coin = pf.Bernoulli("b(y)", probs=torch.tensor(0.3, dtype=torch.float64))
y = Function(lambda y: y, ["y"], "y")
batch = Function(lambda x: x * 0, ["x"], "0")  # gives a loss without data as many rows as the others have


def check(loss: Loss, truth: float, x: float = 1.0, n: int = 100_000) -> None:
    """The mean of independent estimates is the truth, within 5 standard errors."""
    estimates = loss.eval({"x": torch.full((n,), x)}).detach().double()
    assert estimates.shape == (n,)
    error = estimates.std() / n**0.5
    assert (estimates.mean() - truth).abs() <= 5 * error + 1e-12, (estimates.mean().item(), truth, error.item())


class Counted(nn.Module):
    """A network that counts its calls and the rows it has seen."""

    def __init__(self, out: str = "loc", features: int = 2) -> None:
        super().__init__()
        self.linear, self.calls, self.rows = nn.Linear(2, features), 0, 0
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, a: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        self.rows += a.shape[0]
        self.shapes.append(tuple(a.shape))
        h = self.linear(a)
        return {"loc": h, "scale": torch.ones_like(h)}


def vae() -> tuple[Counted, Counted, pf.Distribution, pf.Distribution, pf.Distribution]:
    encoder, decoder = Counted(), Counted()
    wide = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    return encoder, decoder, pf.Normal("q(z|x)", encoder), pf.Normal("p(x|z)", decoder), wide


# ---------------------------------------------------------------------- once

ONCE = {
    "KL - E": lambda q, p, prior: KL(q, prior) - E(q)[log(p)],
    "ELBO": lambda q, p, prior: ELBO(p * prior, q),
    "everything": lambda q, p, prior: (
        KL(q, prior)
        - E(q)[log(p)]
        + Entropy(q)
        + E(q)[log(p) - log(prior)]
        - ELBO(p * prior, q)
        + KL(q, prior, analytical=False)
    ),
    "50 samples": lambda q, p, prior: E(q, [50])[log(p) - log(q)] + KL(q, prior),
    "2 x 3 samples": lambda q, p, prior: E(q, [2, 3])[log(p)],
}


@pytest.mark.parametrize("name", ONCE)
def test_networks_run_once(name: str) -> None:
    encoder, decoder, q, p, prior = vae()
    loss = ONCE[name](q, p, prior)
    for evaluate in (loss.eval, loss.mean().eval, loss.terms, loss.module()):
        encoder.calls = decoder.calls = 0
        evaluate({"x": torch.randn(4, 2)})
        assert (encoder.calls, decoder.calls) == (1, 1)


def test_samples_are_one_call_of_one_batch_dimension() -> None:
    encoder, decoder, q, p, _ = vae()
    E(q, [2, 3])[log(p)].eval({"x": torch.randn(4, 2)})
    assert encoder.shapes == [(4, 2)] and decoder.shapes == [(24, 2)]


def test_difference_of_the_same_is_exactly_zero() -> None:
    x = {"x": torch.randn(5)}
    product = E(q)[z] * E(r)[w]
    for loss in (
        E(q)[z],
        E(q, [7])[z.exp()],
        product,
        (E(q)[z]) ** 2,
        log(E(q, [3])[exp(z)]),
        E(q * r)[Function(torch.mul, ["z", "w"], "f")],
    ):
        assert (loss - loss).eval(x).abs().max() == 0
        assert (2 * loss - loss - loss).eval(x).abs().max() < 1e-12
    assert (E(q)[z] + 1 - E(q)[z + 1]).eval(x).abs().max() < 1e-12


def test_networks_of_one_name_do_not_cancel() -> None:
    other = pf.Normal("q(z | x)", loc="x", scale=0.5)
    assert (E(q)[z] - E(other)[z]).eval({"x": torch.zeros(5)}).abs().min() > 0


def test_a_draw_is_per_batch_element() -> None:
    assert len(set(E(prior)[z + Function(lambda x: x, ["x"], "x")].eval({"x": torch.zeros(50)}).tolist())) == 50


# ---------------------------------------------------------------------- independent


def test_the_square_of_an_expectation() -> None:
    for loss in ((E(q)[z]) ** 2, E(q)[z] ** 2.0, E(q)[z] * E(q)[z], (-E(q)[z]) * (-E(q)[z])):
        check(loss, 1.0)
    check((E(q)[z]) ** 3, 1.0)
    check((E(q, [2])[z]) ** 2, 1.0)


def test_products_of_products() -> None:
    twice = E(q)[z] * E(q)[z]
    check(twice**2, 1.0)
    check(twice * (1 + twice), 2.0)
    check((twice + 1) * (twice - 1), 0.0)
    check(twice * E(q)[z] * 2, 2.0)
    check(2 * (twice * (E(q)[z] * E(q)[z])), 2.0)


def test_a_product_of_two() -> None:
    """E[z] E[z^2] = 1 * 1.25, not E[z^3] = 1.75."""
    check(E(q)[z] * E(q)[z**2], 1.25)
    check(E(q, [3])[z] * E(q, [3])[z**2], 1.25)


def test_a_quotient() -> None:
    """Numerator and denominator do not share draws: E[z] / exp(E-free) has the mean of the parts."""
    u = pf.Uniform("u(v)", low=1.0, high=2.0)
    v = Function(lambda v: v, ["v"], "v")
    check(E(u)[v] / E(u)[v] + batch, 1.5 * math.log(2))  # E[v] E[1/v']; on the same draw it would be 1


def test_an_expectation_inside_its_own() -> None:
    """E_q[(z - E_q[z])^2] is the variance; on the same draw it would be 0."""
    check(E(q)[(z - E(q)[z]) ** 2], 0.25)
    check(E(q, [3])[(z - E(q, [3])[z]) ** 2], 0.25)
    check(E(q)[E(q)[z] * z], 1.0)
    check(E(q)[z * E(q)[z * E(q)[z]]], 1.0)
    check(E(q)[z * (E(q)[z] * E(q)[z])], 1.0)


def test_nested_expectations_do_not_tie_samples() -> None:
    """E_q(z)[log E_r(w)[exp(...)]] with the same K: the inner average runs over its own samples for every outer one."""
    k = 4
    f = Function(lambda z, w: z * w, ["z", "w"], "f")
    torch.manual_seed(0)
    loss = E(q, [k])[log(E(r, [k])[exp(f)])]
    value, samples = loss.eval({"x": torch.ones(3)}, return_dict=True)
    assert samples["z"].shape == samples["w"].shape == (k, 3)  # w does not depend on z: one set serves every z
    by_hand = (samples["z"] * samples["w"][:, None]).logsumexp(0) - math.log(k)  # (inner, outer, batch)
    assert_close(value, by_hand.mean(0))
    free = log(E(r, [k])[exp(w)])  # nothing of z inside: its own draws, once
    check(E(q, [k])[z * free - free * z], 0.0, n=1000)


def test_states_inside_their_own_sum() -> None:
    """E_y E_{w|y} E_y'[y' w] = 0.3 * 0.3: the inner y is another one than the y that w depends on."""
    below = pf.Normal("r(w | y)", loc="y", scale=0.1)
    yw = Function(lambda y, w: y * w, ["y", "w"], "yw")
    check(E(coin)[E(below)[E(coin)[yw]]] + batch, 0.09)
    assert_close(E(coin)[E(coin)[y] * y].eval({}), torch.tensor([0.09]))


# ---------------------------------------------------------------------- sample shapes, chains, states mixed with samples

q2 = pf.Normal("q(v | z, x)", lambda z, x: {"loc": z * x, "scale": torch.full_like(z, 0.3)})
v = Function(lambda v: v, ["v"], "v")
toss = pf.Bernoulli("b(y | z)", lambda z: {"logits": z})
after = pf.Normal("q(u | y, z)", lambda y, z: {"loc": y + z, "scale": torch.full_like(y + z, 0.3)})
u = Function(lambda u: u, ["u"], "u")
first = pf.Normal("q(u | y)", lambda y: {"loc": 2 * y, "scale": torch.full_like(y, 0.3)})


@pytest.mark.parametrize("shape", [(), 1, 4, [2, 3]])
def test_any_sample_shape(shape: int | list[int]) -> None:
    x = {"x": torch.full((1000,), 1.0)}
    for loss, truth in (
        (E(q, shape)[z], 1.0),
        (E(q * q2, shape)[v], 1.0),
        (E(q * q2, shape)[v * z], 1.25),
        (E(coin * first, shape)[u * y], 0.6),
    ):
        value = (loss + batch).eval(x).detach()
        assert value.shape == (1000,)
        assert (value.mean() - truth).abs() <= 5 * value.std() / 1000**0.5 + 1e-12


@pytest.mark.parametrize("shape", [(), 3, [2, 3]])
@pytest.mark.parametrize("estimator", [None, "score"])
def test_states_and_samples_in_both_orders(shape: int | list[int], estimator: str | None) -> None:
    sigmoid = (1.0 + 0.5 * torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))).sigmoid()
    below = E(q * toss * after, shape, estimator=estimator)[u]  # z -> y -> u
    check(below, 1.0 + sigmoid.mean().item() * 1.0, n=50_000)
    joint = E(coin * first, shape, estimator=estimator)[u**2 * y]  # y -> u
    check(joint + batch, 0.3 * (4 + 0.09), n=50_000)


def test_samples_come_with_their_dimensions() -> None:
    loss = E(q * q2, [2, 3])[v * z] + E(q)[z]
    value, samples = loss.eval({"x": torch.ones(5)}, return_dict=True)
    assert value.shape == (5,)
    assert samples["z"].shape == (2, 3, 5) and samples.sample_dims["z"] == 2
    assert samples["v"].shape == (2, 3, 5) and samples.sample_dims["v"] == 2


def test_samples_as_values() -> None:
    """Values with sample dimensions give a loss with sample dimensions, aligned by name and not by rank."""
    drawn = q.sample({"x": torch.ones(4)}, sample_shape=[5])
    direct = p.log_prob(drawn)
    assert_close(log(p).eval(drawn), direct)
    assert log(p).mean().eval(drawn).shape == (5,)
    mixed = log(p) + E(q, [7])[log(p)] - KL(q, prior)
    assert mixed.eval(drawn).shape == (5, 4)
    square = q.sample({"x": torch.ones(5)}, sample_shape=[5])
    assert_close(log(p).eval(square), p.log_prob(square))


def test_batch_norm_and_convolutions_see_one_batch_dimension() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(2, 4),
                nn.BatchNorm1d(4),
                nn.Unflatten(1, (1, 2, 2)),
                nn.Conv2d(1, 1, 1),
                nn.BatchNorm2d(1),
                nn.Flatten(1),
            )

        def forward(self, z: Tensor) -> dict[str, Tensor]:
            assert z.dim() == 2
            return {"loc": self.net(z), "scale": torch.ones(len(z), 4)}

    decoder = Decoder()
    p = pf.Normal("p(x|z)", decoder)
    x = torch.randn(6, 4)
    encoder = pf.Normal("q(z|x)", lambda x: {"loc": x[:, :2], "scale": torch.ones(len(x), 2)})
    for shape in ((), [3], [2, 3]):
        assert E(encoder, shape)[log(p)].eval({"x": x}).shape == (6,)
    assert int(decoder.get_buffer("net.1.num_batches_tracked")) == 3


# ---------------------------------------------------------------------- nothing survives an evaluation


def test_every_evaluation_draws_anew() -> None:
    loss = E(q)[z]
    x = {"x": torch.zeros(3)}
    assert not torch.equal(loss.eval(x), loss.eval(x))
    torch.manual_seed(1)
    a = loss.eval(x)
    torch.manual_seed(1)
    assert torch.equal(a, loss.eval(x))


def test_a_step_is_seen_on_the_same_tensors() -> None:
    _, _, q, p, prior = vae()
    x = {"x": torch.randn(8, 2)}
    loss = (KL(q, prior) - E(q)[log(p)]).mean()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.05)
    before = KL(q, prior).mean().eval(x)
    values = []
    for _ in range(20):  # full batch: the very same tensor every time
        optimizer.zero_grad()
        value = loss.eval(x)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert KL(q, prior).mean().eval(x) != before
    assert sum(values[-5:]) < sum(values[:5])
    by_hand = pf.KL(q, prior).mean().eval({"x": x["x"].clone()})
    assert torch.equal(KL(q, prior).mean().eval(x), by_hand)


def test_testing_then_training_trains() -> None:
    encoder, _, q, _, prior = vae()
    x = {"x": torch.randn(8, 2)}
    loss = KL(q, prior).mean()
    with torch.no_grad():
        tested = loss.eval(x)
    assert not tested.requires_grad
    trained = loss.eval(x)
    assert trained.requires_grad
    trained.backward()
    assert encoder.linear.weight.grad is not None
    loss.eval(x).backward()  # a second graph, not the first one again
