"""Model(compile=True): a training step as one graph, and the weights of eager training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inference import compiled_registry as losses
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import StepLR
from torch.testing import assert_close

import probflow as pf
from probflow import E, errors, log
from probflow.losses import Loss
from probflow.models import Model
from probflow.models.updates import UPDATES, columns_of

TRACED = {"backend": "eager"}
LOWERED = {"backend": "aot_eager"}
STEPS = 20

WHOLE = hasattr(torch._dynamo.config, "trace_autograd_ops")
"""Whether this torch can compile a backward pass with its loss: since 2.13."""
ONE_GRAPH = "one graph" if WHOLE else "a graph of the loss and one of its gradient"
in_one_graph = pytest.mark.skipif(not WHOLE, reason="what only a whole step in one graph does, which this torch cannot compile")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield


def trained(make: Callable[[], Loss], compile: Any, steps: int = STEPS, **options: Any) -> tuple[Model, list[float]]:
    torch.manual_seed(0)
    loss = make()
    model = Model(loss, compile=compile, **options)
    values = [losses.batch(size) for size in (8, 8, 5)]
    return model, [float(model.train(values[place % 3])) for place in range(steps)]


def assert_same_training(make: Callable[[], Loss], compile: Any = TRACED, **options: Any) -> Model:
    eager, wanted = trained(make, False, **options)
    model, found = trained(make, compile, **options)
    assert found == pytest.approx(wanted, abs=1e-5)
    for ours, theirs in zip(model.loss.parameters(), eager.loss.parameters(), strict=True):
        assert_close(ours, theirs, atol=1e-5, rtol=0)
    return model


@pytest.mark.parametrize("name", ["VAE", "score function, 3 samples", "CVAE with a coefficient"])
def test_the_weights_are_those_of_eager_training(name: str) -> None:
    model = assert_same_training(losses.LOSSES[name])
    assert model.compiled.startswith(ONE_GRAPH)
    assert f"compiled: {ONE_GRAPH}" in repr(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VAE", "hierarchical", "M2", "score function", "IWAE", "flow", "flow prior", "flow posterior",
                                  "mixture", "discretised logistic"])  # fmt: skip
def test_the_weights_of_other_losses(name: str) -> None:
    assert assert_same_training(losses.LOSSES[name], LOWERED).compiled.startswith(ONE_GRAPH)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VAE", "flow prior"])
def test_the_weights_from_inductor(name: str) -> None:
    assert assert_same_training(losses.LOSSES[name], True).compiled.startswith(ONE_GRAPH)


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Adam": {"optimizer": Adam, "optimizer_params": {"lr": 1e-2, "weight_decay": 0.1}},
    "AMSGrad": {"optimizer": Adam, "optimizer_params": {"lr": 1e-2, "amsgrad": True}},
    "Adam with everything": {
        "optimizer": Adam,
        "optimizer_params": {"lr": 1e-2, "weight_decay": 0.1, "amsgrad": True, "maximize": True, "eps": 1e-3},
    },
    "Adam with options in a list, of numpy": {
        "optimizer": Adam,
        "optimizer_params": {"lr": 1e-2, "betas": [np.float64(0.8), np.float64(0.9)], "eps": np.float32(1e-6)},
    },
    "Adam without momentum": {"optimizer": Adam, "optimizer_params": {"lr": 1e-2, "betas": (0.0, 0.9)}},
    "AdamW": {"optimizer": AdamW, "optimizer_params": {"lr": 1e-2, "betas": (0.8, 0.9)}},
    "AdamW with AMSGrad": {"optimizer": AdamW, "optimizer_params": {"lr": 1e-2, "amsgrad": True, "weight_decay": 0.5}},
    "SGD": {"optimizer": SGD, "optimizer_params": {"lr": 1e-2}},
    "SGD with momentum": {"optimizer": SGD, "optimizer_params": {"lr": 1e-2, "momentum": 0.9, "nesterov": True}},
    "SGD with everything": {
        "optimizer": SGD,
        "optimizer_params": {"lr": 1e-2, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1, "maximize": True},
    },
    "clipped norm": {"clip_grad_norm": 0.5, "optimizer": SGD, "optimizer_params": {"lr": 0.1}},
    "clipped entries": {"clip_grad_value": 0.01, "clip_grad_norm": 5.0},
}


def divergence() -> Loss:
    return losses.LOSSES["no mean"]().mean()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_and_clipping(name: str) -> None:
    assert assert_same_training(divergence, **OPTIMIZERS[name]).compiled.startswith(ONE_GRAPH)


@pytest.mark.parametrize("options", [{}, {"amsgrad": True, "weight_decay": 0.1}, {"betas": (0.0, 0.0)}], ids=str)
@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("before", [0, 100_000])
def test_the_update_of_adam(kind: type[Adam], options: dict[str, Any], before: int) -> None:
    """Late steps too, and weights that have taken different numbers of them."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape)) for shape in [(3, 2), (), (4,)]]
    gradients = [torch.randn_like(weight) for weight in weights]
    reference, own = ([nn.Parameter(weight.detach().clone()) for weight in weights] for _ in range(2))
    optimizers = [kind(chosen, lr=0.1, **options) for chosen in (reference, own)]
    for optimizer in optimizers:
        for weight, gradient in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
        for place, state in enumerate(optimizer.state.values()):
            state["step"].add_(before * place)
    group = optimizers[1].param_groups[0]
    state = optimizers[1].state
    names = columns_of(optimizers[1], group)
    for step in range(5):
        found = [gradient * (step - 2) for gradient in gradients]
        for weight, gradient in zip(reference, found, strict=True):
            weight.grad = gradient.clone()
        optimizers[0].step()
        with torch.no_grad():
            columns = [[state[weight][name] for weight in own] for name in names]
            UPDATES[kind](group, list[Tensor](own), found, columns, torch.tensor(0.1, dtype=torch.float64))
    for ours, theirs in zip(own, reference, strict=True):
        assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
        assert_close(dict(state[ours]), dict(optimizers[0].state[theirs]), atol=1e-6, rtol=1e-6)


