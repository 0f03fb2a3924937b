"""What every distribution is: a statement, a density, a sampler; and the verbs that combine distributions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from probflow._typing import Names, Values
from probflow.checks import checked
from probflow.distributions import mistakes
from probflow.distributions import values as boundary
from probflow.distributions.bound import Bound
from probflow.distributions.values import Samples
from probflow.errors import ArgumentError, LossError, NameCollision, NoClosedForm, NoSampler, ShapeError
from probflow.graph import FactorGraph, Statement

# what the library's own constructors set on an instance: a layer of the same name would replace it
_PRIVATE = frozenset(
    {"_statement", "_source", "_inputs", "_keywords", "_features", "_strings", "_constants", "_graph", "_factors", "_origin"}
)
_SAMPLE = ("values", "batch_n", "sample_shape", "reparam", "return_all", "sample_mean")
_SAMPLE_HINTS = {
    **dict.fromkeys(
        ("batch_size", "n", "num_samples", "n_samples", "batchn"),
        "Write batch_n=... for independent rows, sample_shape=... for draws of each.",
    ),
    **dict.fromkeys(("shape", "size"), "Write sample_shape=[...]."),
}
# attributes that PyTorch itself sets on modules, and the one method that users are meant to write
_FREE = frozenset({"forward", "training", "dump_patches", "call_super_init"})


class Distribution(nn.Module):
    """A probability statement with a density and a sampler.

    It is made of `factors`, one per variable (or group of variables); an atomic distribution is its own only factor.

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    >>> p.var, p.cond_var
    (('x', 'z'), ())
    >>> values = p.sample(batch_n=5)
    >>> values["x"].shape, p.log_prob(values).shape
    (torch.Size([5, 2]), torch.Size([5]))
    >>> print(p.replace_var(z="h").statement)
    p(x,h)
    """

    def __init__(self) -> None:
        super().__init__()

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _FREE and _collides(type(self), name, value):
            raise NameCollision(
                f"{type(self).__name__} cannot have an attribute {name!r} of yours: every distribution has its own {name!r}.\n"
                f"Choose another name, for example self.{name.strip('_')}_net."
            )
        super().__setattr__(name, value)

    # ------------------------------------------------------------------ structure

    @property
    @abstractmethod
    def factors(self) -> tuple[Factor, ...]:
        """The atomic distributions whose product this is, in the author's order."""

    @property
    def graph(self) -> FactorGraph:
        """Which variable depends on which: ``print(p.graph)`` draws it."""
        return FactorGraph(factor.statement for factor in self.factors)

    @property
    def var(self) -> Names:
        """The variables it is a distribution of."""
        return self.graph.var

    @property
    def cond_var(self) -> Names:
        """The variables it is conditioned on."""
        return self.graph.cond_var

    @property
    def name(self) -> str:
        """The letter in front of the parenthesis."""
        return self.statement.name

    @property
    @abstractmethod
    def statement(self) -> Statement:
        """The whole as one statement, such as ``p(x,z|y)``."""

    @property
    def hidden_var(self) -> Names:
        """Variables that are summed out, but whose posterior is still known: the index of a mixture."""
        return ()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Subclasses compute their parameters here; without that, ``p(x)`` has no meaning, and the error says what has."""
        mistakes.called(self)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        mistakes.as_tensor_function(func, (*args, *(kwargs or {}).values()))

    @property
    def is_bound(self) -> bool:
        """Whether its log-density is a lower bound in expectation, as that of a flow with dequantisation."""
        return any(factor.is_bound for factor in self.factors)

    # ------------------------------------------------------------------ verbs that build

    def __mul__(self, other: object) -> Distribution:
        """``p(x|z) * p(z) = p(x,z)``: one factor per variable, no cycles.  ``math.prod([p, q, ...])`` is the product of several."""
        from probflow.distributions.joint import product

        if isinstance(other, (int, float, Tensor)):
            mistakes.in_arithmetic(self, other, "*")
        if not isinstance(other, Distribution):
            return NotImplemented
        return product(self.factors + other.factors)

    def __rmul__(self, other: object) -> Distribution:
        if type(other) is int and other == 1:  # the empty product, with which math.prod begins
            return self
        mistakes.in_arithmetic(self, other, "*")

    def __add__(self, other: object) -> NoReturn:
        mistakes.in_arithmetic(self, other, "+")

    def __sub__(self, other: object) -> NoReturn:
        mistakes.in_arithmetic(self, other, "-")

    def __truediv__(self, other: object) -> NoReturn:
        mistakes.in_arithmetic(self, other, "/")

    def __neg__(self) -> NoReturn:
        mistakes.in_arithmetic(self, "nothing else", "-")

    __radd__, __rsub__, __rtruediv__ = __add__, __sub__, __truediv__

    def log(self) -> NoReturn:
        """A logarithm is an expression: ``log(p)``."""
        raise LossError(
            f"{self.statement}: write pf.log(p), its log-density as an expression, or p.log_prob({{...}}), a number."
        )

    def replace_var(self, mapping: Mapping[str, str] | None = None, **renames: str) -> Distribution:
        """The same factors and weights under other variable names; swaps are allowed: ``p.replace_var(x="z", z="x")``.

        Names that are not Python identifiers go in a dict: ``p.replace_var({"z'": "z"})``.
        """
        from probflow.distributions.joint import product
        from probflow.distributions.renamed import rename

        table = {**(mapping or {}), **renames}
        boundary.check_unknown(table, self.var + self.cond_var, f"replace_var: {self.statement}")
        FactorGraph([self.statement.rename(table)])  # one clash check for the whole, before anything is built
        return product(tuple(rename(factor, table) for factor in self.factors))

    def marginalize_var(self, *names: str | Sequence[str]) -> Distribution:
        r"""The marginal :math:`\int p \,\mathrm dz`: can always be sampled, and has a density where the integral is exact.

        A variable that nothing else depends on is dropped; a finite one is summed out; a deterministic one is substituted.
        """
        from probflow.distributions.marginal import marginalize
        from probflow.graph import names as as_names

        gone: Names = tuple(n for entry in names for n in as_names(entry, "marginalize_var"))
        if not gone:
            raise ArgumentError(f"marginalize_var needs a variable of {self.statement}: p.marginalize_var('z').")
        boundary.check_unknown(gone, self.var, f"marginalize_var: {self.statement}")
        return marginalize(self, gone)

    def given(self, values: Values | None = None, **more: Tensor) -> Distribution:
        """Fixes conditioning variables, or observes variables, at given values (dimension 0 is the batch)."""
        from probflow.distributions.given import fix

        what = f"given: {self.statement}"
        known = boundary.check_mapping({} if values is None else values, what, self.var + self.cond_var)
        fixed = boundary.check_mapping({**known, **more}, what, self.var + self.cond_var)
        if not fixed:
            names = ", ".join(self.var + self.cond_var)
            raise ArgumentError(f"given needs a value: {self.statement} has the variables {names}.")
        boundary.check_unknown(fixed, self.var + self.cond_var, what)
        return fix(self, dict(fixed))

    def posterior(self, *names: str | Sequence[str]) -> Distribution:
        r"""Exact :math:`p(z \mid \text{rest})` where z is finite (Bayes' rule over all its states)."""
        from probflow.graph import names as as_names

        wanted: Names = tuple(dict.fromkeys(n for entry in names for n in as_names(entry, "posterior")))
        if not wanted:
            raise ArgumentError(f"posterior needs a variable of {self.statement}: p.posterior('z').")
        boundary.check_unknown(wanted, self.var + self.hidden_var, f"posterior: {self.statement}")
        return self._posterior(wanted)

    # ------------------------------------------------------------------ verbs that compute

    def sample(
        self,
        values: Values | None = None,
        batch_n: int | None = None,
        sample_shape: int | Sequence[int] = (),
        reparam: bool = False,
        return_all: bool = True,
        sample_mean: bool = False,
        **unknown: NoReturn,
    ) -> Samples:
        """Ancestral sampling: a dict name -> tensor of shape ``(*sample_shape, batch, *event)``.

        values: the conditioning variables; variables of the distribution itself may be given too and are then kept.
        batch_n: how many independent rows, where no value says it.  reparam: keep the pathwise gradient.
        return_all: also return what was given.  sample_mean: the mean of each factor instead of a draw.
        """
        from probflow.distributions.ancestral import ancestral

        mistakes.not_values(self, f"sample: {self.statement}", values)
        if unknown:
            raise mistakes.values_as_keywords(self, f"sample: {self.statement}", unknown, _SAMPLE, _SAMPLE_HINTS)
        known = boundary.check_mapping({} if values is None else values, f"sample: {self.statement}", self.cond_var)
        shape = boundary.as_shape(sample_shape, "sample_shape")
        if sample_mean and shape:
            raise ArgumentError("sample_mean has no samples to repeat: leave sample_shape out.")
        what = f"sample: {self.statement}"
        boundary.check_unknown(known, self.var + self.cond_var, what)
        p = self._for(frozenset(known))
        boundary.check_missing(known, p.cond_var, what, "sample")
        leads = boundary.leading_dims(known, p._event_ranks(), None, what)
        batch = p._batch(known, leads, what)
        if batch_n is not None:
            if isinstance(batch_n, bool) or not isinstance(batch_n, int) or batch_n < 0:
                raise ArgumentError(f"{what}: batch_n must be a non-negative integer, got {batch_n!r}.")
            if batch not in (None, batch_n):
                raise boundary.rows_given(what, batch_n, batch)
            batch = batch_n
        with torch.set_grad_enabled(reparam and torch.is_grad_enabled()), checked():
            drawn = ancestral(p, known, leads, 1 if batch is None else batch, shape, reparam, sample_mean)
            if not reparam and torch.is_autocast_enabled("cpu"):
                torch.clear_autocast_cache()  # older torch would reuse these gradient-free casts of the weights for training
        if not return_all:
            drawn = Samples({n: drawn[n] for n in self.var}, drawn.sample_dims)
        return drawn

    def rsample(
        self, values: Values | None = None, batch_n: int | None = None, sample_shape: int | Sequence[int] = ()
    ) -> Samples:
        """:meth:`sample` with the pathwise gradient kept (``reparam=True``)."""
        return self.sample(values, batch_n, sample_shape, reparam=True)

    def log_prob(
        self, values: Values | None = None, sample_dims: int | Mapping[str, int] | None = None, **unknown: NoReturn
    ) -> Tensor:
        """log p(var | cond_var) at `values`, in nats: shape ``(batch,)``, or ``(*sample_shape, batch)`` with samples.

        What `sample` returns remembers its sample dimensions; for plain tensors they follow from declared event shapes, or are
        said by `sample_dims` (for all variables, or a dict).
        """
        what = f"log_prob: {self.statement}"
        if unknown:
            raise mistakes.values_as_keywords(self, what, unknown, ("values", "sample_dims"), {})
        if values is None:
            names = ", ".join(f"{n!r}: ..." for n in self.var + self.cond_var)
            raise ArgumentError(f"{what} is a number, and needs values: {{{names}}}.\nFor the expression write log(p).")
        known = boundary.check_mapping(values, what, self.var + self.cond_var)
        p = self._for(frozenset(known))
        needed = p.var + p.cond_var
        boundary.check_missing(known, needed, what, "log_prob")
        dims = known.sample_dims if isinstance(known, Samples) else None
        known = {n: known[n] for n in needed}
        if dims is not None:
            known = Samples(known, dims)
        if isinstance(sample_dims, Mapping):
            boundary.check_unknown(sample_dims, needed, f"{what}: sample_dims")
        leads = boundary.leading_dims(known, p._event_ranks(), sample_dims, what)
        batch = p._batch(known, leads, what)
        with checked():
            result = p._log_prob(known, leads)
        return result if batch in (None, result.shape[-1]) else result.expand(*result.shape[:-1], batch)

    def mean(self, values: Values | None = None) -> Tensor:
        """E[var | cond_var], of shape ``(batch, *event)``, where it is known."""
        return self._only(values, "mean").mean()[0]

    def variance(self, values: Values | None = None) -> Tensor:
        """Var[var | cond_var], elementwise, of shape ``(batch, *event)``, where it is known."""
        return self._only(values, "variance").variance()[0]

    def entropy(self, values: Values | None = None) -> Tensor:
        """-E[log p], of shape ``(batch,)``, in nats, where it is known; ``Entropy(p)`` estimates it elsewhere."""
        return self._only(values, "entropy").entropy()

    def _only(self, values: Values | None, what: str) -> Bound:
        """The bound of an atomic distribution at `values`, for its moments."""
        if len(self.factors) != 1:
            raise NoClosedForm(
                f"{what}: {self.statement} has several factors; ask one of them "
                f"({', '.join(str(f.statement) for f in self.factors)}), or use E(p)[...]."
            )
        label = f"{what}: {self.statement}"
        known = boundary.check_mapping({} if values is None else values, label, self.cond_var)
        (factor,) = self._for(frozenset(known)).factors
        boundary.check_missing(known, factor.cond_var, label, what)
        dims = known.sample_dims if isinstance(known, Samples) else None
        known = {n: known[n] for n in factor.cond_var}
        known = known if dims is None else Samples(known, dims)
        leads = boundary.leading_dims(known, factor._event_ranks(), None, label)
        factor._batch(known, leads, label)
        with checked():
            return factor.bind([known[n] for n in factor.cond_var], [leads[n] for n in factor.cond_var])

    def _log_prob(self, values: Values, leads: Mapping[str, int], check: bool = True) -> Tensor:
        """The sum of the factors' log-densities; names and batch are already checked."""
        total: Tensor | None = None
        for factor in self.factors:
            factor.check_density()
            bound = factor.bind([values[n] for n in factor.cond_var], [leads[n] for n in factor.cond_var])
            term = bound.log_prob(tuple(values[n] for n in factor.var), tuple(leads[n] for n in factor.var), check)
            total = term if total is None else total + term
        if total is None:  # a product always has a factor
            raise ArgumentError("an empty product has no density.")
        return total

    def _for(self, known: frozenset[str]) -> Distribution:
        """The distribution to use when these names have values: itself, unless it works with a subset of its conditions."""
        return self

    def _posterior(self, wanted: Names) -> Distribution:
        """p(wanted | rest), exact; the names are checked."""
        from probflow.distributions.posterior import Posterior

        return Posterior(self, wanted)

    def _batch(self, values: Values, leads: Mapping[str, int], what: str) -> int | None:
        """The one batch size of the values and of what is fixed inside; None where nothing says it."""
        size = boundary.batch_size(values, leads, what)
        for factor in self.factors:
            fixed = factor.fixed_batch
            if fixed is not None and size not in (None, fixed):
                raise ShapeError(f"{what}: {factor.statement} is given {fixed} rows, but the other values have batch {size}.")
            size = fixed if size is None else size
        return size

    def _event_ranks(self) -> dict[str, int | None]:
        return {n: rank for factor in self.factors for n, rank in zip(factor.var, factor.event_ranks, strict=True)}

    # ------------------------------------------------------------------ readings

    def __str__(self) -> str:
        from probflow.distributions.describe import describe

        return describe(self)

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        from probflow.distributions.describe import latex

        return f"${latex(self)}$"

    @property
    def _ipython_display_(self) -> Callable[[], None] | None:
        from probflow.distributions.drawing import picture
        from probflow.graph.notebook import displayer

        return displayer(self.__str__, self._repr_latex_, lambda: picture(self))


class Factor(Distribution):
    """An atomic distribution: one statement, and a rule that turns its conditioning values into a :class:`Bound`.

    >>> import probflow as pf
    >>> q = pf.Bernoulli("q(b | x)", logits="x")
    >>> isinstance(q, pf.Factor), q.finite, q.reparameterised
    (True, True, False)
    >>> [str(factor.statement) for factor in (q * pf.Normal("p(x)", loc=0.0, scale=1.0)).factors]
    ['q(b|x)', 'p(x)']
    """

    finite: bool = False
    """Whether its variables have finitely many states."""

    reparameterised: bool = True
    """Whether a draw is a differentiable function of the parameters (rsample)."""

    normalised: bool = True
    """Whether its density integrates to 1; not so for an energy or an observed factor."""

    along_the_draw: bool = False
    """Whether the log-density of a value just drawn is best computed while drawing it, as for a flow."""

    def __init__(self, statement: Statement) -> None:
        super().__init__()
        self._statement = statement

    @property
    def statement(self) -> Statement:
        return self._statement

    @property
    def graph(self) -> FactorGraph:
        graph = self.__dict__.get("_graph")
        if graph is None:
            graph = self.__dict__["_graph"] = FactorGraph([self.statement])
        return graph

    @property
    def factors(self) -> tuple[Factor, ...]:
        return (self,)

    @property
    def var(self) -> Names:
        return self.statement.var

    @property
    def cond_var(self) -> Names:
        return self.statement.cond_var

    @property
    def is_bound(self) -> bool:
        return False

    @property
    def origin(self) -> Factor:
        """Whose weights these are: the factor itself, or the one that this is a renamed copy of."""
        return self

    @property
    def kind(self) -> object:
        """What closed forms are looked up by; the family, for the parametric ones."""
        return type(self)

    @property
    def prefers_negative(self) -> bool:
        """Whether the negative of the log-density takes fewer operations than the log-density, so that plans compute that."""
        return getattr(self.kind, "event_nll", None) is not None

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        """The number of event dimensions of each variable, where it is known before a network has run."""
        return (None,) * len(self.var)

    @property
    def fixed_batch(self) -> int | None:
        """The batch size of values fixed inside (``p.given(y=...)`` with several rows); None where any batch will do."""
        return None

    @abstractmethod
    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        """Fill in the conditioning variables, in statement order, each with its number of leading sample dimensions."""

    def binder(self, leads: tuple[int, ...], dense: bool = False) -> Callable[..., Bound]:
        """:meth:`bind` for inputs with these numbers of sample dimensions: what a plan calls in every evaluation.

        dense: the parameters enter a density, so that those which make it NaN need not be searched for in advance.
        """
        dims = list(leads)
        return lambda *inputs: self.bind(list(inputs), dims)

    def state_count(self) -> int | None:
        """The number of states of a finite factor, where it is known before a network has run."""
        return None

    def describe(self) -> str:
        """One line: the family and the network or constants behind it."""
        return type(self).__name__

    def check_sampler(self) -> None:
        """Raise NoSampler where the factor cannot be sampled (asked before anything is drawn)."""

    def check_density(self) -> None:
        """Raise NoDensity where the factor cannot be evaluated at given values (asked before anything is computed)."""


def unsampled(factor: Factor, why: str, instead: str) -> NoSampler:
    """The error of a factor that can only be evaluated."""
    return NoSampler(f"{factor.statement} cannot be sampled: {why}.\n{instead}")


def _collides(cls: type, name: str, value: object) -> bool:
    """Whether an attribute `name` would hide, or be hidden by, one that the library (or nn.Module) relies on."""
    layer = isinstance(value, (nn.Module, Tensor))
    if name in _PRIVATE:
        return layer
    owner = next((base for base in cls.__mro__ if name in base.__dict__), None)
    if owner is None or not (owner is nn.Module or owner.__module__.startswith("probflow.")):
        return False
    return layer or isinstance(owner.__dict__[name], property)
