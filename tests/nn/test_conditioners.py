"""Dense conditioners: ReLU writes over what the layer before it made, and over nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.nn.conditioners import DenseConditioner, OverwritingReLU
from probflow.nn.convolutional import ConvConditioner, ResidualConditioner


def test_is_the_same_function_as_layers_that_write_over_nothing():
    net = DenseConditioner(3, (8, 8), 4, context=2)
    nn.init.normal_(net.get_parameter("layers.4.weight"))  # zero at the start
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


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["dense", "convolutional", "residual"])
def test_layers_may_have_backward_hooks(name: str, full: bool):
    nets = {
        "dense": lambda: DenseConditioner(3, (8, 8), 4),
        "convolutional": lambda: ConvConditioner(3, 8, 4),
        "residual": lambda: ResidualConditioner(3, 8, 2, 4),
    }
    net = nets[name]()
    x = torch.randn(5, 3, *(() if name == "dense" else (4, 4)), requires_grad=True)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    inputs = [x, *net.parameters()]
    expected = torch.autograd.grad(net(x).sin().sum(), inputs)
    seen: list[nn.Module] = []
    leaves = [layer for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ReLU))]
    for layer in leaves:
        if full:
            layer.register_full_backward_hook(lambda layer, *_: seen.append(layer))
        else:
            layer.register_full_backward_pre_hook(lambda layer, *_: seen.append(layer))
    assert_close(torch.autograd.grad(net(x).sin().sum(), inputs), expected)
    assert set(leaves) == set(seen)


def test_without_hooks_the_memory_is_written_over():
    layer = OverwritingReLU(inplace=True)
    x = torch.randn(5, 3)
    assert layer(x) is x and bool((x >= 0).all())
    layer.inplace = False
    assert layer(x) is not x
