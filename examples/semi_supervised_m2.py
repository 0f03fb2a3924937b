r"""Semi-supervised M2: 100 labelled digits, the others without labels (Kingma et al., arXiv:1406.5298, eq. 6-9).

    python -m examples.semi_supervised_m2 --data DIR --seeds 3      # MNIST: 100 labels, 59,000 images without
    python -m examples.semi_supervised_m2                           # the 5,000 digits of the demo extra

The bound of a labelled image is eq. 6; without its label y is a latent variable, whose ten values are summed exactly (eq. 7).
The classifier q(y|x) learns from both, and is compared with the same network trained on the 100 labels alone.  Options are chosen by
the accuracy on training images that are held out; their labels are used for nothing else, and the test images for no choice.
"""

from __future__ import annotations

import argparse
import time

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
    """J^alpha of eq. 8 and 9, every sum over data a mean; images without a label are called x_u, and have a batch of their own."""
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


def held_out(data: dict[str, Tensor], count: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The data without `count` of its images, and these; the same ones for every seed."""
    order = torch.randperm(len(data["y"]), generator=torch.Generator().manual_seed(0))
    rest, held = order[count:], order[:count]
    return {name: tensor[rest] for name, tensor in data.items()}, {name: tensor[held] for name, tensor in data.items()}


def drawn(pixels: Tensor) -> Tensor:
    """Grey values are probabilities; pixels are drawn anew whenever an image is seen."""
    return torch.bernoulli(pixels)


@torch.no_grad()
def accuracy(q_y: pf.Distribution, data: dict[str, Tensor]) -> float:
    """The fraction of images whose most probable label is right."""
    return float((q_y.mean({"x": data["x"]}).argmax(1) == data["y"]).float().mean())


def run(
    train: dict[str, Tensor], parts: dict[str, dict[str, Tensor]], options: argparse.Namespace, seed: int
) -> list[list[float]]:
    """Accuracies on each of the `parts`: of the classifier trained on the labels alone, and of M2's."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rows = few_labels(train["y"], options.labels, generator)
    labelled = {"x": train["x"][rows], "y": F.one_hot(train["y"][rows], CLASSES).to(torch.get_default_dtype())}
    alone = classifier(options.hidden)
    model = pf.Model(-log(alone).mean())
    for _ in range(options.alone_steps):
        model.train({**labelled, "x": drawn(labelled["x"])})
    q_y = classifier(options.hidden)
    loss = m2(q_y, options.hidden, options.z)
    if seed == 0:
        print(loss, flush=True)
    model = pf.Model(loss, optimizer_params={"lr": options.lr})
    batches = pf.data.ZipBatches(
        pf.data.Batches({**labelled, "alpha": options.alpha}, options.labelled_batch or len(rows), generator=generator),
        pf.data.Batches({"x_u": train["x"]}, options.batch_size, drop_last=True, generator=generator),
    )
    start = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        for batch in batches:
            model.train({**batch, "x": drawn(batch["x"]), "x_u": drawn(batch["x_u"])})
        shown = f"{accuracy(q_y, parts['validation']):.4f}, " if "validation" in parts else ""
        print(f"seed {seed}, epoch {epoch}: {shown}{time.perf_counter() - start:.0f} s", flush=True)
    return [[accuracy(alone, part), accuracy(q_y, part)] for part in parts.values()]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains with several seeds, and prints the mean accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="a folder with MNIST; without it, the 5,000 digits of the demo extra")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--epochs", type=int, help="4 with --data, else 60: about as many steps")
    parser.add_argument("--batch-size", type=int, default=50, help="images without a label in a batch")
    parser.add_argument("--labelled-batch", type=int, help="images with a label in a batch; all of them unless given")
    parser.add_argument("--validation", type=int, default=1000, help="training images held out, to choose these options by")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--z", type=int, default=8)
    parser.add_argument("--alpha", type=float, default=300.0, help="weight of the classifier's own term, eq. 9")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--alone-steps", type=int, default=300, help="steps of the classifier that has the labels alone")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args(arguments)
    split = pf.data.load_digits() if options.data is None else pf.data.load_mnist(options.data)
    if options.epochs is None:
        options.epochs = 60 if options.data is None else 4
    train, held = held_out(split.train, options.validation)
    parts = {"validation": held, "test": split.test} if options.validation else {"test": split.test}
    reached = torch.tensor([run(train, parts, options, seed) for seed in range(options.seeds)]).mean(0).tolist()
    for part, (alone, semi) in zip(parts, reached, strict=True):
        print(f"{part} accuracy with {options.labels} labels, mean of {options.seeds} seeds: alone {alone:.4f}, M2 {semi:.4f}")
    return {
        f"{part} {name}": value
        for part, row in zip(parts, reached, strict=True)
        for name, value in zip(("alone", "m2"), row, strict=True)
    }


if __name__ == "__main__":
    main()
