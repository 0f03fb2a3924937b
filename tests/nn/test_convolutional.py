"""Convolutional conditioners: shapes, zero start, and a context that reaches every output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.errors import ArgumentError
from probflow.nn.convolutional import ContextConv, ConvConditioner, ResidualConditioner, resized

MAKE: dict[str, Callable[..., nn.Module]] = {
    "conv": lambda context=None, **k: ConvConditioner(3, 8, 4, context, **k),
    "residual": lambda context=None, **k: ResidualConditioner(3, 8, 2, 4, context, **k),
}
every = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
CONTEXTS = {
    "vector": (2,),
    "number": 2,
    "matrix": (2, 3),
    "scalar": (),
    "image": (2, 5, 6),
    "large image": (1, 10, 12),
    "small": (1, 2, 2),
}
contexts = pytest.mark.parametrize("shape", CONTEXTS.values(), ids=CONTEXTS)


def awake(net: nn.Module) -> nn.Module:
    """With a last layer that is not zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def rows(shape: int | tuple[int, ...], n: int = 2) -> torch.Tensor:
    return torch.randn(n, *((shape,) if isinstance(shape, int) else shape))


@every
@contexts
def test_starts_at_zero(make, shape):
    x = torch.randn(2, 3, 5, 6)
    assert_close(make(shape)(x, rows(shape)), torch.zeros(2, 4, 5, 6))


@every
@contexts
def test_the_context_reaches_every_output(make, shape):
    net, x, c = awake(make(shape, activation=nn.Softplus)), torch.randn(2, 3, 5, 6), rows(shape)
    assert bool((net(x, c) != net(x, c + torch.rand_like(c) + 1)).all())


def plain(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The same layers one by one, in torch's usual order of memory, with a ReLU that writes over nothing."""
    if isinstance(net, ConvConditioner):
        return net.rest[3](net.rest[1](net.first.conv(x).relu()).relu())
    assert isinstance(net, ResidualConditioner)
    h = net.first.conv(x)
    block: Any
    for block in net.blocks:
        h = h + block[3](block[1](h.relu()).relu())
    return net.last[1](h.relu())


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_is_the_same_function_whatever_the_order_in_memory(make, dtype):
    near: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-2} if dtype == torch.float32 else {}
    net = awake(make()).to(dtype)
    whole = torch.randn(3, 6, 5, 6, dtype=dtype, requires_grad=True)
    x = whole[:, :3]  # a view with rows far apart, as couplings pass it
    before, weight = x.detach().clone(), torch.randn(3, 4, 5, 6, dtype=dtype)
    out, expected = net(x), plain(net, x)
    assert out.is_contiguous()
    assert_close(out, expected, **near)
    inputs = [whole, *net.parameters()]
    ours, theirs = (torch.autograd.grad((y.sin() * weight).sum(), inputs, create_graph=True) for y in (out, expected))
    assert_close(ours, theirs, **near)
    ours, theirs = (torch.autograd.grad(g[0].square().sum(), inputs, allow_unused=True) for g in (ours, theirs))
    assert_close([g for g in ours if g is not None], [g for g in theirs if g is not None], **near)
    assert torch.equal(x, before)
    assert_close(torch.func.vmap(net)(x.detach().unsqueeze(1)).squeeze(1), expected.detach(), **near)


@every
def test_a_nan_row_stays_in_its_row(make):
    net, x = awake(make()), torch.randn(3, 3, 5, 6)
    expected = net(x)
    x[1] = torch.nan
    assert_close(net(x)[::2], expected[::2])
    assert net(x)[1].isnan().any()


@every
def test_the_whole_of_an_image_context_is_read(make):
    net, x = awake(make((1, 10, 12), activation=nn.Softplus)), torch.randn(1, 3, 5, 6)
    c = torch.randn(1, 1, 10, 12, requires_grad=True)
    net(x, c).sum().backward()
    assert c.grad is not None and bool((c.grad != 0).all())


def test_a_vector_is_a_bias_per_channel():
    layer = ContextConv(3, 8, 2)
    x, c = torch.randn(2, 3, 5, 6), torch.randn(2, 2)
    assert layer.bias is not None
    assert_close(layer(x, c), layer.conv(x) + (c @ layer.bias.weight.T)[:, :, None, None].expand(-1, -1, 5, 6))


def test_resizing_averages_and_repeats():
    images, like = torch.arange(16.0).view(1, 1, 4, 4), torch.zeros(1, 3, 2, 2)
    assert_close(resized(images, like), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]], dtype=images.dtype))
    back = resized(resized(images, like), torch.zeros(1, 1, 4, 4))
    assert_close(back, torch.nn.functional.interpolate(resized(images, like), scale_factor=2, mode="nearest"))
    assert resized(images, images) is images


@every
def test_rows_are_independent_and_modes_agree(make):
    net, x = awake(make()), torch.randn(4, 3, 5, 6)
    expected = net(x)
    assert_close(net(x[1:3]), expected[1:3])
    assert_close(net.eval()(x), expected)
    assert net(x[:0]).shape == (0, 4, 5, 6) and net(x[..., :3, :2]).shape == (4, 4, 3, 2)


def test_glow_network_is_the_formula():
    net, x = awake(ConvConditioner(3, 8, 4)), torch.randn(2, 3, 5, 6)
    first, middle, last = (net.get_submodule(name) for name in ("first.conv", "rest.1", "rest.3"))
    assert [first.kernel_size, middle.kernel_size, last.kernel_size] == [(3, 3), (1, 1), (3, 3)]
    assert_close(net(x), last(middle(first(x).relu()).relu()))


@pytest.mark.parametrize("hidden", [(8, 8), 0, True, 2.0])
@pytest.mark.parametrize("cls", [ConvConditioner, ResidualConditioner])
def test_hidden_is_one_width(cls, hidden):
    with pytest.raises(ArgumentError, match="hidden must be one width"):
        cls(3, hidden, 4, 4)


def test_blocks_is_a_number():
    with pytest.raises(ArgumentError, match="blocks must be a number"):
        ResidualConditioner(3, 8, -1, 4)
