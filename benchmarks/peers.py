"""Other libraries, measured beside where they are installed: ``pip install -e ".[bench]"``.

torch.distributions checks arguments, or does not, by one switch of the whole process, and others turn it: importing Pyro sets
it (to ``__debug__``, so under ``python -O`` to off), the first ``torch.compile`` of a process turns it off, and so may a peer's
next version.  So the state that a peer has alone is noted when it is imported, every one of its steps runs in that state, and
nobody else's does.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import SimpleNamespace

from torch import distributions as td

from benchmarks.timing import CHECKED, argument_checks

NAMES = ("Pixyz", "Pyro", "zuko", "nflows", "normflows", "FrEIA")
INSTALL = 'Peers that are not installed have empty columns: python -m pip install -c constraints.txt -e ".[bench]"'


def _load(**modules: str) -> SimpleNamespace | None:
    """The modules under short names, and `checked`, the state that importing them leaves; None where not installed."""
    with argument_checks(CHECKED):
        try:
            loaded = {name: importlib.import_module(module) for name, module in modules.items()}
        except ImportError:
            return None
        return SimpleNamespace(**loaded, checked=bool(td.Distribution._validate_args))


@cache
def pixyz() -> SimpleNamespace | None:
    """Pixyz, or None."""
    return _load(distributions="pixyz.distributions", losses="pixyz.losses", models="pixyz.models")


@cache
def pyro() -> SimpleNamespace | None:
    """Pyro, or None."""
    return _load(
        pyro="pyro",
        distributions="pyro.distributions",
        transforms="pyro.distributions.transforms",
        nn="pyro.nn",
        infer="pyro.infer",
        optim="pyro.optim",
    )


@cache
def zuko() -> SimpleNamespace | None:
    """zuko, or None."""
    return _load(
        flows="zuko.flows",
        coupling="zuko.flows.coupling",
        lazy="zuko.lazy",
        transforms="zuko.transforms",
        distributions="zuko.distributions",
    )


@cache
def nflows() -> SimpleNamespace | None:
    """nflows, or None."""
    return _load(flows="nflows.flows.base", transforms="nflows.transforms", distributions="nflows.distributions.normal")


@cache
def normflows() -> SimpleNamespace | None:
    """normflows, or None."""
    return _load(
        nf="normflows",
        flows="normflows.flows",
        nets="normflows.nets",
        distributions="normflows.distributions",
        coupling="normflows.flows.neural_spline.coupling",
    )


@cache
def freia() -> SimpleNamespace | None:
    """FrEIA, or None."""
    return _load(framework="FrEIA.framework", modules="FrEIA.modules")


ALL = (pixyz, pyro, zuko, nflows, normflows, freia)
"""The loaders, in the order of `NAMES`."""