@in_one_graph
@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "options", [{"fused": False}, {"fused": True}, {"fused": False, "amsgrad": True, "weight_decay": 0.1}], ids=str
)
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_the_update_of_adam_from_inductor(kind: type[Adam], options: dict[str, Any], precision: torch.dtype) -> None:
    """Steps of an Adam that is not fused are float64 where that is the default, and inductor's updates are wrong of such numbers."""
    torch.set_default_dtype(precision)
    by_parts = precision == torch.float64 and not options["fused"]
    with pytest.warns(UserWarning, match="float64 counts of steps") if by_parts else nullcontext():
        model = assert_same_training(losses.vae, {"options": {}}, optimizer=kind, optimizer_params={"lr": 1e-2, **options})
    assert model.compiled.startswith(ONE_GRAPH) is not by_parts


def test_weights_of_few_bits_decay_as_they_do_eagerly() -> None:
    """The factor of the decay has more bits than the weights."""
    torch.manual_seed(0)
    reference, own = (nn.Parameter(torch.linspace(1, 4, 50, dtype=torch.bfloat16)) for _ in range(2))
    optimizers = [AdamW([weight], lr=0.01, weight_decay=0.3) for weight in (reference, own)]
    for optimizer, weight in zip(optimizers, (reference, own), strict=True):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    group, state = optimizers[1].param_groups[0], optimizers[1].state[own]
    columns = [[state[name]] for name in columns_of(optimizers[1], group)]
    for _ in range(5):
        optimizers[0].step()
        with torch.no_grad():
            UPDATES[AdamW](group, [own], [torch.zeros_like(own)], columns, torch.tensor(0.01, dtype=torch.float64))
    assert torch.equal(own, reference)


