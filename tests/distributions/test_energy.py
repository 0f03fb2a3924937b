"""Unnormalised densities from any function."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.distributions import CustomProb, Normal
from probflow.errors import ArgumentError, NetworkError, NoSampler


class Energy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(5, 1)

    def forward(self, y, x):  # by name, not in the order of the statement
        return self.net(torch.cat([x, y], 1)).squeeze(1)


def test_the_function_gets_the_variables_by_name():
    energy = Energy()
    p = CustomProb("p(x | y)", energy)
    x, y = torch.randn(4, 2), torch.randn(4, 3)
    assert_close(p.log_prob({"x": x, "y": y}), energy(y, x))
    assert not p.normalised and list(p.state_dict()) == ["network.net.weight", "network.net.bias"]


def test_samples_are_folded():
    p = CustomProb("p(x | y)", Energy())
    x, y = torch.randn(6, 4, 2), torch.randn(4, 3)
    result = p.log_prob({"x": x, "y": y}, sample_dims={"x": 1})
    assert_close(result, torch.stack([p.log_prob({"x": one, "y": y}) for one in x]))


def test_in_a_product_it_is_evaluated_but_not_sampled():
    p = CustomProb("p(x | z)", lambda x, z: -(x - z).square().sum(1)) * Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    x, z = torch.randn(4, 2), torch.randn(4, 2)
    assert_close(p.log_prob({"x": x, "z": z}), -(x - z).square().sum(1) + p.factors[1].log_prob({"z": z}))
    with pytest.raises(NoSampler, match=r"p\(x\|z\) cannot be sampled.*\nFit"):
        p.sample()
    assert p.sample({"x": x})["z"].shape == (4, 2)


def test_a_subclass_with_forward():
    class Double(CustomProb):
        """p(x)"""

        def __init__(self):
            super().__init__(var="x", name="p")
            self.weight = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return -self.weight * x.abs().sum(1)

    p = Double()
    p.log_prob({"x": torch.ones(3, 2)}).sum().backward()
    assert_close(p.weight.grad, torch.tensor(-6.0))


@pytest.mark.parametrize(
    "function",
    [lambda x: x, lambda x: x.sum(), lambda x: 3.0, lambda x: x.sum(1, keepdim=True)],
    ids=["event", "sum", "number", "column"],
)
def test_a_density_is_one_number_per_batch_element(function):
    with pytest.raises(NetworkError, match=r"shape \(4,\)"):
        CustomProb("p(x)", function).log_prob({"x": torch.ones(4, 2)})


def test_it_needs_a_function_of_its_variables():
    with pytest.raises(ArgumentError, match="needs a log-density"):
        CustomProb("p(x)")
    with pytest.raises(ArgumentError, match=r"cannot take"):
        CustomProb("p(x)", lambda x, y: x)
