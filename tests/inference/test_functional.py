"""Losses under the transforms of torch.func: gradients per example, ensembles, Hessians."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from inference.compiled_registry import LOSSES, D, Z, batch, decoder, encoder, flow, prior, vae
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jvp, stack_module_state, vmap
from torch.testing import assert_close

import probflow as pf
from probflow import KL, E, Loss, errors, log
from probflow.checks import compiling


def finite() -> Loss:
    q = pf.Bernoulli("q(z | x)", pf.nn.MLP(D, [4], {"logits": Z}))
    return -E(q)[log(decoder())].mean()


def given_noise() -> Loss:
    """A VAE whose noise comes from outside: the same draws however the batch is cut."""
    net = pf.nn.MLP(D, [4], {"loc": Z, "scale": Z}, output={"scale": nn.functional.softplus})
    q, decode = pf.Normal("q(z | x)", net), decoder().network
    assert isinstance(decode, nn.Module)
    p = pf.Bernoulli("p(x | e, y)", Noisy(net, decode))
    return (KL(q, prior()) - log(p)).mean()


class Noisy(nn.Module):
    def __init__(self, encode: nn.Module, decode: nn.Module) -> None:
        super().__init__()
        self.encode, self.decode = encode, decode

    def forward(self, e: Tensor, y: Tensor) -> dict[str, Tensor]:
        params = self.encode(y)
        return self.decode(params["loc"] + params["scale"] * e)


BY_ROWS: dict[str, Callable[[], Loss]] = {
    "a VAE": given_noise,
    "divergence": lambda: KL(encoder(), prior()).mean(),
    "likelihood": lambda: -log(decoder()).mean(),
    "flow": flow,
    "mixture": LOSSES["mixture"],
    "finite": finite,
    "a coefficient": lambda: (nn.Parameter(torch.tensor(0.7)) * KL(encoder(), prior())).mean(),
}


def data(loss: Loss, size: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(2)
    x = torch.rand(size, D).round()
    values = {"x": x, "y": x, "z": torch.randn(size, Z), "e": torch.randn(size, Z)}
    return {name: values[name] for name in loss.input_var}


def moved(loss: Loss) -> nn.Module:
    """The module, with weights that are all away from where they start."""
    torch.manual_seed(1)
    module = loss.module()
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return module


def of_one(module: nn.Module) -> Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]:
    def value(weights: dict[str, Tensor], row: dict[str, Tensor]) -> Tensor:
        return functional_call(module, weights, ({name: entry[None] for name, entry in row.items()},))

    return value


@pytest.mark.parametrize("name", BY_ROWS)
def test_gradients_per_example_add_up_to_that_of_the_batch(name: str) -> None:
    loss = BY_ROWS[name]()
    module, values = moved(loss), data(loss)
    weights: dict[str, Tensor] = dict(module.named_parameters())
    for _ in range(6):  # specialised programs are made after some runs
        wanted = torch.autograd.grad(module(values), list(weights.values()))
        each = vmap(grad(of_one(module)), in_dims=(None, 0))(weights, values)
        for ours, theirs in zip(each.values(), wanted, strict=True):
            assert_close(ours.mean(0), theirs)
    assert any(gradient.abs().max() > 1e-3 for gradient in wanted)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "no data"])
def test_every_loss_can_be_mapped(name: str) -> None:
    """With draws of its own for each example; the values are those of evaluation where nothing is drawn."""
    loss, values = LOSSES[name](), batch(4)
    numbers = {n: values[n] for n in loss.input_var if n == "beta"}
    rows = {n: values[n] for n in loss.input_var if n not in numbers}

    def value(row: dict[str, Tensor]) -> Tensor:
        return loss.eval({**{n: entry[None] for n, entry in row.items()}, **numbers}).sum()

    each = vmap(value, randomness="different")(rows)
    assert each.shape == (4,) and each.isfinite().all()
    if " draw " not in str(loss.plan()):
        assert_close(each.mean(), loss.eval(values).mean())


def test_draws_are_made_for_each_example() -> None:
    q = pf.Normal("q(z | x)", loc="x", scale=1.0)
    loss = E(q)[pf.Function(lambda z: z[:, 0], ["z"], "f")].mean()
    x = torch.zeros(5, 1)
    assert len(set(vmap(lambda row: loss.eval({"x": row[None]}), randomness="different")(x).tolist())) == 5
    assert len(set(vmap(lambda row: loss.eval({"x": row[None]}), randomness="same")(x).tolist())) == 1


def test_an_ensemble() -> None:
    """One loss, several sets of weights."""
    module = moved(vae())
    others = [copy.deepcopy(module) for _ in range(3)]
    for place, other in enumerate(others):
        with torch.no_grad():
            next(other.parameters()).add_(place)
    weights, _ = stack_module_state(others)
    values = batch(4)
    found = vmap(lambda w: functional_call(module, w, (values,)), randomness="same")(weights)
    assert found.shape == (3,) and len(set(found.tolist())) == 3
    one = KL(encoder(), prior()).mean().module()
    twins = [copy.deepcopy(one), one]
    weights, _ = stack_module_state(twins)
    assert_close(vmap(lambda w: functional_call(one, w, ({"x": values["x"]},)))(weights), one(values).expand(2))


def test_a_hessian() -> None:
    p = pf.Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=0.5)
    module = (-log(p)).mean().module()
    values = {"x": torch.randn(4, 2)}
    (block,) = hessian(lambda w: functional_call(module, w, (values,)))(dict(module.named_parameters())).values()
    assert_close(block["0.loc"], 4 * torch.eye(2))


def number(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value, dtype=torch.float64))


def normal() -> pf.Normal:
    """All values share two trained numbers."""
    return pf.Normal("q(z)", loc=number(0.3), scale=number(0.8), features_shape=3)


def bits() -> pf.Bernoulli:
    return pf.Bernoulli("q(b)", logits=nn.Parameter(torch.tensor([0.5, -0.3, 0.1, 0.7], dtype=torch.float64)))


def cost() -> Loss:
    return pf.Function(lambda b: ((b - 0.45) ** 2).sum(1), ["b"], "f")


def evidence(estimator: str) -> Loss:
    p = pf.Bernoulli("p(b)", probs=torch.full((4,), 0.5, dtype=torch.float64))
    return pf.Renyi(p, bits(), alpha=0.5, samples=5, estimator=estimator)


FORWARD: dict[str, Callable[[], Loss]] = {
    "density": lambda: log(normal().given(z=torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3))),
    "divergence": lambda: KL(normal(), pf.Normal("p(z)", loc=number(-0.2), scale=number(1.3), features_shape=3)),
    "draws": lambda: (lambda q: E(q, sample_shape=[4])[log(q) ** 2 + pf.Function(lambda z: z.sum(1), ["z"], "g")])(normal()),
    "score": lambda: E(bits(), sample_shape=[5], estimator="score")[cost()],
    "rebar": lambda: E(bits(), sample_shape=[5], estimator=pf.Rebar(temperature=0.5))[cost()],
    "vimco": lambda: evidence("vimco"),
    "inside a function": lambda: pf.exp(E(bits(), sample_shape=[5], estimator="score")[cost()]),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_mode(name: str) -> None:
    """The derivative that is carried forward is that of the gradient; weights without `requires_grad` are no constants there."""
    loss = FORWARD[name]().mean()
    module = loss.module()
    weights = {key: weight.detach() for key, weight in module.named_parameters()}

    def value(weights: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(0)
        return functional_call(module, weights, ({},))

    _, found, *_ = jvp(value, (weights,), ({key: torch.ones_like(weight) for key, weight in weights.items()},))
    wanted = sum((slope.sum() for slope in grad(value)(weights).values()), torch.zeros((), dtype=torch.float64))
    assert wanted.abs() > 1e-3
    assert_close(found, wanted)


def test_what_forward_mode_cannot_do_is_refused() -> None:
    q = normal()
    loss = pf.IWAE(pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=3), q, samples=4, estimator="dreg").mean()
    module = loss.module()
    weights = {key: weight.detach() for key, weight in module.named_parameters()}
    tangents = {key: torch.ones_like(weight) for key, weight in weights.items()}
    with pytest.raises(errors.LossError, match="Ask for 'pathwise'"):
        jvp(lambda w: functional_call(module, w, ({},)), (weights,), (tangents,))
    assert grad(lambda w: functional_call(module, w, ({},)))(weights).keys() == weights.keys()


@pytest.mark.parametrize("variable", ["x", "coefficient0", "coefficient0_"])
def test_other_coefficients(variable: str) -> None:
    """functional_call puts other tensors in the place of coefficients too; a gradient there is not silently zero."""
    weight = nn.Parameter(torch.tensor(2.0))
    q = pf.Normal(f"q(z | {variable})", loc=variable, scale=1.0)
    loss = (weight * KL(q, prior()) + weight).mean()
    module, values = loss.module(), {variable: torch.ones(3, Z)}
    assert_close(functional_call(module, {"coefficient0": torch.tensor(5.0)}, (values,)), torch.tensor(5 * Z / 2 + 5.0))
    slope = grad(lambda w: functional_call(module, {"coefficient0": w}, (values,)))(torch.tensor(5.0))
    assert_close(slope, torch.tensor(Z / 2 + 1.0))
    assert module(values) == loss.eval(values)
    twin = copy.deepcopy(module)
    assert_close(functional_call(twin, {"coefficient0": torch.tensor(1.0)}, (values,)), torch.tensor(Z / 2 + 1.0))


def test_what_can_be_known_is_still_an_error() -> None:
    loss, x = vae(), torch.rand(4, D).round()
    with pytest.raises(errors.MissingVariable, match="needs a value for 'x'"):
        vmap(lambda row: loss.eval({"u": row[None]}), randomness="different")(x)
    with pytest.raises(errors.NetworkError, match="its network failed on"):
        vmap(lambda row: loss.eval({"x": row[None, :4]}), randomness="different")(x)
    with pytest.raises(errors.SupportError, match="outside the support"):  # under grad alone numbers are looked at
        grad(lambda x: log(decoder()).mean().eval({"x": x, "z": torch.zeros(4, Z)}))(x + 0.5)


def test_where_numbers_are_looked_at() -> None:
    seen: dict[str, Any] = {}

    def look(name: str, x: Tensor) -> Tensor:
        seen[name] = compiling()
        return x.sum()

    x = torch.zeros(3)
    vmap(lambda row: look("vmap", row))(x)
    grad(lambda row: look("grad", row))(x)
    vmap(grad(lambda row: look("grad in vmap", row)))(x)
    look("outside", x)
    assert seen == {"vmap": True, "grad": False, "grad in vmap": True, "outside": False}
