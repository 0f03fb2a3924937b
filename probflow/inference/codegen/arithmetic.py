"""How steps that compute with tensors alone are written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from probflow.inference.codegen.families import atom, is_number, operand
from probflow.inference.codegen.forms import Unreadable
from probflow.inference.codegen.values import Code, common, tuple_code
from probflow.inference.codegen.writer import Entry, NoRule, Writer

if TYPE_CHECKING:
    from probflow.inference.program import Info, Step


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
    "logaddexp": lambda c: functools.reduce(lambda a, b: f"torch.logaddexp({a}, {b})", [_plain_tensor(code) for code in c]),
    "min": lambda c: _extremum("torch.minimum", "max", c),
    "max": lambda c: _extremum("torch.maximum", "min", c),
}


def _tensor(code: str) -> str:
    return f"torch.as_tensor({code})" if is_number(code) else atom(code)


def _plain_tensor(code: str) -> str:
    return f"torch.as_tensor({code})" if is_number(code) else code


def _extremum(function: str, limit: str, codes: list[str]) -> str:
    numbers = [code for code in codes if is_number(code)]
    tensors = [code for code in codes if not is_number(code)]
    if not tensors:
        raise NoRule
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
            raise NoRule  # a number or a tensor: only the run knows
        code, hint = (
            _MATH[key](codes),
            {"exp": "exponential", "log": "logarithm", "abs": "absolute", "logaddexp": "log_sum"}.get(key, key),
        )
    else:
        raise NoRule
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
        return Code(to.assign("rows", f"{operand(value.code)} * {to.batch}"), value.front)
    if info.key != "sum":
        raise NoRule
    spread = "" if value.front[-1:] == (to.batch,) else f".expand({tuple_code([*value.front[:-1], to.batch])})"
    return Code(to.assign("total", f"{atom(value.code)}{spread}.sum({last})"), value.front[:-1])


def _score(to: Writer, step: Step, info: Info) -> Entry:
    key = info.key
    if not (isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], tuple) and key[1] is True and len(step.args) < 4):
        raise NoRule
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


ARITHMETIC: dict[str, Callable[[Writer, Step, Info], Entry]] = {
    "align": _align,
    "combine": _combine,
    "average": _average,
    "sum": _sum,
    "reduce": _reduce,
    "score": _score,
    "function": _function,
}
