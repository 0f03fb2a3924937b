"""Which guards of a compiled loss are looked at in every call."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

from probflow.distributions import Factor, Family
from probflow.distributions.binders import Constants, FromNetwork
from probflow.distributions.parametric import Parametric
from probflow.inference.steps import PartOfPlan

_CODE = frozenset(
    (
        "MODULE_MATCH",
        "CLOSURE_MATCH",
        "CLASS_MATCH",
        "BUILTIN_MATCH",
        "FUNCTION_MATCH",
        "DUPLICATE_INPUT",
        "TYPE_MATCH",
        "SEQUENCE_LENGTH",
    )
)
_OWN = re.compile(r"G\['((?!__import_|___unnamed_scope_)|__import_(torch|probflow)(_dot_|'\]))")
"""Globals of the compiled function, which is this package's, and of the modules of torch and of this package; not those of code that
is in no module, as of ``exec``."""

_PACKAGE = re.compile(r"(dict\(type\()?G\['__import_probflow(_dot_|'\])")
"""The modules of this package: their constants do not change, and nothing that a graph does depends on the checks of a thread."""
_MADE_ONCE = re.compile(r"(.*)\._(constants|features|(?P<idle>seen|statement))(\[\d+\])?$")
"""What a distribution is given when it is made, or has only seen; `idle` what changes nothing of its numbers."""
_TABLE = re.compile(r".*\._(buffers|modules|parameters)$")
_PART = re.compile(r".*\.(_modules|parts)\['[^']*'\]$")
"""A part of a module, which may be replaced by another: a component of a mixture, the base of a flow, also by the name that a step of
a plan has for the table of parts."""

_CONSTANTS = (str, bytes, int, float, complex, bool, tuple, frozenset, type(None))
_ENTERED = re.compile(r"[.\[]")


def can_change(guards: Sequence[Any], known: str = "") -> list[bool]:
    """Which of the compiler's guards are to be looked at in every call: neither that the functions of torch, of Python and of this
    package are still the same ones, nor that a plan is, which never changes, only what it runs, nor those on the argument `known`.
    For a small model those take longer than its networks."""
    values = {guard.name: guard.value for guard in guards if guard.has_value and not isinstance(guard.value, _CONSTANTS)}
    holders: dict[str, bool] = {}
    for name in sorted(values, key=len):
        holders[name] = _is_plan(name, values[name], holders) or _held_by_a_plan(name, values)
    tensors = {guard.name for guard in guards if guard.guard_type == "TENSOR_MATCH"}
    return [
        (guard.guard_type not in _CODE or _OWN.match(guard.name) is None)
        and _PACKAGE.match(guard.name) is None
        and not _of_a_plan(guard, holders)
        and not (guard.guard_type == "TYPE_MATCH" and (guard.name in tensors or _is_fixed(guard.name, values)))
        and not _made_once(guard.name, values)
        and (not known or _ENTERED.split(guard.name, maxsplit=1)[0] != known)
        for guard in guards
    ]


def _held_by_a_plan(name: str, values: Mapping[str, object]) -> bool:
    """Whether this is a list or a dict that is an attribute of a plan."""
    holder, _, attribute = name.rpartition(".")
    return isinstance(values[name], (dict, list)) and "[" not in attribute and isinstance(values.get(holder), PartOfPlan)


def _is_fixed(name: str, values: Mapping[str, object]) -> bool:
    """Whether this is a distribution that a plan is about, or a module's table: what they hold may change, their type does not."""
    return _is_planned(name, values) or _TABLE.match(name) is not None


def _is_planned(name: str, values: Mapping[str, object]) -> bool:
    """Whether this is a distribution that a plan is about, not a part of one."""
    return isinstance(values.get(name), Factor) and _PART.match(name) is None


def _made_once(name: str, values: Mapping[str, object]) -> bool:
    found = _MADE_ONCE.match(name)
    if found is None or not isinstance(values.get(found[1]), Parametric):
        return False
    return found["idle"] is not None or _is_planned(found[1], values)


def _is_plan(name: str, value: object, holders: Mapping[str, bool]) -> bool:
    """Whether this is a plan, or a function of this package that is a step of one: what it holds stays what it is.  What a user's
    object holds is none, whoever wrote the function."""
    if isinstance(value, types.FunctionType):
        own = value.__code__.co_filename.startswith("<plan of") or (value.__module__ or "").split(".")[0] == "probflow"
        return own and _holder(name, holders, True)
    return isinstance(value, (PartOfPlan, Family, FromNetwork, Constants))


def _of_a_plan(guard: Any, holders: Mapping[str, bool]) -> bool:
    """Whether the guard is on a constant, or on a function of this package, that the innermost object on the way to it, a plan, holds."""
    if guard.name in holders and not holders[guard.name]:
        return False
    return holders.get(guard.name, _holder(guard.name, holders, False))


def _holder(name: str, holders: Mapping[str, bool], otherwise: bool) -> bool:
    """Whether the innermost object on the way to `name` is a plan; `otherwise` where none is known."""
    ends = [found.start() for found in _ENTERED.finditer(name)]
    return next((holders[name[:end]] for end in reversed(ends) if name[:end] in holders), otherwise)
