"""How each kind of step is written: a table of rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from probflow.distributions.families.bernoulli import Bernoulli
from probflow.distributions.families.categorical import Categorical
from probflow.inference.axes import missing_depths
from probflow.inference.codegen import Entry, Writer
from probflow.inference.codegen_families import KL_WRITTEN, atom, is_number, log_probs, operand
from probflow.inference.codegen_forms import Drawn, FamilyForm, FlowForm, ObjectForm, Request, Unreadable
from probflow.inference.codegen_sources import bound_form
from probflow.inference.codegen_values import Code, common, number_code, tuple_code

if TYPE_CHECKING:
    from probflow.inference.program import Info, Step


class _NoRule(Exception):
    """This step is called, not written."""


def rule_for(to: Writer, step: Step) -> Entry:
    """Write one step."""
    rule, info = RULES.get(step.kind), step.info
    if rule is None or info is None:
        return _called(to, step)
    lines, taken = list(to.lines), set(to._taken)
    try:
        return rule(to, step, info)
    except _NoRule:
        to.lines, to._taken = lines, taken
        return _called(to, step)


def _called(to: Writer, step: Step) -> Entry:
    """A step without a short form: the library's own function, passed in."""
    name = to.give(f"op_{step.kind}", step.run)
    to.section(f"{step.text or step.kind}: no short form, the library's own op is passed in")
    arguments = [_argument(to, slot) for slot in step.args]
    info = step.info
    front = () if info is None else (*to.sizes(info.axes), *(("batch",) if info.batched else ()))
    result = to.assign(step.kind, f"{name}({', '.join(arguments)})")
    if step.kind in ("draw", "states"):
        items = [s.info.key for s in to.program.steps if s.kind == "item" and s.args[0] == step.out and s.info is not None]
        count = max(items, default=0) + 1
        if info is not None and step.kind == "states":
            to.size_is(info.axes[0], f"len({result}[0])")
            front = (f"len({result}[0])", *("1",) * len(info.axes))
        return Drawn(tuple(Code(f"{result}[{i}]", front) for i in range(count)))
    return Code(result, front)


def _argument(to: Writer, slot: int) -> str:
    entry = to.slots[slot]
    if isinstance(entry, Code):
        return entry.code
    if isinstance(entry, Drawn):
        return tuple_code([value.code for value in entry.values])
    if isinstance(entry, ObjectForm):
        return entry.code
    raise Unreadable(entry.slot)


# ---------------------------------------------------------------------- leaves and distributions


def _constant(to: Writer, step: Step, info: Info) -> Entry:
    if info.about:
        (tensor,) = info.about
        name = to.give("weight", tensor)
        return Code(f"{name}.reshape(())" if tensor.dim() else name)
    return Code(number_code(step.run()))


def _params(to: Writer, step: Step, info: Info) -> Entry:
    (factor,) = info.about
    inputs = [to.code(slot) for slot in step.args]
    return bound_form(to, factor, inputs, step.out, f"{step.text}: {step.note}")


def _log_prob(to: Writer, step: Step, info: Info) -> Entry:
    (factor,) = info.about
    if info.key == "along" or (isinstance(info.key, tuple) and info.key[:1] == ("along",)):
        drawn = to.slots[step.args[0]]
        if not isinstance(drawn, Drawn) or not drawn.terms:
            raise _NoRule
        if info.key == "along":
            to.section(f"{step.text}, along its draw")
            front = common(*(term.front for term in drawn.terms))
            code = " + ".join(term.code for term in drawn.terms).replace("+ -", "- ")
            return Code(to.assign(f"log_{factor.name}_{factor.var[0]}", code), front)
        return drawn.terms[info.key[1]] if len(drawn.terms) > info.key[1] else _called(to, step)
    fixed = isinstance(info.key, tuple) and info.key[:1] == ("fixed",)
    form = to.slots[step.args[0]]
    if fixed and not isinstance(form, FamilyForm):
        raise _NoRule
    form = to.form(step.args[0])
    values = [to.code(slot) for slot in step.args[1:]]
    if fixed and isinstance(form, FamilyForm):
        form = form.aligned(missing_depths(info.args[0].axes, info.axes)).detached()
        to.section(f"{step.text}, {step.note}")
        result = form.log_prob(to, values, False)
        return Code(to.assign("_".join(["log", factor.name, *factor.var, "fixed"]), result.code), result.front)
    if not isinstance(info.key, bool):
        raise _NoRule
    negative = getattr(factor.kind, "event_nll", None) is not None
    equation = form.written.equation if isinstance(form, FamilyForm) else ""
    to.section(f"{step.text}{f' = {equation}' if equation else ''}{', here its negative' if negative else ''}")
    result = form.log_prob(to, values, negative)
    hint = "_".join([("nll" if negative else "log"), factor.name, *factor.var])
    return Code(to.assign(hint, result.code), result.front)