@in_one_graph
@pytest.mark.slow
@pytest.mark.parametrize("name", ["AdamW with AMSGrad", "SGD with everything"])
def test_a_weight_that_is_one_double(name: str) -> None:
    def make() -> Loss:
        shift = nn.Parameter(torch.zeros((), dtype=torch.float64))
        p = pf.Normal("p(x)", loc=shift, scale=torch.tensor(1.0, dtype=torch.float64))
        return -log(p).mean()

    def run(compile: Any) -> list[float]:
        model = Model(make(), compile=compile, **OPTIMIZERS[name])
        return [float(model.train({"x": torch.arange(4.0, dtype=torch.float64) + step})) for step in range(6)]

    assert run({"options": {}}) == pytest.approx(run(False), rel=1e-9)


def test_another_optimizer_runs_by_itself() -> None:
    model = assert_same_training(divergence, optimizer=RMSprop)
    assert model.compiled.startswith("a graph of the loss")
    assert "RMSprop runs by itself" in model.compiled


def test_parameter_groups_and_schedulers_change_numbers_not_graphs() -> None:
    made: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        made.append(1)
        return graph.forward

    def run(compile: Any) -> list[Tensor]:
        torch.manual_seed(0)
        loss = divergence()
        first, *rest = loss.parameters()
        groups: list[dict[str, Any]] = [{"params": [first], "lr": 0.1}, {"params": rest}]
        optimizer = Adam(groups, lr=1e-2)
        model = Model(loss, optimizer=optimizer, scheduler=partial(StepLR, step_size=1, gamma=0.5), compile=compile)
        for _ in range(5):
            model.train(losses.batch(8))
            assert model.scheduler is not None
            model.scheduler.step()
        return list(loss.parameters())

    for ours, theirs in zip(run({"backend": backend}), run(False), strict=True):
        assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert len(made) == 1


def test_frozen_weights() -> None:
    def run(compile: Any) -> list[Tensor]:
        torch.manual_seed(0)
        loss = divergence()
        model = Model(loss, compile=compile)
        first = next(loss.parameters())
        for frozen in (False, True, False):
            first.requires_grad_(not frozen)
            before = first.detach().clone()
            for _ in range(3):
                model.train(losses.batch(8))
            assert torch.equal(before, first) is frozen
        return list(loss.parameters())

    for ours, theirs in zip(run(TRACED), run(False), strict=True):
        assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_some_distributions_only() -> None:
    torch.manual_seed(0)
    q, p = losses.encoder(), losses.decoder()
    loss = (pf.KL(q, losses.prior()) - E(q)[log(p)]).mean()
    with pytest.warns(UserWarning):
        model = Model(loss, distributions=[p], compile=TRACED)
    kept = [weight.detach().clone() for weight in q.parameters()]
    moved = [weight.detach().clone() for weight in p.parameters()]
    for _ in range(3):
        model.train(losses.batch(8))
    assert all(map(torch.equal, kept, q.parameters()))
    assert not any(map(torch.equal, moved, p.parameters()))


@pytest.mark.parametrize("compile", [TRACED, False], ids=["into a compiled model", "into an eager model"])
def test_a_checkpoint_goes_on(tmp_path: Path, compile: Any) -> None:
    model, _ = trained(losses.vae, TRACED, 6)
    model.save(tmp_path / "file.pt")
    values = losses.batch(8)
    torch.manual_seed(5)
    wanted = [float(model.train(values)) for _ in range(4)]
    other, _ = trained(losses.vae, compile, 3)
    other.load(tmp_path / "file.pt")
    torch.manual_seed(5)
    assert [float(other.train(values)) for _ in range(4)] == pytest.approx(wanted, abs=1e-6)


@in_one_graph
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["strides", "dtype"])
def test_state_of_another_kind(kind: str) -> None:
    """The compiler's guards leave the optimizer's tensors out, so a graph made for others must not be given them."""

    def run(compile: Any) -> list[float]:
        # torch's fused Adam reads tensors of other strides as if they had those of their weight
        model, _ = trained(losses.vae, compile, 3, optimizer=Adam, optimizer_params={"fused": False})
        for state in model.optimizer.state.values():
            moment = state["exp_avg"]
            state["exp_avg"] = moment.double() if kind == "dtype" else moment.movedim(0, -1).contiguous().movedim(-1, 0)
        values = losses.batch(8)
        torch.manual_seed(5)
        return [float(model.train(values)) for _ in range(4)]

    assert run({"options": {}}) == pytest.approx(run(False), abs=1e-5)


