"""Linear maps, orthogonal ones among them, and permutations."""

from __future__ import annotations

from transforms.registry import Case

from probflow.transforms import Compose, Coupling
from probflow.transforms.linear import LU, Diagonal, Triangular
from probflow.transforms.orthogonal import Householder, Orthogonal
from probflow.transforms.permutation import Permute, RandomPermutation, Reverse

CASES = {
    "diagonal": Case(lambda: Diagonal(3), identity=True),
    "diagonal, no bias": Case(lambda: Diagonal(3, bias=False), identity=True),
    "triangular lower": Case(lambda: Triangular(4), (4,), identity=True),
    "triangular upper": Case(lambda: Triangular(4, upper=True, bias=False), (4,), identity=True),
    "triangular, one feature": Case(lambda: Triangular(1), (1,), identity=True),
    "lu": Case(lambda: LU(4), (4,), identity=True),
    "lu, random permutation": Case(lambda: LU(5, permutation="random", bias=False), (5,)),
    "lu, permutation": Case(lambda: LU(3, permutation=[2, 0, 1])),
    "lu, one feature": Case(lambda: LU(1), (1,), identity=True),
    "householder": Case(lambda: Householder(4, reflections=4), (4,), identity=True),
    "householder, odd": Case(lambda: Householder(3, reflections=5)),
    # In one dimension every reflection is x = -z, whatever its vector.
    "householder, one feature": Case(lambda: Householder(1), (1,), identity=True, exempt=("vectors",)),
    "householder | c": Case(lambda: Householder(4, reflections=2, context=2, hidden=(8,)), (4,), context=(2,), identity=True),
    "householder, odd | c": Case(lambda: Householder(3, reflections=3, context=(2, 2), hidden=(8,)), context=(2, 2)),
    "orthogonal cayley": Case(lambda: Orthogonal(4), (4,), identity=True),
    "orthogonal exp": Case(lambda: Orthogonal(5, map="exp"), (5,), identity=True),
    # In one dimension the only rotation is the identity.
    "orthogonal, one feature": Case(lambda: Orthogonal(1), (1,), identity=True, exempt=("entries",)),
    "permute": Case(lambda: Permute([2, 0, 3, 1]), (4,)),
    "permute channels": Case(lambda: Permute([2, 0, 1], shape=(3, 2, 2)), (3, 2, 2)),
    "reverse": Case(lambda: Reverse(3)),
    "reverse, one feature": Case(lambda: Reverse(1), (1,), identity=True),
    "reverse channels": Case(lambda: Reverse((3, 2, 2)), (3, 2, 2)),
    "random permutation": Case(lambda: RandomPermutation(6), (6,)),
    "random permutation of channels": Case(lambda: RandomPermutation((4, 2, 3), seed=1), (4, 2, 3)),
    "chain with linear maps | c": Case(
        lambda: Compose([LU(4), Coupling(4, context=2, hidden=(8,)), Reverse(4), Householder(4, context=2, hidden=(8,))]),
        (4,),
        (2,),
    ),
}
