"""Mixtures: one of several components, chosen by an index that is summed out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from probflow._typing import Names, Shape
from probflow.distributions.base import Distribution, Factor
from probflow.distributions.bound import Bound
from probflow.distributions.families.categorical import Categorical
from probflow.distributions.family import FamilyBound
from probflow.distributions.finite import FiniteBound
from probflow.distributions.flow import Flow
from probflow.distributions.mixture_bound import MixtureBound
from probflow.distributions.parametric import Parametric
from probflow.distributions.stacking import constant_stack
from probflow.errors import ArgumentError, NoDensity, ParameterError, ShapeError
from probflow.graph import Statement
from probflow.printing import shape_text

_MOST_COMPONENTS = 2**16


class MixtureModel(Factor):
    r"""A mixture :math:`p(x) = \sum_k p(z = k)\, p_k(x)`, with the index z summed out exactly.

    distributions: the components, over the same variables; their conditioning variables may differ, and they may be networks.
    prior: a Categorical over the index (one-hot); it may be conditional, and a network.
    ``posterior("z")`` is the distribution of the index given x (the responsibilities), exact.

    Errors: ArgumentError where components have different variables, or the prior another number of states.

    >>> import torch
    >>> from probflow.distributions import Categorical, Normal
    >>> components = [Normal("p(x)", loc=m, scale=0.1, features_shape=1) for m in (-1.0, 1.0)]
    >>> p = MixtureModel(components, Categorical("p(z)", probs=torch.tensor([0.25, 0.75])))
    >>> p.mean()
    tensor([[0.5000]])
    >>> p.posterior("z").mean({"x": torch.tensor([[1.0]])})
    tensor([[0., 1.]])
    """

    reparameterised = False

    def __init__(self, distributions: Sequence[Factor], prior: Factor, name: str = "p") -> None:
        components = tuple(distributions) if isinstance(distributions, (list, tuple)) else ()
        if not components:
            raise ArgumentError("MixtureModel needs a list of components: MixtureModel([p1, p2], prior).")
        for part in (*components, prior):
            if not isinstance(part, Factor):
                kind = "product; marginalise or name its factors" if isinstance(part, Distribution) else type(part).__name__
                raise ArgumentError(f"MixtureModel: a component (and the prior) is a single distribution, got a {kind}.")
        first = components[0]
        for component in components[1:]:
            if component.var != first.var:
                raise ArgumentError(
                    "MixtureModel: the components must have the same variables, got "
                    f"{first.statement} and {component.statement}.\n"
                    f"Rename one: .replace_var({component.var[0]}={first.var[0]!r})."
                )
        _check_prior(prior, components)
        conditions = dict.fromkeys(n for part in (*components, prior) for n in part.cond_var)
        super().__init__(Statement(name, first.var, tuple(conditions)))
        _check_ranks(self.statement, components)
        _check_events(self.statement, components)
        for index, component in enumerate(components):
            self.add_module(f"component{index}", component)
        self.add_module("prior", prior)
        self._count = len(components)
        self._places = tuple(f"component{index}" for index in range(self._count))

    @property
    def distributions(self) -> tuple[Factor, ...]:
        """The components, in the order of the prior's states."""
        return tuple([self._modules[place] for place in self._places])  # type: ignore[misc]

    @property
    def hidden_var(self) -> Names:
        return self._prior.var

    @property
    def _prior(self) -> Factor:
        return self._modules["prior"]  # type: ignore[return-value]

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        found: list[int | None] = [None] * len(self.var)
        for component in self.distributions:  # all that know theirs agree
            found = [rank if known is None else known for known, rank in zip(found, component.event_ranks, strict=True)]
            if None not in found:
                break
        return tuple(found)

    @property
    def is_bound(self) -> bool:
        return any(component.is_bound for component in self.distributions)

    def bind(self, inputs: list[Tensor], leads: list[int]) -> MixtureBound:
        known = dict(zip(self.cond_var, zip(inputs, leads, strict=True), strict=True))
        return self._bound(known, self._weights(_bind(self._prior, known)))

    def _bound(self, known: dict[str, tuple[Tensor, int]], weights: Tensor) -> MixtureBound:
        stacked = constant_stack(self.statement, self.distributions)
        if stacked is not None:
            return MixtureBound(self.statement, weights, stacked=stacked)
        return MixtureBound(self.statement, weights, [_bind(component, known) for component in self.distributions])

    def _weights(self, prior: Bound) -> Tensor:
        """The log-probabilities of the index, ``(K, *lead, batch or 1)``."""
        if isinstance(prior, FamilyBound) and prior.family is Categorical.family and prior.extra == 0:
            (parameter,) = prior.params.values()
            logits = parameter if "logits" in prior.params else parameter.log()
            if logits.shape[-1] != self._count:
                raise _wrong_count(self._prior, self._count, logits.shape[-1])
            return logits.log_softmax(-1).movedim(-1, 0)
        return prior.log_prob(self._states(prior), (prior.lead + 1,), False)

    def _states(self, prior: Bound) -> tuple[Tensor, ...]:
        states = prior.states(_MOST_COMPONENTS)
        if states is None or states[0].shape[0] != self._count:
            raise _wrong_count(self._prior, self._count, None if states is None else states[0].shape[0])
        return states

    def responsibilities(self) -> Factor:
        """p(z | x): which component a value came from, exact (the same as ``posterior("z")``)."""
        return _Responsibilities(self)

    def _posterior(self, wanted: Names) -> Distribution:
        return self.responsibilities() if wanted == self.hidden_var else super()._posterior(wanted)

    def check_sampler(self) -> None:
        for part in (*self.distributions, self._prior):
            part.check_sampler()

    def check_density(self) -> None:
        for part in (*self.distributions, self._prior):
            try:
                part.check_density()
            except NoDensity:
                raise NoDensity(
                    f"The mixture {self.statement} has no density: its component {part.statement} ({part.describe()}) has none at "
                    "given values, and what one component draws is a given value to the others.\n"
                    "Take components whose densities can be computed everywhere; of a transform without an inverse, transform.inv."
                ) from None

    def describe(self) -> str:
        from probflow.distributions.describe import describe

        parts = [*self.distributions, self._prior]
        bound = "; log-density a lower bound, as some of theirs are" if self.is_bound else ""
        lines = [f"mixture of {self._count} components chosen by {', '.join(self.hidden_var)}{bound}"]
        lines += ["    " + line for part in parts for line in describe(part).split("\n")]
        return "\n".join(lines)