def test_fit_gives_the_same_history() -> None:
    def run(compile: Any) -> dict[str, list[float]]:
        torch.manual_seed(0)
        model = Model(losses.vae(), compile=compile)
        return model.fit([losses.batch(8), losses.batch(5)], epochs=3, progress=False)

    found, wanted = run(TRACED), run(False)
    assert list(found) == list(wanted)
    for name in found:
        if name != "seconds":
            assert found[name] == pytest.approx(wanted[name], abs=1e-6)


def test_terms() -> None:
    torch.manual_seed(0)
    loss = losses.vae()
    model, values = Model(loss, compile=TRACED), losses.batch(8)
    for _ in range(3):
        torch.manual_seed(1)
        wanted = {name: term.detach() for name, term in loss.terms(values).items()}
        torch.manual_seed(1)
        value, terms = model.train_with_terms(values)
        assert list(terms) == list(wanted)
        for name in terms:
            assert_close(terms[name], wanted[name])
        assert not value.requires_grad


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("name", losses.BAD)
def test_bad_data_give_the_errors_of_eager_training_and_change_nothing(name: str) -> None:
    make, spoil = losses.BAD[name]
    loss, values = make(), losses.batch(8)
    model = Model(loss, compile={"backend": "eager"})
    for _ in range(2):
        model.train(values)
    before = [weight.detach().clone() for weight in loss.parameters()]
    state = [t.clone() for s in model.optimizer.state.values() for t in s.values()]
    spoil(values)
    with pytest.raises(errors.ProbflowError) as expected:
        loss.eval(values)
    with pytest.raises(type(expected.value)) as found:
        model.train(values)
    assert str(found.value) == str(expected.value)
    assert all(map(torch.equal, before, loss.parameters()))
    assert all(map(torch.equal, state, (t for s in model.optimizer.state.values() for t in s.values())))
    assert model.compiled.startswith(ONE_GRAPH)


@in_one_graph
def test_a_loss_that_overflows_changes_nothing() -> None:
    loss = (pf.Parameter("c") * pf.KL(losses.encoder(), losses.prior())).mean()
    model = Model(loss, compile=TRACED)
    values = {**losses.batch(8), "c": 1.0}
    for _ in range(2):
        model.train(values)
    before = [weight.detach().clone() for weight in loss.parameters()]
    assert float(model.train({**values, "c": float("inf")})) == float("inf")
    assert all(map(torch.equal, before, loss.parameters()))


def test_nothing_to_train_is_an_error() -> None:
    model = Model(losses.vae(), compile=TRACED)
    model.train(losses.batch(8))
    with torch.no_grad(), pytest.raises(errors.ModelError, match="no_grad"):
        model.train(losses.batch(8))


