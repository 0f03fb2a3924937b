"""A training step of a VAE: forward, backward, Adam."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import peers
from benchmarks.networks import LARGE, LARGE_LABELLED, LEARNING_RATE, SMALL, Parts, Size
from benchmarks.timing import Contestant, Workload, same_losses
from probflow.distributions import Bernoulli, Normal
from probflow.losses import KL, E, Loss, log
from probflow.models import Model


def by_hand(parts: Parts) -> Contestant:
    """As it is written without a library: one sum over everything, no intermediate per element of the batch."""
    optimizer = torch.optim.Adam(parts.parameters, lr=LEARNING_RATE)
    encoder, decoder, x, given, batch = parts.encoder, parts.decoder, parts.x, parts.given, parts.size.batch

    def step() -> Tensor:
        q = encoder(x, *given)
        loc, scale = q["loc"], q["scale"]
        z = loc + scale * torch.randn_like(scale)
        reconstruction = F.binary_cross_entropy_with_logits(decoder(z, *given)["logits"], x, reduction="sum")
        divergence = 0.5 * (loc.square() + scale.square() - 1 - 2 * scale.log()).sum()
        loss = (reconstruction + divergence) / batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Contestant("hand", step)


def _loss(parts: Parts) -> Loss:
    bar = ", y" if parts.size.label else ""
    q = Normal(f"q(z | x{bar})", parts.encoder)
    p = Bernoulli(f"p(x | z{bar})", parts.decoder)
    prior = Normal("p(z)", loc=0.0, scale=1.0, features_shape=parts.size.latent)
    return (KL(q, prior) - E(q)[log(p)]).mean()


def by_loss(parts: Parts) -> Contestant:
    """probflow's loss, with the same optimizer and the same three lines around it as the hand-written program."""
    loss, values = _loss(parts), parts.values
    optimizer = torch.optim.Adam(parts.parameters, lr=LEARNING_RATE)

    def step() -> Tensor:
        value = loss.eval(values)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return Contestant("probflow", step)


def by_model(parts: Parts) -> Contestant:
    """probflow's `Model` as it sets itself up."""
    model = Model(_loss(parts), optimizer_params={"lr": LEARNING_RATE})
    return Contestant("Model", partial(model.train, parts.values))


def by_pixyz(parts: Parts) -> Contestant | None:
    """Pixyz, with its own Model."""
    pixyz = peers.pixyz()
    if pixyz is None:
        return None
    bar = ["y"] if parts.size.label else []

    class Inference(pixyz.distributions.Normal):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__(var=["z"], cond_var=["x", *bar], name="q")
            self.net = parts.encoder

        def forward(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
            return self.net(x, y)

    class Generator(pixyz.distributions.Bernoulli):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__(var=["x"], cond_var=["z", *bar], name="p")
            self.net = parts.decoder

        def forward(self, z: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
            return {"probs": self.net(z, y)["logits"].sigmoid()}  # it has no logits

    p, q = Generator(), Inference()
    prior = pixyz.distributions.Normal(
        loc=torch.tensor(0.0), scale=torch.tensor(1.0), var=["z"], features_shape=[parts.size.latent], name="p_{prior}"
    )
    loss = (pixyz.losses.KullbackLeibler(q, prior) - p.log_prob().expectation(q)).mean()
    model = pixyz.models.Model(
        loss=loss, distributions=[p, q], optimizer=torch.optim.Adam, optimizer_params={"lr": LEARNING_RATE}
    )
    values = parts.values
    return Contestant("Pixyz", partial(model.train, values), pixyz.checked, partial(parts.new_objects, values))


def by_pyro(parts: Parts) -> Contestant | None:
    """Pyro, with the closed form of the divergence, as its VAE tutorial writes it."""
    modules = peers.pyro()
    if modules is None:
        return None
    pyro, dist, infer = modules.pyro, modules.distributions, modules.infer
    size, given = parts.size, parts.given

    def model(x: Tensor) -> None:
        pyro.module("decoder", parts.decoder)
        with pyro.plate("data", size.batch):
            z = pyro.sample("z", dist.Normal(x.new_zeros(size.batch, size.latent), x.new_ones(())).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=parts.decoder(z, *given)["logits"]).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", parts.encoder)
        with pyro.plate("data", size.batch):
            q = parts.encoder(x, *given)
            pyro.sample("z", dist.Normal(q["loc"], q["scale"]).to_event(1))

    pyro.clear_param_store()
    svi = infer.SVI(model, guide, modules.optim.Adam({"lr": LEARNING_RATE}), loss=infer.TraceMeanField_ELBO())

    def step() -> Tensor:
        return torch.tensor(svi.step(parts.x) / size.batch)  # Pyro sums over the batch; Adam does not mind

    return Contestant("Pyro", step, modules.checked)


PROGRAMS = (by_hand, by_loss, by_model, by_pixyz, by_pyro)


def contestants(size: Size) -> list[Contestant]:
    """All that are installed, each with its own copy of the same weights."""
    parts = Parts.make(size)
    made = [program(parts.copy()) for program in PROGRAMS]
    return [contestant for contestant in made if contestant is not None]


WORKLOADS = (
    Workload(
        "vae",
        "VAE 784-512-512-64, batch 128, train step",
        partial(contestants, LARGE),
        same_losses,
        steps=200,
        targets={"probflow": 1.03, "Model": 0.95},
    ),
    Workload(
        "cvae",
        "CVAE, the same with 10 label inputs",
        partial(contestants, LARGE_LABELLED),
        same_losses,
        steps=200,
        targets={"probflow": 1.03, "Model": 0.95},
    ),
    Workload(
        "small",
        "small VAE 16-32-4, batch 32, train step",
        partial(contestants, SMALL),
        same_losses,
        steps=2000,
        targets={"probflow": 1.10},
        overhead={"probflow": 50.0},
    ),
)
