"""Fixed elementwise maps, and those that shape skewness and tails."""

from __future__ import annotations

import torch
from transforms.registry import Case

from probflow.transforms import Compose, Coupling, Elementwise
from probflow.transforms.shaping import Power, SinhArcsinh, SinhArcsinhMap
from probflow.transforms.smooth import Exp, LeakyReLU, LeakyTanh, Logit, SneakyReLU, Softplus, Tanh


def positive(n: int) -> torch.Tensor:
    return torch.rand(n, 3) * 3 + 0.1


CASES = {
    "exp": Case(Exp, stiff=True),
    "log": Case(lambda: Exp().inv, draw=positive, stiff=True),
    "softplus": Case(Softplus),
    "softplus, inverse": Case(lambda: Softplus().inv, draw=positive),
    "Logit": Case(Logit, draw=lambda n: torch.rand(n, 3) * 0.98 + 0.01),
    "tanh": Case(Tanh),
    "tanh, images": Case(Tanh, (2, 3, 4)),
    "artanh": Case(lambda: Tanh().inv, draw=lambda n: torch.rand(n, 3) * 1.98 - 0.99),
    "leaky relu": Case(LeakyReLU),
    "leaky relu 3": Case(lambda: LeakyReLU(3.0), (1,)),
    "sneaky relu": Case(SneakyReLU),
    "sneaky relu 0.01": Case(lambda: SneakyReLU(0.01), (1,)),
    "leaky tanh": Case(LeakyTanh),
    "leaky tanh 1": Case(lambda: LeakyTanh(1.0), (2, 3)),
    "softplus of softplus": Case(lambda: Compose([Softplus(), Exp().inv]), stiff=True),
    "power 3": Case(lambda: Power(3.0), draw=positive),
    "power 0.3": Case(lambda: Power(0.3), draw=positive),
    "power -1": Case(lambda: Power(-1), (1,), draw=lambda n: positive(n)[:, :1]),
    "sinh-arcsinh": Case(lambda: SinhArcsinh(3), identity=True),
    "sinh-arcsinh, 1 feature": Case(lambda: SinhArcsinh(1), (1,), identity=True),
    "sinh-arcsinh | c": Case(lambda: SinhArcsinh(3, context=2), context=(2,), identity=True),
    "sinh-arcsinh, images": Case(lambda: SinhArcsinh((2, 3, 3)), (2, 3, 3), identity=True),
    "sinh-arcsinh of one number": Case(lambda: Elementwise(SinhArcsinhMap(), 1, context=2), (1,), (2,), identity=True),
    "coupling sinh-arcsinh | c": Case(
        lambda: Coupling(4, SinhArcsinhMap(), hidden=(16,), context=2), (4,), (2,), identity=True
    ),
}
