"""A factor with its conditioning variables filled in: p(· | z = 0.3).  Tensors only; it lives for one evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.domains import Domain
from probflow.errors import NoClosedForm, NoDensity, NoSampler
from probflow.graph import Statement


class Bound(ABC):
    """What a factor becomes once its inputs are known.

    Values go in and out by position, in the order of the factor's statement; a renamed copy therefore shares all of it.
    Leading (sample) dimensions are aligned from the batch outwards: a tensor with fewer of them is broadcast.

    A distribution of your own, beyond the families, is a :class:`Factor` whose `bind` returns a bound of your own; here one that
    draws a point of the unit square's diagonal, x = (u, u):

    >>> import torch
    >>> from probflow.distributions import Factor
    >>> from probflow.graph import make_statement
    >>> class DiagonalBound(Bound):
    ...     def __init__(self, statement):
    ...         self.statement, self.front = statement, (1,)         # the same for every row of a batch
    ...     def draw(self, sample_shape, batch, reparam):
    ...         return (torch.rand(*sample_shape, batch, 1).expand(*sample_shape, batch, 2),)
    ...     def log_prob(self, values, leads, check=True):
    ...         raise self.no_density("it lives on a line", "Sample it.")
    ...     def insert(self, depth):
    ...         return self
    >>> class Diagonal(Factor):
    ...     def bind(self, inputs, leads):
    ...         return DiagonalBound(self.statement)
    >>> Diagonal(make_statement("p(x)")).sample(batch_n=3)["x"].shape
    torch.Size([3, 2])
    """

    statement: Statement
    """What is bound, for error messages."""

    front: Shape
    """``(*lead, batch)``: its sample dimensions, then the batch size (1 where nothing depends on the batch)."""

    bounded = False
    """Whether there are real values outside the support, which :meth:`log_prob` looks for."""

    @property
    def lead(self) -> int:
        """Number of leading sample dimensions."""
        return len(self.front) - 1

    @property
    def batch(self) -> int:
        """Size of the batch dimension; 1 where nothing depends on the batch."""
        return self.front[-1]

    @abstractmethod
    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        """One value per variable, of shape ``(*sample_shape, *lead, batch, *event)``."""

    def draw_with_log_prob(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[tuple[Tensor, ...], Tensor]:
        """A draw and its log-density ``(*sample_shape, *lead, batch)``; a flow computes both in one pass, without its inverse."""
        values = self.draw(sample_shape, batch, reparam)
        lead = len(sample_shape) + self.lead
        return values, self.log_prob(values, (lead,) * len(values), False)

    def draw_with_terms(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """A draw and the terms whose sum is its log-density: for a flow those of the change of variables."""
        values, log_prob = self.draw_with_log_prob(sample_shape, batch, reparam)
        return values, (log_prob,)

    @abstractmethod
    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        """Log-density of shape ``(*lead, batch)``, in nats; `check` is False for values drawn a moment ago."""

    def neg_log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        """The negative of :meth:`log_prob`; some families compute it with a pass less over the data."""
        return -self.log_prob(values, leads, check)

    @abstractmethod
    def insert(self, depth: int) -> Bound:
        """The same with a singleton sample dimension, `depth` sample dimensions in front of the batch."""

    def mean(self) -> tuple[Tensor, ...]:
        """E[value], one tensor per variable."""
        raise NoClosedForm(f"{self.statement} has no known mean.{self._by_draws('mean(0)')}")

    def variance(self) -> tuple[Tensor, ...]:
        """Var[value], elementwise."""
        raise NoClosedForm(f"{self.statement} has no known variance.{self._by_draws('var(0)')}")

    def _by_draws(self, estimate: str) -> str:
        values = "values, " if self.statement.cond_var else "batch_n=1, "
        return f"\nEstimate it from draws: p.sample({values}sample_shape=1000)[{self.statement.var[0]!r}].{estimate}."

    def entropy(self) -> Tensor:
        """-E[log p], of shape ``(*lead, batch)``, in nats."""
        raise NoClosedForm(f"{self.statement} has no known entropy.\nEstimate it: Entropy(p, sample_shape=[64]).")

    def inside(self, value: Tensor, lead: int) -> Tensor:
        """Which rows of a value are in the support, ``(*lead, batch)``, as far as that is known without the density."""
        return torch.ones(value.shape[: lead + 1], dtype=torch.bool, device=value.device)

    def states(self, limit: int) -> tuple[Tensor, ...] | None:
        """All values of a finite factor, ``(number of states, *ones, 1, *event)``; None when infinite or more than `limit`."""
        return None

    def no_density(self, why: str, instead: str) -> NoDensity:
        """The error for a factor that can be sampled only."""
        return NoDensity(f"{self.statement} has no density: {why}.\n{instead}")

    def no_sampler(self, why: str, instead: str) -> NoSampler:
        """The error for a factor that can be evaluated only."""
        return NoSampler(f"{self.statement} cannot be sampled: {why}.\n{instead}")


def rows_inside(domain: Domain, value: Tensor, lead: int) -> Tensor:
    """Which rows of a value have all elements in a domain, ``(*lead, batch)``."""
    inside = domain.holds(value)
    event = value.dim() - lead - 1 - domain.rank
    return inside.flatten(-event).all(-1) if event else inside


def inserted_front(front: Shape, depth: int) -> Shape:
    """`front` with a singleton sample dimension, `depth` sample dimensions in front of the batch."""
    place = len(front) - 1 - depth
    return front if place < 0 else (*front[:place], 1, *front[place:])
