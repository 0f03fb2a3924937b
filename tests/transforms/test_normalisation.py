"""The batch-dependent side of normalisation: when ActNorm initialises, and which statistics BatchNorm uses."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from probflow.errors import ArgumentError, ShapeError
from probflow.transforms import Compose, Coupling
from probflow.transforms.compose import Memory
from probflow.transforms.linear import LU
from probflow.transforms.normalisation import ActNorm, BatchNorm


def data(n: int = 100, *shape: int) -> Tensor:
    return 5 + 3 * torch.randn(n, *(shape or (3,)))


def over(x: Tensor) -> list[int]:
    """All dimensions but that of the channels."""
    return [0, *range(2, x.dim())]


# ------------------------------------------------------------------ ActNorm: when


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_first_training_batch_becomes_standard(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = ActNorm(shape).to(dtype)
    x = data(200, *shape).to(dtype)
    z, logdet = layer.inverse_and_logdet(x)
    assert z.dtype == dtype and logdet.dtype == dtype and bool(layer.initialised)
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    channels = torch.zeros(shape[0], dtype=dtype)
    assert_close(z.mean(over(z)), channels, rtol=0, atol=tolerance)
    assert_close(z.var(over(z), correction=0), channels + 1, rtol=0, atol=tolerance)
    std = x.double().std(over(x), correction=0)
    places = shape[1] * shape[2] if len(shape) == 3 else 1
    assert_close(logdet.double(), (-places * std.log().sum()).expand(200), rtol=1e-2, atol=1e-2)


def test_later_batches_do_not_initialise() -> None:
    torch.manual_seed(0)
    layer = ActNorm(3)
    layer.inverse(data())
    before = copy.deepcopy(layer.state_dict())
    layer.inverse(10 * data())
    assert_close(layer.state_dict(), before)


def test_neither_evaluation_nor_generation_nor_an_empty_batch_initialise() -> None:
    torch.manual_seed(0)
    layer = ActNorm(3)
    x = data()
    assert torch.equal(layer.eval().inverse(x), x)
    assert torch.equal(layer.train()(x), x)
    assert torch.equal(layer.inv.inverse(x), x)
    assert layer.inverse(x[:0]).shape == (0, 3)
    assert not bool(layer.initialised)
    layer.inv.forward(x)  # turned around, the same direction of the same map
    assert bool(layer.initialised)


def test_one_row_initialises_the_shift_only() -> None:
    layer = ActNorm(3)
    x = torch.tensor([[1.0, -2.0, 30.0]])
    z, logdet = layer.inverse_and_logdet(x)
    assert_close(z, torch.zeros(1, 3))
    assert_close(logdet, torch.zeros(1))
    assert_close(layer.shift.detach(), x[0])
    assert bool(layer.initialised)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_constant_features_keep_a_scale_of_one(value: float, dtype: torch.dtype) -> None:
    layer = ActNorm(2).to(dtype)
    x = torch.stack([torch.full((101,), value), torch.randn(101)], 1).to(dtype)
    z = layer.inverse(x)
    assert bool(z.isfinite().all()) and layer.log_scale[0].item() == 0.0
    assert abs(layer.log_scale[1].item()) < 1


def test_a_bad_value_does_not_spoil_the_initialisation() -> None:
    torch.manual_seed(0)
    good = data(50)
    bad = torch.cat([good, torch.full((1, 3), float("nan")), torch.full((1, 3), float("inf"))])
    one, other = ActNorm(3), ActNorm(3)
    assert_close(one.inverse(bad)[:50], other.inverse(good))
    hopeless = ActNorm(3)
    hopeless.inverse(bad[50:])
    assert torch.equal(hopeless.shift, torch.zeros(3)) and torch.equal(hopeless.log_scale, torch.zeros(3))


def test_initialisation_leaves_no_graph_and_gradients_flow() -> None:
    torch.manual_seed(0)
    layer = ActNorm(3)
    x = data().requires_grad_()
    z, logdet = layer.inverse_and_logdet(x)
    (z.square().sum() - logdet.sum()).backward()
    assert layer.shift.is_leaf and layer.shift.grad is not None and layer.log_scale.grad is not None
    # z has mean 0 and x enters the loss through z only, the statistics being constants
    assert_close(x.grad, 2 * z.detach() * (-layer.log_scale.detach()).exp())


# ------------------------------------------------------------------ ActNorm: the flag


def through_state_dict(layer: ActNorm) -> ActNorm:
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    fresh = ActNorm(3)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    return fresh


def in_a_chain(layer: ActNorm) -> ActNorm:
    chain, fresh = Compose([layer]), Compose([ActNorm(3)])
    fresh.load_state_dict(chain.state_dict(), assign=True)
    return fresh[0]  # type: ignore[return-value]


def averaged(layer: ActNorm) -> ActNorm:
    """Buffers copied by hand, as averages of weights do; no load_state_dict is called."""
    fresh = ActNorm(3)
    with torch.no_grad():
        for mine, theirs in zip([*fresh.parameters(), *fresh.buffers()], [*layer.parameters(), *layer.buffers()], strict=True):
            mine.copy_(theirs)
    return fresh


@pytest.mark.parametrize(
    "copied",
    [through_state_dict, in_a_chain, averaged, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["state_dict", "chain, assign", "buffers", "deepcopy", "pickle"],
)
def test_a_copy_does_not_initialise_again(copied: object) -> None:
    torch.manual_seed(0)
    layer = ActNorm(3)
    layer.inverse(data())
    other: ActNorm = copied(layer)  # type: ignore[operator]
    assert bool(other.initialised)
    x = 10 * data()
    assert_close(other.inverse(x), layer.inverse(x))
    assert_close(other.shift, layer.shift)


def test_a_copy_of_a_fresh_layer_still_initialises() -> None:
    torch.manual_seed(0)
    for other in (copy.deepcopy(ActNorm(3)), through_state_dict(ActNorm(3))):
        assert_close(other.inverse(data()).mean(0), torch.zeros(3))
    used = ActNorm(3)
    used.inverse(data())
    used.load_state_dict(ActNorm(3).state_dict())  # back to the state of a fresh one
    assert_close(used.inverse(10 * data()).mean(0), torch.zeros(3))


def test_no_step_asks_the_device() -> None:
    """On the meta device a tensor has no value to ask for: any look at one raises."""
    layer = ActNorm(3).to("meta")
    for _ in range(2):
        z, _ = layer.inverse_and_logdet(torch.empty(5, 3, device="meta"))
        assert z.is_meta
    layer.load_state_dict(ActNorm(3).to("meta").state_dict())


def test_statistics_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    used = ActNorm(3)
    used.inverse(data())
    loaded = through_state_dict(used)

    def again(self: ActNorm, x: Tensor) -> None:
        raise RuntimeError("initialises again")

    monkeypatch.setattr(ActNorm, "_initialise", again)
    for layer in (used, loaded, copy.deepcopy(used)):
        layer.inverse(data())
    with pytest.raises(RuntimeError, match="again"):
        ActNorm(3).inverse(data())


# ------------------------------------------------------------------ ActNorm: in chains


def test_a_chain_initialises_layer_by_layer() -> None:
    torch.manual_seed(0)
    chain = Compose([ActNorm(4), Coupling(4, hidden=(8,)), LU(4, permutation="random"), ActNorm(4)])
    with torch.no_grad():
        for parameter in chain[1:3].parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    z = chain.inverse(data(500, 4))
    assert_close(z.mean(0), torch.zeros(4), rtol=0, atol=1e-8)
    assert_close(z.var(0, correction=0), torch.ones(4))


def test_memory_by_inversion_initialises_on_the_way_in() -> None:
    torch.manual_seed(0)
    x = data(20, 4)
    chain = [ActNorm(4), Coupling(4, hidden=(8,)), ActNorm(4)]
    grads = []
    memories: tuple[Memory, ...] = ("store", "invert")
    for memory in memories:
        made = Compose(copy.deepcopy(chain), memory=memory)
        z, logdet = made.inverse_and_logdet(x)
        (z.square().sum() / 2 - logdet.sum()).backward()
        grads.append([p.grad for p in made.parameters()])
    assert_close(grads[0], grads[1])


def test_the_first_batch_is_traced_without_a_graph_break() -> None:
    torch.manual_seed(0)
    layer, plain = Compose([ActNorm(3), LU(3), ActNorm(3)]), Compose([ActNorm(3), LU(3), ActNorm(3)])
    torch._dynamo.reset()
    run = torch.compile(layer.inverse_and_logdet, fullgraph=True, backend="eager")
    for _ in range(3):
        x = data()
        assert_close(run(x), plain.inverse_and_logdet(x))
    assert_close(layer.state_dict(), plain.state_dict())


# ------------------------------------------------------------------ BatchNorm


@pytest.mark.parametrize("shape", [(3,), (2, 4, 3)])
def test_training_uses_the_batch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = BatchNorm(shape)
    with torch.no_grad():
        layer.log_gamma.normal_()
        layer.beta.normal_()
    x = data(50, *shape)
    z, logdet = layer.inverse_and_logdet(x)
    var = x.var(over(x), correction=0)
    assert_close(z.mean(over(z)), layer.beta.detach())
    assert_close(z.var(over(z), correction=0), (2 * layer.log_gamma).exp().detach() * var / (var + layer.eps))
    places = shape[1] * shape[2] if len(shape) == 3 else 1
    assert_close(logdet.detach(), (places * (layer.log_gamma - (var + layer.eps).log() / 2).sum()).detach().expand(50))


def test_running_statistics_are_those_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(3, momentum=0.3), nn.BatchNorm1d(3, momentum=0.3, affine=False)
    theirs.get_buffer("running_var").fill_(1 - ours.eps)
    for _ in range(4):
        x = data(7)
        assert_close(ours.inverse(x).detach(), theirs(x))
    assert_close((ours.running_mean, ours.running_var), (theirs.running_mean, theirs.running_var))
    x = data(7)
    assert_close(ours.eval().inverse(x).detach(), theirs.eval()(x))


def test_evaluation_and_generation_leave_the_statistics_alone() -> None:
    torch.manual_seed(0)
    layer = BatchNorm(3)
    layer.inverse(data())
    before = copy.deepcopy(layer.state_dict())
    layer(data())
    layer.eval().inverse(data())
    layer(data())
    assert_close(layer.state_dict(), before)


@pytest.mark.parametrize("n", [0, 1])
def test_a_batch_without_a_variance_uses_the_running_one(n: int) -> None:
    torch.manual_seed(0)
    layer = BatchNorm(3)
    layer.inverse(data())
    before = copy.deepcopy(layer.state_dict())
    x = data(n)
    in_training = layer.inverse_and_logdet(x)
    assert_close(in_training, layer.eval().inverse_and_logdet(x))
    assert_close(layer.state_dict(), before)


def test_one_image_has_a_variance() -> None:
    torch.manual_seed(0)
    z = BatchNorm((2, 8, 8)).inverse(data(1, 2, 8, 8))
    assert_close(z.mean((0, 2, 3)), torch.zeros(2))


def test_constant_and_bad_values_leave_the_running_statistics_finite() -> None:
    layer = BatchNorm(2)
    assert bool(layer.inverse(torch.ones(5, 2)).isfinite().all())
    layer.inverse(torch.tensor([[1.0, 2.0], [float("nan"), 4.0]]))
    assert bool(layer.running_mean.isfinite().all()) and bool(layer.running_var.isfinite().all())


def test_both_directions_in_one_training_step() -> None:
    """The density pass moves buffers that the generative pass has used before: its backward pass must not mind."""
    torch.manual_seed(0)
    layer = BatchNorm(3)
    x, up = layer.forward_and_logdet(torch.randn(5, 3))
    z, down = layer.inverse_and_logdet(data())
    (x.square().sum() + up.sum() + z.pow(3).sum() + down.sum()).backward()
    assert layer.log_gamma.grad is not None and bool(layer.log_gamma.grad.isfinite().all())


def test_gradients_flow_through_the_statistics() -> None:
    torch.manual_seed(0)
    layer = BatchNorm(2)
    x = data(6, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: layer.inverse_and_logdet(v), (x,))


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ActNorm(0), "ActNorm must be a positive integer or a shape of them, got 0"),
        (lambda: BatchNorm((3, -1)), "BatchNorm must be a positive integer"),
        (lambda: BatchNorm(3, momentum=0.0), "momentum must be in \\(0, 1\\], got 0.0"),
        (lambda: BatchNorm(3, eps=0.0), "eps must be in \\(0, 1\\), got 0.0"),
    ],
)
def test_errors_say_what_was_expected(make: object, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        make()  # type: ignore[operator]


def test_the_wrong_shape_is_refused() -> None:
    for layer in (ActNorm((3, 4, 4)), BatchNorm((3, 4, 4))):
        with pytest.raises(ShapeError, match="expected"):
            layer.inverse(torch.randn(2, 3))
