r"""A Gaussian mixture, p(x) = sum_k p(z = k) p(x | z = k), fitted twice: by gradient on -log p(x), and by EM.

    python -m examples.gaussian_mixture

z is summed out exactly in both.  EM (Dempster, Laird & Rubin 1977; Bishop, *Pattern Recognition and Machine Learning*, section
9.2.2, eq. 9.22-9.27) takes its responsibilities from ``posterior("z")`` and solves the M step in closed form.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import probflow as pf
from probflow import log

LOSS = "-mean(log p(x))"
BOUND = "mean(E_p(z|x)[log p(x,z) - log p(z|x)])"


class Emission(pf.Normal):
    """p(x|z): a mean and a standard deviation for every one-hot z."""

    def __init__(self, means: Tensor) -> None:
        super().__init__("p(x | z)")
        self.means, self.raw = nn.Parameter(means.clone()), nn.Parameter(torch.zeros_like(means))

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"loc": z @ self.means, "scale": z @ F.softplus(self.raw)}


def mixture(means: Tensor) -> pf.Distribution:
    """p(x,z), starting at these means."""
    return Emission(means) * pf.Categorical("p(z)", logits=nn.Parameter(torch.zeros(len(means))))


def by_gradient(joint: pf.Distribution, x: Tensor, steps: int) -> float:
    """log p(x), averaged over the data, after `steps` of Adam on its negative."""
    loss = -log(joint.marginalize_var("z")).mean()
    print("gradient minimises", loss)
    model = pf.Model(loss, optimizer_params={"lr": 0.05})
    for _ in range(steps):
        model.train({"x": x})
    return -float(model.test({"x": x}))


@torch.no_grad()
def by_em(joint: pf.Distribution, x: Tensor, steps: int) -> list[float]:
    """log p(x), averaged over the data, before every step of EM and after the last; it never falls."""
    emission, prior = joint.factors
    posterior = joint.posterior("z")
    bound = pf.ELBO(joint, posterior).mean()  # at the exact posterior the bound is log p(x)
    print("EM maximises", bound)
    reached = [float(bound.eval({"x": x}))]
    for _ in range(steps):
        r = posterior.mean({"x": x})  # E step: the responsibilities p(z = k | x), eq. 9.23
        count = r.sum(0)[:, None]  # M step: eq. 9.24-9.27, with a diagonal covariance
        means = r.T @ x / count
        scales = (r.T @ x.square() / count - means.square()).clamp_min(1e-8).sqrt()
        emission.get_parameter("means").copy_(means)
        emission.get_parameter("raw").copy_(scales + torch.log(-torch.expm1(-scales)))  # the inverse of softplus
        prior.get_parameter("logits").copy_((count[:, 0] / len(x)).log())
        reached.append(float(bound.eval({"x": x})))
    return reached


def far_apart(x: Tensor, k: int) -> Tensor:
    """k rows of x, each the farthest from those before it."""
    rows = x[:1]
    while len(rows) < k:
        rows = torch.cat([rows, x[torch.cdist(x, rows).amin(1).argmax()][None]])
    return rows


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Fits both from the same start, and prints what they reach."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=2000, help="number of points, of eight Gaussians on an octagon")
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--steps", type=int, default=500, help="steps of Adam")
    parser.add_argument("--em-steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    x = pf.data.toy("eight_gaussians", options.n, options.seed)["x"]
    start = far_apart(x, options.components)
    reached = {
        "gradient": by_gradient(mixture(start), x, options.steps),
        "em": by_em(mixture(start), x, options.em_steps)[-1],
    }
    print("log p(x) per point:", ", ".join(f"{name} {value:.4f}" for name, value in reached.items()), "nats")
    return reached


if __name__ == "__main__":
    main()
