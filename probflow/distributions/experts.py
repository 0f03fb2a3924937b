"""Several experts for one variable, each with conditions of its own: their product and their mixture.

Both work with any subset of the conditions, as in multimodal learning, where an observation may lack a modality.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from probflow._typing import Names
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.bound import Bound
from probflow.distributions.families.normal import Normal
from probflow.distributions.family import FamilyBound
from probflow.distributions.mixture_bound import MixtureBound
from probflow.distributions.shapes import broadcast
from probflow.errors import ArgumentError, MissingVariable, ParameterError, ShapeError, UnknownVariable
from probflow.graph import Statement, make_statement, names
from probflow.printing import did_you_mean, shape_text


class _Experts(Factor):
    """What product and mixture have in common: the experts, the statement, the subsets."""

    def __init__(
        self,
        statement: str | Sequence[Factor] | None,
        experts: Sequence[Factor] | None,
        prior: Factor | None,
        name: str | None,
    ) -> None:
        if statement is not None and not isinstance(statement, str):
            if experts is not None:
                raise ArgumentError(f'{type(self).__name__}: the statement comes first, "q(z | x, y)", then the experts.')
            statement, experts = None, statement
        parts = tuple(experts) if isinstance(experts, (list, tuple)) else ()
        if not parts:
            raise ArgumentError(f"{type(self).__name__} needs a list of experts: {type(self).__name__}([q_x, q_y]).")
        everyone = (*parts, prior) if prior is not None else parts
        for part in everyone:
            if not isinstance(part, Factor) or part.kind is not Normal.family:
                got = f"{part.statement} ({type(part).__name__})" if isinstance(part, Factor) else f"a {type(part).__name__}"
                raise ArgumentError(f"{type(self).__name__}: every expert must be a Normal, got {got}.")
            if part.var != parts[0].var:
                raise ArgumentError(
                    f"{type(self).__name__}: the experts must have the same variable, got "
                    f"{parts[0].statement} and {part.statement}.\nRename one: .replace_var({part.var[0]}={parts[0].var[0]!r})."
                )
        own = Statement(name or parts[0].name, parts[0].var, _conditions(everyone))
        super().__init__(own if statement is None else _agreed(statement, name, own, type(self).__name__))
        for index, part in enumerate(parts):
            self.add_module(f"expert{index}", part)
        if prior is not None:
            self.add_module("prior", prior)
        self._count = len(parts)
        self._subsets: dict[tuple[int, ...], _Experts] = {}

    @property
    def experts(self) -> tuple[Factor, ...]:
        """The experts, in the author's order, without the prior."""
        return tuple(self._modules[f"expert{index}"] for index in range(self._count))  # type: ignore[misc]

    @property
    def _prior(self) -> Factor | None:
        return self._modules.get("prior")  # type: ignore[return-value]

    @property
    def _everyone(self) -> tuple[Factor, ...]:
        return self.experts if self._prior is None else (*self.experts, self._prior)

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        return (next((rank for part in self._everyone for rank in part.event_ranks if rank is not None), None),)

    def _bounds(self, inputs: list[Tensor], leads: list[int]) -> list[FamilyBound]:
        known = dict(zip(self.cond_var, zip(inputs, leads, strict=True), strict=True))
        bounds: list[FamilyBound] = []
        for part in self._everyone:
            bound = part.bind([known[n][0] for n in part.cond_var], [known[n][1] for n in part.cond_var])
            if not isinstance(bound, FamilyBound) or (bounds and bound.event != bounds[0].event):
                got = shape_text(bound.event) if isinstance(bound, FamilyBound) else "none"
                raise ShapeError(
                    f"{self.statement}: its experts have different event shapes: {self._everyone[0].statement} "
                    f"{shape_text(bounds[0].event)}, {part.statement} {got}.\n"
                    f"Declare it where it is not known: features_shape={list(bounds[0].event)}."
                )
            bounds.append(bound)
        return bounds

    # ------------------------------------------------------------------ subsets of the conditions

    def subset(self, *conditions: str | Sequence[str]) -> Distribution:
        """The same experts (and weights), without those that need a condition outside of `conditions`.

        ``poe.subset("x")`` is q(z|x).  Errors: MissingVariable where no expert is left; UnknownVariable.
        """
        wanted: Names = tuple(dict.fromkeys(n for entry in conditions for n in names(entry, "subset")))
        for n in wanted:
            if n not in self.cond_var:
                raise UnknownVariable(
                    f"subset: {self.statement} has no condition {n!r}.{did_you_mean(n, self.cond_var)}\n"
                    f"  its conditions: {', '.join(self.cond_var)}"
                )
        part = self._for(frozenset(wanted))
        idle = [n for n in wanted if n not in part.cond_var]
        if idle:
            users = ", ".join(str(p.statement) for p in self.experts if idle[0] in p.cond_var)
            raise MissingVariable(
                f"subset: {idle[0]} alone is of no use in {self.statement}: {users} needs its other conditions too."
            )
        return part

    def _for(self, known: frozenset[str]) -> Distribution:
        if known >= set(self.cond_var):
            return self
        usable = tuple(i for i, expert in enumerate(self.experts) if known >= set(expert.cond_var))
        if not self._stands_alone(usable):
            choices = " or ".join(dict.fromkeys(", ".join(expert.cond_var) for expert in self.experts))
            raise MissingVariable(
                f"{self.statement} needs the conditions of at least one expert: {choices}.\n"
                f"  its experts: {', '.join(str(expert.statement) for expert in self.experts)}"
            )
        if usable not in self._subsets:  # one object for one subset: an expression that uses it twice draws it once
            self._subsets[usable] = self._restricted(usable)
        return self._subsets[usable]

    def _stands_alone(self, usable: tuple[int, ...]) -> bool:
        return bool(usable)

    def _restricted(self, usable: tuple[int, ...]) -> _Experts:
        raise ArgumentError(f"{type(self).__name__} has no subsets.")

    def check_sampler(self) -> None:
        for part in self._everyone:
            part.check_sampler()

    def _described(self, what: str) -> str:
        from probflow.distributions.describe import describe

        return "\n".join([what, *("    " + line for part in self._everyone for line in describe(part).split("\n"))])