def _inverse(to: Writer, step: Step, info: Info) -> Entry:
    form = to.form(step.args[0])
    if not isinstance(form, FlowForm):
        raise Unreadable(step.args[0])
    to.section(f"{step.kind} {step.text}")
    noise, logdet = form.terms(to, to.code(step.args[1]))
    return Drawn((Code(to.assign("log_noise", noise.code), noise.front), logdet))


def _item(to: Writer, step: Step, info: Info) -> Entry:
    entry = to.slots[step.args[0]]
    if not isinstance(entry, Drawn):
        raise Unreadable(step.args[0])
    return entry.values[info.key]


def _kl(to: Writer, step: Step, info: Info) -> Entry:
    q, p = (to.form(slot) for slot in step.args)
    if not (isinstance(q, FamilyForm) and isinstance(p, FamilyForm)):
        return _called(to, step)
    front = common(q.front, p.front)
    extra = q.extra if q.extra is not None else p.extra if p.event == () else None
    row = KL_WRITTEN.get((q.family, p.family))
    if q.family is p.family is Categorical.family:
        to.section(f"{step.text} = Σ_k π_k (log π_k - log ρ_k)")
        log_q, log_p = (to.assign(f"log_{form.name}_probs", log_probs(form.codes)) for form in (q, p))
        code = to.event_sum(f"({log_q}.exp() * ({log_q} - {log_p})).sum(-1)", front, extra)
        return Code(to.assign(f"kl_{'_'.join(info.about[0].var)}", code), front)
    if row is not None and q.front:
        equation, formula = row
        code = formula(q.codes, p.codes)
    else:
        equation, code = "", f"td.kl_divergence({q.torch(whole=True)}, {p.torch(whole=True)})"
    to.section(f"{step.text} = {equation}" if equation else f"{step.text}, {step.note}")
    return Code(to.assign(f"kl_{'_'.join(info.about[0].var)}", to.event_sum(code, front, extra)), front)


def _entropy(to: Writer, step: Step, info: Info) -> Entry:
    form = to.form(step.args[0])
    to.section(f"{step.text}, {step.note}")
    if isinstance(form, FamilyForm):
        code = to.event_sum(f"{form.torch('entropy', whole=True)}.entropy()", form.front, form.extra)
    elif isinstance(form, ObjectForm):
        code = f"{form.code}.entropy()"
    else:
        raise Unreadable(step.args[0])
    return Code(to.assign(f"entropy_{'_'.join(info.about[0].var)}", code), form.front)


# ---------------------------------------------------------------------- draws and states


def _draw(to: Writer, step: Step, info: Info) -> Entry:
    pathwise, bound_axes, axes = info.key[3], info.args[0].axes, info.axes
    if not isinstance(pathwise, bool):
        raise _NoRule
    form, (factor,) = to.form(step.args[0]), info.about
    lacking = [axis for axis in axes if axis not in bound_axes]
    outer = [axis for axis in lacking if not bound_axes or axis.order > bound_axes[0].order]
    places = [place for place, axis in enumerate(reversed(axes)) if axis in lacking and axis not in outer]
    inner = [axis for axis in reversed(axes) if axis in lacking and axis not in outer]
    equation = form.written.drawn if isinstance(form, FamilyForm) else ""
    shown = f":  {equation.format(x=factor.var[0])}" if equation else f":  {step.note}"
    to.section(step.text + shown)
    names = tuple(factor.var)
    how = Request(to.sizes(tuple(outer)), tuple(places), to.sizes(tuple(inner)), pathwise, names, step.out in to.along)
    return form.draw(to, how)


