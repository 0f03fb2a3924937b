"""Marginals: dropped leaves, sums over finite variables, substituted deterministic ones, and samplers for the rest."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.distributions import Bernoulli, Categorical, Deterministic, Marginal, Normal
from probflow.errors import ArgumentError, NoDensity, UnknownVariable

K, L = 3, 4


class Emission(Normal):
    def __init__(self, statement, widths, seed=0):
        super().__init__(statement)
        torch.manual_seed(seed)
        self.nets = nn.ModuleList(nn.Linear(width, 2) for width in widths)

    def forward(self, *inputs):
        return {"loc": sum(net(i) for net, i in zip(self.nets, inputs, strict=True)), "scale": torch.ones(len(inputs[0]), 2)}


class Logits(nn.Linear):
    def forward(self, inputs):
        return {"logits": super().forward(inputs)}


def one_hots(k):
    return torch.eye(k)


def rows(state, n):
    return state.expand(n, *state.shape)


def brute_force(joint, states, values, n):
    """log sum over all joint states, one call of log_prob each."""
    terms = []
    for combination in itertools.product(*states.values()):
        terms.append(joint.log_prob({**values, **{name: rows(s, n) for name, s in zip(states, combination, strict=True)}}))
    return torch.stack(terms).logsumexp(0)


def test_one_finite_variable_is_summed_out():
    joint = Emission("p(x | z)", [K]) * Categorical("p(z)", probs=torch.tensor([0.2, 0.3, 0.5]))
    marginal = joint.marginalize_var("z")
    x = torch.randn(6, 2)
    assert str(marginal.statement) == "p(x)"
    assert_close(marginal.log_prob({"x": x}), brute_force(joint, {"z": one_hots(K)}, {"x": x}, 6))


def test_several_finite_variables_are_summed_out_together():
    joint = (
        Emission("p(x | a, b, y)", [K, 2, 2])
        * Categorical("p(a)", probs=torch.tensor([0.2, 0.3, 0.5]))
        * Bernoulli("p(b)", probs=torch.tensor([0.3, 0.9]))
    )
    values = {"x": torch.randn(5, 2), "y": torch.randn(5, 2)}
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)))
    expected = brute_force(joint, {"a": one_hots(K), "b": bits}, values, 5)
    assert_close(joint.marginalize_var(["a", "b"]).log_prob(values), expected)
    assert_close(joint.marginalize_var("a", "b").log_prob(values), expected)
    assert_close(joint.marginalize_var("a").marginalize_var("b").log_prob(values), expected)


def test_a_chain_of_finite_variables():
    transition = Categorical("p(z2 | z1)", Logits(K, L))
    joint = Emission("p(x | z1, z2)", [K, L]) * transition * Categorical("p(z1)", logits=torch.randn(K))
    x = torch.randn(5, 2)
    for names in (("z1", "z2"), ("z2", "z1")):
        marginal = joint.marginalize_var(*names)
        assert_close(marginal.log_prob({"x": x}), brute_force(joint, {"z1": one_hots(K), "z2": one_hots(L)}, {"x": x}, 5))
    inner = joint.marginalize_var("z1")  # p(x, z2)
    z2 = one_hots(L)[torch.tensor([0, 1, 2, 3, 0])]
    assert_close(inner.log_prob({"x": x, "z2": z2}), brute_force(joint, {"z1": one_hots(K)}, {"x": x, "z2": z2}, 5))


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_sums_with_sample_dimensions(shape):
    transition = Categorical("p(z2 | z1, y)", lambda z1, y: {"logits": z1 @ torch.arange(12.0).reshape(K, L).sin() + y})
    joint = Emission("p(x | z1, z2, y)", [K, L, L]) * transition * Categorical("p(z1)", logits=torch.randn(K))
    marginal = joint.marginalize_var("z1", "z2")
    y = torch.randn(5, L)
    drawn = marginal.sample({"y": y}, sample_shape=shape)
    result = marginal.log_prob(drawn)
    assert result.shape == (*shape, 5)
    flat = drawn["x"].reshape(-1, 5, 2)
    for got, x in zip(result.reshape(-1, 5), flat, strict=True):
        values = {"x": x, "y": y}
        assert_close(got, brute_force(joint, {"z1": one_hots(K), "z2": one_hots(L)}, values, 5))


def test_conditions_with_sample_dimensions():
    joint = Emission("p(x | z, y)", [K, 2]) * Categorical("p(z | y)", Logits(2, K))
    marginal = joint.marginalize_var("z")
    y, x = torch.randn(4, 5, 2), torch.randn(5, 2)
    result = marginal.log_prob({"x": x, "y": y}, sample_dims={"y": 1})
    assert_close(result, torch.stack([marginal.log_prob({"x": x, "y": one}) for one in y]))


def test_an_exact_marginal_integrates_to_one():
    joint = Normal("p(x | z)", lambda z: {"loc": z @ torch.tensor([[-3.0], [0.0], [2.0]]), "scale": torch.ones(len(z), 1)})
    p = (joint * Categorical("p(z)", probs=torch.tensor([0.2, 0.3, 0.5]))).marginalize_var("z")
    grid = torch.linspace(-12, 12, 4001)[:, None]
    assert_close(torch.trapezoid(p.log_prob({"x": grid}).exp(), grid[:, 0]), torch.tensor(1.0))


def test_a_barren_variable_is_dropped_and_takes_its_conditions_along():
    p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(w | x, y)", lambda x, y: {"loc": x + y, "scale": x.exp()})
    marginal = p.marginalize_var("w")
    assert marginal is p.factors[0] and marginal.cond_var == ("z",)
    chain = p * Normal("p(v | w)", loc="w", scale=1.0)
    assert chain.marginalize_var("v", "w") is p.factors[0]


def test_a_deterministic_variable_is_substituted():
    joint = Normal("p(x | h)", loc="h", scale=0.5) * Deterministic("f(h | z)", lambda z: 2 * z)
    marginal = joint.marginalize_var("h")
    values = {"x": torch.randn(4, 2), "z": torch.randn(4, 2)}
    assert_close(marginal.log_prob(values), joint.factors[0].log_prob({"x": values["x"], "h": 2 * values["z"]}))
    summed = (joint * Bernoulli("p(z)", probs=torch.tensor([0.3, 0.9]))).marginalize_var("h", "z")
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)))
    terms = [
        Bernoulli("p(z)", probs=torch.tensor([0.3, 0.9])).log_prob({"z": rows(b, 4)})
        + joint.factors[0].log_prob({"x": values["x"], "h": rows(2 * b, 4)})
        for b in bits
    ]
    assert_close(summed.log_prob({"x": values["x"]}), torch.stack(terms).logsumexp(0))


def test_a_continuous_variable_can_be_sampled_over_and_its_density_names_the_bound():
    joint = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=torch.zeros(2), scale=1.0)
    marginal = joint.marginalize_var("z")
    drawn = marginal.sample(batch_n=20_000)["x"]
    assert set(marginal.sample(batch_n=2)) == {"x"}
    assert abs(drawn.var().item() - 2) < 5 * 2 * (2 / 40_000) ** 0.5
    with pytest.raises(NoDensity, match=r"ELBO\(p, q\) with q\(z\|x\)"):
        marginal.log_prob({"x": torch.zeros(1, 2)})


def test_the_gradient_reaches_every_state():
    logits = nn.Parameter(torch.zeros(K))
    joint = Emission("p(x | z)", [K]) * Categorical("p(z)", logits=logits)
    joint.marginalize_var("z").log_prob({"x": torch.randn(6, 2)}).sum().backward()
    assert logits.grad is not None and bool((logits.grad != 0).all())


def test_the_rest_of_the_product_stays_a_product():
    joint = Emission("p(x | z)", [K]) * Categorical("p(z)", logits=torch.randn(K)) * Normal("p(w | x)", loc="x", scale=1.0)
    marginal = joint.marginalize_var("z")
    assert sorted(str(f.statement) for f in marginal.factors) == ["p(w|x)", "p(x)"]
    drawn = marginal.sample(batch_n=3)
    assert_close(marginal.log_prob(drawn), brute_force(joint, {"z": one_hots(K)}, dict(drawn), 3))


def test_a_factor_between_those_of_the_sum():
    """z -> w -> x and z -> x: w cannot stay outside."""
    joint = (
        Emission("p(x | z, w)", [K, 2])
        * Normal("p(w | v)", loc="v", scale=1.0)
        * Emission("p(v | z)", [K])
        * Categorical("p(z)", logits=torch.randn(K))
    )
    marginal = joint.marginalize_var("z")
    values = {n: torch.randn(4, 2) for n in "xwv"}
    assert_close(marginal.log_prob(values), brute_force(joint, {"z": one_hots(K)}, values, 4))


def test_a_renamed_marginal():
    joint = Emission("p(x | z)", [K]) * Categorical("p(z)", logits=torch.randn(K))
    marginal = joint.marginalize_var("z")
    x = torch.randn(3, 2)
    assert_close(marginal.replace_var(x="z").log_prob({"z": x}), marginal.log_prob({"x": x}))


def test_a_sampled_marginal_matches_its_own_density():
    joint = Emission("p(x | z)", [K]) * Categorical("p(z)", probs=torch.tensor([0.2, 0.3, 0.5]))
    marginal = joint.marginalize_var("z")
    assert isinstance(marginal, Marginal) and not marginal.reparameterised
    drawn = marginal.sample(batch_n=20_000)
    means = joint.factors[0].mean({"z": one_hots(K)})
    weights = torch.tensor([0.2, 0.3, 0.5])
    mean = weights @ means
    spread = (1 + weights @ (means - mean).square()).sqrt()
    assert bool(((drawn["x"].mean(0) - mean).abs() < 5 * spread / 20_000**0.5).all())


def test_mistakes():
    p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0)
    with pytest.raises(UnknownVariable, match="'y'"):
        p.marginalize_var("y")
    with pytest.raises(ArgumentError, match="nothing would be left"):
        p.marginalize_var("x", "z")
    with pytest.raises(ArgumentError, match="marginalize_var"):
        p.marginalize_var()
    many = Bernoulli("p(b)", probs=torch.full((30,), 0.5)) * Normal("p(x | b)", lambda b: {"loc": b, "scale": b + 1})
    with pytest.raises(NoDensity, match="more than"):
        many.marginalize_var("b").log_prob({"x": torch.zeros(1, 30)})
