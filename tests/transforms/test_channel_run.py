"""A normalisation beside a 1×1 convolution is computed as one map: the same numbers as layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import probflow as pf
from probflow.transforms import Compose, Coupling, Transform
from probflow.transforms.channel_run import ChannelRun
from probflow.transforms.conv1x1 import Conv1x1
from probflow.transforms.normalisation import ActNorm

SHAPE = (4, 3, 2)
CHAINS: dict[str, Callable[[], list[Transform]]] = {
    "as in Glow": lambda: [Conv1x1(SHAPE), ActNorm(SHAPE)],
    "the other way round": lambda: [ActNorm(SHAPE), Conv1x1(SHAPE)],
    "three": lambda: [ActNorm(SHAPE), Conv1x1(SHAPE), ActNorm(SHAPE)],
    "between couplings": lambda: [
        Coupling(SHAPE, hidden=(4,), context=2),
        Conv1x1(SHAPE),
        ActNorm(SHAPE),
        Coupling(SHAPE, hidden=(4,), context=2, flip=True),
        ActNorm(SHAPE),
        Conv1x1(SHAPE),
    ],
}
every = pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
directions = pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])


def shaken(chain: Compose) -> Compose:
    """With parameters that are not those of the start, and nothing left to initialise."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    chain.load_state_dict({name: torch.tensor(True) if "initialised" in name else v for name, v in chain.state_dict().items()})
    return chain


def one_by_one(chain: Compose, value: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
    total = torch.zeros(len(value), dtype=value.dtype)
    for layer in reversed(list(chain)) if inverse else chain:
        own = None if layer.context is None else context
        value, logdet = layer.inverse_and_logdet(value, own) if inverse else layer.forward_and_logdet(value, own)
        total = total + logdet
    return value, total


def through(chain: Compose, value: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
    own = None if chain.context is None else context
    return chain.inverse_and_logdet(value, own) if inverse else chain.forward_and_logdet(value, own)


@every
@directions
def test_values_logdets_and_gradients_are_those_of_the_layers(layers, inverse: bool):
    chain = shaken(Compose(layers()))
    assert any(isinstance(run, ChannelRun) for run in chain._runs)
    x, c = torch.randn(5, *SHAPE, requires_grad=True), torch.randn(5, 2, requires_grad=True)
    inputs = [x, *([c] if chain.context else []), *chain.parameters()]
    weight = torch.randn(5, *SHAPE)
    found = []
    for run in (through, one_by_one):
        value, logdet = run(chain, x, c, inverse)
        first = torch.autograd.grad((weight * value.sin()).sum() + logdet.exp().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), inputs)
        found.append((value, logdet, *first, *second))
    assert found[0][1].shape == (5,)
    assert_close(found[0], found[1])
    if not inverse:
        assert_close(chain(x, c if chain.context else None), found[1][0])


@every
def test_the_first_batch_initialises_as_layer_by_layer(layers):
    torch.manual_seed(0)
    chain = Compose(layers())
    other = copy.deepcopy(chain)
    x, c = 3 + 2 * torch.randn(7, *SHAPE), torch.randn(7, 2)
    assert_close(through(chain, x, c, True), one_by_one(other, x, c, True))
    assert_close(chain.state_dict(), other.state_dict())
    assert all(bool(layer.initialised) for layer in chain if isinstance(layer, ActNorm))
    before = copy.deepcopy(chain.state_dict())
    through(chain, 10 * x, c, True)
    assert_close(chain.state_dict(), before)


@every
def test_evaluation_and_sampling_initialise_nothing(layers):
    chain = Compose(layers())
    x, c = 3 + torch.randn(5, *SHAPE), torch.randn(5, 2)
    through(chain, x, c, False)
    through(chain.eval(), x, c, True)
    assert not any(bool(layer.initialised) for layer in chain if isinstance(layer, ActNorm))


@every
@directions
def test_a_bad_row_stays_in_its_row_and_no_row_is_a_row_less(layers, inverse: bool):
    chain, x, c = shaken(Compose(layers())), torch.randn(3, *SHAPE), torch.randn(3, 2)
    expected = through(chain, x, c, inverse)
    x[1, 0, 0, 0] = torch.nan
    value, logdet = through(chain, x, c, inverse)
    assert_close((value[::2], logdet[::2]), (expected[0][::2], expected[1][::2]))
    assert value[1].isnan().any()
    value, logdet = through(chain, x[:0], c[:0], inverse)
    assert (value.shape, logdet.shape) == ((0, *SHAPE), (0,))


def test_a_large_shift_costs_no_digits():
    chain = shaken(Compose(CHAINS["as in Glow"]())).float()
    with torch.no_grad():
        chain[1].get_parameter("shift").fill_(1e4)
    x = 1e4 + torch.randn(5, *SHAPE, dtype=torch.float32)
    assert_close(chain.inverse(x), one_by_one(chain, x, None, True)[0], rtol=1e-5, atol=1e-5)


@directions
def test_other_dtypes_than_the_weights_are_as_layer_by_layer(inverse: bool):
    chain, x = shaken(Compose(CHAINS["as in Glow"]())), torch.randn(5, *SHAPE, dtype=torch.float32)
    value, logdet = through(chain, x, None, inverse)
    expected = one_by_one(chain, x, None, inverse)
    assert value.dtype == expected[0].dtype
    assert_close(value, expected[0])
    assert_close(logdet, expected[1], check_dtype=False)


def test_the_sequence_and_its_memory_stay_what_they_were():
    chain = shaken(Compose(CHAINS["between couplings"]()))
    assert [type(layer).__name__ for layer in chain[1:4]] == ["Conv1x1", "ActNorm", "Coupling"]
    x, c = torch.randn(5, *SHAPE, requires_grad=True), torch.randn(5, 2)
    inverting = Compose(list(chain), memory="invert")
    assert list(inverting.state_dict()) == list(chain.state_dict())
    found = []
    for run in (chain, inverting):
        z, logdet = run.inverse_and_logdet(x, c)
        found.append(torch.autograd.grad(z.sin().sum() + logdet.sum(), [x, *chain.parameters()]))
    assert_close(found[0], found[1])


def test_a_layer_exchanged_or_copied_counts():
    chain, x = shaken(Compose(CHAINS["as in Glow"]())), torch.randn(5, *SHAPE)
    before = chain.inverse(x)
    other = copy.deepcopy(chain)
    with torch.no_grad():
        other[1].get_parameter("log_scale").add_(1)
    assert_close(chain.inverse(x), before)
    assert_close(other.inverse(x), one_by_one(other, x, None, True)[0])
    chain.layers[0] = Conv1x1(SHAPE, start="identity")
    assert_close(chain.inverse(x), one_by_one(chain, x, None, True)[0])


@pytest.mark.parametrize("context", [None, 3], ids=["plain", "conditional"])
def test_glow_compiles_in_one_graph(context: int | None):
    p = pf.flows.Glow("p(x)" if context is None else "p(x | y)", shape=(2, 4, 4), levels=2, steps=2, hidden=4, context=context)
    values = {"x": torch.randn(3, 2, 4, 4)} | ({} if context is None else {"y": torch.randn(3, 3)})
    loss = (-pf.log(p)).mean().module()
    loss(values)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(values), [*p.parameters()])
    assert_close(torch.autograd.grad(compiled(values), [*p.parameters()]), expected)
