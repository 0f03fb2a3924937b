"""Which sets of numbers lie inside which: whether one transform's values may enter the next."""

from __future__ import annotations

from probflow import domains
from probflow.domains import Domain

# each domain with those that are its subsets; a domain that is not listed holds itself only
_INSIDE: dict[str, tuple[Domain, ...]] = {
    domains.real.text: (
        domains.positive,
        domains.nonnegative,
        domains.unit_interval,
        domains.open_unit_interval,
        domains.boolean,
        domains.natural,
    ),
    domains.nonnegative.text: (
        domains.positive,
        domains.unit_interval,
        domains.open_unit_interval,
        domains.boolean,
        domains.natural,
    ),
    domains.positive.text: (domains.open_unit_interval,),
    domains.unit_interval.text: (domains.open_unit_interval, domains.boolean),
    domains.natural.text: (domains.boolean,),
}


def contains(outer: Domain, inner: Domain) -> bool:
    """Whether every element of `inner` is one of `outer`, as far as is known; any set of numbers is inside the real line."""
    if outer.text == inner.text or (outer is domains.real and inner.rank == 0):
        return True
    if outer is domains.open_unit_interval and inner is domains.unit_interval:
        return True  # the ends have no mass: data in [0, 1] may enter a logit
    return any(inner.text == known.text for known in _INSIDE.get(outer.text, ()))
