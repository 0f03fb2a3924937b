"""sample and log_prob: shapes, what is kept, what is an error."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.distributions import Bernoulli, Categorical, Normal, Samples
from probflow.errors import ArgumentError, MissingVariable, NoClosedForm, ShapeError, UnknownVariable, ValuesError


class Decoder(Normal):
    """p(x|z,y); it refuses anything but one batch dimension."""

    def __init__(self):
        super().__init__("p(x | z, y)")
        self.net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
        self.calls = 0

    def forward(self, z, y):
        object.__setattr__(self, "calls", self.calls + 1)
        return {"loc": self.net(torch.cat([z, y], 1)), "scale": torch.ones(len(z), 4)}


def model():
    return Decoder() * Normal("p(z)", loc=torch.zeros(2), scale=1.0)


def test_batch_n():
    z = Normal("p(z)", loc=torch.zeros(2), scale=1.0)
    assert z.sample()["z"].shape == (1, 2) and z.sample(batch_n=7)["z"].shape == (7, 2)
    assert z.sample(batch_n=0)["z"].shape == (0, 2)
    p = model()
    assert p.sample({"y": torch.randn(6, 3)})["x"].shape == (6, 4)
    assert p.sample({"y": torch.randn(6, 3)}, batch_n=6)["z"].shape == (6, 2)
    with pytest.raises(ShapeError, match="batch_n=5.*batch 6"):
        p.sample({"y": torch.randn(6, 3)}, batch_n=5)
    wrong: Any
    for wrong in (-1, 2.0, True, "3"):
        with pytest.raises(ArgumentError, match="batch_n"):
            z.sample(batch_n=wrong)


@pytest.mark.parametrize("shape", [3, [3], (2, 3), torch.Size([4])])
def test_sample_shape_with_a_conditional_distribution(shape):
    p = model()
    lead = (shape,) if isinstance(shape, int) else tuple(shape)
    drawn = p.sample({"y": torch.randn(6, 3)}, sample_shape=shape)
    assert drawn["z"].shape == (*lead, 6, 2) and drawn["x"].shape == (*lead, 6, 4) and drawn["y"].shape == (6, 3)
    assert drawn.sample_dims == {"z": len(lead), "x": len(lead), "y": 0}
    assert p.factors[0].calls == 1  # one call of the network, no loop
    p.eval()
    result = p.log_prob(drawn)
    assert result.shape == (*lead, 6)
    flat = result.reshape(-1, 6)
    for row, z, x in zip(flat, drawn["z"].reshape(-1, 6, 2), drawn["x"].reshape(-1, 6, 4), strict=True):
        assert_close(row, p.log_prob({"z": z, "x": x, "y": drawn["y"]}))


def test_plain_tensors_say_their_sample_dimensions():
    p = model().eval()
    z, x, y = torch.randn(3, 6, 2), torch.randn(3, 6, 4), torch.randn(6, 3)
    expected = torch.stack([p.log_prob({"z": a, "x": b, "y": y}) for a, b in zip(z, x, strict=True)])
    assert_close(p.log_prob({"z": z, "x": x, "y": y}, sample_dims={"x": 1}), expected)  # z's event is declared
    assert_close(p.log_prob({"z": z, "x": x, "y": y.expand(3, 6, 3)}, sample_dims=1), expected)
    with pytest.raises(ShapeError, match="sample_dims"):
        p.log_prob({"z": z, "x": x, "y": y})
    with pytest.raises(UnknownVariable, match="sample_dims has no variable 'xx'"):
        p.log_prob({"z": z, "x": x, "y": y}, sample_dims={"xx": 1})


def test_sample_dimensions_survive_on_to_the_next_model():
    y = torch.randn(6, 3)
    first = model().sample({"y": y}, sample_shape=5)
    q = Normal("q(w | x, y)", lambda x, y: {"loc": x[:, :3] + y, "scale": torch.ones_like(y)})
    second = q.sample(Samples({n: first[n] for n in "xy"}, first.sample_dims))
    assert second["w"].shape == (5, 6, 3) and q.log_prob(second).shape == (5, 6)
    third = q.sample(Samples({n: first[n] for n in "xy"}, first.sample_dims), sample_shape=2)
    assert third["w"].shape == (2, 5, 6, 3) and q.log_prob(third).shape == (2, 5, 6)
    assert len(third["w"].unique()) == third["w"].numel()


def test_a_root_is_drawn_for_each_sample_of_the_given_values():
    drawn = model().sample(Samples({"y": torch.randn(5, 6, 3)}, {"y": 1}), sample_shape=2)
    assert drawn["z"].shape == (2, 5, 6, 2) and drawn["x"].shape == (2, 5, 6, 4)
    assert len(drawn["z"].unique()) == drawn["z"].numel()


def test_return_all():
    p, y = model(), torch.randn(6, 3)
    assert set(p.sample({"y": y})) == {"x", "y", "z"} and set(p.sample({"y": y}, return_all=False)) == {"x", "z"}


def test_given_variables_of_the_distribution_are_kept():
    p, y, z = model(), torch.randn(6, 3), torch.randn(6, 2)
    drawn = p.sample({"y": y, "z": z})
    assert drawn["z"] is z and drawn["x"].shape == (6, 4)


def test_the_dict_given_is_not_changed():
    given = {"y": torch.randn(6, 3)}
    model().sample(given)
    assert list(given) == ["y"]


def test_sample_mean():
    p = Normal("p(x | z)", loc="z", scale=3.0) * Normal("p(z)", loc=torch.tensor([1.0, 2.0]), scale=5.0)
    drawn = p.sample(batch_n=4, sample_mean=True)
    assert_close(drawn["z"], torch.tensor([[1.0, 2.0]]).expand(4, 2))
    assert_close(drawn["x"], drawn["z"])
    with pytest.raises(ArgumentError, match="sample_shape"):
        p.sample(sample_mean=True, sample_shape=3)


def test_sample_mean_of_samples():
    p = Normal("p(x | z)", lambda z: {"loc": 2 * z, "scale": 1.0})
    z = torch.randn(3, 4, 2)
    assert_close(p.sample(Samples({"z": z}, {"z": 1}), sample_mean=True)["x"], 2 * z)


def test_reparam():
    loc = nn.Parameter(torch.zeros(2))
    p = Normal("p(z)", loc=loc, scale=1.0)
    assert not p.sample()["z"].requires_grad
    drawn = p.sample(reparam=True, sample_shape=3)["z"]
    drawn.sum().backward()
    assert_close(loc.grad, torch.full((2,), 3.0))
    with torch.no_grad():
        assert not p.sample(reparam=True)["z"].requires_grad
    with pytest.raises(ArgumentError, match="no reparameterised draw"):
        Bernoulli("p(b)", probs=0.5).sample(reparam=True)


def test_a_draw_without_reparam_has_no_gradient_even_inside_a_graph():
    loc = nn.Parameter(torch.zeros(2))
    bound = Normal("p(z)", loc=loc, scale=1.0).bind([], [])
    assert not bound.draw((3,), 4, False)[0].requires_grad and bound.draw((3,), 4, True)[0].requires_grad


def test_draws_are_per_batch_element():
    z = Normal("p(z)", loc=0.0, scale=1.0, features_shape=2).sample(batch_n=100, sample_shape=3)["z"]
    assert len(z.unique()) == z.numel()


def test_two_draws_differ_and_a_seed_repeats_them():
    p = model()
    y = torch.randn(6, 3)
    torch.manual_seed(1)
    first, second = p.sample({"y": y}), p.sample({"y": y})
    torch.manual_seed(1)
    again = p.sample({"y": y})
    assert torch.equal(first["z"], again["z"]) and not torch.equal(first["z"], second["z"])


def test_the_density_of_the_same_value_does_not_change_after_another_sample():
    p = model().eval()
    drawn = p.sample({"y": torch.randn(6, 3)})
    before = p.log_prob(drawn)
    p.sample({"y": torch.randn(2, 3)})
    assert torch.equal(p.log_prob(drawn), before)


@pytest.mark.parametrize(
    "call", [lambda p: p.sample(batchn=7), lambda p: p.sample(batch_size=7), lambda p: p.log_prob({}, dims=1)]
)
def test_an_unknown_keyword_is_a_type_error(call):
    with pytest.raises(TypeError, match="has no argument"):
        call(model())


def test_names_that_do_not_occur():
    p = model()
    with pytest.raises(UnknownVariable, match="'yy'.*Did you mean 'y'"):
        p.sample({"yy": torch.randn(6, 3), "y": torch.randn(6, 3)})
    with pytest.raises((UnknownVariable, MissingVariable), match="'y'"):
        p.sample({"yy": torch.randn(6, 3)})
    with pytest.raises(MissingVariable, match="'y'"):
        p.sample()
    with pytest.raises(MissingVariable, match="log_prob"):
        p.log_prob({"y": torch.randn(6, 3)})


def test_values_that_are_no_dict_of_tensors():
    p = model()
    with pytest.raises(ValuesError, match=r"needs a dict.*got a tensor of shape \(6, 3\)"):
        p.sample(torch.randn(6, 3))
    with pytest.raises(ValuesError, match="from_numpy"):
        p.sample({"y": torch.randn(6, 3).numpy()})
    with pytest.raises(ValuesError, match="as_tensor"):
        p.sample({"y": [1.0, 2.0]})
    with pytest.raises(ArgumentError, match="sample_shape"):
        p.sample({"y": torch.randn(6, 3)}, sample_shape="3")
    with pytest.raises(ArgumentError, match="sample_shape"):
        p.sample({"y": torch.randn(6, 3)}, sample_shape=[2.5])


def test_moments_of_a_product_point_to_its_factors():
    with pytest.raises(NoClosedForm, match=r"p\(x\|z,y\), p\(z\)"):
        model().mean()


def test_samples_pickle_with_their_dimensions():
    drawn = model().sample({"y": torch.randn(6, 3)}, sample_shape=2)
    twin = pickle.loads(pickle.dumps(drawn))
    assert isinstance(twin, Samples) and twin.sample_dims == drawn.sample_dims


def test_discrete_parents_are_drawn_as_their_children_need_them():
    p = Normal("p(x | k)", lambda k: {"loc": k, "scale": 1.0}) * Categorical("p(k)", probs=torch.tensor([0.2, 0.8]))
    drawn = p.sample(batch_n=4, sample_shape=3)
    assert drawn["k"].shape == (3, 4, 2) and bool((drawn["k"].sum(-1) == 1).all())
    assert p.log_prob(drawn).shape == (3, 4)