class _Responsibilities(Factor):
    r""":math:`p(z = k \mid x) \propto p(z = k)\, p_k(x)`: the posterior of a mixture's index."""

    finite = True
    reparameterised = False

    def __init__(self, mixture: MixtureModel) -> None:
        whole = mixture.statement
        super().__init__(Statement(whole.name, mixture.hidden_var, whole.var + whole.cond_var))
        self.mixture = mixture

    @property
    def _mixture(self) -> MixtureModel:
        return self._modules["mixture"]  # type: ignore[return-value]

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        return self._mixture._prior.event_ranks

    def state_count(self) -> int | None:
        return self._mixture._count

    def check_sampler(self) -> None:
        self._mixture.check_density()

    def check_density(self) -> None:
        self._mixture.check_density()

    def bind(self, inputs: list[Tensor], leads: list[int]) -> FiniteBound:
        mixture, n = self._mixture, len(self._mixture.var)
        known = dict(zip(mixture.cond_var, zip(inputs[n:], leads[n:], strict=True), strict=True))
        prior = _bind(mixture._prior, known)
        (states,) = mixture._states(prior)
        states = states.reshape(states.shape[0], *states.shape[prior.lead + 2 :])
        bound = mixture._bound(known, mixture._weights(prior))
        return bound.responsibilities(self.statement, states, tuple(inputs[:n]), tuple(leads[:n]))

    def describe(self) -> str:
        kind = "posterior, by lower bounds of the components," if self._mixture.is_bound else "exact posterior"
        return f"{kind} of {', '.join(self.var)} in the mixture {self._mixture.statement}"


def _bind(factor: Factor, known: dict[str, tuple[Tensor, int]]) -> Bound:
    return factor.bind([known[n][0] for n in factor.cond_var], [known[n][1] for n in factor.cond_var])


def _check_prior(prior: Factor, components: tuple[Factor, ...]) -> None:
    if len(prior.var) != 1 or not prior.finite:
        raise ArgumentError(
            f"MixtureModel: the prior {prior.statement} must be a Categorical over the index of the components.\n"
            f'Write Categorical("p(z)", probs=torch.ones({len(components)}) / {len(components)}).'
        )
    for component in components:
        for name in prior.var:
            if name in component.var + component.cond_var:
                raise ArgumentError(
                    f"MixtureModel: {name!r} is the index of the mixture ({prior.statement}) and occurs in its component "
                    f'{component.statement}.\nRename one: prior.replace_var({name}="k").'
                )
        for name in component.var:
            if name in prior.cond_var:
                raise ArgumentError(f"MixtureModel: its prior {prior.statement} depends on {name!r}, its own variable.")
    count = prior.state_count()
    if count is not None and count != len(components):
        raise _wrong_count(prior, len(components), count)


def _wrong_count(prior: Factor, components: int, states: int | None) -> ParameterError:
    got = "too many states to count" if states is None else f"{states} states"
    return ParameterError(
        f"MixtureModel has {components} components, but its prior {prior.statement} has {got}; it needs one for each component."
    )


def _check_ranks(statement: Statement, components: tuple[Factor, ...]) -> None:
    known = [(c.statement, c.event_ranks) for c in components if None not in c.event_ranks]
    for label, ranks in known[1:]:
        if ranks != known[0][1]:
            raise ParameterError(
                f"MixtureModel {statement}: {known[0][0]} has {known[0][1][0]} event dimension(s), {label} has {ranks[0]}.\n"
                "Declare the same features_shape= for all components."
            )


def _check_events(statement: Statement, components: tuple[Factor, ...]) -> None:
    known = [(c, event) for c in components if (event := _declared_event(c.origin)) is not None]
    for component, event in known[1:]:
        first, other = known[0]
        if event != other:
            raise ShapeError(
                f"MixtureModel {statement}: its components have different event shapes: {shape_text(other)} ({first.describe()}) and "
                f"{shape_text(event)} ({component.describe()})."
            )


def _declared_event(component: Factor) -> Shape | None:
    """The event shape, where it is known before a network has run."""
    if isinstance(component, Flow):
        return component._event
    if isinstance(component, Parametric) and component.family.event_rank == 0:
        return component._features
    return None
