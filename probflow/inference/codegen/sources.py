"""Where a distribution's parameters come from, in generated code: networks that are called, constants, variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from probflow.distributions import Deterministic, Flow
from probflow.distributions.base import Factor
from probflow.distributions.families.categorical import Categorical
from probflow.distributions.family import FamilyBound
from probflow.distributions.mixture import MixtureModel
from probflow.distributions.networked import Networked
from probflow.distributions.parametric import Parametric
from probflow.domains import Domain
from probflow.inference.codegen.compound import FlowForm, MixtureForm, ObjectForm, PointForm
from probflow.inference.codegen.families import atom, log_probs
from probflow.inference.codegen.forms import FamilyForm, Form, Unreadable
from probflow.inference.codegen.values import Code, Front, common, constant_code
from probflow.inference.dry_run import Seen

if TYPE_CHECKING:
    from probflow.inference.codegen.writer import Writer

_MOST_COMPONENTS = 8


def bound_form(to: Writer, factor: Factor, inputs: Sequence[Code], slot: int, title: str = "") -> Form:
    """The distribution at these inputs."""
    origin = factor.origin
    if slot not in to.opaque:
        if isinstance(origin, Parametric):
            return _family(to, factor, origin, inputs, slot, title)
        if isinstance(origin, Flow) and type(origin).bind is Flow.bind:
            return _flow(to, factor, origin, inputs, slot, title)
        if isinstance(origin, MixtureModel):
            return _mixture(to, factor, origin, inputs, slot, title)
        if isinstance(origin, Deterministic) and len(factor.var) == 1:
            return _point(to, factor, origin, inputs, slot, title)
    to.section(f"{title.splitlines()[0] if title else factor.statement}: no short form, the library's own object")
    bind = f"{_object(to, factor)}.bind([{', '.join(v.code for v in inputs)}], [{', '.join(str(v.lead) for v in inputs)}])"
    front = common(*(value.front for value in inputs))
    return ObjectForm(slot, factor.name, front, to.assign(f"{_prefix(factor)}_bound", bind))


def _prefix(factor: Factor) -> str:
    return "_".join([factor.name, *factor.var, *factor.statement.observed])


def _statement(factor: Factor) -> str:
    return _prefix(factor) + (f"_given_{'_'.join(factor.cond_var)}" if factor.cond_var else "")


def _object(to: Writer, factor: Factor) -> str:
    """The distribution itself, passed in."""
    return to.give(_statement(factor), factor.origin)


def _called(to: Writer, factor: Factor, origin: Networked, inputs: Sequence[Code]) -> tuple[str, Front]:
    """The network's call, and the front of what it returns."""
    front = common(*(value.front for value in inputs)) or ("1",)
    if origin._source == "network":
        needs_object = isinstance(origin, Parametric) and any(_literal(getattr(origin, n)) is None for n in origin._constants)
        name = f"{_object(to, factor)}.network" if needs_object else to.give(_statement(factor), origin.network)
    else:
        name = _object(to, factor)
    arguments = [to.folded(value, front) for value in inputs]
    if origin._keywords is not None:
        arguments = [f"{k}={code}" for k, code in zip(origin._keywords, arguments, strict=True)]
    return f"{name}({', '.join(arguments)})", front


# ---------------------------------------------------------------------- families


def _family(to: Writer, factor: Factor, origin: Parametric, inputs: Sequence[Code], slot: int, title: str) -> FamilyForm:
    seen = to.example.get(slot)
    seen = seen if seen is not None and seen.params else None
    params: dict[str, Code] = {}
    one_shape, before = False, len(to.lines)
    if origin._source:
        if title:
            to.section(title.splitlines()[0])
        call, front = _called(to, factor, origin, inputs)
        params, one_shape = _outputs(to, factor, origin, call, front, slot, seen)
    for name, place in origin._strings.items():
        params[name] = inputs[place]
    for name in origin._constants:
        params[name] = Code(_constant(to, factor, origin, name))
    if any(name not in params for name in origin.family.defaults):
        params |= {n: Code(repr(v)) for n, v in origin.family.defaults.items() if n not in params}
    if title and not origin._source and len(to.lines) > before:
        to.lines[before:before] = ["", f"# {title.splitlines()[0]}"]
    ordered = {name: params[name] for name in origin.family.params if name in params}
    extra, event, kind = _known(origin, seen)
    front = common(*(value.front for value in ordered.values()))
    return FamilyForm(slot, factor.name, front, origin.family, ordered, extra, event, one_shape and len(params) > 1, kind)


