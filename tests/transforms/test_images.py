"""Image layers and the preprocessing of pixels against their definitions; what they refuse."""

from __future__ import annotations

import math
from typing import TypeVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from probflow.errors import ArgumentError, ShapeError
from probflow.nn.convolutional import ConvConditioner
from probflow.transforms import Compose, Coupling
from probflow.transforms.conv1x1 import Conv1x1
from probflow.transforms.dequantise import UniformDequantise
from probflow.transforms.preprocess import LogitPreprocess, bits_per_dim
from probflow.transforms.slice import Slice
from probflow.transforms.squeeze import Squeeze

T = TypeVar("T", bound=nn.Module)


def shaken(module: T, spread: float = 0.3) -> T:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("factor", [2, 3])
def test_squeeze_is_space_to_depth(factor):
    x = torch.randn(2, 3, 6, 12)
    layer = Squeeze((3, 6, 12), factor)
    z, logdet = layer.inverse_and_logdet(x)
    assert torch.equal(z, F.pixel_unshuffle(x, factor)) and torch.equal(layer.forward(z), x)
    assert torch.equal(logdet, torch.zeros(2))
    assert torch.equal(z[:, factor + 1], x[:, 0, 1::factor, 1::factor])
    assert layer.shape == z.shape[1:] and layer.output_shape == (3, 6, 12)


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 4, 5), (1, 7, 7)])
def test_odd_sizes_cannot_be_squeezed(shape):
    with pytest.raises(ShapeError, match="height and width must be multiples of 2"):
        Squeeze(shape)


def test_squeeze_refuses_what_is_no_image():
    with pytest.raises(ShapeError, match=r"takes images, \(channels, height, width\)"):
        Squeeze((4, 4))
    with pytest.raises(ShapeError, match="expected a multiple of 4"):
        Squeeze((1, 4, 4)).forward_shape((3, 2, 2))
    with pytest.raises(ArgumentError, match="factor must be"):
        Squeeze((1, 4, 4), 0)
    with pytest.raises(ShapeError, match="takes events of shape"):
        Squeeze((1, 4, 4)).inverse(torch.zeros(2, 1, 6, 6))


def test_conv1x1_is_a_convolution_with_glows_factors():
    layer = shaken(Conv1x1((4, 3, 5)))
    x = torch.randn(2, 4, 3, 5)
    z, logdet = layer.inverse_and_logdet(x)
    weight = layer.weight()
    assert_close(z, F.conv2d(x, weight[:, :, None, None]))
    assert_close(logdet, (15 * weight.slogdet()[1]).expand(2))
    assert_close(layer.inverse_weight(), weight.inverse())


def test_conv1x1_starts_as_a_rotation_or_the_identity():
    weight = Conv1x1((6, 2, 2)).weight()
    assert_close(weight @ weight.mT, torch.eye(6))
    assert bool((weight.abs() > 1e-3).sum() > 18), "mixes channels"
    assert_close(Conv1x1((6, 2, 2), start="identity").weight(), torch.eye(6))
    torch.manual_seed(2)
    first = Conv1x1(4).weight()
    torch.manual_seed(2)
    assert torch.equal(first, Conv1x1(4).weight())


def test_conv1x1_errors():
    with pytest.raises(ArgumentError, match="'rotation' or 'identity'"):
        Conv1x1(4, start="random")
    with pytest.raises(ShapeError, match="takes images"):
        Conv1x1((4, 4))


def test_an_image_coupling_has_glows_conditioner():
    layer = Coupling((3, 4, 4), hidden=(8, 5))
    assert isinstance(layer.conditioner, ConvConditioner)
    assert layer.conditioner.first.conv.weight.shape == (8, 2, 3, 3)
    assert layer.conditioner.get_parameter("rest.3.weight").shape[0] == 2


@pytest.mark.parametrize("split", ["channel", "checkerboard"])
@pytest.mark.parametrize("flip", [False, True])
def test_an_image_coupling_leaves_its_part_untouched(split, flip):
    layer = shaken(Coupling((2, 4, 4), split=split, flip=flip, hidden=(8,), context=3))
    z, c = torch.randn(2, 2, 4, 4), torch.randn(2, 3)
    x = layer.forward(z, c)
    same = x == z
    if split == "channel":
        assert bool(same[:, 1 if flip else 0].all()) and not bool(same[:, 0 if flip else 1].any())
    else:
        even = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == 0
        assert bool((same == (even ^ flip)).all())
    assert bool((layer.forward(z, c + 1) != x)[~same].all()), "the context reaches every changed element"