def _states(to: Writer, step: Step, info: Info) -> Entry:
    (factor,) = info.about
    form = to.form(step.args[0])
    if not isinstance(form, FamilyForm):
        raise _NoRule
    parameter = next(iter(form.params.values()))
    many = 1
    for size in (form.event or ())[: form.extra or 0]:
        many *= size
    if form.family not in (Bernoulli.family, Categorical.family) or many != 1 or is_number(parameter.code):
        raise _NoRule
    like, ones = parameter.code, len(parameter.front or "1") + (form.extra or 0)
    kind = f"dtype={like}.dtype, device={like}.device"
    to.section(f"{step.text}: {step.note}; the states stand in front of the batch")
    if form.family is Categorical.family:
        code = f"torch.eye({like}.shape[-1], {kind})[:, {', '.join(['None'] * ones)}]"
    else:
        batchless = not parameter.front  # constants have a batch dimension of 1 in what is bound
        code = f"torch.tensor([0.0, 1.0], {kind}).reshape(2, *[1] * {f'({like}.dim() + 1)' if batchless else f'{like}.dim()'})"
    variable = to.assign(factor.var[0], code)
    to.size_is(info.axes[0], f"len({variable})")
    return Drawn((Code(variable, (f"len({variable})", *("1",) * len(form.front or ("1",)))),))


# ---------------------------------------------------------------------- arithmetic


def _align(to: Writer, step: Step, info: Info) -> Entry:
    entry, key = to.slots[step.args[0]], info.key
    if isinstance(key, tuple) and key[:1] == ("bound",):
        return to.form(step.args[0]).aligned(key[1])
    if not isinstance(entry, Code):
        raise Unreadable(step.args[0])
    if key == "batch":
        return Code(f"{atom(entry.code)}.unsqueeze(-1)", (*entry.front, "1"))
    if info.args[0].batched:
        return entry.aligned(key)
    lined = Code(entry.code, (*entry.front, "1")).aligned(key)  # a number per sample: counted as if it had a batch
    return Code(lined.code, lined.front[:-1])


_MATH: dict[Any, Callable[[list[str]], str]] = {
    "negative": lambda c: f"-{operand(c[0])}",
    "product": lambda c: " * ".join(map(operand, c)),
    "quotient": lambda c: f"{operand(c[0])} / {operand(c[1])}",
    "power": lambda c: f"{operand(c[0])} ** {operand(c[1])}",
    "exp": lambda c: f"torch.exp({_tensor(c[0])})",
    "log": lambda c: f"torch.log({_tensor(c[0])})",
    "abs": lambda c: f"torch.abs({_tensor(c[0])})",
    "detach": lambda c: f"{_tensor(c[0])}.detach()",
    "min": lambda c: _extremum("torch.minimum", "max", c),
    "max": lambda c: _extremum("torch.maximum", "min", c),
}


def _tensor(code: str) -> str:
    return f"torch.as_tensor({code})" if is_number(code) else atom(code)


def _extremum(function: str, limit: str, codes: list[str]) -> str:
    numbers = [code for code in codes if is_number(code)]
    tensors = [code for code in codes if not is_number(code)]
    if not tensors:
        raise _NoRule
    best = tensors[0]
    for other in tensors[1:]:
        best = f"{function}({best}, {other})"
    for number in numbers:
        best = f"{atom(best)}.clamp({limit}={number})"
    return best


def _combine(to: Writer, step: Step, info: Info) -> Entry:
    slots = [to.code(slot) for slot in step.args]
    front, codes, key = common(*(s.front for s in slots)), [s.code for s in slots], info.key
    if isinstance(key, tuple) and key[0] == "sum":
        code, hint = operand(codes[0]) if codes[0].startswith("-") else codes[0], "total"
        for sign, other in zip(key[1], codes[1:], strict=True):
            code += f" {'+' if sign > 0 else '-'} {operand(other)}"
    elif isinstance(key, tuple) and key[0] == "clamp":
        limits = ", ".join(f"{n}={v!r}" for n, v in zip(("min", "max"), key[1:], strict=True) if v is not None)
        code, hint = f"{_tensor(codes[0])}.clamp({limits})", "clamped"
    elif isinstance(key, str) and key in _MATH:
        named = [i for i, slot in enumerate(step.args) if any(r.slot == slot and r.number for r in to.program.reads)]
        if named and key not in ("negative", "product", "quotient", "power"):
            raise _NoRule  # a number or a tensor: only the run knows
        code, hint = _MATH[key](codes), {"exp": "exponential", "log": "logarithm", "abs": "absolute"}.get(key, key)
    else:
        raise _NoRule
    to.section(step.text or key)
    return Code(to.assign(hint, code), front)


