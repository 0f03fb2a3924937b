"""A flow with its conditioning variables filled in: its base, its context, and the map between."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from probflow._typing import Shape
from probflow.checks import compiling, is_lenient, reworded
from probflow.distributions.bound import Bound, inserted_front, rows_inside
from probflow.distributions.family import FamilyBound
from probflow.distributions.shapes import broadcast
from probflow.distributions.values import insert_axis
from probflow.errors import NoClosedForm, ProbflowError, ShapeError, SupportError
from probflow.graph import Statement
from probflow.printing import shape_text
from probflow.transforms import Transform
from probflow.transforms.transform import Pair


class FlowBound(Bound):
    """p(x | c) = p_z(f⁻¹(x; c)) |det ∂f⁻¹/∂x|.  The context has the shape ``(*lead, batch, *context)``."""

    def __init__(
        self, statement: Statement, transform: Transform, base: Bound, context: Tensor | None, event: Shape | None
    ) -> None:
        self.statement, self.transform, self.base, self.context, self.event = statement, transform, base, context, event
        self._context_rank = len(transform.context or ())
        fronts = [base.front]
        if context is not None:
            fronts.append(tuple(context.shape[: context.dim() - self._context_rank]))
        self.front = fronts[0] if len(fronts) == 1 else broadcast(*fronts)

    # ------------------------------------------------------------------ folding

    def _folded(self, value: Tensor, lead: int) -> tuple[Tensor, Tensor | None, Shape]:
        """Value and context with one batch dimension for both, and the front that it stands for."""
        front: Shape = tuple(value.shape[: lead + 1])
        context = self.context
        if context is None:
            return (value.flatten(0, lead) if lead else value), None, front
        own: Shape = tuple(context.shape[: context.dim() - self._context_rank])
        if own == front:
            return (value.flatten(0, lead), context.flatten(0, lead), front) if lead else (value, context, front)
        full = broadcast(front, own)
        deep = len(full) - 1
        value = value.expand(*full, *value.shape[lead + 1 :]).flatten(0, deep)
        return value, context.expand(*full, *context.shape[len(own) :]).flatten(0, deep), full

    def _checked(self, value: Tensor, lead: int, check: bool) -> None:
        name = self.statement.var[0]
        if self.event is not None and value.shape[lead + 1 :] != self.event:
            expected = ", ".join(map(str, ("batch", *self.event)))
            hint = ""
            if tuple(value.shape[lead:]) == self.event:
                hint = f"\nDimension 0 must be the batch: for one data point write {name}[None]."
            elif value.dim() == lead + 1 and self.event == (1,):
                hint = f"\nOne feature is a dimension too: write {name}[..., None]."
            raise ShapeError(
                f"{self.statement}: the value of {name!r} has shape {shape_text(value.shape)}, but the flow takes ({expected}).{hint}"
            )
        batch = value.shape[lead]
        if batch != self.batch and 1 not in (batch, self.batch):
            raise ShapeError(
                f"{self.statement}: the value of {name!r} has batch {batch}, its conditioning variables {self.batch}."
            )
        if check and not compiling():
            domain = self.transform.codomain
            if domain.contagious and is_lenient():
                return
            domain.require(
                value,
                lambda offender: SupportError(
                    f"{self.statement}: the value of {name!r} is outside the support of the flow.\n"
                    f"  support:   {domain.text}\n  offending: {offender}"
                ),
            )

    # ------------------------------------------------------------------ density

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        noise, logdet = self.terms(values[0], leads[0], check)
        return noise + logdet

    def neg_log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        z, logdet, front = self._to_noise(values[0], leads[0], check, self.transform.inverse_and_logdet)
        base, lead = self.base, len(front) - 1
        if base.bounded:
            return self._bounded(lambda look: base.neg_log_prob((z,), (lead,), look), z, lead, check, math.inf) - logdet
        return base.neg_log_prob((z,), (lead,), False) - logdet

    def total_nll(self, value: Tensor, check: bool = True) -> Tensor:
        """The sum of `neg_log_prob` over the batch, for a base with such a sum; `value` has the whole batch, and no samples."""
        if not isinstance(self.base, (FamilyBound, FlowBound)):
            raise NoClosedForm(f"{self.statement}: its base has no sum of its own.")
        z, terms, _ = self._to_noise(value, 0, check, self.transform.inverse_and_terms)
        base = self.base
        if base.bounded:
            return self._bounded(lambda look: base.total_nll(z, look), z, 0, check, math.inf) - terms.sum()
        return base.total_nll(z, False) - terms.sum()

    def terms(self, value: Tensor, lead: int, check: bool = True) -> tuple[Tensor, Tensor]:
        """The two terms of the formula: log p_z(f⁻¹(x)) and log|det ∂f⁻¹/∂x|."""
        z, logdet, front = self._to_noise(value, lead, check, self.transform.inverse_and_logdet)
        base, lead = self.base, len(front) - 1
        if base.bounded:
            return self._bounded(lambda look: base.log_prob((z,), (lead,), look), z, lead, check, -math.inf), logdet
        return base.log_prob((z,), (lead,), False), logdet

    @property
    def bounded(self) -> bool:  # type: ignore[override]
        return not self.transform.codomain.contagious or self.base.bounded

    def inside(self, value: Tensor, lead: int) -> Tensor:
        return rows_inside(self.transform.codomain, value, lead)

    def _bounded(self, density: Callable[[bool], Tensor], z: Tensor, lead: int, check: bool, outside: float) -> Tensor:
        """The density of a base with bounded support: a value that leads outside is an error, or has none where none is looked for."""
        if check and not compiling():
            with reworded(self._from_base):
                return density(True)
        result, inside = density(False), self.base.inside(z, lead)
        return torch.where(inside if result.dim() else inside.all(), result, outside)

    def _from_base(self, error: SupportError) -> SupportError:
        name = self.statement.var[0]
        return SupportError(
            f"{self.statement}: the value of {name!r} is outside the support of the flow: its layers trace it back to a value that the "
            f"base does not have.\n{error}"
        )

    def _to_noise(self, value: Tensor, lead: int, check: bool, inverse: Callable[..., Pair]) -> tuple[Tensor, Tensor, Shape]:
        """z = f⁻¹(x), the log-determinant as `inverse` gives it, and the dimensions in front of the event."""
        self._checked(value, lead, check)
        flat, context, front = self._folded(value, lead)
        try:
            z, logdet = inverse(flat, context)
        except (RuntimeError, TypeError, ValueError) as error:
            self._explain(error, self.statement.var[0], flat, context)
            raise
        if len(front) > 1:
            z, logdet = z.unflatten(0, front), logdet.unflatten(0, front)
        return z, logdet, front

    def _explain(self, error: Exception, name: str, flat: Tensor, context: Tensor | None) -> None:
        """Raise what layers and values do not fit, in the user's notation; errors of ours, and of memory, stay as they are."""
        if compiling() or isinstance(error, (ProbflowError, torch.OutOfMemoryError)):
            return
        from probflow.distributions.diagnose import layers_error

        raise layers_error(self.statement, self.transform, name, flat, context, error) from error

    # ------------------------------------------------------------------ sampling

    def _wide_base(self) -> Bound:
        """The base with all sample dimensions of the flow: every row has noise of its own."""
        wanted = (*self.front[:-1], self.base.front[-1])
        if self.base.front == wanted:
            return self.base
        base = copy.copy(self.base)
        base.front = wanted
        return base

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        (z,) = self._wide_base().draw(sample_shape, batch, reparam)
        flat, context, front = self._folded(z, len(sample_shape) + self.lead)
        try:
            x = self.transform.forward(flat, context)
        except (RuntimeError, TypeError, ValueError) as error:
            self._explain(error, "the noise", flat, context)
            raise
        return (x.unflatten(0, front) if len(front) > 1 else x,)

    def draw_with_log_prob(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[tuple[Tensor, ...], Tensor]:
        values, (noise, logdet) = self.draw_with_terms(sample_shape, batch, reparam)
        return values, noise + logdet

    def draw_with_terms(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        lead = len(sample_shape) + self.lead
        (z,), log_prob = self._wide_base().draw_with_log_prob(sample_shape, batch, reparam)
        flat, context, front = self._folded(z, lead)
        try:
            x, logdet = self.transform.forward_and_logdet(flat, context)
        except (RuntimeError, TypeError, ValueError) as error:
            self._explain(error, "the noise", flat, context)
            raise
        if len(front) > 1:
            x, logdet = x.unflatten(0, front), logdet.unflatten(0, front)
        return (x,), (log_prob, -logdet)

    # ------------------------------------------------------------------ noise

    def encode(self, value: Tensor, lead: int) -> tuple[Tensor, ...]:
        """z, and the noise of stochastic layers."""
        self._checked(value, lead, True)
        flat, context, front = self._folded(value, lead)
        z, noise, _ = self.transform.encode(flat, context)
        return tuple(part.unflatten(0, front) if len(front) > 1 else part for part in (z, *noise))

    def decode(self, parts: tuple[Tensor, ...], lead: int) -> Tensor:
        """x from z and the noise of stochastic layers."""
        flat, context, front = self._folded(parts[0], lead)
        rows = math.prod(front)
        noise = [part.expand(*front, *part.shape[lead + 1 :]).reshape(rows, *part.shape[lead + 1 :]) for part in parts[1:]]
        x = self.transform.decode(flat, tuple(noise), context)
        return x.unflatten(0, front) if len(front) > 1 else x

    def insert(self, depth: int) -> Bound:
        if self.lead <= depth:
            return self
        context = self.context
        if context is not None:
            context = insert_axis(context, context.dim() - 1 - self._context_rank, depth)
        bound = FlowBound(self.statement, self.transform, self.base.insert(depth), context, self.event)
        bound.front = inserted_front(self.front, depth)
        return bound
