"""Dense conditioners: ReLU writes over what the layer before it made, and over nothing else."""

from __future__ import annotations

import torch
from torch import nn
from torch.testing import assert_close

from probflow.nn.conditioners import DenseConditioner


def test_is_the_same_function_as_layers_that_write_over_nothing():
    net = DenseConditioner(3, (8, 8), 4, context=2)
    nn.init.normal_(net.layers[-1].weight)  # zero at the start
    x, c = torch.randn(5, 3, requires_grad=True), torch.randn(5, 2, requires_grad=True)
    before = x.detach().clone(), c.detach().clone()
    joined = torch.cat([x, c], 1)
    expected = net.layers[4](net.layers[2](net.layers[0](joined).relu()).relu())
    out = net(x, c)
    assert_close(out, expected)
    inputs = [x, c, *net.parameters()]
    assert_close(torch.autograd.grad(out.sin().sum(), inputs), torch.autograd.grad(expected.sin().sum(), inputs))
    assert torch.equal(x, before[0]) and torch.equal(c, before[1])


def test_an_activation_of_the_users_is_taken_as_it_is():
    shared = nn.ReLU()
    net = DenseConditioner(3, (8,), 4, activation=lambda: shared)
    assert net.layers[1] is shared and not shared.inplace
