"""Products and mixtures of Normal experts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.distributions import Laplace, MixtureOfNormal, Normal, ProductOfNormal
from probflow.errors import ArgumentError, MissingVariable, ParameterError, ShapeError, UnknownVariable


class Expert(Normal):
    def __init__(self, condition, width):
        super().__init__(var="z", cond_var=condition, name="q")
        self.loc_net, self.scale_net = nn.Linear(width, 2), nn.Linear(width, 2)

    def forward(self, condition):
        return {"loc": self.loc_net(condition), "scale": self.scale_net(condition).exp()}


def parts():
    return Expert("x", 2), Expert("y", 3), Normal("p(z)", loc=torch.tensor([0.5, -0.5]), scale=1.5)


def values(n=4):
    return {"x": torch.randn(n, 2), "y": torch.randn(n, 3), "z": torch.randn(n, 2)}


def logs(experts, v, z):
    return sum(e.log_prob({**{n: v[n].expand(len(z), -1) for n in e.cond_var}, "z": z}) for e in experts)


@pytest.mark.parametrize("which", ["xy", "x", "y", ""])
def test_the_product_is_proportional_to_the_product(which):
    """log q - sum log experts does not depend on z; and q is a normalised Normal, so the constant is right too."""
    qx, qy, pz = parts()
    poe = ProductOfNormal([qx, qy], prior=pz)
    v = {n: values(1)[n] for n in which}
    experts = [e for e in (qx, qy, pz) if set(e.cond_var) <= set(which)]
    z = torch.randn(200, 2) * 2
    grid = {n: t.expand(200, -1) for n, t in v.items()}
    constant = poe.log_prob({**grid, "z": z}) - logs(experts, v, z)
    assert_close(constant, constant[:1].expand(200))
    mean, variance = poe.mean(v)[0], poe.variance(v)[0]
    expected = torch.stack([1 / e.variance({n: v[n] for n in e.cond_var})[0] for e in experts])
    assert_close(variance, 1 / expected.sum(0))
    locs = torch.stack([e.mean({n: v[n] for n in e.cond_var})[0] for e in experts])
    assert_close(mean, (expected * locs).sum(0) / expected.sum(0))


def test_a_subset_is_a_distribution_that_shares_the_weights():
    qx, qy, pz = parts()
    poe = ProductOfNormal("q(z | x, y)", [qx, qy], prior=pz)
    part = poe.subset("x")
    assert str(part.statement) == "q(z|x)" and str(poe.subset().statement) == "q(z)" and poe.subset("y", "x") is poe
    assert poe.subset("x") is part  # one object: its draws are shared within an expression
    assert {id(t) for t in part.parameters()} <= {id(t) for t in poe.parameters()}
    v = values()
    assert_close(part.log_prob(v), poe.log_prob({n: v[n] for n in "xz"}))
    with torch.no_grad():
        qx.loc_net.bias += 1
    assert_close(part.mean({"x": v["x"]}), poe.mean({"x": v["x"]}))


def test_without_a_prior_one_expert_is_itself():
    qx, qy, _ = parts()
    v = values()
    poe = ProductOfNormal([qx, qy])
    assert_close(poe.log_prob({"x": v["x"], "z": v["z"]}), qx.log_prob(v))
    with pytest.raises(MissingVariable, match="at least one expert: x or y"):
        poe.sample()
    with pytest.raises(MissingVariable, match="at least one"):
        poe.subset()


def test_it_is_a_normal_in_every_respect():
    qx, qy, pz = parts()
    poe = ProductOfNormal([qx, qy], prior=pz)
    v = values()
    assert poe.kind is Normal.family and poe.reparameterised and not poe.finite
    drawn = poe.sample({"x": v["x"], "y": v["y"]}, sample_shape=[3, 2], reparam=True)
    assert drawn["z"].shape == (3, 2, 4, 2) and poe.log_prob(drawn).shape == (3, 2, 4)
    drawn["z"].sum().backward()
    assert qx.loc_net.weight.grad is not None and qy.scale_net.weight.grad is not None
    assert_close(poe.entropy({"x": v["x"]}), torch.distributions.Normal(0, poe.variance({"x": v["x"]}).sqrt()).entropy().sum(1))
    x = torch.randn(5, 4, 2)
    many = poe.log_prob({"x": x, "y": v["y"], "z": v["z"]}, sample_dims={"x": 1})
    assert_close(many, torch.stack([poe.log_prob({**v, "x": one}) for one in x]))


def test_renamed_given_and_in_products():
    qx, qy, pz = parts()
    poe, v = ProductOfNormal([qx, qy], prior=pz), values()
    renamed = poe.replace_var(x="a", z="w")
    assert_close(renamed.log_prob({"a": v["x"], "w": v["z"]}), poe.log_prob({"x": v["x"], "z": v["z"]}))
    assert_close(poe.given(y=v["y"]).log_prob({"x": v["x"], "z": v["z"]}), poe.log_prob(v))
    assert_close(poe.given(y=v["y"]).log_prob({"z": v["z"]}), poe.log_prob({"y": v["y"], "z": v["z"]}))
    joint = poe * Normal("p(u | z)", loc="z", scale=1.0)
    drawn = joint.sample({"y": v["y"]}, sample_shape=3)
    assert drawn["u"].shape == (3, 4, 2) and joint.log_prob(drawn).shape == (3, 4)
    # an expert whose condition another factor draws is always used
    both = poe * Normal("p(x)", loc=torch.zeros(2), scale=1.0)
    drawn = both.sample({"y": v["y"]})
    assert_close(both.log_prob(drawn), poe.log_prob(drawn) + both.factors[1].log_prob(drawn))


def test_copies_keep_their_subsets():
    poe = ProductOfNormal(list(parts()[:2]))
    part = poe.subset("x")
    twin = copy.deepcopy(poe)
    assert twin.subset("x") is not part
    assert {id(t) for t in twin.subset("x").parameters()} <= {id(t) for t in twin.parameters()}
    assert list(twin.state_dict()) == list(poe.state_dict())


def test_the_mixture():
    qx, qy, _ = parts()
    v = values()
    moe = MixtureOfNormal("q(z | x, y)", [qx, qy], weights=[1.0, 3.0])
    expected = torch.stack([qx.log_prob(v) + torch.tensor(0.25).log(), qy.log_prob(v) + torch.tensor(0.75).log()]).logsumexp(0)
    assert_close(moe.log_prob(v), expected)
    assert_close(
        MixtureOfNormal([qx, qy]).mean({"x": v["x"], "y": v["y"]}), (qx.mean({"x": v["x"]}) + qy.mean({"y": v["y"]})) / 2
    )
    assert_close(moe.log_prob({"x": v["x"], "z": v["z"]}), qx.log_prob(v))
    assert_close(moe.subset("y").log_prob(v), qy.log_prob(v))
    with pytest.raises(MissingVariable, match="at least one"):
        moe.sample()
    drawn = moe.sample({"x": v["x"], "y": v["y"]}, sample_shape=[2, 5])
    assert drawn["z"].shape == (2, 5, 4, 2) and moe.log_prob(drawn).shape == (2, 5, 4)


def test_the_mixture_of_three_scales_its_weights():
    qx, qy, pz = parts()
    v = values()
    moe = MixtureOfNormal([qx, qy, pz], weights=[2.0, 1.0, 1.0])
    expected = torch.stack([qx.log_prob(v) + torch.tensor(2 / 3).log(), pz.log_prob(v) + torch.tensor(1 / 3).log()]).logsumexp(
        0
    )
    assert_close(moe.log_prob({"x": v["x"], "z": v["z"]}), expected)
    n = 20_000
    mean, variance = moe.mean({"x": v["x"], "y": v["y"]}), moe.variance({"x": v["x"], "y": v["y"]})
    drawn = moe.sample({"x": v["x"], "y": v["y"]}, sample_shape=n)["z"]
    assert bool(((drawn.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all())


def test_print_names_the_experts():
    poe = ProductOfNormal(list(parts()[:2]), prior=parts()[2])
    assert str(poe).splitlines()[0] == "q(z|x,y): product of Normal experts and a prior expert"
    assert "q(z|x): Expert (Normal)" in str(poe)
    assert "weights 0.5, 0.5" in str(MixtureOfNormal(list(parts()[:2])))


def test_mistakes():
    qx, qy, pz = parts()
    with pytest.raises(ArgumentError, match="list of experts"):
        ProductOfNormal("q(z | x)")
    with pytest.raises(ArgumentError, match=r"must be a Normal, got q\(z\|x\) \(Laplace\)"):
        ProductOfNormal([Laplace("q(z | x)", loc="x", scale=1.0)])
    with pytest.raises(ArgumentError, match=r"q\(z\|x\) and q\(w\|x\)"):
        ProductOfNormal([qx, qx.replace_var(z="w")])
    with pytest.raises(ArgumentError, match=r"statement is q\(z\|x\), but its experts make q\(z\|x,y\)"):
        ProductOfNormal("q(z | x)", [qx, qy])
    with pytest.raises(UnknownVariable, match="'w'"):
        ProductOfNormal([qx, qy]).subset("w")
    with pytest.raises(ParameterError, match="2 positive numbers"):
        MixtureOfNormal([qx, qy], weights=[1.0, -1.0])
    with pytest.raises(ParameterError, match="2 positive numbers"):
        MixtureOfNormal([qx, qy], weights=[1.0])
    with pytest.raises(ShapeError, match=r"features_shape=\[2\]"):
        ProductOfNormal([qx], prior=Normal("p(z)", loc=0.0, scale=1.0)).sample({"x": torch.zeros(1, 2)})
    pair = Normal("q(z | x, y)", lambda x, y: {"loc": x, "scale": 1 + x.square()})
    with pytest.raises(MissingVariable, match="x alone is of no use"):
        ProductOfNormal([pair, qy], prior=pz).subset("x")