def _known(origin: Parametric, seen: Seen | None) -> tuple[int | None, tuple[int, ...] | None, str]:
    """Event dimensions beyond one event, the event, and dtype and device of constants."""
    if not origin._source and not origin._strings:
        bound = origin.bind([], [])
        if isinstance(bound, FamilyBound):
            like = next(iter(bound.params.values()))
            kind = "" if like.dtype is torch.get_default_dtype() else f", dtype={like.dtype}"
            kind += "" if like.device.type == "cpu" else f', device="{like.device}"'
            return bound.extra, tuple(bound.event), kind
    if seen is not None:
        return seen.extra, seen.event, ""
    if origin._features is not None:
        return len(origin._features) - origin.family.event_rank, origin._features, ""
    return None, None, ""


def _outputs(
    to: Writer, factor: Factor, origin: Parametric, call: str, front: Front, slot: int, seen: Seen | None
) -> tuple[dict[str, Code], bool]:
    """What the network returned, by name, with the samples unfolded; whether all of it has one shape."""
    fixed = {*origin._constants, *origin._strings}
    family, either = origin.family, None
    if seen is not None:
        names = list(seen.returned) or [n for n in seen.params if n not in fixed and n not in family.defaults]
    elif origin._seen is not None:
        names = list(origin._seen)
    else:
        groups = [g for g in family.either if not fixed & set(g)]
        grouped = {n for g in family.either for n in g}
        names = [n for n in family.params if n not in grouped and n not in fixed and n not in family.defaults]
        either = groups[0] if groups else None
    prefix, form = _prefix(factor), seen.form if seen is not None else "dict"
    if either is not None:
        names.append("logits" if "logits" in either else either[0])
    if form != "dict":
        found = dict(zip(names, _several(to, prefix, names, call), strict=True))
        codes = {n: to.unfolded(code, front) for n, code in found.items()}
    else:
        out = call if len(names) == 1 and either is None else to.assign("out", call)
        codes = {n: to.unfolded(f'{out}["{n}"]', front) for n in names}
        if either is not None:
            logits = names[-1]
            turn = ".logit()" if family is not Categorical.family else ".log()"
            probs = to.unfolded(f'{out}["probs"]{turn}', front)
            codes[logits] = f'{codes[logits]} if "logits" in {out} else {probs}'
    shapes = {n: seen.params[n] for n in names} if seen is not None else {}
    wide = seen is None and len(names) > 1 and slot in to.drawn_from and family.one_rank == 0
    variables = [to.fresh(f"{prefix}_{n}") if n in codes and not codes[n].isidentifier() else codes[n] for n in names]
    fresh = [(v, codes[n]) for v, n in zip(variables, names, strict=True) if v != codes[n]]
    right = ", ".join(code for _, code in fresh)
    if wide and len(right) <= 60:
        to.lines.append(f"{', '.join(variables)} = torch.broadcast_tensors({right})")
    elif fresh and len(right) <= 80:
        to.lines.append(f"{', '.join(v for v, _ in fresh)} = {right}")
    else:
        to.lines += [f"{variable} = {code}" for variable, code in fresh]
        if wide:
            to.lines.append(f"{', '.join(variables)} = torch.broadcast_tensors({', '.join(variables)})")
    result = {}
    for name, variable in zip(names, variables, strict=True):
        own = front
        if seen is not None and not shapes[name]:
            own = ()
        elif seen is not None and len(shapes[name]) >= len(front) and shapes[name][len(front) - 1] == 1:
            own = (*front[:-1], "1")  # one row for the whole batch
        result[name] = Code(variable, own)
    return result, wide or (len({shapes.get(n) for n in names}) == 1 and seen is not None)


def _several(to: Writer, prefix: str, names: Sequence[str], call: str) -> list[str]:
    """A tuple of outputs, or one tensor."""
    variables = [to.fresh(f"{prefix}_{n}") for n in names]
    to.lines.append(f"{', '.join(variables)} = {call}")
    return variables


