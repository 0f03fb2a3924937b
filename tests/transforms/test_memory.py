"""`memory="invert"` against ordinary autograd: random chains, and what an inverse alone cannot give back."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from probflow.errors import ArgumentError
from probflow.transforms import (
    LU,
    ActNorm,
    Affine,
    Compose,
    Coupling,
    Exp,
    Householder,
    Logit,
    Reverse,
    Sigmoid,
    SinhArcsinh,
    Softplus,
    Spline,
    Tanh,
    Transform,
)

LAYERS: dict[str, Callable[[], Transform]] = {
    "affine | c": lambda: Affine(4, context=2),
    "coupling": lambda: Coupling(4, hidden=(8,)),
    "coupling | c": lambda: Coupling(4, hidden=(8,), context=2, flip=True),
    "spline coupling": lambda: Coupling(4, "spline", hidden=(8,), split="alternate"),
    "spline | c": lambda: Spline(4, context=2),
    "lu": lambda: LU(4, permutation="random"),
    "householder | c": lambda: Householder(4, context=2, hidden=(8,)),
    "actnorm": lambda: ActNorm(4),
    "reverse": lambda: Reverse(4),
    "tails": lambda: SinhArcsinh(4),
    "onto (0, 1) and back": lambda: Compose([Sigmoid(), Logit()]),
}


def shaken(chain: Compose, spread: float = 0.2) -> Compose:
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return chain


def gradients(layers: Compose, memory: Any, direction: str, value: Tensor, context: Tensor | None) -> list[Tensor]:
    """Value, log-determinant, and the gradients to the input, the context and every weight that wants one."""
    chain = Compose(copy.deepcopy(list(layers)), memory=memory)
    leaf = value.clone().requires_grad_()
    own = None if context is None else context.clone().requires_grad_()
    out, logdet = getattr(chain, f"{direction}_and_logdet")(leaf, own)
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).reshape(out.shape)
    ((out * weights).sum() + (logdet * weights[:, 0]).sum()).backward()
    leaves = [leaf, *([] if own is None else [own]), *chain.parameters()]
    return [out.detach(), logdet.detach(), *(torch.zeros_like(v) if v.grad is None else v.grad for v in leaves)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_random_chains_have_the_gradients_of_ordinary_autograd(seed: int, direction: str) -> None:
    """Nested and turned around, with weights frozen, with activation normalisations that this very batch initialises."""
    random.seed(seed)
    torch.manual_seed(seed)
    parts = [LAYERS[name]() for name in random.choices(list(LAYERS), k=7)]
    parts = [part.inv if random.random() < 0.3 else part for part in parts]
    chain = shaken(Compose([*parts[:2], Compose([p.inv for p in reversed(parts[2:5])]).inv, Compose(parts[5:])])).double()
    for parameter in chain.parameters():
        parameter.requires_grad_(random.random() < 0.8)
    value, context = torch.randn(6, 4).double(), torch.randn(6, 2).double()
    found = [gradients(chain, memory, direction, value, context) for memory in ("store", "invert")]
    for stored, inverted in zip(*found, strict=True):
        assert_close(inverted, stored, rtol=1e-6, atol=1e-7)


SATURATING = {
    "sigmoid": (lambda: [Affine(2), Sigmoid()], 50.0),
    "tanh": (lambda: [Affine(2), Tanh()], 20.0),
    "exp": (lambda: [Affine(2), Exp()], 60.0),
    "softplus": (lambda: [Affine(2), Softplus()], -200.0),
    "inside a chain": (lambda: [Affine(2), Compose([Sigmoid(), Logit()]), Affine(2)], 50.0),
    "turned around": (lambda: [Affine(2), Compose([Sigmoid().inv]).inv, Logit(), Affine(2)], 50.0),
}


@pytest.mark.parametrize("name", SATURATING)
def test_a_saturated_output_does_not_change_the_gradient(name: str) -> None:
    """In float32 the sigmoid of 50 is 1, from which no inverse leads back to 50."""
    make, far = SATURATING[name]
    chain = Compose(make()).float()
    value = torch.tensor([[far, 0.3], [0.1, 0.2]], dtype=torch.float32)
    found = [gradients(chain, memory, "forward", value, None) for memory in ("store", "invert")]
    for stored, inverted in zip(*found, strict=True):
        assert_close(inverted, stored, rtol=1e-5, atol=1e-5)


def test_the_casts_are_those_of_the_forward_pass() -> None:
    """A backward pass outside of autocast computes again what was computed inside, and the other way round."""
    torch.manual_seed(0)
    chain = shaken(Compose([Coupling(4, hidden=(8,)), LU(4), Coupling(4, hidden=(8,), flip=True)]), 0.5).float()
    value, found = torch.randn(16, 4, dtype=torch.float32), []
    for memory in ("store", "invert"):
        layers = Compose(copy.deepcopy(list(chain)), memory=memory)
        leaf = value.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out, logdet = layers.forward_and_logdet(leaf)
            again, _ = layers.inverse_and_logdet(leaf)  # in one region: no cast weight without a graph may be left over
        (out.square().sum() + logdet.sum() + again.square().sum()).backward()
        found.append(leaf.grad)
    assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


def test_second_derivatives_are_an_error_and_not_zero() -> None:
    chain = shaken(Compose([Coupling(4, hidden=(8,)), Spline(4)], memory="invert"))
    z = torch.randn(5, 4, requires_grad=True)
    _, logdet = chain.forward_and_logdet(z)
    with pytest.raises(ArgumentError, match="first derivatives only: create_graph=True needs memory='store'"):
        torch.autograd.grad(logdet.sum(), z, create_graph=True)
    with pytest.raises(ArgumentError, match="first derivatives only"):
        torch.autograd.functional.hessian(lambda v: chain.forward_and_logdet(v)[1].sum(), torch.randn(2, 4))


def test_weights_that_changed_before_the_backward_pass_are_seen() -> None:
    """The inverse under other weights is another input."""
    chain = shaken(Compose([Coupling(4, hidden=(8,)), Affine(4)], memory="invert"))
    out, logdet = chain.forward_and_logdet(torch.randn(5, 4))
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (out.sum() + logdet.sum()).backward()


class Dropping(nn.Module):
    """Dropout as a function: no module tells of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 4)

    def forward(self, kept: Tensor) -> Tensor:
        return F.dropout(self.layer(kept), 0.5, self.training)


def test_a_network_that_draws_is_refused_when_it_draws() -> None:
    torch.manual_seed(0)
    chain = Compose([Coupling(4, conditioner=Dropping()), Reverse(4)], memory="invert")
    with pytest.raises(ArgumentError, match="draws random numbers.*memory='store'"):
        chain.forward_and_logdet(torch.randn(5, 4))
    chain.eval().forward_and_logdet(torch.randn(5, 4))[1].sum().backward()
