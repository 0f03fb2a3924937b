r"""A VAE with two layers of latents, p(x|z1) p(z1|z2) p(z2), under two inference models.

    python -m examples.hierarchical_vae --data DIR      # MNIST
    python -m examples.hierarchical_vae                 # the 5,000 digits of the demo extra

Bottom-up, q(z1|x) q(z2|z1), as in Rezende et al., arXiv:1401.4082; top-down, q(z2|x) q(z1|z2,x), the order in which the model
itself generates, as in the ladder VAE (Soenderby et al., arXiv:1602.02282, eq. 4-11, without its sharing of parameters).

What has a closed form differs.  Top-down both divergences do: E_q(z2|x)[KL[q(z1|z2,x) || p(z1|z2)]] and KL[q(z2|x) || p(z2)].
Bottom-up, log q(z1|x) - log p(z1|z2) is no divergence, since z2 is drawn below z1: loss.derive() says what is left.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn import functional as F

import probflow as pf

PIXELS = 784
LOSSES = {
    "bottom-up": "-mean(E_q(z1,z2|x)[log p(x,z1,z2) - log q(z1,z2|x)])",
    "top-down": "-mean(E_q(z2,z1|x)[log p(x,z1,z2) - log q(z2,z1|x)])",
}


def gaussian(inputs: list[int], hidden: int, out: int) -> pf.nn.MLP:
    """A network for the mean and the standard deviation."""
    return pf.nn.MLP(inputs, [hidden, hidden], {"loc": out, "scale": out}, output={"scale": lambda s: F.softplus(s) + 1e-3})


def model(hidden: int, z1: int, z2: int) -> pf.Distribution:
    """p(x,z1,z2)."""
    p_x = pf.Bernoulli("p(x | z1)", pf.nn.MLP(z1, [hidden, hidden], {"logits": PIXELS}))
    p_1 = pf.Normal("p(z1 | z2)", gaussian([z2], hidden, z1))
    p_2 = pf.Normal("p(z2)", loc=0.0, scale=1.0, features_shape=z2)
    return p_x * p_1 * p_2


def bottom_up(hidden: int, z1: int, z2: int) -> pf.losses.Loss:
    """-ELBO with q(z1|x) q(z2|z1)."""
    q_1 = pf.Normal("q(z1 | x)", gaussian([PIXELS], hidden, z1))
    q_2 = pf.Normal("q(z2 | z1)", gaussian([z1], hidden, z2))
    return -pf.ELBO(model(hidden, z1, z2), q_1 * q_2).mean()


def top_down(hidden: int, z1: int, z2: int) -> pf.losses.Loss:
    """-ELBO with q(z2|x) q(z1|z2,x)."""
    q_2 = pf.Normal("q(z2 | x)", gaussian([PIXELS], hidden, z2))
    q_1 = pf.Normal("q(z1 | z2, x)", gaussian([z2, PIXELS], hidden, z1))
    return -pf.ELBO(model(hidden, z1, z2), q_2 * q_1).mean()


BUILD = {"bottom-up": bottom_up, "top-down": top_down}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains both; prints losses, derivations and -ELBO of test digits in nats."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="a folder with MNIST; without it, the 5,000 digits of the demo extra")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--z1", type=int, default=32)
    parser.add_argument("--z2", type=int, default=8)
    parser.add_argument("--n", type=int, default=None, help="how many training digits; all of them by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    split = pf.data.load_digits() if options.data is None else pf.data.load_mnist(options.data)
    fixed = torch.Generator().manual_seed(0)
    x, test = split.train["x"][: options.n], torch.bernoulli(split.test["x"], generator=fixed)
    reached = {}
    for name, build in BUILD.items():
        torch.manual_seed(options.seed)
        loss = build(options.hidden, options.z1, options.z2)
        print(f"{name}: {loss}\n{loss.derive()}", flush=True)
        trained = pf.Model(loss)
        for _ in range(options.epochs):
            for batch in pf.data.Batches({"x": x}, options.batch_size):
                trained.train({"x": torch.bernoulli(batch["x"])})  # pixels are probabilities, drawn anew
        reached[name] = float(trained.test({"x": test}))
        print(f"{name}: -ELBO of the test digits {reached[name]:.2f} nats after {options.epochs} epochs\n", flush=True)
    return reached


if __name__ == "__main__":
    main()
