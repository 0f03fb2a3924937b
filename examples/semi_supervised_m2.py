r"""Semi-supervised M2: 100 labelled digits, the others without labels (Kingma et al., arXiv:1406.5298, eq. 6-9).

    python -m examples.semi_supervised_m2 --data DIR      # MNIST, 60,000 images of which 100 are labelled
    python -m examples.semi_supervised_m2                 # the 5,000 digits of the demo extra

The bound of a labelled image is eq. 6; without its label, y is a latent variable whose ten values are summed exactly (eq. 7);
the classifier q(y|x) also learns from the 100 labels (eq. 9).  It is compared with the same network trained on them alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import probflow as pf
from probflow import E, Entropy, log

CLASSES, PIXELS = 10, 784

LABELLED = "-E_q(z|x,y)[log p(x|y,z) + log p(y) + log p(z) - log q(z|x,y)]"
UNLABELLED = "E_q(y_u|x_u)[-E_q(z_u|x_u,y_u)[log p(x_u|y_u,z_u) + log p(y_u) + log p(z_u) - log q(z_u|x_u,y_u)]] - H[q(y_u|x_u)]"


def classifier(hidden: int) -> pf.Categorical:
    """q(y|x), the network that is measured."""
    return pf.Categorical("q(y | x)", pf.nn.MLP(PIXELS, [hidden, hidden], {"logits": CLASSES}))


def m2(q_y: pf.Categorical, hidden: int = 256, z: int = 32, alpha: float = 100.0) -> pf.losses.Loss:
    """J^alpha of eq. 9, with every expectation over data a mean."""
    p = pf.Bernoulli("p(x | y, z)", pf.nn.MLP([CLASSES, z], [hidden], {"logits": PIXELS}))
    p_y = pf.Categorical("p(y)", probs=torch.full((CLASSES,), 1 / CLASSES))
    p_z = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=z)
    q_z = pf.Normal("q(z | x, y)", pf.nn.MLP([PIXELS, CLASSES], [hidden], {"loc": z, "scale": z}, output={"scale": F.softplus}))

    def bound(u: dict[str, str]) -> pf.losses.Loss:  # eq. 6: L(x, y)
        a, b, c, q = (d.replace_var({n: u[n] for n in u if n in d.var + d.cond_var}) for d in (p, p_y, p_z, q_z))
        return -E(q)[log(a) + log(b) + log(c) - log(q)]

    u = {name: name + "_u" for name in "xyz"}
    q_u = q_y.replace_var(x="x_u", y="y_u")
    labelled = bound({})  # eq. 6
    unlabelled = E(q_u)[bound(u)] - Entropy(q_u)  # eq. 7: U(x) = sum_y q(y|x) L(x, y) - H(q(y|x))
    return labelled.mean() + unlabelled.mean() - alpha * log(q_y).mean()  # eq. 8 and 9
