"""Which guards of a compiled loss are looked at in every call."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

from probflow.distributions import Family
from probflow.distributions.binders import Constants, FromNetwork
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
_OWN = re.compile(r"G\['((?!__import_)|__import_(torch|probflow)(_dot_|'\]))")
"""Globals of the compiled function, which is this package's, and of the modules of torch and of this package."""

_CONSTANTS = (str, bytes, int, float, complex, bool, tuple, frozenset, type(None))
_ENTERED = re.compile(r"[.\[]")


def can_change(guards: Sequence[Any], known: str = "") -> list[bool]:
    """Which of the compiler's guards are to be looked at in every call: neither that the functions of torch, of Python and of this
    package are still the same ones, nor that a plan is, which never changes, only what it runs, nor those on the argument `known`.
    For a small model those take longer than its networks."""
    holders = {
        guard.name: _is_plan(guard.value) for guard in guards if guard.has_value and not isinstance(guard.value, _CONSTANTS)
    }
    return [
        (guard.guard_type not in _CODE or _OWN.match(guard.name) is None)
        and not _of_a_plan(guard, holders)
        and (not known or _ENTERED.split(guard.name, maxsplit=1)[0] != known)
        for guard in guards
    ]


def _is_plan(value: object) -> bool:
    """Whether this is a plan, or a function of this package that is a step of one: what it holds stays what it is."""
    if isinstance(value, types.FunctionType):
        return value.__code__.co_filename.startswith("<plan of") or (value.__module__ or "").split(".")[0] == "probflow"
    return isinstance(value, (PartOfPlan, Family, FromNetwork, Constants))


def _of_a_plan(guard: Any, holders: Mapping[str, bool]) -> bool:
    """Whether the guard is on a constant, or on a function of this package, that the innermost object on the way to it, a plan, holds."""
    if guard.name in holders and not holders[guard.name]:
        return False
    ends = [found.start() for found in _ENTERED.finditer(guard.name)]
    ways = (guard.name, *(guard.name[:end] for end in reversed(ends)))
    return next((holders[way] for way in ways if way in holders), False)
