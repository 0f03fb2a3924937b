"""Planar, radial and Sylvester layers, with trained parameters and with amortised ones."""

from __future__ import annotations

from transforms.registry import Case

from probflow.transforms import Affine, Compose
from probflow.transforms.planar import Planar
from probflow.transforms.radial import Radial
from probflow.transforms.sylvester import Sylvester

FOUR, ONE, TWO = (4,), (1,), (2,)
CASES = {
    "planar": Case(lambda: Planar(4), FOUR, identity=True),
    "planar | c": Case(lambda: Planar(4, context=2, hidden=(8,)), FOUR, TWO, identity=True),
    "planar | image": Case(lambda: Planar(3, context=(1, 2, 2), hidden=()), context=(1, 2, 2), identity=True),
    "planar, one feature": Case(lambda: Planar(1), ONE, identity=True),
    "planar, one feature | c": Case(lambda: Planar(1, context=2, hidden=(8,)), ONE, TWO, identity=True),
    "planar leaky_relu": Case(lambda: Planar(4, activation="leaky_relu"), FOUR, identity=True),
    "planar leaky_relu | c": Case(lambda: Planar(4, activation="leaky_relu", context=2, hidden=(8,)), FOUR, TWO, identity=True),
    "radial": Case(lambda: Radial(4), FOUR, identity=True),
    "radial | c": Case(lambda: Radial(4, context=2, hidden=(8,)), FOUR, TWO, identity=True),
    "radial, one feature": Case(lambda: Radial(1), ONE, identity=True),
    "radial, one feature | c": Case(lambda: Radial(1, context=2, hidden=(8,)), ONE, TWO, identity=True),
    "sylvester": Case(lambda: Sylvester(4), FOUR, identity=True),
    "sylvester, rank 2": Case(lambda: Sylvester(4, 2), FOUR, identity=True),
    "sylvester | c": Case(lambda: Sylvester(4, 3, context=2, hidden=(8,)), FOUR, TWO, identity=True),
    # In one dimension Q is 1 or -1, whatever the number that it is made of.
    "sylvester, one feature": Case(lambda: Sylvester(1), ONE, identity=True, exempt=("directions",)),
    "sylvester, one feature | c": Case(
        lambda: Sylvester(1, context=2, hidden=(8,)), ONE, TWO, identity=True, exempt=("directions",)
    ),
    "sylvester householder": Case(lambda: Sylvester(4, kind="householder"), FOUR, identity=True),
    "sylvester householder, rank 3": Case(lambda: Sylvester(4, 3, "householder", householders=3), FOUR, identity=True),
    "sylvester householder | c": Case(
        lambda: Sylvester(4, 3, "householder", householders=2, context=2, hidden=(8,)), FOUR, TWO, identity=True
    ),
    "sylvester triangular": Case(lambda: Sylvester(4, kind="triangular"), FOUR, identity=True),
    "sylvester triangular, rank 3": Case(lambda: Sylvester(4, 3, "triangular", flip=True), FOUR, identity=True),
    "sylvester triangular | c": Case(
        lambda: Sylvester(4, kind="triangular", flip=True, context=2, hidden=(8,)), FOUR, TWO, identity=True
    ),
    "chain of planar, radial and sylvester | c": Case(
        lambda: Compose(
            [Planar(3, context=2, hidden=(8,)), Affine(3), Radial(3), Sylvester(3, 2, context=2, hidden=(8,)), Planar(3)]
        ),
        context=TWO,
        identity=True,
    ),
}
