"""Losses of every kind, and data that they refuse: what must be the same compiled as not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import probflow as pf
from probflow import KL, E, Entropy, Loss, Parameter, exp, log

D, H, Z, Y = 6, 5, 3, 4


class Net(nn.Module):
    """A small network with the heads that are asked for."""

    def __init__(self, inputs: int, **heads: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(inputs, H)
        self.heads = nn.ModuleDict({name: nn.Linear(H, size) for name, size in heads.items()})

    def forward(self, *values: Tensor) -> dict[str, Tensor]:
        h = torch.cat(values, 1) if len(values) > 1 else values[0]
        h = self.trunk(h).tanh()
        positive = ("scale", "rate")
        return {name: F.softplus(head(h)) + 0.1 if name in positive else head(h) for name, head in self.heads.items()}


def encoder(statement: str = "q(z | x)", inputs: int = D) -> pf.Distribution:
    return pf.Normal(statement, Net(inputs, loc=Z, scale=Z))


def decoder(statement: str = "p(x | z)", inputs: int = Z) -> pf.Distribution:
    return pf.Bernoulli(statement, Net(inputs, logits=D))


def prior(statement: str = "p(z)", size: int = Z) -> pf.Distribution:
    return pf.Normal(statement, loc=0.0, scale=1.0, features_shape=size)


def vae(shape: Any = ()) -> Loss:
    q, p = encoder(), decoder()
    return (KL(q, prior()) - E(q, shape)[log(p)]).mean()


def cvae() -> Loss:
    q, p = encoder("q(z | x, y)", D + Y), decoder("p(x | z, y)", Z + Y)
    return (Parameter("beta") * KL(q, prior()) - E(q)[log(p)]).mean()


def hierarchical() -> Loss:
    q = pf.Normal("q(w | z)", Net(Z, loc=2, scale=2)) * encoder()
    p = decoder() * pf.Normal("p(z | w)", Net(2, loc=Z, scale=Z)) * prior("p(w)", 2)
    return -pf.ELBO(p, q).mean()


def m2() -> Loss:
    q, p = encoder("q(z | x, y)", D + Y), decoder("p(x | z, y)", Z + Y)
    classifier = pf.Categorical("q(y | x)", Net(D, logits=Y))
    py = pf.Categorical("p(y)", probs=torch.full((Y,), 1 / Y))
    inner = E(q)[log(p) + log(py) + log(prior()) - log(q)]
    return -(E(classifier)[inner] + Entropy(classifier)).mean()


def score(shape: Any = ()) -> Loss:
    q, p = pf.Bernoulli("q(z | x)", Net(D, logits=Z)), decoder()
    return -E(q, shape, estimator="score")[log(p) - log(q)].mean()


def iwae() -> Loss:
    q, p = encoder(), decoder()
    return -log(E(q, [5])[exp(log(p) + log(prior()) - log(q))]).mean()


def flow_prior() -> Loss:
    return -pf.ELBO(decoder() * pf.flows.RealNVP("p(z)", features=Z, layers=2, hidden=(8,)), encoder()).mean()


def flow_posterior() -> Loss:
    q = pf.flows.IAF("q(z | x)", features=Z, context=D, layers=2, hidden=(8,))
    return -pf.ELBO(decoder() * prior(), q).mean()


def mixture() -> Loss:
    components = [pf.Normal("p(x)", loc=nn.Parameter(torch.randn(D)), scale=1.0) for _ in range(3)]
    return -log(pf.MixtureModel(components, pf.Categorical("p(k)", probs=torch.full((3,), 1 / 3)))).mean()


def logistic() -> Loss:
    q = encoder()
    return -pf.ELBO(pf.DiscretizedLogistic("p(x | z)", Net(Z, loc=D, scale=D)) * prior(), q).mean()


def flow() -> Loss:
    return -log(pf.flows.RealNVP("p(x)", features=D, layers=2, hidden=(8,))).mean()


LOSSES: dict[str, Callable[[], Loss]] = {
    "VAE": vae,
    "VAE, 4 samples": lambda: vae([4]),
    "CVAE with a coefficient": cvae,
    "hierarchical": hierarchical,
    "M2": m2,
    "score function": score,
    "score function, 3 samples": lambda: score([3]),
    "IWAE": iwae,
    "flow": flow,
    "flow prior": flow_prior,
    "flow posterior": flow_posterior,
    "mixture": mixture,
    "discretised logistic": logistic,
    "no mean": lambda: KL(encoder(), prior()),
    "no data": lambda: KL(pf.Normal("q(z)", loc=nn.Parameter(torch.zeros(Z)), scale=1.0), prior()).mean(),
}


def batch(size: int) -> dict[str, Any]:
    labels = torch.arange(size) % Y
    return {"x": torch.rand(size, D).round(), "y": F.one_hot(labels, Y).to(torch.get_default_dtype()), "beta": 0.1 * size}


BAD: dict[str, tuple[Callable[[], Loss], Callable[[dict[str, Any]], object]]] = {
    "missing": (vae, lambda v: v.pop("x")),
    "not a tensor": (vae, lambda v: v.update(x=[1.0])),
    "no batch": (vae, lambda v: v.update(x=torch.tensor(1.0))),
    "batch sizes": (cvae, lambda v: v.update(y=v["y"][:3])),
    "width": (vae, lambda v: v.update(x=v["x"][:, :4])),
    "width of the value": (flow, lambda v: v.update(x=v["x"][:, :4])),
    "support": (vae, lambda v: v.update(x=v["x"] + 0.5)),
    "support of pixels": (logistic, lambda v: v.update(x=v["x"] + 0.5)),
    "NaN in the data": (flow, lambda v: v.update(x=v["x"] * float("nan"))),
    "NaN for a network": (vae, lambda v: v.update(x=v["x"] * float("nan"))),
    "a parameter's type": (cvae, lambda v: v.update(beta="1")),
    "a parameter's shape": (cvae, lambda v: v.update(beta=torch.ones(3))),
}
