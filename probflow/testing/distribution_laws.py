"""The laws of distributions, one function each."""

from __future__ import annotations

import copy
import io
import pickle
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from probflow.distributions import Distribution, Samples
from probflow.testing.report import Outcome, require, require_close


@dataclass(frozen=True)
class Subject:
    """A distribution and where to test it, in float64."""

    p: Distribution
    given: dict[str, Tensor]
    rows: int
    draws: int
    tolerance: float
    exempt: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.p.statement} ({type(self.p).__name__})"

    def sample(self, rows: int, shape: tuple[int, ...] = (), reparam: bool = False) -> Samples:
        """A draw for the first `rows` rows."""
        given = {name: value[:rows] for name, value in self.given.items()}
        return self.p.sample(given, batch_n=None if given else rows, sample_shape=shape, reparam=reparam)

    @cached_property
    def many(self) -> Tensor:
        """Draws for row 0, flattened: ``(N, numbers in the event)``."""
        drawn = self.sample(1, (self.draws,))
        return torch.cat([drawn[name].reshape(self.draws, -1).double() for name in self.p.var], 1)

    @property
    def discrete(self) -> bool:
        """Whether a number repeats: continuous ones do not."""
        return any(len(column.unique()) < self.draws / 2 for column in self.many.unbind(1))

    def log_density(self, points: Tensor) -> Tensor:
        """log p at flat points of row 0: (G,)."""
        (name,) = self.p.var
        event = self.sample(1)[name].shape[1:]
        values = {**{n: v[:1] for n, v in self.given.items()}, name: points.reshape(-1, 1, *event)}
        with torch.no_grad():
            return self.p.log_prob(Samples(values, {name: 1}))[:, 0]


def shapes(subject: Subject) -> Outcome:
    """A draw has the batch in front, its log-density is one finite number for each row."""
    p, n = subject.p, subject.rows
    drawn = subject.sample(n)
    require(
        set(drawn) == set(p.var) | set(subject.given) and all(len(drawn[name]) == n for name in p.var),
        lambda: (
            f"{subject} breaks the law 'shapes': a draw of {n} rows has { ({k: tuple(v.shape) for k, v in drawn.items()}) }."
        ),
    )
    log_p = p.log_prob(drawn)
    require(
        tuple(log_p.shape) == (n,),
        lambda: (
            f"{subject} breaks the law 'shapes': log_prob has shape {tuple(log_p.shape)}, expected ({n},).\nSum it over the event."
        ),
    )
    require(
        bool(log_p.isfinite().all()), lambda: f"{subject} breaks the law 'shapes': its own draw has a log-density of {log_p}."
    )
    return Outcome(", ".join(f"{name} {tuple(drawn[name].shape)}" for name in p.var))


def sample_dimensions(subject: Subject) -> Outcome:
    """Samples in front of the batch: every slice is what it is alone."""
    p, n = subject.p, subject.rows
    plain, drawn = subject.sample(n), subject.sample(n, (2, 3))
    for name in p.var:
        wanted = (2, 3, *plain[name].shape)
        require(
            tuple(drawn[name].shape) == wanted,
            lambda name=name, wanted=wanted: (  # type: ignore[misc]
                f"{subject} breaks the law 'sample dimensions': sample_shape=(2, 3) draws {name} {tuple(drawn[name].shape)}, expected {wanted}."
            ),
        )
    whole = p.log_prob(drawn)
    for i, k in ((0, 0), (1, 2)):
        alone = p.log_prob({**subject.given, **{name: drawn[name][i, k] for name in p.var}}, sample_dims=0)
        said = ("log_prob of samples has the slice", "log_prob of the slice alone")
        require(tuple(whole.shape) == (2, 3, n), lambda: f"{subject} breaks the law 'sample dimensions': log_prob has shape "
                f"{tuple(whole.shape)}, expected (2, 3, {n}).")  # fmt: skip
        require_close(subject, "sample dimensions", whole[i, k], alone, 1e-7, 1e-7, said)
    return Outcome(f"(2, 3, {n})")


def rows(subject: Subject) -> Outcome:
    """The log-density of a row is what it is alone; rows with the same conditions are drawn apart."""
    p, n = subject.p, subject.rows
    drawn = subject.sample(n)
    whole = p.log_prob(drawn)
    for i in range(n):
        alone = p.log_prob({name: value[i : i + 1] for name, value in drawn.items()}, sample_dims=0)
        require_close(subject, "rows", whole[i : i + 1], alone, 1e-7, 1e-7, (f"row {i} of a batch has log_prob", "alone"))
    same = {name: value[:1].expand(64, *value.shape[1:]) for name, value in subject.given.items()}
    block = p.sample(same, batch_n=None if same else 64)
    spread = len(torch.cat([block[name].reshape(64, -1).double() for name in p.var], 1).unique(dim=0))
    if len(subject.many.unique(dim=0)) > 1:
        require(spread > 1, lambda: f"{subject} breaks the law 'rows': all rows of a batch get the same draw.")
    return Outcome("a row changes no other")


def batches(subject: Subject) -> Outcome:
    """A batch of none and a batch of one."""
    for n in (0, 1):
        drawn = subject.sample(n)
        log_p = subject.p.log_prob(drawn)
        fits = all(len(drawn[name]) == n for name in subject.p.var) and tuple(log_p.shape) == (n,)
        require(fits, lambda n=n: f"{subject} breaks the law 'batches': a batch of {n} is not one.")  # type: ignore[misc]
    return Outcome("of none and of one")


def dtype(subject: Subject) -> Outcome:
    """In float32 draws and densities are float32."""
    p = copy.deepcopy(subject.p).float()
    given = {name: value.float() if value.is_floating_point() else value for name, value in subject.given.items()}
    drawn = p.sample(given, batch_n=None if given else subject.rows)
    kinds = {name: drawn[name].dtype for name in p.var if drawn[name].is_floating_point()} | {
        "log_prob": p.log_prob(drawn).dtype
    }
    require(
        all(kind == torch.float32 for kind in kinds.values()),
        lambda: f"{subject} breaks the law 'dtype': in float32, {', '.join(f'{n} is {k}' for n, k in kinds.items())}.",
    )
    return Outcome("float32, float64")


def copies(subject: Subject) -> Outcome:
    """deepcopy, pickle and state_dict keep the density."""
    p = subject.p
    drawn = subject.sample(subject.rows)
    with torch.no_grad():
        expected = p.log_prob(drawn)
        said = "the original"
        require_close(subject, "copies", copy.deepcopy(p).log_prob(drawn), expected, 1e-12, 1e-12, ("a deepcopy gives", said))
        other = copy.deepcopy(p)
        for weight in other.parameters():
            weight.mul_(1.1)
        buffer = io.BytesIO()
        torch.save(p.state_dict(), buffer)
        buffer.seek(0)
        other.load_state_dict(torch.load(buffer, weights_only=True))
        require_close(
            subject, "copies", other.log_prob(drawn), expected, 1e-12, 1e-12, ("with its state_dict loaded it gives", said)
        )
        again = pickle.loads(pickle.dumps(p)).log_prob(drawn)
        require_close(subject, "copies", again, expected, 1e-12, 1e-12, ("pickled and read back it gives", said))
    return Outcome("deepcopy, pickle, state_dict")
