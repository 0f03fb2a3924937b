"""How each kind of step is written: a table of rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from probflow.distributions.families.bernoulli import Bernoulli
from probflow.distributions.families.categorical import Categorical
from probflow.inference.axes import missing_depths
from probflow.inference.codegen.arithmetic import ARITHMETIC
from probflow.inference.codegen.compound import FlowForm, ObjectForm
from probflow.inference.codegen.families import KL_WRITTEN, is_number, log_probs
from probflow.inference.codegen.forms import Drawn, FamilyForm, Request, Unreadable
from probflow.inference.codegen.sources import bound_form
from probflow.inference.codegen.values import Code, common, number_code, tuple_code
from probflow.inference.codegen.writer import Entry, NoRule, Writer

if TYPE_CHECKING:
    from probflow.inference.program import Info, Step


def rule_for(to: Writer, step: Step) -> Entry:
    """Write one step."""
    rule, info = RULES.get(step.kind), step.info
    if rule is None or info is None:
        return _called(to, step)
    lines, taken = list(to.lines), set(to._taken)
    try:
        return rule(to, step, info)
    except NoRule:
        to.lines, to._taken = lines, taken
        return _called(to, step)


def _called(to: Writer, step: Step) -> Entry:
    """A step without a short form: the library's own function, passed in."""
    name = to.give(f"op_{step.kind}", step.run)
    to.section(f"{step.text or step.kind}: no short form, the library's own op is passed in")
    arguments = [_argument(to, slot) for slot in step.args]
    info = step.info
    front = () if info is None else (*to.sizes(info.axes), *((to.batch,) if info.batched else ()))
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
            raise NoRule
        if info.key == "along":
            to.section(f"{step.text}, along its draw")
            front = common(*(term.front for term in drawn.terms))
            code = " + ".join(term.code for term in drawn.terms).replace("+ -", "- ")
            return Code(to.assign(f"log_{factor.name}_{factor.var[0]}", code), front)
        return drawn.terms[info.key[1]] if len(drawn.terms) > info.key[1] else _called(to, step)
    fixed = isinstance(info.key, tuple) and info.key[:1] == ("fixed",)
    form = to.slots[step.args[0]]
    if fixed and not isinstance(form, FamilyForm):
        raise NoRule
    form = to.form(step.args[0])
    values = [to.code(slot) for slot in step.args[1:]]
    if fixed and isinstance(form, FamilyForm):
        form = form.aligned(missing_depths(info.args[0].axes, info.axes)).detached()
        to.section(f"{step.text}, {step.note}")
        result = form.log_prob(to, values, False)
        return Code(to.assign("_".join(["log", factor.name, *factor.var, "fixed"]), result.code), result.front)
    if not isinstance(info.key, bool):
        raise NoRule
    negative = factor.prefers_negative
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
    if row is not None and (q.front or p.front):
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
        raise NoRule
    form, (factor,) = to.form(step.args[0]), info.about
    lacking = [axis for axis in axes if axis not in bound_axes]
    outer = [axis for axis in lacking if not bound_axes or axis.order > bound_axes[0].order]
    places = [place for place, axis in enumerate(reversed(axes)) if axis in lacking and axis not in outer]
    inner = [axis for axis in reversed(axes) if axis in lacking and axis not in outer]
    equation = form.written.drawn if isinstance(form, FamilyForm) else ""
    shown = f":  {equation.format(x=factor.var[0])}" if equation else f":  {step.note}"
    to.section(step.text + shown)
    names = tuple(factor.var)
    sizes = to.sizes(tuple(inner))
    how = Request(to.sizes(tuple(outer)), tuple(places), sizes, pathwise, names, to.batch, step.out in to.along)
    return form.draw(to, how)


def _states(to: Writer, step: Step, info: Info) -> Entry:
    (factor,) = info.about
    form = to.form(step.args[0])
    if not isinstance(form, FamilyForm):
        raise NoRule
    parameter = next(iter(form.params.values()))
    many = 1
    for size in (form.event or ())[: form.extra or 0]:
        many *= size
    if form.family not in (Bernoulli.family, Categorical.family) or many != 1 or is_number(parameter.code):
        raise NoRule
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


RULES: dict[str, Callable[[Writer, Step, Info], Entry]] = {
    **ARITHMETIC,
    "constant": _constant,
    "params": _params,
    "log_prob": _log_prob,
    "inverse": _inverse,
    "item": _item,
    "kl": _kl,
    "entropy": _entropy,
    "draw": _draw,
    "states": _states,
}
