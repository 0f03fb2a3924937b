"""The two conditional VAEs of ``probflow demo cvae``: an image from a digit, and a digit from an image.

Source: Kingma, Rezende, Mohamed & Welling, arXiv:1406.5298 (M2's labelled bound, with the label given), for `generate`;
Sohn, Lee & Yan, Learning structured output representation using deep conditional generative models (2015), eq. 4, for `predict`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch.nn.functional import softplus

from probflow.distributions import Bernoulli, Categorical, Distribution, Normal
from probflow.losses import KL, E, Loss, log
from probflow.nn import MLP


class CVAE(NamedTuple):
    """Decoder, encoder and prior, and the loss that trains them: the negative evidence lower bound in nats."""

    p: Distribution
    q: Distribution
    prior: Distribution
    loss: Loss


def generate(x_dim: int, y_dim: int, z_dim: int, hidden: Sequence[int]) -> CVAE:
    """Model 1, p(x|z,y): an image from a style z and a digit y."""
    q = Normal("q(z | x, y)", gaussian([x_dim, y_dim], z_dim, hidden))
    p = Bernoulli("p(x | z, y)", MLP([z_dim, y_dim], hidden, {"logits": x_dim}))
    prior = Normal("p(z)", loc=0.0, scale=1.0, features_shape=z_dim)
    return CVAE(p, q, prior, (KL(q, prior) - E(q)[log(p)]).mean())


def predict(x_dim: int, y_dim: int, z_dim: int, hidden: Sequence[int]) -> CVAE:
    """Model 2, p(y|x,z): a digit from an image x; z, with a prior p(z|x) of its own, holds what the image leaves open."""
    q = Normal("q(z | x, y)", gaussian([x_dim, y_dim], z_dim, hidden))
    p = Categorical("p(y | x, z)", MLP([x_dim, z_dim], hidden, {"logits": y_dim}))
    prior = Normal("p(z | x)", gaussian([x_dim], z_dim, hidden))
    return CVAE(p, q, prior, (KL(q, prior) - E(q)[log(p)]).mean())


def gaussian(in_features: Sequence[int], z_dim: int, hidden: Sequence[int]) -> MLP:
    """A network for the mean and the standard deviation of z."""
    return MLP(in_features, hidden, {"loc": z_dim, "scale": z_dim}, output={"scale": softplus})
