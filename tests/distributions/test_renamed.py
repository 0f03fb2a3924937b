"""replace_var: the same weights under other names."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.distributions import CustomProb, Deterministic, Normal
from probflow.errors import ArgumentError, DuplicateVariable, UnknownVariable


class Conditional(Normal):
    """Its mean, variance and arguments all differ, so that no delegation can go to the wrong one unnoticed."""

    def __init__(self):
        super().__init__("p(x | z, y)")
        self.a, self.b = nn.Linear(2, 2), nn.Linear(3, 2)

    def forward(self, z, y):
        return {"loc": self.a(z), "scale": self.b(y).exp() + 2}


def values(x="x", z="z", y="y", n=4):
    return {x: torch.randn(n, 2), z: torch.randn(n, 2), y: torch.randn(n, 3)}


def test_a_renamed_copy_is_the_same_function():
    p = Conditional()
    q = p.replace_var(x="x_u", y="y_u")
    v = values()
    assert str(q.statement) == "p(x_u|z,y_u)"
    assert_close(q.log_prob({"x_u": v["x"], "z": v["z"], "y_u": v["y"]}), p.log_prob(v))


def test_swaps():
    p = Normal("p(x | z)", loc="z", scale=1.0)
    q = p.replace_var(x="z", z="x")
    assert str(q.statement) == "p(z|x)"
    v = {"x": torch.randn(3, 2), "z": torch.randn(3, 2)}
    assert_close(q.log_prob(v), p.log_prob({"x": v["z"], "z": v["x"]}))
    joint = p * Normal("p(z)", loc=0.0, scale=2.0, features_shape=2)
    assert str(joint.replace_var(x="z", z="x").statement) == "p(z,x)"
    assert_close(joint.replace_var(x="z", z="x").log_prob(v), joint.log_prob({"x": v["z"], "z": v["x"]}))


def test_the_moments_of_a_renamed_copy():
    p = Conditional()
    q = p.replace_var(x="u")
    v = {n: t for n, t in values().items() if n != "x"}
    assert_close(q.mean(v), p.mean(v))
    assert_close(q.variance(v), p.variance(v))
    assert_close(q.entropy(v), p.entropy(v))
    assert_close(q.sample(v, sample_mean=True)["u"], p.mean(v))  # not the variance


def test_renaming_back_gives_the_original_object():
    p = Conditional()
    assert p.replace_var(x="u").replace_var(u="x") is p
    assert p.replace_var(x="x") is p


def test_a_copy_of_a_copy_goes_to_the_origin():
    p = Conditional()
    q = p.replace_var(x="u").replace_var(u="w", z="x")
    assert q.origin is p and str(q.statement) == "p(w|x,y)"


def test_weights_are_shared_also_after_moving_and_training():
    p = Conditional()
    q = p.replace_var(x="u")
    p.to(torch.float32)
    assert {t.dtype for t in q.parameters()} == {torch.float32}
    assert {id(t) for t in q.parameters()} == {id(t) for t in p.parameters()}
    assert list(q.state_dict()) == list(p.state_dict())


def test_eval_mode_reaches_the_network():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    p = Normal("p(x | z)", network, scale=1.0)
    p.replace_var(z="u").eval()
    assert not network.training and not p.training


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["copy", "pickle"])
def test_a_renamed_copy_and_its_origin_stay_together(twin):
    p = Conditional()
    q = p.replace_var(x="u", z="w", y="v")
    both = twin(p * q)
    assert len(list(both.parameters())) == len(list(p.parameters()))
    first, second = both.factors
    assert second.origin is first and {id(t) for t in first.parameters()} == {id(t) for t in second.parameters()}
    alone = twin(q)
    given = {"w": torch.randn(2, 2), "v": torch.randn(2, 3)}
    assert_close(alone.mean(given), q.mean(given))


def test_an_unknown_name_and_a_clash():
    p = Conditional()
    with pytest.raises(UnknownVariable, match="'xx'"):
        p.replace_var(xx="u")
    with pytest.raises(DuplicateVariable, match="'z' and 'y'.*'w'"):
        p.replace_var(z="w", y="w")
    with pytest.raises(DuplicateVariable):
        (p * Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)).replace_var(x="z")


def test_a_name_that_is_no_identifier():
    p = Normal("p(z')", loc=0.0, scale=1.0)
    assert p.replace_var({"z'": "z"}).var == ("z",)


def test_what_a_factor_is_stays_what_it_is():
    assert Deterministic("f(z | x)", lambda x: x).replace_var(z="u").reparameterised
    energy = CustomProb("p(x)", lambda x: -x.square().sum(1)).replace_var(x="u")
    assert not energy.normalised
    with pytest.raises(TypeError, match=r"p\(u\) cannot be sampled"):
        energy.sample()


def test_an_error_of_a_renamed_copy_uses_the_new_names():
    q = Normal("p(x | z)", loc="z", scale=1.0).replace_var(x="u", z="w")
    with pytest.raises(ValueError, match="'u'"):
        q.log_prob({"u": torch.randn(3, 5), "w": torch.randn(3, 2)})


def test_reparam_where_there_is_none_names_the_family():
    from probflow.distributions import Bernoulli

    with pytest.raises(ArgumentError, match=r"p\(b\) \(Bernoulli\)"):
        Bernoulli("p(a)", probs=0.5).replace_var(a="b").sample(reparam=True)
