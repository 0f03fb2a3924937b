"""Where parameters come from: networks (by name, by order), constants, names of variables; and what is checked."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from probflow.distributions import Bernoulli, Categorical, Normal
from probflow.errors import ArgumentError, NetworkError, ParameterError, ShapeError, SupportError
from probflow.nn import MLP

# ---------------------------------------------------------------------- how a network gets its inputs


def order(first, second):
    """A network that can tell its arguments apart."""
    return {"loc": first - 2 * second, "scale": torch.ones_like(first)}


X, Y = torch.ones(3, 2, dtype=torch.float64), torch.full((3, 2), 10.0, dtype=torch.float64)


def test_by_name_whatever_the_order():
    p = Normal("p(v | x, y)", lambda y, x: order(x, y))
    assert_close(p.mean({"x": X, "y": Y}), X - 2 * Y)


def test_by_order_when_the_names_differ():
    p = Normal("p(v | x, y)", lambda a, b: order(a, b))
    assert_close(p.mean({"y": Y, "x": X}), X - 2 * Y)


def test_by_order_into_star_arguments():
    assert_close(Normal("p(v | x, y)", lambda *xy: order(*xy)).mean({"x": X, "y": Y}), X - 2 * Y)


def test_a_default_may_stay():
    p = Normal("p(v | x)", lambda x, temperature=3.0: {"loc": x * temperature, "scale": x})
    assert_close(p.mean({"x": X}), 3 * X)


def test_half_matching_names_in_another_order_are_an_error():
    with pytest.raises(ArgumentError, match="names 'x'.*gets 'y'"):
        Normal("p(v | y, x)", lambda x, b: order(x, b))


@pytest.mark.parametrize("network", [lambda x: x, lambda x, y, z: x])
def test_a_network_with_another_number_of_inputs_is_an_error_at_construction(network):
    with pytest.raises(ArgumentError, match=r"cannot take the conditioning variables \(x, y\)"):
        Normal("p(v | x, y)", network)


def test_a_subclass_with_forward():
    class P(Normal):
        def __init__(self):
            super().__init__(var=["v"], cond_var=["x", "y"], name="p")

        def forward(self, y, x):
            return order(x, y)

    assert_close(P().mean({"x": X, "y": Y}), X - 2 * Y)
    with pytest.raises(ArgumentError, match="forward of its own"):

        class Q(P):
            def __init__(self):
                Normal.__init__(self, "q(v | x, y)", nn.Linear(2, 2))

        Q()


def test_a_class_or_a_number_for_a_network():
    with pytest.raises(ArgumentError, match="pass an instance"):
        Normal("p(v | x)", nn.Linear)
    with pytest.raises(ArgumentError, match=r"parameters have names: Normal\('p\(v \| x\)', loc=..., scale=...\)"):
        Normal("p(v | x)", 3)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- what a network may return


def test_dict_tuple_and_single():
    x = torch.randn(4, 2)
    expected = Normal("p(v | x)", lambda x: {"scale": x.exp(), "loc": x})
    for network in (lambda x: (x, x.exp()), lambda x: [x, x.exp()]):
        assert_close(Normal("p(v | x)", network).log_prob({"v": x, "x": x}), expected.log_prob({"v": x, "x": x}))
    single = Normal("p(v | x)", lambda x: x, scale=2.0)
    assert_close(single.mean({"x": x}), x)
    assert_close(single.variance({"x": x}), torch.full((4, 2), 4.0))


def test_one_tensor_for_two_parameters_is_an_error_that_shows_the_dict():
    with pytest.raises(NetworkError, match=r"'scale': \.\.\."):
        Normal("p(v | x)", nn.Linear(2, 2)).mean({"x": X})
    with pytest.raises(NetworkError, match="logits"):
        Bernoulli("p(v | x)", nn.Linear(2, 2)).mean({"x": X})


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"loc": X, "sacle": X}, "'sacle'.*Did you mean 'scale'"),
        ({"loc": X}, "lacks scale"),
        ((X, X, X), "returned 3 values"),
        ("loc", "got a str"),
        ({"loc": X, "scale": "1"}, "scale must be a tensor"),
        ({"loc": X, "scale": torch.ones(3)}, "different numbers of dimensions"),
    ],
)
def test_a_wrong_output(output, text):
    with pytest.raises((NetworkError, ParameterError), match=text):
        Normal("p(v | x)", lambda x: output).mean({"x": X})


def test_an_output_without_batch():
    with pytest.raises(ShapeError, match="dimension 0 must be the batch"):
        Normal("p(v | x)", lambda x: {"loc": x.sum(0), "scale": x.sum(0)}).mean({"x": X})


def test_a_number_in_the_output():
    p = Normal("p(v | x)", lambda x: {"loc": x, "scale": 2.0})
    for _ in range(2):  # a second call may take a shorter way
        assert_close(p.variance({"x": X}), torch.full((3, 2), 4.0))


@pytest.mark.parametrize(
    ("bad", "advice"),
    [(-1.0, r"Make it positive, .*softplus\(...\)\.$"), (0.0, r"a floor, .*\+ 1e-3\.$"), (float("nan"), "step before.$")],
)
def test_a_parameter_outside_its_domain(bad, advice):
    scale = torch.ones(3, 2)
    scale[1, 0] = bad
    with pytest.raises(ParameterError, match=rf"p\(v\|x\): scale must be positive.*at \[1, 0\]\.\n.*{advice}"):
        Normal("p(v | x)", lambda x: {"loc": x, "scale": scale}).sample({"x": X})


def test_a_failing_network_says_what_went_in():
    p = Normal("p(v | x)", nn.Linear(5, 2), scale=1.0)
    with pytest.raises(NetworkError, match=r"x: \(3, 2\).*\n.*takes 5 features; the inputs have x 2"):
        p.mean({"x": X})
    with pytest.raises(NetworkError, match=r"x\.to\(torch\.float32\)"):
        Normal("p(v | x)", nn.Linear(2, 2).float(), scale=1.0).mean({"x": X})
    with pytest.raises(NetworkError, match=r"F\.one_hot"):
        Normal("p(v | x)", nn.Linear(2, 2), scale=1.0).mean({"x": torch.ones(3, 2, dtype=torch.long)})


# ---------------------------------------------------------------------- constants and names


def test_samples_in_a_plain_dict_are_told_how_to_be_passed():
    p = Normal("p(x | z)", MLP(4, [], {"loc": 3}), scale=1.0)
    drawn = (p * Normal("p(z)", loc=0.0, scale=1.0, features_shape=4)).sample(batch_n=5, sample_shape=2)
    for call in (p.mean, p.sample):
        with pytest.raises(NetworkError, match=r"Dimension 0 of z .*the dict that sample returned.*: z.flatten\(0, 1\)"):
            call({"z": drawn["z"]})
    assert p.mean(drawn).shape == p.mean({"z": drawn["z"].flatten(0, 1)}).unflatten(0, (2, 5)).shape == (2, 5, 3)


def test_numbers_tensors_and_parameters():
    number = Normal("p(v)", loc=1, scale=2.0, features_shape=[3])
    assert number.sample(batch_n=5)["v"].shape == (5, 3) and not list(number.parameters())
    assert set(number.state_dict()) == {"loc", "scale"}
    trained = Normal("p(v)", loc=nn.Parameter(torch.zeros(3)), scale=1.0)
    assert [n for n, _ in trained.named_parameters()] == ["loc"]
    trained.log_prob({"v": torch.ones(4, 3)}).sum().backward()
    assert_close(trained.loc.grad, torch.full((3,), 4.0))
    listed = Normal("p(v)", loc=[0.0, 1.0], scale=1.0)  # type: ignore[arg-type]
    assert_close(listed.mean(), torch.tensor([[0.0, 1.0]]))
    assert listed.to(torch.float32).sample()["v"].dtype == torch.float32


def test_a_string_names_a_conditioning_variable():
    p = Normal("p(v | x, s)", loc="x", scale="s")
    x, s = torch.randn(4, 2), torch.rand(4, 2) + 1
    assert_close(p.mean({"x": x, "s": s}), x)
    assert_close(p.variance({"x": x, "s": s}), s.square())
    with pytest.raises(ParameterError, match="'y' names no conditioning variable"):
        Normal("p(v | x)", loc="y", scale=1.0)


def test_a_constant_beside_a_network_and_a_name():
    p = Normal("p(v | x)", lambda x: {"loc": 2 * x}, scale=nn.Parameter(torch.tensor(0.5)))
    assert_close(p.variance({"x": X}), torch.full((3, 2), 0.25))
    per_feature = Normal("p(v | x)", loc="x", scale=torch.tensor([1.0, 2.0]))
    assert_close(per_feature.variance({"x": X}), torch.tensor([[1.0, 4.0]]).expand(3, 2))
    with pytest.raises(NetworkError, match="'scale' is given at construction and returned"):
        Normal("p(v | x)", lambda x: {"loc": x, "scale": x}, scale=1.0).mean({"x": X})


def test_constants_of_different_shapes_broadcast_in_the_event_only():
    p = Normal("p(v)", loc=torch.zeros(3, 1), scale=torch.ones(4))
    assert p.sample(batch_n=2)["v"].shape == (2, 3, 4)
    assert p.log_prob(p.sample(batch_n=2)).shape == (2,)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Normal("p(v)", loc=0.0), "lacks scale"),
        (lambda: Normal("p(v)", lco=0.0, scale=1.0), "no parameter 'lco'. Did you mean 'loc'"),
        (lambda: Normal("p(v)", loc=0.0, scale=-1.0), "scale must be positive"),
        (lambda: Normal("p(v)", loc=float("nan"), scale=1.0), "loc must be"),
        (lambda: Normal("p(v)", loc=None, scale=1.0), "loc must be a number, a tensor"),  # type: ignore[arg-type]
        (lambda: Normal("p(v)", loc=torch.zeros(3), scale=1.0, features_shape=[2]), r"shape \(3,\).*features_shape=\[2\]"),
        (lambda: Bernoulli("p(v)", probs=0.5, logits=0.0), "either probs or logits"),
        (lambda: Bernoulli("p(v)"), r"lacks probs \| logits"),
        (lambda: Bernoulli("p(v)", probs=1.5), "unit interval"),
        (lambda: Normal("p(v | x)", loc=0.0, scale=1.0), "nothing uses x"),
        (lambda: Normal("p(v, w)", loc=0.0, scale=1.0), "exactly one variable, got v, w"),
        (lambda: Normal("p(v)", loc=0.0, scale=1.0, features_shape="3"), "features_shape"),  # type: ignore[arg-type]
        (lambda: Normal(nn.Linear(1, 1)), "first argument of Normal is its statement"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_at_construction(make, text):
    with pytest.raises((ParameterError, ArgumentError), match=text):
        make()


# ---------------------------------------------------------------------- features and values


def test_declared_features_are_checked_against_the_network():
    p = Normal("p(v | x)", lambda x: x, scale=1.0, features_shape=[3])
    with pytest.raises(NetworkError, match=r"event shape \(2,\).*features_shape=\[3\]"):
        p.mean({"x": X})


def test_a_value_of_another_width_is_an_error_not_a_broadcast():
    p = Normal("p(v | x)", loc="x", scale=1.0)
    for shape in ((3, 1), (3,), (3, 3), (3, 1, 2)):
        with pytest.raises(ShapeError, match=r"'v' has shape"):
            p.log_prob({"x": X, "v": torch.zeros(shape)})
    with pytest.raises(ShapeError, match=r"features_shape=\[64\]"):  # not 128 samples of 64 rows
        Normal("p(v)", loc=0.0, scale=1.0).log_prob({"v": torch.zeros(128, 64)})


def test_one_data_point_needs_its_batch_dimension():
    with pytest.raises(ShapeError, match=r"v\[None\]"):
        Normal("p(v)", loc=torch.zeros(2), scale=1.0).log_prob({"v": torch.zeros(2)})


def test_values_outside_the_support():
    with pytest.raises(SupportError, match=r"'v' is outside the support of Bernoulli.*\n.*\{0, 1\}.*\n.*0\.5 at \[1, 0\]"):
        Bernoulli("p(v)", probs=torch.tensor([0.5])).log_prob({"v": torch.tensor([[1.0], [0.5]])})
    with pytest.raises(SupportError, match="nan"):
        Normal("p(v)", loc=0.0, scale=1.0).log_prob({"v": torch.tensor([0.0, torch.nan])})


def test_class_indices_and_one_hot_vectors():
    p = Categorical("p(k | x)", lambda x: {"logits": x})
    x = torch.randn(4, 3)
    index = torch.tensor([0, 2, 1, 1])
    expected = x.log_softmax(1)[torch.arange(4), index]
    assert_close(p.log_prob({"x": x, "k": index}), expected)
    assert_close(p.log_prob({"x": x, "k": F.one_hot(index, 3)}), expected)
    assert_close(p.log_prob({"x": x, "k": F.one_hot(index, 3).to(x)}), expected)
    for soft in (torch.full((4, 3), 1 / 3), torch.zeros(4, 3), torch.ones(4, 3)):
        with pytest.raises(SupportError, match="one-hot"):
            p.log_prob({"x": x, "k": soft})


def test_values_of_several_event_dimensions_are_summed():
    p = Normal("p(v | x)", lambda x: x, scale=1.0)
    x = torch.randn(3, 2, 4, 5)
    assert p.log_prob({"x": x, "v": x}).shape == (3,)
    assert_close(p.entropy({"x": x}), torch.distributions.Normal(0.0, torch.ones(40)).entropy().sum().expand(3))


def test_mutable_arguments_are_not_shared():
    names = ["v"]
    p = Normal(var=names, loc=0.0, scale=1.0)
    names.append("w")
    assert p.var == ("v",)


def test_describe_names_the_sources():
    text = str(Normal("p(v | x, s)", loc="x", scale="s", features_shape=[2]))
    assert text == "p(v|x,s): Normal loc=x, scale=s, features_shape=[2]"
    assert "scale=0.5 (trained)" in str(Normal("p(v)", loc=0.0, scale=nn.Parameter(torch.tensor(0.5))))
