"""loss.module(): an nn.Module like any other, and the same numbers under torch.compile."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import KL, E, Entropy, Function, Loss, exp, log

D, H, Z, Y = 6, 5, 3, 4


class Encoder(pf.Normal):
    def __init__(self, conditions: tuple[str, ...] = ("x",)) -> None:
        super().__init__(var=["z"], cond_var=list(conditions), name="q")
        self.hidden = nn.Linear(D + Y * (len(conditions) - 1), H)
        self.mu, self.sigma = nn.Linear(H, Z), nn.Linear(H, Z)

    def forward(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        h = self.hidden(x if y is None else torch.cat([x, y], 1)).relu()
        return {"loc": self.mu(h), "scale": F.softplus(self.sigma(h))}


class Decoder(pf.Bernoulli):
    def __init__(self, conditions: tuple[str, ...] = ("z",)) -> None:
        super().__init__(var=["x"], cond_var=list(conditions), name="p")
        self.net = nn.Linear(Z + Y * (len(conditions) - 1), D)

    def forward(self, z: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.net(z if y is None else torch.cat([z, y], 1))}


def prior() -> pf.Distribution:
    return pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=Z)


def vae(shape: Any = ()) -> Loss:
    q, p = Encoder(), Decoder()
    return (KL(q, prior()) - E(q, shape)[log(p)]).mean()


def iwae() -> Loss:
    q, p, z = Encoder(), Decoder(), prior()
    return -log(E(q, [5])[exp(log(p) + log(z) - log(q))]).mean()


def m2() -> Loss:
    q, p, z = Encoder(("x", "y")), Decoder(("z", "y")), prior()
    classifier = pf.Categorical("q(y | x)", nn.Sequential(nn.Linear(D, Y), Head()))
    py = pf.Categorical("p(y)", probs=torch.full((Y,), 1 / Y))
    labelled = E(q)[log(p) + log(py) + log(z) - log(q)]
    return -(E(classifier)[labelled] + Entropy(classifier)).mean()


class Head(nn.Module):
    def forward(self, h: Tensor) -> dict[str, Tensor]:
        return {"logits": h}


MAKE = {"VAE": vae, "sampled": lambda: vae([4]), "a grid": lambda: vae([2, 3]), "IWAE": iwae, "M2": m2}


@pytest.fixture
def x() -> dict[str, Tensor]:
    return {"x": torch.rand(8, D).round()}


@pytest.mark.parametrize("name", MAKE)
def test_the_module_is_the_loss(name: str, x: dict[str, Tensor]) -> None:
    loss = MAKE[name]()
    module = loss.module()
    torch.manual_seed(1)
    value = module(x)
    torch.manual_seed(1)
    assert_close(value, loss.eval(x))
    assert {id(w) for w in module.parameters()} == {id(w) for w in loss.parameters()}
    value.backward()
    assert all(w.grad is not None for w in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_compiled_in_one_graph(name: str, x: dict[str, Tensor]) -> None:
    _compiled_equals_eager(MAKE[name](), x, "inductor")


@pytest.mark.parametrize("name", MAKE)
def test_traced_in_one_graph(name: str, x: dict[str, Tensor]) -> None:
    _compiled_equals_eager(MAKE[name](), x, "aot_eager")


def _compiled_equals_eager(loss: Loss, x: dict[str, Tensor], backend: str) -> None:
    import torch._inductor.config as config

    torch._dynamo.reset()
    module = loss.module()
    with config.patch(fallback_random=True):  # the random numbers of eager mode
        compiled = torch.compile(module, fullgraph=True, backend=backend)
        for seed in (1, 2):
            torch.manual_seed(seed)
            eager = module(x)
            eager_gradients = torch.autograd.grad(eager, list(module.parameters()))
            torch.manual_seed(seed)
            value = compiled(x)
            assert_close(value, eager)
            for ours, theirs in zip(torch.autograd.grad(value, list(module.parameters())), eager_gradients, strict=True):
                assert_close(ours, theirs)


def test_a_compiled_copy_runs_its_own_weights(x: dict[str, Tensor]) -> None:
    module = vae().module()
    module(x)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    torch._dynamo.reset()
    compiled = torch.compile(twin, fullgraph=True, backend="eager")
    torch.manual_seed(1)
    expected = twin(x)
    torch.manual_seed(1)
    assert_close(compiled(x), expected)
    torch.manual_seed(1)
    assert not torch.allclose(module(x), expected)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies(copier: Any, x: dict[str, Tensor]) -> None:
    w = nn.Parameter(torch.tensor(0.5))
    q, z = Encoder(), prior()
    module = (w * KL(q, z)).mean().module()
    before = module(x)
    twin = copier(module)
    assert_close(twin(x), before)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(1)
    assert_close(module(x), before)
    assert not torch.allclose(twin(x), before)
    twin(x).backward()
    assert all(weight.grad is None for weight in module.parameters())
    assert list(twin.state_dict()) == list(module.state_dict())


def test_state_dict(x: dict[str, Tensor]) -> None:
    one, two = vae().module(), vae().module()
    assert list(one.state_dict()) == list(two.state_dict())
    two.load_state_dict(one.state_dict())
    torch.manual_seed(1)
    value = one(x)
    torch.manual_seed(1)
    assert_close(two(x), value)


def test_a_module_behind_two_functions_is_stored_once() -> None:
    shared = nn.Linear(Z, 1)
    f = Function(shared, ["z"], "f")
    g = Function(shared, ["w"], "g")
    module = (f + g).mean().module()
    assert len(module.state_dict()) == 2


def test_moves_and_modes(x: dict[str, Tensor]) -> None:
    module = vae().module()
    module.float()
    assert module({"x": x["x"].float()}).dtype == torch.float32
    module.double()
    assert module(x).dtype == torch.float64
    inside = module.eval().loss
    assert isinstance(inside, Loss) and not inside.distributions[0].training


def test_it_trains(x: dict[str, Tensor]) -> None:
    module = vae().module()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    values = []
    for _ in range(100):
        optimizer.zero_grad()
        value = module(x)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-10:]) < sum(values[:10])


def test_too_many_states_are_known_after_one_evaluation(x: dict[str, Tensor]) -> None:
    """Only the network knows that there are 2^10 states; a first plain call settles it, then one graph is compiled."""
    q = pf.Bernoulli("q(y | x)", nn.Sequential(nn.Linear(D, 10), Head()))
    module = E(q)[Function(lambda y: y.sum(1), ["y"], "s")].mean().module()
    module(x)
    torch._dynamo.reset()
    value = torch.compile(module, fullgraph=True, backend="eager")(x)
    value.backward()
    assert all(w.grad is not None for w in module.parameters())