def test_the_first_channels_of_a_conditioner_are_the_first_number_of_h():
    class Fixed(nn.Module):
        def forward(self, kept):
            s, t = torch.full_like(kept, 0.5), torch.full_like(kept, 3.0)
            return torch.cat([s, t], 1)

    layer = Coupling((4, 2, 2), conditioner=Fixed())
    z = torch.randn(2, 4, 2, 2)
    scale = (2 * torch.tanh(torch.tensor(0.25))).exp()
    assert_close(layer.forward(z)[:, 2:], z[:, 2:] * scale + 3)


def test_couplings_without_a_default_network_say_so():
    with pytest.raises(
        ArgumentError, match=r"no default network for events of shape \(4, 6\).*\n.*from \(N, 2, 6\) to \(N, 4, 6\)"
    ):
        Coupling((4, 6))
    with pytest.raises(ArgumentError, match=r"Write: hidden=\(128,\)"):
        Coupling((4, 2, 2), hidden=())
    layer = Coupling((4, 6), conditioner=nn.Conv1d(2, 4, 3, padding=1))
    z = torch.randn(3, 4, 6)
    assert_close(layer.inverse(layer.forward(z)), z)


# ------------------------------------------------------------------ pixels


def test_the_logit_has_the_whole_log_determinant():
    alpha, levels = 0.05, 256
    x = torch.tensor([[0.0, 17.5, 255.9]], requires_grad=True)
    z, logdet = LogitPreprocess(levels, alpha).inverse_and_logdet(x)
    y = alpha + (1 - 2 * alpha) * x / levels
    assert_close(z, (y / (1 - y)).log())
    slope = torch.autograd.grad(z.sum(), x)[0]
    assert_close(logdet, slope.log().sum(1))


def test_pixels_are_bounded_and_outside_the_density_is_zero():
    layer = LogitPreprocess()
    _, logdet = layer.inverse_and_logdet(torch.tensor([[0.0], [256.0], [-20.0], [300.0], [math.nan]]))
    assert logdet.isfinite().tolist() == [True, True, False, False, False]
    assert bool((logdet[2:] == -math.inf).all())
    assert "(-14.2222, 270.222)" in layer.codomain.text


def test_uniform_noise_takes_eight_bits():
    """An identity flow on a uniform base over [0, 256), dequantised: exactly 8 bits per dimension."""
    x = torch.randint(0, 256, (16, 3, 4, 4))
    z, contribution = UniformDequantise().inverse_and_logdet(x)
    log_prob = torch.distributions.Uniform(0.0, 256.0).log_prob(z).flatten(1).sum(1) + contribution
    assert_close(bits_per_dim(log_prob, (3, 4, 4)), torch.full((16,), 8.0))


def test_bits_per_dim_survive_the_logit():
    """The density that is uniform on [0, 256), moved through the logit and back, is still 8 bits: the rescaling is counted."""
    x = torch.rand(16, 3) * 256
    layer = LogitPreprocess(alpha=0.05)
    z, logdet = layer.inverse_and_logdet(x)
    log_density_of_z = -3 * math.log(256) - logdet  # change of variables for uniform x
    _, back = layer.forward_and_logdet(z)
    assert_close(bits_per_dim(log_density_of_z - back, 3), torch.full((16,), 8.0))


def test_a_chain_for_pixels_fits_together():
    chain = Compose(
        [Coupling((2, 2, 2), hidden=(4,)), Slice((4, 2, 2), 2), Squeeze((1, 4, 4)), LogitPreprocess(), UniformDequantise()]
    )
    assert chain.is_bound and not chain.differentiable and chain.stochastic_forward
    x = chain.forward(torch.randn(5, 2, 2, 2))
    assert x.shape == (5, 1, 4, 4) and bool(chain.codomain.holds(x).all())
    z, contribution = chain.inverse_and_logdet(x)
    assert bool(contribution.isfinite().all())
    z, noise, _ = chain.encode(x)
    assert torch.equal(chain.decode(z, noise), x)
    assert_close(chain.tempered(0.5).decode(z, tuple(2 * part for part in noise)), x)


def test_preprocessing_errors():
    with pytest.raises(ArgumentError, match=r"alpha must be in \[0, 0.5\)"):
        LogitPreprocess(alpha=0.5)
    with pytest.raises(ArgumentError, match="levels must be positive"):
        LogitPreprocess(0)