def _literal(tensor: Tensor) -> str | None:
    """A constant as it is written; None where it is trained, large, or elsewhere than on the CPU."""
    return None if tensor.requires_grad or not tensor.is_cpu else constant_code(tensor)


def _constant(to: Writer, factor: Factor, origin: Parametric, name: str) -> str:
    tensor: Tensor = getattr(origin, name)
    rank = origin.family.params[name].rank
    code = _literal(tensor)
    if code is None:
        code = f"{_object(to, factor)}.{name}"
    if tensor.dim() < rank and origin._features is not None:  # one number for every element of a vector
        code = f"torch.as_tensor({code}).expand({origin._features[-1]})"
    if code.startswith("torch."):
        return to.assign(f"{_prefix(factor)}_{name}", code)
    return code


# ---------------------------------------------------------------------- flows, mixtures, point masses


def _flow(to: Writer, factor: Factor, flow: Flow, inputs: Sequence[Code], slot: int, title: str) -> Form:
    places = {n: i for i, n in enumerate(flow.cond_var)}
    to.section(title.splitlines()[0] if title else str(factor.statement))
    name = _object(to, factor)
    context: Code | None = None
    if flow._context:
        used = [inputs[places[n]] for n in flow._context]
        front = common(*(value.front for value in used))
        arguments = [to.folded(value, front) for value in used]
        module = flow._modules.get("embedding", flow._embed)
        if module is not None:
            which = f"{name}.embedding" if "embedding" in flow._modules else f"{name}._embed"
            if flow._embed_keywords is not None:
                arguments = [f"{k}={a}" for k, a in zip(flow._embed_keywords, arguments, strict=True)]
            code = f"{which}({', '.join(arguments)})"
        elif len(arguments) == 1 and len(flow.transform.context or ()) == 1:
            code = arguments[0]
        elif len(flow.transform.context or ()) == 1:
            code = f"torch.cat([{', '.join(f'{atom(a)}.flatten(1)' for a in arguments)}], 1)"
        else:
            raise Unreadable(slot)
        context = Code(to.assign(f"{_prefix(factor)}_context", to.unfolded(code, front)), front)
    base = bound_form(to, flow.base, [inputs[places[n]] for n in flow.base.cond_var], slot)
    front = common(base.front, () if context is None else context.front)
    return FlowForm(slot, factor.name, front, name, base, context)


def _mixture(to: Writer, factor: Factor, mixture: MixtureModel, inputs: Sequence[Code], slot: int, title: str) -> Form:
    known = dict(zip(mixture.cond_var, inputs, strict=True))
    parts = mixture.distributions
    supports = {id(_support(part)) for part in parts}
    if len(parts) > _MOST_COMPONENTS or len(supports) > 1 or _support(parts[0]) is None or slot in to.drawn_from:
        raise Unreadable(slot)
    to.section(title.splitlines()[0] if title else str(factor.statement))
    prior = bound_form(to, mixture._prior, [known[n] for n in mixture._prior.cond_var], slot)
    if not isinstance(prior, FamilyForm) or prior.family is not Categorical.family:
        raise Unreadable(slot)
    weights = to.assign("log_weights", log_probs(prior.codes))
    components = tuple(bound_form(to, part, [known[n] for n in part.cond_var], slot) for part in parts)
    front = common(prior.front, *(component.front for component in components))
    return MixtureForm(slot, factor.name, front, Code(weights, prior.front), components)


def _support(part: Any) -> object:
    origin = part.origin
    if isinstance(origin, Parametric) and isinstance(origin.family.support, Domain):
        return origin.family.support
    return origin.transform.codomain if isinstance(origin, Flow) else None


def _point(to: Writer, factor: Factor, origin: Deterministic, inputs: Sequence[Code], slot: int, title: str) -> Form:
    to.section(title.splitlines()[0])
    seen = to.example.get(slot)
    call, front = _called(to, factor, origin, inputs)
    item = {"dict": f'["{origin.var[0]}"]', "tuple": "[0]"}.get(seen.form, "") if seen is not None else ""
    value = to.assign(f"{_prefix(factor)}_value", to.unfolded(f"{call}{item}", front))
    return PointForm(slot, factor.name, front, (Code(value, front),))