def _average(to: Writer, step: Step, info: Info) -> Entry:
    value, key = to.code(step.args[0]), info.key
    dims = key[1] if key[:1] == ("log",) else key
    front = tuple(size for place, size in enumerate(value.front) if place not in dims)
    where = str(dims[0]) if len(dims) == 1 else str(dims)
    count = " * ".join(value.front[place] for place in dims)
    to.section(f"{step.text}: {step.note}")
    if key[:1] == ("log",):
        return Code(to.assign("log_mean", f"{atom(value.code)}.logsumexp({where}) - math.log({count})"), front)
    return Code(to.assign("average", f"{atom(value.code)}.mean({where})"), front)


def _sum(to: Writer, step: Step, info: Info) -> Entry:
    (dim, logarithmic), (weight, cost) = info.key, (to.code(slot) for slot in step.args)
    full = common(weight.front, cost.front)
    front = tuple(size for place, size in enumerate(full) if place != len(full) + dim)
    to.section(f"{'log Σ q f' if logarithmic else 'Σ q f'} {step.text}")
    if logarithmic:
        return Code(to.assign("log_sum", f"({weight.code} + {operand(cost.code)}).logsumexp({dim})"), front)
    return Code(to.assign("summed", f"({atom(weight.code)}.exp() * {operand(cost.code)}).sum({dim})"), front)


def _reduce(to: Writer, step: Step, info: Info) -> Entry:
    value = to.code(step.args[0])
    to.section(f"{step.text or 'once per row'}{': ' + step.note if step.note else ''}")
    last = "" if len(value.front) == 1 else "-1"
    if info.key == "mean":
        return Code(to.assign("mean", f"{_tensor(value.code)}.mean({last})"), value.front[:-1])
    if info.key == "rows":
        return Code(to.assign("rows", f"{operand(value.code)} * batch"), value.front)
    if info.key != "sum":
        raise _NoRule
    spread = "" if value.front[-1:] == ("batch",) else f".expand({tuple_code([*value.front[:-1], 'batch'])})"
    return Code(to.assign("total", f"{atom(value.code)}{spread}.sum({last})"), value.front[:-1])


def _score(to: Writer, step: Step, info: Info) -> Entry:
    key = info.key
    if not (isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], tuple) and key[1] is True and len(step.args) < 4):
        raise _NoRule
    value, *cost, log_q = (to.code(slot) for slot in step.args)
    to.helpers.setdefault("score_function")
    to.section(f"{step.text}: {step.note}")
    code = f"score_function({value.code}, {(cost or [value])[0].code}, {log_q.code}, {key[0]})"
    return Code(to.assign("scored", code), common(value.front, log_q.front))


def _function(to: Writer, step: Step, info: Info) -> Entry:
    function, name = info.about
    values = [to.code(slot) for slot in step.args]
    front = common(*(value.front for value in values))
    called = f"{to.give(name, function)}({', '.join(to.folded(value, front) for value in values)})"
    to.section(step.text)
    return Code(to.assign(f"{name}_value", to.unfolded(called, front)), front)


RULES: dict[str, Callable[[Writer, Step, Info], Entry]] = {
    "constant": _constant,
    "params": _params,
    "align": _align,
    "log_prob": _log_prob,
    "inverse": _inverse,
    "item": _item,
    "kl": _kl,
    "entropy": _entropy,
    "draw": _draw,
    "states": _states,
    "combine": _combine,
    "average": _average,
    "sum": _sum,
    "reduce": _reduce,
    "score": _score,
    "function": _function,
}
