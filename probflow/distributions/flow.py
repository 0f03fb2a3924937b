"""Normalizing flows: a distribution whose density is the change-of-variables formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform as TorchTransform

from probflow._typing import Names, NamesLike, Shape, Values
from probflow.checks import checked
from probflow.distributions import values as boundary
from probflow.distributions.base import Distribution, Factor, unsampled
from probflow.distributions.binders import Layers
from probflow.distributions.bound import Bound
from probflow.distributions.flow_bound import FlowBound
from probflow.distributions.parametric import Parametric
from probflow.distributions.signature import keywords_for
from probflow.distributions.values import Samples, fold
from probflow.domains import Domain, natural
from probflow.errors import ArgumentError, NoDensity, ShapeError
from probflow.graph import make_statement
from probflow.graph import names as as_names
from probflow.printing import shape_text
from probflow.transforms import Compose, Transform
from probflow.transforms.containment import contains
from probflow.transforms.torch_transform import as_transform


class Flow(Factor):
    r"""x = f(z; c) with z ~ base (Prince, *Understanding Deep Learning*, eq. 16.1; Papamakarios et al., arXiv:1912.02762, eq. 5):

    .. math:: \log p(x \mid c) = \log p_z\big(f^{-1}(x; c)\big) + \log\left|\det \frac{\partial f^{-1}(x; c)}{\partial x}\right|.

    base: any distribution of one variable, conditional too.  transform: a :class:`probflow.transforms.Transform` (or one of
    ``torch.distributions.transforms``), or a list of them; every layer that takes a context gets the same one.

    The statement is the third argument, ``"p(x | y)"``, or ``var=, cond_var=, name=``.  The context of the layers is made of the
    conditioning variables, flattened and concatenated in the order of the statement, or is what `embedding` (any module, called
    with the variables by name) returns.  `context` names those that the layers get, where the base alone is to get the others.

    ``sample`` and ``rsample`` are differentiable to the base and to every layer; ``sample_with_log_prob`` draws and evaluates in one
    pass, which needs no inverse.  ``to_noise`` gives z, ``from_noise`` goes back.  The density is exact, in nats, of shape
    ``(batch,)``; a stochastic inverse (dequantisation) makes it a lower bound in expectation.

    Errors: ArgumentError, ShapeError at construction where base, transform and statement do not fit.

    >>> import torch
    >>> from probflow.distributions import Normal
    >>> from probflow.transforms import Affine, Coupling
    >>> base = Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    >>> p = Flow(base, [Coupling(2, context=3), Affine(2)], "p(x | y)")
    >>> y = torch.zeros(5, 3)
    >>> x = p.sample({"y": y})
    >>> p.log_prob(x).shape, p.to_noise(x)["z"].shape
    (torch.Size([5]), torch.Size([5, 2]))
    """

    along_the_draw = True

    def __init__(
        self,
        base: Distribution,
        transform: Transform | TorchTransform | Sequence[Any],
        statement: str | None = None,
        *,
        var: NamesLike | None = None,
        cond_var: NamesLike | None = None,
        name: str | None = None,
        embedding: Callable[..., Tensor] | None = None,
        context: NamesLike | None = None,
    ) -> None:
        super().__init__(make_statement(statement, var=var, cond_var=cond_var, name=name))
        label = f"Flow {self.statement}"
        if not isinstance(base, Factor) or len(base.var) != 1:
            got = f"{base.statement}" if isinstance(base, Distribution) else f"a {type(base).__name__}"
            raise ArgumentError(f"{label}: the base must be one distribution of one variable, got {got}.")
        if len(self.var) != 1:
            raise ArgumentError(f"{label}: a flow has exactly one variable, got {', '.join(self.var)}.")
        if isinstance(transform, (list, tuple)):
            transform = Compose(transform)
        self.base = base
        self.transform = as_transform(transform)
        self._context = self._context_names(context, label)
        self._embed: Callable[..., Tensor] | None = None
        self._embed_keywords: Names | None = None
        if embedding is not None:
            self._take_embedding(embedding, label)
        self.reparameterised = base.reparameterised and self.transform.differentiable
        self.normalised = base.normalised
        self._check_fit(label)

    # ------------------------------------------------------------------ construction

    def _context_names(self, context: NamesLike | None, label: str) -> Names:
        """The conditioning variables that the layers get."""
        base: Factor = self.base
        lacking = [n for n in base.cond_var if n not in self.cond_var]
        if lacking:
            raise ArgumentError(
                f"{label}: its base {base.statement} is conditioned on {', '.join(lacking)}; so must the flow be: "
                f'"{self.name}({self.var[0]} | {", ".join([*self.cond_var, *lacking])})".'
            )
        if context is not None:
            chosen = as_names(context, "context")
            boundary.check_unknown(chosen, self.cond_var, f"{label}: context")
        else:
            chosen = self.cond_var if self.transform.context is not None else ()
        if self.transform.context is not None and not chosen:
            raise ArgumentError(
                f"{label}: its layers take a context of shape {shape_text(self.transform.context)}, but the statement has no "
                f'conditioning variable. Write "{self.name}({self.var[0]} | y)".'
            )
        if chosen and self.transform.context is None:
            raise ArgumentError(f"{label}: no layer takes a context. Build them with context=....")
        idle = [n for n in self.cond_var if n not in chosen and n not in base.cond_var]
        if idle:
            raise ArgumentError(
                f"{label}: nothing uses {', '.join(idle)}. Build the layers with context=..., condition the base on it, or leave it "
                "out of the statement."
            )
        return chosen

    def _take_embedding(self, embedding: Callable[..., Tensor], label: str) -> None:
        if not callable(embedding) or isinstance(embedding, type):
            raise ArgumentError(f"{label}: the embedding must be a module or a function, got {embedding!r}.")
        if not self._context:
            raise ArgumentError(f"{label}: an embedding needs conditioning variables and layers with context=....")
        if isinstance(embedding, nn.Module):
            self.embedding = embedding
        else:
            object.__setattr__(self, "_embed", embedding)
        self._embed_keywords = keywords_for(embedding, self._context, label)

    def _check_fit(self, label: str) -> None:
        """Shapes and supports of base and transform, as far as they are known now."""
        base, event, shape = self.base, self._base_event(), self.transform.shape
        if event is not None and shape is not None and event != shape:
            hint = f"\nDeclare it: features_shape={list(shape)}." if event == () else ""
            raise ShapeError(
                f"{label}: the transform takes events of shape {shape_text(shape)}, but the base {base.statement} has events of shape "
                f"{shape_text(event)}.{hint}"
            )
        support = base.origin.family.support if isinstance(base.origin, Parametric) else None
        if isinstance(support, Domain) and not contains(self.transform.domain, support):
            raise ArgumentError(
                f"{label}: the transform takes {self.transform.domain.text}, but the base {base.statement} gives {support.text}."
            )
        if isinstance(support, Domain) and (base.finite or support is natural):
            raise ArgumentError(
                f"{label}: the base {base.statement} is discrete ({support.text}): it has probabilities, but a change of variables needs "
                "a density.\nTake a continuous base, such as Normal."
            )
        event = event if event is not None else shape
        self._event = None if event is None else self.transform.forward_shape(event)

    def _base_event(self) -> Shape | None:
        base = self.base.origin
        if isinstance(base, Flow):
            return base._event
        if isinstance(base, Parametric):
            if base._features is not None:
                return base._features
            if not base.cond_var:
                return tuple(base.bind([], []).event)  # type: ignore[attr-defined]
        return None

    # ------------------------------------------------------------------ what it says of itself

    @property
    def prefers_negative(self) -> bool:
        return self.base.prefers_negative

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        return (None if self._event is None else len(self._event),)

    @property
    def fixed_batch(self) -> int | None:
        return self.base.fixed_batch

    @property
    def is_bound(self) -> bool:
        return self.transform.is_bound or self.base.is_bound

    def check_sampler(self) -> None:
        if self.transform.forward_cost == "absent":
            raise unsampled(self, "its transform cannot be computed from z to x", "Turn the transform around: transform.inv.")
        self.base.check_sampler()

    def check_density(self) -> None:
        if self.transform.inverse_cost == "absent":
            raise NoDensity(
                f"{self.statement} has no density at given values: its transform has no inverse that can be computed.\n"
                "Its density is known at its own draws: use it as q in E(q)[...], KL(q, p) or ELBO(p, q), or sample_with_log_prob."
            )
        self.base.check_density()

    def describe(self) -> str:
        transform = self.transform
        layers = (
            f"{len(transform)} layer{'s' * (len(transform) != 1)}" if isinstance(transform, Compose) else transform._title()
        )
        parts = [f"flow of {layers} on {self.base.statement}, {self.base.describe()}"]
        if transform.inverse_cost != "one pass":
            parts.append(f"density {transform.inverse_cost}")
        if transform.forward_cost != "one pass":
            parts.append(f"sampling {transform.forward_cost}")
        if self.is_bound:
            parts.append("log-density a lower bound")
        return "; ".join(parts)

    # ------------------------------------------------------------------ binding

    def bind(self, inputs: list[Tensor], leads: list[int]) -> FlowBound:
        places = {n: i for i, n in enumerate(self.cond_var)}
        own = [places[n] for n in self.base.cond_var]
        base = self.base.bind([inputs[i] for i in own], [leads[i] for i in own])
        context = None
        if self._context:
            used = [places[n] for n in self._context]
            context = self._context_of([inputs[i] for i in used], [leads[i] for i in used])
        return FlowBound(self.statement, self.transform, base, context, self._event)

    def binder(self, leads: tuple[int, ...], dense: bool = False) -> Callable[..., Bound]:
        if self.cond_var:
            return super().binder(leads, dense)
        return Layers(self, self.base.binder((), dense))

    def _context_of(self, inputs: list[Tensor], leads: list[int]) -> Tensor:
        """The layers' context, ``(*lead, batch, *context)``, computed once for all layers."""
        folded, front = fold(inputs, leads)
        module = self._modules.get("embedding", self._embed)
        if module is not None:
            keywords = self._embed_keywords
            try:
                context: Tensor = module(*folded) if keywords is None else module(**dict(zip(keywords, folded, strict=True)))
            except Exception as error:
                if torch.compiler.is_compiling():
                    raise
                from probflow.distributions.diagnose import network_error

                raise network_error(
                    self, self._context, folded, error, part=module if isinstance(module, nn.Module) else nn.Identity()
                ) from error
        else:
            context = self._joined(folded)
        wanted = self.transform.context or ()
        if context.shape[1:] != wanted:
            what = ", ".join(f"{n} {shape_text(t.shape)}" for n, t in zip(self._context, folded, strict=True))
            made = "the embedding gives" if module is not None else "together they give"
            raise ShapeError(
                f"{self.statement}: its layers take a context of shape {shape_text(wanted)} per row, but {made} "
                f"{shape_text(context.shape[1:])}.\n  given: {what}"
            )
        return context.unflatten(0, front) if len(front) > 1 else context

    def _joined(self, inputs: list[Tensor]) -> Tensor:
        for name, value in zip(self._context, inputs, strict=True):
            if not value.is_floating_point():
                raise ArgumentError(
                    f"{self.statement}: {name!r} has dtype {str(value.dtype).removeprefix('torch.')}, but layers compute with real "
                    f"numbers.\nOne-hot it, pf.data.one_hot({name}, K), or give the flow an embedding, such as nn.Embedding."
                )
        if len(inputs) == 1 and inputs[0].shape[1:] == self.transform.context:
            return inputs[0]
        flat = [value.reshape(value.shape[0], -1) if value.numel() else value.flatten(1) for value in inputs]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat, 1)
        wanted = self.transform.context or ()
        if len(wanted) > 1 and joined.shape[1] == math.prod(wanted):
            return joined.unflatten(1, wanted)
        return joined

    # ------------------------------------------------------------------ noise

    def sample_with_log_prob(
        self,
        values: Values | None = None,
        batch_n: int | None = None,
        sample_shape: int | Sequence[int] = (),
        reparam: bool = False,
    ) -> tuple[Samples, Tensor]:
        """A draw and its log-density, in one pass from noise to data: ``(*sample_shape, batch)``; needs no inverse."""
        what = f"sample_with_log_prob: {self.statement}"
        known = boundary.check_conditions(values, what, self.cond_var)
        boundary.check_unknown(known, self.cond_var, what)
        boundary.check_missing(known, self.cond_var, what, "sample_with_log_prob")
        shape = boundary.as_shape(sample_shape, "sample_shape")
        self.check_sampler()
        leads = boundary.leading_dims(known, {}, None, what)
        batch = self._batch(known, leads, what)
        if batch is not None and batch_n not in (None, batch):
            raise boundary.rows_given(what, batch_n, batch)
        rows = batch if batch is not None else 1 if batch_n is None else batch_n
        with torch.set_grad_enabled(reparam and torch.is_grad_enabled()), checked():
            bound = self.bind([known[n] for n in self.cond_var], [leads[n] for n in self.cond_var])
            (x,), log_prob = bound.draw_with_log_prob(shape, rows, reparam)
        lead = len(shape) + bound.lead
        return Samples({**known, self.var[0]: x}, {**leads, self.var[0]: lead}), log_prob

    def to_noise(self, values: Values, sample_dims: int | None = None) -> Samples:
        """The base variable's value z = f⁻¹(x), a dict; a multi-scale flow has the noise of its slices beside, ``z_1``, ``z_2``, ...

        ``from_noise`` takes it back to x.
        """
        what = f"to_noise: {self.statement}"
        known = boundary.check_mapping(values, what, self.var + self.cond_var)
        boundary.check_missing(known, self.var + self.cond_var, what, "to_noise")
        self.check_density()
        dims = known.sample_dims if isinstance(known, Samples) else None
        known = {n: known[n] for n in self.var + self.cond_var}
        known = known if dims is None else Samples(known, dims)
        leads = boundary.leading_dims(known, self._event_ranks(), sample_dims, what)
        self._batch(known, leads, what)
        bound = self.bind([known[n] for n in self.cond_var], [leads[n] for n in self.cond_var])
        noise = bound.encode(known[self.var[0]], leads[self.var[0]])
        lead = max(leads.values())
        return Samples(
            dict(zip(self._noise_names(len(noise)), noise, strict=True)), dict.fromkeys(self._noise_names(len(noise)), lead)
        )

    def from_noise(self, noise: Values, values: Values | None = None) -> Tensor:
        """x = f(z; c) for noise as `to_noise` gives it and the conditioning `values`; differentiable."""
        what = f"from_noise: {self.statement}"
        known = boundary.check_mapping({} if values is None else values, what, self.cond_var)
        boundary.check_missing(known, self.cond_var, what, "from_noise")
        given = boundary.check_mapping(noise, what, self.base.var)
        boundary.check_missing(given, self.base.var, what, "from_noise")
        self.check_sampler()
        leads = boundary.leading_dims({n: known[n] for n in self.cond_var}, {}, None, what)
        first = self.base.var[0]
        dims = noise.sample_dims if isinstance(noise, Samples) else {}
        rank = self.transform.event_rank if self.transform.shape is None else len(self.transform.shape)
        lead = dims.get(first, given[first].dim() - 1 - rank if self.transform.shape is not None else 0)
        bound = self.bind([known[n] for n in self.cond_var], [leads[n] for n in self.cond_var])
        return bound.decode(tuple(given[n] for n in self._noise_names(len(given))), lead)

    def _noise_names(self, count: int) -> list[str]:
        first = self.base.var[0]
        return [first, *(f"{first}_{place}" for place in range(1, count))]

    def tempered(self, temperature: float) -> Flow:
        """The same flow with all of its noise scaled: z ~ N(loc, (temperature · scale)²); weights are shared.

        Samples at a temperature below 1 are more typical and less diverse (Kingma & Dhariwal, arXiv:1807.03039, section 5).

        Errors: ArgumentError where the base is not Normal, or the temperature not positive.
        """
        if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not temperature > 0:
            raise ArgumentError(f"{self.statement}: the temperature must be positive, got {temperature!r}.")
        from probflow.distributions.tempered import TemperedNormal

        names = self._context or None
        return Flow(
            TemperedNormal(self.base, temperature),
            self.transform.tempered(temperature),
            str(self.statement),
            embedding=self._modules.get("embedding", self._embed),
            context=names,
        )
