from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus
from torch.testing import assert_close

from probflow.errors import ArgumentError, ShapeError
from probflow.nn import MLP


def test_is_the_formula():
    mlp = MLP(3, hidden=[4, 5], out=2, activation=nn.Tanh)
    (w0, b0), (w1, b1), (w2, b2) = [(layer.weight, layer.bias) for layer in mlp.layers if isinstance(layer, nn.Linear)]
    x = torch.randn(7, 3)
    assert_close(mlp(x), (((x @ w0.T + b0).tanh() @ w1.T + b1).tanh()) @ w2.T + b2)


def test_several_inputs_are_flattened_and_concatenated_in_order():
    mlp = MLP([12, 2, 1], hidden=[], out=3)
    a, b, c = torch.randn(5, 3, 2, 2), torch.randn(5, 2), torch.randn(5)
    linear = mlp.layers[0]
    assert_close(mlp(a, b, c), linear(torch.cat([a.view(5, 12), b, c.view(5, 1)], 1)))


def test_one_total_width_takes_any_parts_of_it():
    mlp = MLP(5, hidden=[3], out=1)
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    assert_close(mlp(a, b), mlp(torch.cat([a, b], 1)))


def test_named_outputs_and_their_transforms():
    mlp = MLP(3, hidden=[4], out={"loc": 2, "scale": 1}, output={"scale": softplus})
    x = torch.randn(6, 3)
    result, plain = mlp(x), mlp.layers(x)
    assert list(result) == ["loc", "scale"]
    assert_close(result["loc"], plain[:, :2])
    assert_close(result["scale"], softplus(plain[:, 2:]))


def test_a_transform_of_the_only_output():
    mlp = MLP(3, hidden=[], out=2, output=torch.sigmoid)
    x = torch.randn(6, 3)
    assert_close(mlp(x), torch.sigmoid(mlp.layers(x)))


def test_transforms_that_are_modules_are_trained_and_copied_with_it():
    mlp = MLP(3, hidden=[4], out={"loc": 2}, output={"loc": nn.PReLU()})
    assert len(list(mlp.parameters())) == 5
    twin = copy.deepcopy(mlp)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2.0)
    x = torch.randn(6, 3)
    assert not torch.allclose(twin(x)["loc"], mlp(x)["loc"])
    twin.load_state_dict(mlp.state_dict())
    assert_close(twin(x)["loc"], mlp(x)["loc"])


def test_pickles_moves_and_takes_an_empty_batch():
    mlp = MLP([3, 2], hidden=[4], out={"loc": 2, "scale": 2}, output={"scale": softplus})
    x, y = torch.randn(6, 3), torch.randn(6, 2)
    assert_close(pickle.loads(pickle.dumps(mlp))(x, y), mlp(x, y))
    assert mlp.float()(x.float(), y.float())["scale"].dtype == torch.float32
    assert mlp(torch.empty(0, 3, dtype=torch.float32), torch.empty(0, 2, dtype=torch.float32))["loc"].shape == (0, 2)


@pytest.mark.parametrize(
    "inputs", [(), (torch.zeros(2, 3),), (torch.zeros(2, 2), torch.zeros(2, 3)), (torch.zeros(2, 3), torch.tensor(1.0))]
)
def test_inputs_that_do_not_fit(inputs):
    with pytest.raises(ShapeError, match=r"in_features=\[3, 2\].*\n.*expected: 3, 2"):
        MLP([3, 2], hidden=[4], out=2)(*inputs)


def test_a_wrong_total_width():
    with pytest.raises(ShapeError, match=r"expected: 5 in all\n.*got: +6"):
        MLP(5, hidden=[4], out=2)(torch.zeros(2, 6))


WRONG = {
    "hidden is a number": (dict(in_features=3, hidden=4, out=2), r"Write: hidden=\[4\]"),
    "no width": (dict(in_features=[], hidden=[4], out=2), "in_features is empty"),
    "no output": (dict(in_features=3, hidden=[4], out={}), "out is empty"),
    "zero": (dict(in_features=3, hidden=[0], out=2), "hidden has a width of 0"),
    "a float": (dict(in_features=[3, 2.0], hidden=[4], out=2), "in_features has a width of 2.0"),
    "unknown name": (dict(in_features=3, hidden=[4], out={"loc": 2}, output={"scale": softplus}), "'scale', but out has only"),
    "dict for one output": (dict(in_features=3, hidden=[4], out=2, output={"scale": softplus}), "do not fit"),
    "function for a dict": (dict(in_features=3, hidden=[4], out={"loc": 2}, output=softplus), "do not fit"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_built(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        MLP(**arguments)
