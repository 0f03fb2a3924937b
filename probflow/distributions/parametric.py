"""Distributions of a parametric family: a table row (what the family is) and a parameter source (where its parameters come from)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from probflow import domains
from probflow._typing import NamesLike, Shape
from probflow.checks import compiling, is_lenient
from probflow.distributions.binders import Constants, FromNetwork
from probflow.distributions.bound import Bound
from probflow.distributions.family import Family, FamilyBound, Params
from probflow.distributions.mistakes import parameter_hint
from probflow.distributions.networked import Networked
from probflow.distributions.shapes import broadcast, misfit
from probflow.distributions.values import as_shape, fold
from probflow.errors import (
    ArgumentError,
    NameCollision,
    NetworkError,
    ParameterError,
    ShapeError,
)
from probflow.graph import make_statement
from probflow.printing import kind_text, shape_text

_WIDE = (torch.float32, torch.float64)


def _first(params: Params) -> Tensor | None:
    """Any one of the parameters; a loop, as older torch.compile cannot trace ``next(..., None)``."""
    for tensor in params.values():
        return tensor
    return None


def _positive(tensor: Tensor) -> bool:
    """A glance at the smallest element; anything doubtful is looked at again."""
    return tensor.is_cpu and tensor.numel() > 0 and tensor.detach().amin().item() > 0


class Parametric(Networked):
    """A distribution of a parametric family.  Each family is a subclass that names its row: ``class Normal(..., family=Family(...))``.

    Its parameters come from, in any mixture: the `forward` of a user's subclass, a network passed in, constants (numbers and
    tensors are buffers, ``nn.Parameter`` is trained), or the name of a conditioning variable (``loc="x"``).

    >>> import torch
    >>> import probflow as pf
    >>> a = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)  # numbers
    >>> b = pf.Normal("p(x | z)", loc="z", scale=0.5)  # the name of a variable
    >>> c = pf.Normal("p(x | z)", lambda z: {"loc": 2 * z, "scale": 1 + z**2})  # a network, or any function
    >>> c.mean({"z": torch.ones(1, 2)})
    tensor([[2., 2.]])
    """

    family: ClassVar[Family]

    def __init_subclass__(cls, family: Family | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if family is not None:
            family = replace(family, name=cls.__name__)
            cls.family = family
            cls.finite = family.states is not None
            cls.reparameterised = family.has_rsample

    def __init__(
        self,
        statement: str | None = None,
        network: Callable[..., Any] | None = None,
        *more: NoReturn,
        var: NamesLike | None = None,
        cond_var: NamesLike | None = None,
        name: str | None = None,
        features_shape: int | Sequence[int] | None = None,
        **params: Tensor | float | str,
    ) -> None:
        if not hasattr(type(self), "family"):
            raise ArgumentError("Parametric has no family of its own: use one of its subclasses, such as Normal.")
        if statement is not None and not isinstance(statement, str):
            raise ArgumentError(
                f'The first argument of {type(self).__name__} is its statement, such as "p(x | z)", got a '
                f'{type(statement).__name__}.\nWrite {type(self).__name__}("p(x | z)", network), or name parameters: loc=..., scale=....'
            )
        if more or isinstance(network, (int, float, Tensor)):
            values = ", ".join(f"{parameter}=..." for parameter in self.family.params)
            raise ArgumentError(
                f"{type(self).__name__} takes its statement and a network; parameters have names: "
                f"{type(self).__name__}({statement!r}, {values})."
            )
        parsed = make_statement(statement, var=var, cond_var=cond_var, name=name)
        super().__init__(parsed, network, parsed.cond_var)
        label = f"{type(self).__name__} {self.statement}"
        if len(self.var) != 1:
            raise ArgumentError(
                f"{label} must have exactly one variable, got {', '.join(self.var)}; use a product for several."
            )
        self._features = as_shape(features_shape, f"{label}: features_shape") if features_shape is not None else None
        self._strings: dict[str, int] = {}
        self._seen: tuple[str, ...] | None = None  # names that the network returned, once they have been checked
        self._constants: tuple[str, ...] = ()
        self._take_constants(params, label)
        used = bool(self._source) or set(self._strings.values()) == set(range(len(self.cond_var)))
        if self.cond_var and not used:
            idle = [n for i, n in enumerate(self.cond_var) if i not in self._strings.values()]
            raise ArgumentError(
                f"{label}: nothing uses {', '.join(idle)}. Pass a network that takes it, or leave it out of the statement."
            )
        if not self._source:
            self._check_complete(set(self._constants) | set(self._strings), label)
            if self.family.check is not None and not self._strings:
                self.bind([], [])  # all parameters are known: look at them together now

    # ------------------------------------------------------------------ where parameters come from

    def _take_constants(self, params: Mapping[str, Tensor | float | str], label: str) -> None:
        constants: list[str] = []
        for name, value in params.items():
            if name not in self.family.params:
                raise ParameterError(
                    f"{label} has no parameter {name!r}.{parameter_hint(name, self.family.params)}\n"
                    f"  its parameters: {self._signature()}"
                )
            if isinstance(value, str):
                if value not in self.cond_var:
                    raise ParameterError(
                        f"{label}: {name}={value!r} names no conditioning variable.\n"
                        f"A string parameter is the name of one: {', '.join(self.cond_var) or 'the statement has none'}."
                    )
                self._strings[name] = self.cond_var.index(value)
                continue
            if isinstance(value, bool) or not isinstance(value, (Tensor, int, float, list, tuple)):
                raise ParameterError(
                    f"{label}: {name} must be a number, a tensor, an nn.Parameter, or the name of a conditioning variable, got "
                    f"{kind_text(value)}."
                )
            constants.append(name)
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            elif isinstance(value, Tensor):
                self.register_buffer(name, value if value.is_floating_point() else value.to(torch.get_default_dtype()))
            else:
                self.register_buffer(name, torch.tensor(value, dtype=torch.get_default_dtype()))
        self._constants = tuple(constants)
        for group in self.family.either:
            both = [n for n in group if n in params]
            if len(both) > 1:
                raise ParameterError(f"{label}: give either {' or '.join(group)}, not {' and '.join(both)}.")
        for name in constants:
            tensor = getattr(self, name)
            self._check_domain(name, tensor, label)
            self._check_declared(name, tensor, label)
        outer = {n: tuple(t.shape[: t.dim() - self.family.params[n].rank]) for n in constants if (t := getattr(self, n)).dim()}
        try:
            broadcast(*outer.values())
        except ShapeError:
            raise ParameterError(misfit(label, outer)) from None

    def _check_declared(self, name: str, tensor: Tensor, label: str) -> None:
        """A constant must fit the declared features_shape."""
        if self._features is None or tensor.dim() == 0:
            return
        rank = self.family.params[name].rank
        outer = tensor.shape[: tensor.dim() - rank]
        target = self._features[: len(self._features) - self.family.event_rank]
        fits = len(outer) <= len(target) and all(a in (1, b) for a, b in zip(reversed(outer), reversed(target), strict=False))
        if not fits:
            raise ParameterError(
                f"{label}: {name} has shape {shape_text(tensor.shape)}, which does not fit features_shape={list(self._features)}."
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module) and name in self.__dict__.get("_constants", ()):
            raise NameCollision(
                f"{type(self).__name__}: {name!r} is already this distribution's constant parameter; a layer cannot have the same name."
            )
        super().__setattr__(name, value)

    def _signature(self) -> str:
        grouped = {n: group for group in self.family.either for n in group}
        parts: list[str] = []
        for name in self.family.params:
            text = " | ".join(grouped[name]) if name in grouped else name
            if name in self.family.defaults:
                text += f"={self.family.defaults[name]:g}"
            if text not in parts:
                parts.append(text)
        return ", ".join(parts)

    def _check_complete(self, names: set[str], label: str) -> None:
        """Exactly one of each group, every other parameter present."""
        grouped = {n for group in self.family.either for n in group}
        lacking = [n for n in self.family.params if n not in grouped and n not in names and n not in self.family.defaults]
        lacking += [" | ".join(g) for g in self.family.either if not names & set(g)]
        if lacking:
            raise ParameterError(f"{label} lacks {', '.join(lacking)}.\n  its parameters: {self._signature()}")
        for group in self.family.either:
            if len(names & set(group)) > 1:
                raise ParameterError(f"{label}: give either {' or '.join(group)}, not both.")

    # ------------------------------------------------------------------ binding

    @property
    def kind(self) -> Family:
        return self.family

    @property
    def event_ranks(self) -> tuple[int | None, ...]:
        if self._features is not None:
            return (len(self._features),)
        if self._source or self._strings:
            return (None,)
        rank = self._constant_rank() + self.family.event_rank
        return (rank or None,)  # numbers alone declare nothing: a forgotten features_shape must not make (128, 64) samples

    def _constant_rank(self) -> int:
        return max([0, *[getattr(self, n).dim() - self.family.params[n].rank for n in self._constants]])

    def state_count(self) -> int | None:
        if not self.finite or self._source or self._strings:
            return None
        states = self.bind([], []).states(2**62)
        return None if states is None else states[0].shape[0]

    def binder(self, leads: tuple[int, ...], dense: bool = False) -> Callable[..., Bound]:
        if self._source and leads and not self._strings and not self._constants:
            return FromNetwork(self, leads, dense and self.family.contagious)
        if not self._source and not self._strings:
            return Constants(self)
        return super().binder(leads)

    def bind(self, inputs: list[Tensor], leads: list[int]) -> Bound:
        if not self._source:
            return self._finish(None, inputs, leads, [], (1,)) if self._strings else Constants(self)()
        folded, front = fold(inputs, leads)
        outputs = self.call(folded)
        bound = None if self._strings or self._constants else self._usual(outputs, front)
        return bound or self._finish(outputs, inputs, leads, folded, front)

    def _finish(self, outputs: Any, inputs: list[Tensor], leads: list[int], folded: list[Tensor], front: Shape) -> Bound:
        """Network outputs, inputs used as parameters, and constants, put together and checked."""
        params: Params = {}
        extra: int | None = None  # event dimensions beyond one event of the family
        if self._source:
            params = self._named(outputs)
            extra = self._check_returned(params, folded)
            if len(front) > 1:
                params = {n: t.unflatten(0, front) if t.dim() and t.shape[0] != 1 else t for n, t in params.items()}
        for name, place in self._strings.items():
            params[name] = inputs[place]
            extra = max(extra or 0, inputs[place].dim() - leads[place] - 1 - self.family.params[name].rank)
            front = broadcast(front, inputs[place].shape[: leads[place] + 1])
        return self._assemble(params, front, extra)

    def _usual(self, outputs: Any, front: Shape, unchecked: bool = False) -> FamilyBound | None:
        """The common case, without detours: all parameters from the network, in a dict seen before, all of one shape."""
        if type(outputs) is not dict or tuple(outputs) != self._seen:
            return None
        family = self.family
        rank = family.one_rank
        shape: torch.Size | None = None
        for tensor in outputs.values():
            if not isinstance(tensor, Tensor):
                return None
            if shape is None:
                shape, dtype = tensor.shape, tensor.dtype
            elif tensor.shape != shape or tensor.dtype != dtype:
                return None
        if shape is None or rank is None or dtype not in _WIDE or len(shape) <= rank:
            return None
        if shape[0] != (front[0] if len(front) == 1 else math.prod(front)):
            return None
        event = tuple(shape[1:]) if rank == family.event_rank else None
        if self._features is not None and event != self._features:
            return None
        quick = is_lenient()
        if not (unchecked and quick) and not compiling():
            for name, domain in family.fragile if quick else family.params.items():
                if name in outputs and not (quick and domain is domains.positive and _positive(outputs[name])):
                    self._check_domain(name, outputs[name])
            if family.check is not None:
                family.check(outputs, str(self.statement))
        if len(front) > 1:
            outputs = {name: tensor.unflatten(0, front) for name, tensor in outputs.items()}
        return FamilyBound(family, self._statement, outputs, front, len(shape) - 1 - rank, event)

    def _all_numbers(self) -> FamilyBound | None:
        """Constants that are single numbers stay so: they broadcast against whatever meets them."""
        family, params = self.family, {}
        if family.one_rank != 0 or family.event_rank or family.defaults:
            return None
        for name in self._constants:
            tensor = self._buffers.get(name)
            tensor = self._parameters[name] if tensor is None else tensor
            if tensor is None or tensor.dim():
                return None
            params[name] = tensor
        if not compiling():
            for name, tensor in params.items():
                if tensor.requires_grad:
                    self._check_domain(name, tensor)
            if family.check is not None:
                family.check(params, str(self.statement))
        event = self._features or ()
        return FamilyBound(family, self.statement, params, (1,), len(event), event)

    def _assemble(self, params: Params, front: Shape, varying: int | None) -> FamilyBound:
        """Network outputs and constants, all with the same number of event dimensions."""
        family = self.family
        extra = varying
        if extra is None:
            extra = self._constant_rank() if self._features is None else len(self._features) - family.event_rank
        coarse: Params = {}
        for name, tensor in params.items():
            if tensor.dtype in (torch.bfloat16, torch.float16) and torch.is_autocast_enabled(tensor.device.type):
                coarse[name] = tensor
                params[name] = tensor.float()  # log and lgamma of 8-bit mantissas are noise
            elif not tensor.is_floating_point():
                floats = (t.dtype for t in params.values() if t.is_floating_point())
                params[name] = tensor.to(next(floats, torch.get_default_dtype()))
            if tensor.dim() == 0:
                params[name] = params[name].reshape([1] * (1 + extra + family.params[name].rank))
        given = _first(params)
        for name in self._constants:
            params[name] = self._constant(name, getattr(self, name), extra, complete=varying is None)
            if given is not None and params[name].dtype != given.dtype:
                params[name] = params[name].to(given.dtype)
        for name, default in family.defaults.items():
            if name not in params:
                like = next(iter(params.values()))
                params[name] = like.new_full([1] * (1 + extra + family.params[name].rank), default)
        if not compiling():
            for name, tensor in params.items():
                if name not in self._constants or tensor.requires_grad:  # buffers were checked at construction
                    self._check_domain(name, coarse.get(name, tensor))  # a bfloat16 softmax sums to 1 as bfloat16 does
            if family.check is not None:
                family.check(params, str(self.statement))
        bound = FamilyBound(family, self.statement, params, front, extra)
        if self._features is not None and varying is not None and bound.event != self._features:
            raise NetworkError(
                f"{self.statement}: the parameters have event shape {shape_text(bound.event)}, but features_shape={list(self._features)}."
            )
        return bound

    def _constant(self, name: str, tensor: Tensor, extra: int, complete: bool) -> Tensor:
        """A constant with a batch dimension of 1; where nothing else gives the event its shape, expanded to it."""
        rank = self.family.params[name].rank
        own = tensor.dim() - rank
        if own < 0:  # a number for a vector parameter
            tensor, own = tensor.expand(*self._vector_shape(name, rank)), 0
        view = tensor.reshape(1, *[1] * (extra - own), *tensor.shape)
        if complete and extra:
            outer = self._features[:extra] if self._features is not None else None
            if outer is None:
                shapes = [
                    getattr(self, n).shape[: getattr(self, n).dim() - self.family.params[n].rank] for n in self._constants
                ]
                outer = broadcast(*shapes)
            if tuple(view.shape[1 : 1 + extra]) != outer:
                view = view.expand(1, *outer, *view.shape[1 + extra :])
        return view

    def _vector_shape(self, name: str, rank: int) -> Shape:
        if self._features is None or rank != 1:
            raise ParameterError(
                f"{self.statement}: {name} needs a tensor with {rank} dimension(s) at least, or features_shape=."
            )
        return self._features[-1:]

    def _named(self, outputs: Any) -> Params:
        """What the network returned, as parameters by name."""
        if isinstance(outputs, dict):
            named = dict(outputs)
        elif isinstance(outputs, Tensor):
            named = {self._single(outputs): outputs}
        elif isinstance(outputs, (tuple, list)):
            order = self._positional(len(outputs))
            named = dict(zip(order, outputs, strict=True))
        else:
            raise NetworkError(
                f"{self.statement}: the network must return a dict of parameters ({self._signature()}), a tuple in that order, or "
                f"one tensor; got {kind_text(outputs)}."
            )
        for name in named:
            if name not in self.family.params:
                raise NetworkError(
                    f"{self.statement}: the network returned {', '.join(map(repr, named))}, but {type(self).__name__} has no "
                    f"parameter {name!r}.{parameter_hint(name, self.family.params)}\n  its parameters: {self._signature()}"
                )
            if name in self._constants or name in self._strings:
                raise NetworkError(
                    f"{self.statement}: {name!r} is given at construction and returned by the network; remove one."
                )
        self._check_complete(set(named) | set(self._constants) | set(self._strings), f"{self.statement}: the network's output")
        if not (self._constants or self._strings or any(n not in named for n in self.family.defaults)):
            self._seen = tuple(named)
        return named

    def _free(self) -> list[str]:
        return [n for n in self.family.params if n not in self._constants and n not in self._strings]

    def _single(self, output: Tensor) -> str:
        needed = [n for n in self._free() if n not in self.family.defaults]
        if len(needed) != 1:
            twice = {n for group in self.family.either for n in group[:-1]}  # one of probs and logits
            named = ", ".join(f"{n!r}: ..." for n in needed or self._free() if n not in twice)
            raise NetworkError(
                f"{self.statement}: the network returned one tensor of shape {shape_text(output.shape)}; {type(self).__name__} cannot "
                f"know which parameter it is.\nReturn a dict, {{{named}}}, or a tuple in that order; "
                "for a layer of several widths, output.chunk(n, dim=1)."
            )
        return needed[0]

    def _positional(self, count: int) -> list[str]:
        free = self._free()
        grouped = [g for g in self.family.either if sum(n in free for n in g) > 1]
        if grouped or count > len(free):
            raise NetworkError(
                f"{self.statement}: the network returned {count} values; return a dict instead, with {self._signature()}."
            )
        return free[:count]

    def _check_returned(self, params: Params, inputs: list[Tensor]) -> int | None:
        """Shapes of what the network returned; gives the number of event dimensions beyond one event."""
        batch = inputs[0].shape[0] if inputs else 1
        deepest = 0
        for name, tensor in params.items():
            if not isinstance(tensor, Tensor):
                if isinstance(tensor, (int, float)) and not isinstance(tensor, bool):
                    like = next((t for t in params.values() if isinstance(t, Tensor)), None)
                    params[name] = torch.tensor(
                        float(tensor), dtype=None if like is None else like.dtype, device=None if like is None else like.device
                    )
                    continue
                raise NetworkError(f"{self.statement}: {name} must be a tensor, got a {type(tensor).__name__}.")
            if tensor.dim() == 0:
                continue
            if tensor.dim() <= self.family.params[name].rank or (inputs and tensor.shape[0] not in (1, batch)):
                self._bad_batch(name, tensor, inputs, batch)
            deepest = max(deepest, tensor.dim() - self.family.params[name].rank)
        for name, tensor in params.items():
            if isinstance(tensor, Tensor) and tensor.dim() and tensor.dim() - self.family.params[name].rank != deepest:
                shapes = ", ".join(f"{n} {shape_text(t.shape)}" for n, t in params.items())
                raise NetworkError(
                    f"{self.statement}: the network's outputs have different numbers of dimensions: {shapes}.\n"
                    f"They would broadcast event against batch; give {name} the shape (batch, ...) of the others."
                )
        if not inputs and any(t.dim() and t.shape[0] != 1 for t in params.values()):
            name, tensor = next((n, t) for n, t in params.items() if t.dim() and t.shape[0] != 1)
            raise NetworkError(
                f"{self.statement}: a network without inputs must return batch size 1, got {name} of shape {shape_text(tensor.shape)}.\n"
                f"Write {name}[None]."
            )
        return deepest - 1 if deepest else None

    def _bad_batch(self, name: str, tensor: Tensor, inputs: list[Tensor], batch: int) -> None:
        shapes = ", ".join(f"{n} {shape_text(t.shape)}" for n, t in zip(self.cond_var, inputs, strict=True))
        first = self.cond_var[0] if self.cond_var else "x"
        raise ShapeError(
            f"{self.statement}: {name} has shape {shape_text(tensor.shape)}, but dimension 0 must be the batch, {batch} as in the inputs "
            f"({shapes}).\nDimension 0 of every variable is the batch; for one data point write {first}[None]."
        )

    def _check_domain(self, name: str, tensor: Tensor, label: str = "") -> None:
        domain = self.family.params[name]
        if tensor.dim() < domain.rank:
            domain = domains.real if domain.rank else domain
        domain.require(
            tensor,
            lambda offender: ParameterError(
                f"{label or self.statement}: {name} must be {domain.text}, got {offender}.{_advice(name, offender, domain)}"
            ),
        )

    # ------------------------------------------------------------------ readings

    def describe(self) -> str:
        name = type(self).__name__ if type(self).__name__ == self.family.name else f"{type(self).__name__} ({self.family.name})"
        parts = [f"from {self.source_text()}"] if self.source_text() else []
        for constant in self._constants:
            tensor: Tensor = getattr(self, constant)
            text = f"{tensor.item():g}" if tensor.numel() == 1 else f"tensor{shape_text(tensor.shape)}"
            parts.append(f"{constant}={text}" + (" (trained)" if isinstance(tensor, nn.Parameter) else ""))
        parts += [f"{parameter}={self.cond_var[place]}" for parameter, place in self._strings.items()]
        if self._features is not None:
            parts.append(f"features_shape={list(self._features)}")
        return f"{name} {', '.join(parts)}".rstrip()


def _advice(name: str, offender: str, domain: domains.Domain) -> str:
    """What to do about a parameter outside its domain."""
    if "nan" in offender:
        return "\nNaN: look at the inputs, the learning rate and the loss of the step before."
    if domain is not domains.positive:
        return ""
    if offender.startswith("0 "):
        return f"\nF.softplus and exp of a very negative number are 0: give it a floor, {name} = F.softplus(...) + 1e-3."
    return f"\nMake it positive, for example {name} = F.softplus(...)."
