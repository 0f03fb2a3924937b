r"""Semi-supervised M2: 100 labelled digits, the others without labels (Kingma et al., arXiv:1406.5298, eq. 6-9).

    python -m examples.semi_supervised_m2 --data DIR --seeds 3      # MNIST: 100 labels, 60,000 images without
    python -m examples.semi_supervised_m2                           # the 5,000 digits of the demo extra

The bound of a labelled image is eq. 6; without its label y is a latent variable, whose ten values are summed exactly (eq. 7).
The classifier q(y|x) learns from both, and is compared with the same network trained on the 100 labels alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

import probflow as pf
from probflow import E, Entropy, log
from probflow.losses import Loss

CLASSES, PIXELS = 10, 784
LOSS = (
    "mean(-E_q(z|x,y)[log p(x|y,z) + log p(y) + log p(z) - log q(z|x,y)])"
    " + mean(E_q(y_u|x_u)[-E_q(z_u|x_u,y_u)[log p(x_u|y_u,z_u) + log p(y_u) + log p(z_u) - log q(z_u|x_u,y_u)]] - H[q(y_u|x_u)])"
    " - alpha * mean(log q(y|x))"
)


def classifier(hidden: int) -> pf.Categorical:
    """q(y|x), the network whose accuracy is measured."""
    return pf.Categorical("q(y | x)", pf.nn.MLP(PIXELS, [hidden, hidden], {"logits": CLASSES}))


def labelled_bound(p: pf.Distribution, p_y: pf.Distribution, p_z: pf.Distribution, q_z: pf.Distribution) -> Loss:
    """L(x, y) >= -log p(x,y), eq. 6."""
    return -E(q_z)[log(p) + log(p_y) + log(p_z) - log(q_z)]


def m2(q_y: pf.Distribution, hidden: int, z: int) -> Loss:
    """J^alpha of eq. 8 and 9, every sum over data a mean; images without a label are called x_u."""
    p = pf.Bernoulli("p(x | y, z)", pf.nn.MLP([CLASSES, z], [hidden, hidden], {"logits": PIXELS}))
    p_y = pf.Categorical("p(y)", probs=torch.full((CLASSES,), 1 / CLASSES))
    p_z = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=z)
    encoder = pf.nn.MLP([PIXELS, CLASSES], [hidden], {"loc": z, "scale": z}, output={"scale": F.softplus})
    q_z = pf.Normal("q(z | x, y)", encoder)
    p_u, p_y_u, p_z_u, q_z_u, q_y_u = (
        each.replace_var({name: name + "_u" for name in each.var + each.cond_var}) for each in (p, p_y, p_z, q_z, q_y)
    )
    labelled = labelled_bound(p, p_y, p_z, q_z)
    unlabelled = E(q_y_u)[labelled_bound(p_u, p_y_u, p_z_u, q_z_u)] - Entropy(q_y_u)  # U(x), eq. 7: an exact sum over y
    return labelled.mean() + unlabelled.mean() - pf.Parameter("alpha") * log(q_y).mean()


# ---------------------------------------------------------------------- data, training, accuracy


def few_labels(y: Tensor, labels: int, generator: torch.Generator) -> Tensor:
    """The rows of `labels` images, the same number of every class."""
    order = torch.randperm(len(y), generator=generator)
    return torch.cat([order[y[order] == c][: labels // CLASSES] for c in range(CLASSES)])


def batches(x: Tensor, labelled: dict[str, Tensor], size: int, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """One epoch of the images without labels, each batch with as many labelled ones, drawn with replacement.

    Grey values are probabilities; pixels are drawn anew whenever an image is seen.
    """
    for batch in pf.data.Batches({"x": x}, size, drop_last=True, generator=generator):
        rows = torch.randint(len(labelled["y"]), (size,), generator=generator)
        yield {"x": torch.bernoulli(labelled["x"][rows]), "y": labelled["y"][rows], "x_u": torch.bernoulli(batch["x"])}


@torch.no_grad()
def accuracy(q_y: pf.Distribution, test: dict[str, Tensor]) -> float:
    """The fraction of test images whose most probable label is right."""
    return float((q_y.mean({"x": test["x"]}).argmax(1) == test["y"]).float().mean())


def run(split: pf.data.Split, options: argparse.Namespace, seed: int) -> tuple[float, float]:
    """Test accuracies of the classifier trained on the labels alone, and of M2's."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rows = few_labels(split.train["y"], options.labels, generator)
    labelled = {"x": split.train["x"][rows], "y": F.one_hot(split.train["y"][rows], CLASSES).to(torch.get_default_dtype())}
    alone = classifier(options.hidden)
    model = pf.Model(-log(alone).mean())
    for _ in range(options.alone_steps):
        model.train({"x": torch.bernoulli(labelled["x"]), "y": labelled["y"]})
    q_y = classifier(options.hidden)
    loss = m2(q_y, options.hidden, options.z)
    if seed == 0:
        print(loss, flush=True)
    model = pf.Model(loss, optimizer_params={"lr": options.lr})
    start = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        for batch in batches(split.train["x"], labelled, options.batch_size, generator):
            model.train({**batch, "alpha": options.alpha})
        shown = f"{accuracy(q_y, split.test):.4f}, {time.perf_counter() - start:.0f} s"
        print(f"seed {seed}, epoch {epoch}: accuracy {shown}", flush=True)
    return accuracy(alone, split.test), accuracy(q_y, split.test)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains with several seeds, and prints the mean accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="a folder with MNIST; without it, the 5,000 digits of the demo extra")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--epochs", type=int, help="4 with --data, else 60: about as many steps")
    parser.add_argument("--batch-size", type=int, default=50, help="images with, and as many without a label")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--z", type=int, default=8)
    parser.add_argument("--alpha", type=float, default=100.0, help="weight of the classifier's own term, eq. 9")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--alone-steps", type=int, default=300, help="steps of the classifier that has the labels alone")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args(arguments)
    split = pf.data.load_digits() if options.data is None else pf.data.load_mnist(options.data)
    if options.epochs is None:
        options.epochs = 60 if options.data is None else 4
    reached = torch.tensor([run(split, options, seed) for seed in range(options.seeds)])
    alone, semi = reached.mean(0).tolist()
    print(f"test accuracy with {options.labels} labels, mean of {options.seeds} seeds: alone {alone:.4f}, M2 {semi:.4f}")
    return {"alone": alone, "m2": semi}


if __name__ == "__main__":
    main()
