"""Families: what they are (a row of the table), and what they become once their parameters are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch import distributions as td

from probflow._typing import Shape
from probflow.checks import compiling, forward_mode, is_lenient
from probflow.distributions.bound import Bound, inserted_front, rows_inside
from probflow.distributions.shapes import broadcast, misfit
from probflow.distributions.values import insert_axis
from probflow.domains import Domain
from probflow.errors import NoClosedForm, ShapeError, SupportError
from probflow.graph import Statement
from probflow.printing import shape_text

Params = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Family:
    """One row of the table of families.

    torch_class: makes the torch distribution from the parameters (``validate_args`` is always False: checks are ours).
    params: the domain of each parameter; its rank is the number of rightmost dimensions that belong to one event.
    either: groups of parameters of which exactly one is given, such as ``("probs", "logits")``.
    defaults: parameters that may be left out.
    support: where values live; a function of the parameters where it depends on them.
    event_rank: rightmost dimensions of one event (1 for a vector-valued family).
    states: all values of one event, ``(S, *event)``, for a finite family; None where these parameters give no common list.
    log_prob, rsample: the formula itself, where it is faster or more exact than torch's.
    event_nll: the negative log-density summed over the last dimensions, where that saves work.
    mean_log_prob: the log-density of values, averaged over so many dimensions in front and summed over so many at the end, where
        that saves work.
    noisy_rsample, noise_nll: a draw with the noise that it is made of, and `event_nll` of the draw, had from that noise.
    prepare: turns what the user may give (class indices, say) into what the formula takes; gets the value, its number of
        leading sample dimensions, the event shape, and a label for errors.
    contagious: whether a parameter outside its domain makes every density NaN or infinite, so that the result betrays it.
    check: what the parameters must satisfy together (low < high); raises ParameterError, given a label.

    >>> import probflow as pf
    >>> row = pf.Normal.family
    >>> list(row.params), row.params["scale"].text, row.has_rsample
    (['loc', 'scale'], 'positive numbers (0, ∞)', True)
    """

    torch_class: Callable[..., td.Distribution]
    params: Mapping[str, Domain]
    support: Domain | Callable[[Params], Domain]
    event_rank: int = 0
    either: tuple[tuple[str, ...], ...] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)
    states: Callable[[Params], Tensor | None] | None = None
    log_prob: Callable[[Params, Tensor], Tensor] | None = None
    event_nll: Callable[[Params, Tensor, int], Tensor] | None = None
    mean_log_prob: Callable[[Params, Tensor, int, int], Tensor] | None = None
    rsample: Callable[[Params, Shape], Tensor] | None = None
    noisy_rsample: Callable[[Params, Shape], tuple[Tensor, Tensor]] | None = None
    noise_nll: Callable[[Params, Tensor, int], Tensor] | None = None
    prepare: Callable[[Tensor, int, Shape, str], Tensor] | None = None
    check: Callable[[Params, str], None] | None = None
    reparameterised: bool | None = None
    entropy: bool | None = None
    contagious: bool = False
    name: str = ""  # set by the class that the row belongs to

    def __post_init__(self) -> None:
        ranks = {domain.rank for domain in self.params.values()}
        object.__setattr__(self, "one_rank", ranks.pop() if len(ranks) == 1 else None)
        fragile = tuple((name, domain) for name, domain in self.params.items() if not domain.contagious)
        object.__setattr__(self, "fragile", fragile)
        object.__setattr__(self, "bounded", not (isinstance(self.support, Domain) and self.support.contagious))

    one_rank: int | None = field(init=False, default=None)
    """The rank that all parameters share, if they do."""

    fragile: tuple[tuple[str, Domain], ...] = field(init=False, default=())
    """The parameters whose faults the result need not betray."""

    bounded: bool = field(init=False, default=False)
    """Whether there are real values outside the support."""

    @property
    def has_rsample(self) -> bool:
        """Whether a draw is differentiable in the parameters."""
        known = self.reparameterised
        return bool(getattr(self.torch_class, "has_rsample", False)) if known is None else known

    @property
    def has_entropy(self) -> bool:
        """Whether torch knows the entropy in closed form."""
        if self.entropy is not None:
            return self.entropy
        entropy = getattr(self.torch_class, "entropy", td.Distribution.entropy)
        return entropy not in (td.Distribution.entropy, td.TransformedDistribution.entropy)


class FamilyBound(Bound):
    """A family with its parameters: tensors of shape ``(*lead, batch, *event)``, some perhaps with fewer leading dimensions."""

    def __init__(
        self, family: Family, statement: Statement, params: Params, front: Shape, extra: int, event: Shape | None = None
    ) -> None:
        self.family, self.statement, self.params, self.front = family, statement, params, front
        self.extra = extra  # event dimensions beyond those of one event of the family
        self._torch: td.Distribution | None = None
        self._event = event

    @property
    def full(self) -> Params:
        """The parameters with the whole event; in `params` a number may stand for every element."""
        if all(tensor.dim() == 0 for tensor in self.params.values()):
            return {name: tensor.expand(1, *self.event) for name, tensor in self.params.items()}
        return self.params

    @property
    def torch(self) -> td.Distribution:
        """The torch distribution."""
        if self._torch is None:
            self._torch = self.family.torch_class(**self.full, validate_args=False)
        return self._torch

    @property
    def event(self) -> Shape:
        """The shape of one value without sample and batch dimensions."""
        if self._event is None:
            if self.family.event_rank:
                shape = tuple(self.torch.batch_shape)
                self._event = (*shape[len(shape) - self.extra :], *self.torch.event_shape)
            else:
                shape = self._broadcast()
                self._event = shape[len(shape) - self.extra :]
        return self._event

    def _broadcast(self) -> Shape:
        shapes = [tensor.shape for tensor in self.params.values()]
        first = shapes[0]
        if all(shape == first for shape in shapes):
            return tuple(first)
        try:
            return broadcast(*shapes)
        except ShapeError:
            named = {name: tensor.shape for name, tensor in self.params.items()}
            raise ShapeError(misfit(str(self.statement), named, len(self.front))) from None

    def draw(self, sample_shape: Shape, batch: int, reparam: bool) -> tuple[Tensor, ...]:
        front = (*self.front[:-1], batch)
        if self.family.rsample is not None:
            shape = sample_shape + front + self.event
            if reparam:
                return (self.family.rsample(self.params, shape),)
            with torch.no_grad():
                return (self.family.rsample(self.params, shape),)
        dist = self.torch
        full = front + self.event[: self.extra]
        if tuple(dist.batch_shape) != full:
            dist = dist.expand(full)
        return (dist.rsample(sample_shape) if reparam else dist.sample(sample_shape),)

    def draw_with_noise(self, sample_shape: Shape, batch: int) -> tuple[Tensor, ...]:
        """A pathwise draw, and the noise that it is made of where the family gives it."""
        if self.family.noisy_rsample is None:
            return self.draw(sample_shape, batch, True)
        return self.family.noisy_rsample(self.params, (*sample_shape, *self.front[:-1], batch, *self.event))

    def log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        if self.family.event_nll is not None:
            return -self.neg_log_prob(values, leads, check)
        value = self._checked(values[0], leads[0], check)
        density = self.torch.log_prob(value) if self.family.log_prob is None else self.family.log_prob(self.params, value)
        return sum_event(density, self.extra)

    def neg_log_prob(self, values: tuple[Tensor, ...], leads: tuple[int, ...], check: bool = True) -> Tensor:
        if self.family.event_nll is None:
            return -self.log_prob(values, leads, check)
        return self.family.event_nll(self.params, self._checked(values[0], leads[0], check), self.extra)

    def total_nll(self, value: Tensor, check: bool = True) -> Tensor:
        """The sum of `neg_log_prob` over the batch, for a family with `event_nll`; `value` has the whole batch, and no samples."""
        value = self._checked(value, 0, check)
        if self.family.event_nll is None:
            raise NoClosedForm(f"{self.statement}: {self.family.name} has no sum of its own.")
        return self.family.event_nll(self.params, value, self.extra + 1)

    def mean_log_prob(self, value: Tensor, lead: int, dims: int, check: bool = True) -> Tensor:
        """The log-density averaged over the first `dims` sample dimensions; `value` has `lead` of them, perhaps none."""
        value = self._checked(value, lead, check)
        formula = self.family.mean_log_prob
        full = max(lead, self.lead)
        if formula is not None and full == dims:
            return formula(self.params, value, dims, self.extra)
        return -self.neg_log_prob((value,), (lead,), False).mean(tuple(range(dims)))

    def _checked(self, value: Tensor, lead: int, check: bool) -> Tensor:
        value = self.prepared(value, lead)
        if check and not compiling():
            support = self.family.support
            if not (support.__class__ is Domain and support.contagious and is_lenient()):
                self._check_support(value)
        return value

    def prepared(self, value: Tensor, lead: int) -> Tensor:
        """A value as the formula takes it (class indices as one-hot vectors), its shape checked."""
        event = self._event
        if event is None:
            event = self.event
        if self.family.prepare is not None:
            value = self.family.prepare(value, lead, event, self._name())
        shape, batch = value.shape, self.front[-1]
        if shape[lead + 1 :] != event or (shape[lead] != batch and batch != 1 and shape[lead] != 1):
            self._wrong_shape(value, lead)
        return value

    def _name(self) -> str:
        return f"{self.statement}: the value of {self.statement.var[0]!r}"

    def _wrong_shape(self, value: Tensor, lead: int) -> None:
        expected = ("batch" if self.batch == 1 else self.batch, *self.event)
        got = shape_text(value.shape)
        front = f" after {lead} sample dimensions" if lead else ""
        hint = ""
        if value.dim() == lead + len(self.event) and tuple(value.shape[lead:]) == self.event:
            hint = f"\nDimension 0 must be the batch: for one data point write {self.statement.var[0]}[None]."
        elif self.event == () and value.dim() > lead + 1:
            shape = list(value.shape[lead + 1 :])
            hint = (
                f"\nDeclare the event: features_shape={shape}. Or, if the first dimensions are samples: "
                f"log_prob(values, sample_dims={value.dim() - 1})."
            )
        raise ShapeError(
            f"{self._name()} has shape {got}, but its parameters need ({', '.join(map(str, expected))}{',' if len(expected) == 1 else ''})"
            f"{front}.{hint}"
        )

    @property
    def bounded(self) -> bool:  # type: ignore[override]
        return self.family.bounded

    @property
    def domain(self) -> Domain:
        """The support, for these parameters."""
        support = self.family.support
        return support if isinstance(support, Domain) else support(self.params)

    def inside(self, value: Tensor, lead: int) -> Tensor:
        return rows_inside(self.domain, value, lead)

    def _check_support(self, value: Tensor) -> None:
        domain = self.domain
        hint = f"\nHint: {domain.hint}." if domain.hint else ""
        domain.require(
            value,
            lambda offender: SupportError(
                f"{self._name()} is outside the support of {self.family.name}.\n"
                f"  support:   {domain.text}\n  offending: {offender}{hint}"
            ),
        )

    def insert(self, depth: int) -> FamilyBound:
        if self.lead <= depth:
            return self
        rank = 1 + self.extra
        params = {
            name: insert_axis(tensor, tensor.dim() - rank - self.family.params[name].rank, depth)
            for name, tensor in self.params.items()
        }
        return FamilyBound(self.family, self.statement, params, inserted_front(self.front, depth), self.extra, self._event)

    def mean(self) -> tuple[Tensor, ...]:
        return (self._moment("mean"),)

    def variance(self) -> tuple[Tensor, ...]:
        return (self._moment("variance"),)

    def _moment(self, which: str) -> Tensor:
        try:
            return getattr(self.torch, which)
        except (NotImplementedError, NoClosedForm) as reason:
            why = f": {reason}" if str(reason) else ""
            raise NoClosedForm(f"{self.statement}: {self.family.name} has no known {which}{why}.") from None

    def entropy(self) -> Tensor:
        if not self.family.has_entropy:
            return super().entropy()
        return sum_event(self.torch.entropy(), self.extra)

    def states(self, limit: int) -> tuple[Tensor, ...] | None:
        if self.family.states is None:
            return None
        single = self.family.states(self.params)  # (S, *event of one)
        if single is None:
            return None
        event, rank = self.event, self.family.event_rank
        outer = event[: len(event) - rank]
        count = 1
        for size in outer:
            count *= size
        if single.shape[0] ** count > limit:
            return None
        if count != 1:
            index = torch.tensor(list(itertools.product(range(single.shape[0]), repeat=count)), device=single.device)
            single = single[index.reshape(-1)]
        return (single.reshape(-1, *[1] * (self.lead + 1), *event),)


def plain_number(parameter: Tensor) -> Tensor | float:
    """A constant number as such: subtracting 0 and dividing by 1 are kernels that need not run."""
    if parameter.dim() or parameter.requires_grad or not parameter.is_cpu or compiling() or forward_mode():
        return parameter
    return parameter.item()


def sum_event(tensor: Tensor, dims: int) -> Tensor:
    """The sum over the last `dims` dimensions."""
    if dims == 0:
        return tensor
    if dims == 1:
        return tensor.sum(-1)
    return tensor.sum() if dims == tensor.dim() else tensor.flatten(-dims).sum(-1)
