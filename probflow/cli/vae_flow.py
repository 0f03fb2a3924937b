"""The VAEs of ``probflow demo vae-flow``: flows as the prior and as the posterior.  From one to the next, one line changes.

Sources: Kingma & Welling, arXiv:1312.6114, for the bound; Rezende & Mohamed, arXiv:1505.05770 (planar), Kingma et al.,
arXiv:1606.04934 (IAF), van den Berg et al., arXiv:1803.05649 (Sylvester), for posteriors; Chen et al., arXiv:1611.02731, for a
flow as the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch.nn.functional import softplus

from probflow.distributions import Bernoulli, Distribution, Factor, Normal
from probflow.flows import IAF, NSF, Planar, RealNVP, Sylvester
from probflow.losses import KL, E, Loss, log
from probflow.nn import MLP

CONTEXT = 32  # what the layers of a posterior get to know of x

PRIORS: dict[str, Callable[[int], Distribution]] = {
    "normal": lambda z_dim: Normal("p(z)", loc=0.0, scale=1.0, features_shape=z_dim),
    "nsf": lambda z_dim: NSF("p(z)", features=z_dim, layers=4, hidden=(64, 64), mixing="lu"),
    "realnvp": lambda z_dim: RealNVP("p(z)", features=z_dim, layers=8, hidden=(64, 64)),
}
"""Name -> p(z), given the dimensions of z."""

POSTERIORS: dict[str, Callable[[int, Factor, tuple[MLP, int]], Distribution]] = {
    "iaf": lambda z_dim, base, context: IAF("q(z | x)", z_dim, layers=2, hidden=(64,), base=base, context=context),
    "planar": lambda z_dim, base, context: Planar("q(z | x)", z_dim, layers=4, base=base, context=context),
    "sylvester": lambda z_dim, base, context: Sylvester("q(z | x)", z_dim, layers=2, base=base, context=context),
}
"""Name -> q(z | x), given the dimensions of z, a Normal q(z_0 | x) to start from, and a network that tells the layers of x."""


class VAE(NamedTuple):
    """Decoder, encoder and prior, and the loss that trains them: the negative evidence lower bound in nats."""

    p: Distribution
    q: Distribution
    prior: Distribution
    loss: Loss


def build(x_dim: int, z_dim: int, hidden: Sequence[int], prior: str, posterior: str) -> VAE:
    """p(x|z) p(z) with q(z|x); the equation is the same for all of them."""
    p_x = Bernoulli("p(x | z)", MLP([z_dim], hidden, {"logits": x_dim}))
    p_z = PRIORS[prior](z_dim)
    if posterior == "normal":
        q: Distribution = Normal("q(z | x)", gaussian(x_dim, z_dim, hidden))
    else:
        start = Normal("q(z_0 | x)", gaussian(x_dim, z_dim, hidden))
        q = POSTERIORS[posterior](z_dim, start, (MLP([x_dim], hidden[:1], CONTEXT), CONTEXT))
    return VAE(p_x, q, p_z, (KL(q, p_z) - E(q)[log(p_x)]).mean())


def gaussian(x_dim: int, z_dim: int, hidden: Sequence[int]) -> MLP:
    """A network for the mean and the standard deviation of z."""
    return MLP([x_dim], hidden, {"loc": z_dim, "scale": z_dim}, output={"scale": softplus})