class Switch(nn.Module):
    """A network that can be changed in all the ways that a user may change one."""

    power = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loc": self.net(x) * self.power, "scale": torch.ones_like(x) + (0.0 if self.training else 1.0)}


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)
        )
        self.net(torch.zeros(1, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loc": self.net(x), "scale": torch.ones_like(x)}


CAPTURES: dict[str, tuple[dict[str, str], type[nn.Module], str]] = {
    "dense": ({}, Switch, ONE_GRAPH),
    "dense, asked for": ({"capture": "loss"}, Switch, 'fused Adam runs by itself: capture="loss" asks for it'),
    "convolutions": ({}, Convolutions, "fused Adam runs by itself: with convolutions that is faster on a CPU"),
    "convolutions, asked for": ({"capture": "step"}, Convolutions, ONE_GRAPH),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_what_is_captured_is_chosen_and_said(name: str) -> None:
    asked, network, said = CAPTURES[name]
    found = []
    for compile in ({**TRACED, **asked}, False):
        torch.manual_seed(0)
        model = Model(-log(pf.Normal("p(y | x)", network())).mean(), compile=compile)
        x, y = torch.randn(6, 3), torch.randn(6, 3)
        found.append([float(model.train({"x": x, "y": y})) for _ in range(6)])
        if compile:
            expected = said if WHOLE else "cannot compile a backward pass"
            assert expected in model.compiled
            assert f"compiled: {model.compiled}" in repr(model)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0][5] < found[0][0]


def test_capture_must_be_known() -> None:
    with pytest.raises(errors.ArgumentError, match="capture must be one of 'step', 'loss', got 'all'"):
        Model(losses.vae(), compile={"capture": "all"})


@in_one_graph
def test_what_cannot_be_one_graph_is_said_and_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    from probflow.models import step_graph

    def refuse(*arguments: Any) -> Any:
        torch._dynamo.graph_break()

    monkeypatch.setattr(step_graph, "clipped", refuse)
    with pytest.warns(UserWarning, match="Model: compiled as a graph of the loss"):
        model = assert_same_training(losses.vae)
    assert model.compiled.startswith("a graph of the loss and one of its gradient; fused Adam runs by itself")


def test_without_a_compiler() -> None:
    import torch._inductor.config as config

    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(errors.MissingDependency, match=r"C\+\+ compiler"),
    ):
        Model(losses.vae(), compile=True)


def test_options_must_be_options() -> None:
    with pytest.raises(errors.ModelError, match="compile must be True, False"):
        Model(losses.vae(), compile="yes")  # type: ignore[arg-type]


@in_one_graph
@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("options", [TRACED, {**TRACED, "capture": "loss"}, False], ids=["step", "loss", "eager"])
def test_a_network_replaced_by_one_without_weights_is_an_error_of_ours(options: Any, before: int) -> None:
    net = Switch()
    model = Model(-log(pf.Normal("p(y | x)", net)).mean(), compile=options)
    values = {"x": torch.randn(4, 3), "y": torch.randn(4, 3)}
    for _ in range(before):
        model.train(values)
    layers, net.net = net.net, nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Tanh())
    with pytest.raises(errors.ModelError, match=r"-mean\(log p\(y\|x\)\) has no gradient: its value depends on no weight"):
        model.train(values)
    net.net = layers
    said = model.compiled
    assert model.train(values).isfinite()
    assert model.compiled == said and ("one graph" in said) == (options is TRACED)


def test_without_compilation_nothing_is_said() -> None:
    assert Model(losses.vae()).compiled == ""


def test_a_frozen_model_is_an_error() -> None:
    p = pf.Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    model = Model((-log(p)).mean(), compile=TRACED)
    model.train({"x": torch.ones(3, 2)})
    for weight in p.parameters():
        weight.requires_grad_(False)
    with pytest.raises(errors.ModelError, match="no gradient"):
        model.train({"x": torch.ones(3, 2)})


CHANGES: dict[str, Callable[[Switch], object]] = {
    "another layer": lambda net: net.net.__setitem__(1, nn.ReLU()),
    "another attribute": lambda net: setattr(net, "power", 3.0),
    "another dtype": lambda net: net.double(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_network_changed_between_steps_is_seen(name: str) -> None:
    """Few of the compiler's guards are left out, and none of those on the user's networks."""
    found = []
    for compile in (TRACED, False):
        torch.manual_seed(0)
        net = Switch().float()
        model = Model(-log(pf.Normal("p(y | x)", net)).mean(), optimizer=SGD, optimizer_params={"lr": 1e-2}, compile=compile)
        x, y = torch.randn(6, 3, dtype=torch.float32), torch.randn(6, 3, dtype=torch.float32)
        steps = [float(model.train({"x": x, "y": y})) for _ in range(3)]
        CHANGES[name](net)
        if name == "another dtype":
            x, y = x.double(), y.double()
        steps += [float(model.train({"x": x, "y": y})) for _ in range(3)]
        found.append(steps)
        assert compile is False or model.compiled.startswith(ONE_GRAPH)
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert abs(found[0][3] - found[0][2]) > 1e-3 or name == "another dtype"