class ProductOfNormal(_Experts):
    r"""A product of Normal experts, :math:`q(z \mid x, y) \propto p(z)\, q(z \mid x)\, q(z \mid y)`: itself a Normal.

    .. math:: \sigma^{-2} = \sum_i \sigma_i^{-2}, \qquad \mu = \sigma^2 \sum_i \sigma_i^{-2} \mu_i

    experts: Normals of one variable, each with conditions of its own.  prior: a further expert, usually p(z).
    It has closed-form divergences like any Normal.  ``sample`` and ``log_prob`` use the experts whose conditions are given;
    ``poe.subset("x")`` is q(z|x) as a distribution that shares the weights.  With no condition at all it is the prior.

    Errors: ArgumentError for experts that are not Normals of one variable.  Source: Wu & Goodman, arXiv:1802.05335, sec. 2.2.

    >>> q_x = Normal("q(z | x)", loc="x", scale=1.0)
    >>> q_y = Normal("q(z | y)", loc="y", scale=1.0)
    >>> q = ProductOfNormal([q_x, q_y])
    >>> print(q.statement)
    q(z|x,y)
    >>> q.mean({"x": torch.zeros(1, 1), "y": torch.ones(1, 1)}), q.mean({"x": torch.zeros(1, 1)})
    (tensor([[0.5000]]), tensor([[0.]]))
    """

    def __init__(
        self,
        statement: str | Sequence[Factor] | None = None,
        experts: Sequence[Factor] | None = None,
        prior: Factor | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(statement, experts, prior, name)

    @property
    def kind(self) -> object:
        return Normal.family

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        bounds = self._bounds(inputs, leads)
        if len(bounds) == 1:
            return FamilyBound(Normal.family, self.statement, bounds[0].full, bounds[0].front, bounds[0].extra)
        precisions = [bound.full["scale"].square().reciprocal() for bound in bounds]
        precision = _sum(precisions)
        weighted = _sum([t * bound.full["loc"] for t, bound in zip(precisions, bounds, strict=True)])
        params = {"loc": weighted / precision, "scale": precision.rsqrt()}
        front = broadcast(*(bound.front for bound in bounds))
        return FamilyBound(Normal.family, self.statement, params, front, bounds[0].extra)

    def _stands_alone(self, usable: tuple[int, ...]) -> bool:
        return bool(usable) or self._prior is not None

    def _restricted(self, usable: tuple[int, ...]) -> _Experts:
        chosen = [self.experts[i] for i in usable]
        if not chosen and self._prior is not None:
            return ProductOfNormal([self._prior], name=self.name)
        return ProductOfNormal(chosen, prior=self._prior, name=self.name)

    def describe(self) -> str:
        return self._described("product of Normal experts" + (" and a prior expert" if self._prior is not None else ""))


class MixtureOfNormal(_Experts):
    r"""A mixture of Normal experts, :math:`q(z \mid x, y) = w_1\, q(z \mid x) + w_2\, q(z \mid y)`.

    weights: one positive number for each expert, in proportion; equal where they are left out.  ``sample`` and ``log_prob``
    use the experts whose conditions are given, their weights scaled to sum to 1; ``moe.subset("x")`` is q(z|x).

    Errors: ParameterError for weights that are not positive, or not one for each expert.  Source: Shi et al., arXiv:1911.03393.

    >>> q = MixtureOfNormal([Normal("q(z | x)", loc="x", scale=1.0), Normal("q(z | y)", loc="y", scale=1.0)])
    >>> q.mean({"x": torch.zeros(1, 1), "y": torch.ones(1, 1)})
    tensor([[0.5000]])
    """

    reparameterised = False

    def __init__(
        self,
        statement: str | Sequence[Factor] | None = None,
        experts: Sequence[Factor] | None = None,
        weights: Sequence[float] | Tensor | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(statement, experts, None, name)
        tensor = torch.ones(self._count) if weights is None else torch.as_tensor(weights, dtype=torch.get_default_dtype())
        if tensor.shape != (self._count,) or not bool((tensor > 0).all()):
            raise ParameterError(
                f"MixtureOfNormal {self.statement}: weights must be {self._count} positive numbers, one for each expert, "
                f"got {weights}."
            )
        self.register_buffer("_weights", tensor / tensor.sum())

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        bounds = self._bounds(inputs, leads)
        weights: Tensor = self._weights  # type: ignore[assignment]
        return MixtureBound(self.statement, weights.log()[:, None], bounds)

    def _restricted(self, usable: tuple[int, ...]) -> _Experts:
        weights: Tensor = self._weights  # type: ignore[assignment]
        return MixtureOfNormal([self.experts[i] for i in usable], weights=weights[list(usable)], name=self.name)

    def describe(self) -> str:
        weights: Tensor = self._weights  # type: ignore[assignment]
        return self._described(f"mixture of Normal experts, weights {', '.join(f'{w:g}' for w in weights.tolist())}")


def _conditions(parts: Sequence[Factor]) -> Names:
    return tuple(dict.fromkeys(itertools.chain.from_iterable(part.cond_var for part in parts)))


def _agreed(text: str, name: str | None, own: Statement, kind: str) -> Statement:
    """The author's statement: its name and order count, its variables must be those of the experts."""
    said = make_statement(text, name=name)
    if said.var != own.var or set(said.cond_var) != set(own.cond_var):
        raise ArgumentError(f"{kind}: the statement is {said}, but its experts make {own}.")
    return said


def _sum(tensors: list[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total
