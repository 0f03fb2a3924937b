"""Affine and additive maps, alone and in couplings; chains; maps of torch.distributions."""

from __future__ import annotations

import torch
from torch.distributions import transforms as td
from transforms.registry import Case

from probflow.transforms import Affine, Compose, Coupling, Elementwise, Sigmoid, TorchTransform

CASES = {
    "affine": Case(lambda: Affine(3), identity=True),
    "affine | c": Case(lambda: Affine(3, context=2), context=(2,), identity=True),
    "additive": Case(lambda: Elementwise("additive", 3), identity=True),
    "sigmoid": Case(Sigmoid),
    "logit": Case(lambda: Sigmoid().inv, draw=lambda n: torch.rand(n, 3) * 0.98 + 0.01),
    "chain": Case(lambda: Compose([Affine(3), Coupling(3, hidden=(16,)), Affine(3)]), identity=True),
    "chain onto (0, 1)": Case(lambda: Compose([Affine(3), Coupling(3, hidden=(16,)), Sigmoid()]), spread=0.2, tolerance=1e-6),
    "chain | c": Case(
        lambda: Compose([Coupling(4, context=2, hidden=(16,)), Affine(4), Coupling(4, flip=True, context=2, hidden=(16,))]),
        (4,),
        (2,),
        identity=True,
    ),
    "torch exp": Case(lambda: TorchTransform(td.ExpTransform()), stiff=True),
    "torch affine": Case(lambda: TorchTransform(td.AffineTransform(1.0, 3.0))),
    "torch tanh": Case(lambda: TorchTransform(td.TanhTransform()), stiff=True, tolerance=1e-6),
    "torch exp of vectors": Case(lambda: TorchTransform(td.IndependentTransform(td.ExpTransform(), 1)), stiff=True),
    "torch reshape": Case(lambda: TorchTransform(td.ReshapeTransform(torch.Size((4,)), torch.Size((2, 2)))), (4,)),
    "coupling affine": Case(lambda: Coupling(4, hidden=(16,)), (4,), identity=True),
    "coupling affine, odd width": Case(lambda: Coupling(5, hidden=(16,), flip=True), (5,), identity=True),
    "coupling affine | c": Case(lambda: Coupling(4, hidden=(16,), context=2), (4,), (2,), identity=True),
    "coupling additive": Case(lambda: Coupling(4, "additive", hidden=(16,)), (4,), identity=True),
    "coupling alternate": Case(lambda: Coupling(5, split="alternate", hidden=(16,)), (5,), identity=True),
    "coupling mask": Case(
        lambda: Coupling(4, split=torch.tensor([True, False, False, True]), hidden=(16,)), (4,), identity=True
    ),
    "coupling indices": Case(lambda: Coupling(4, split=[2], flip=True, hidden=(16,)), (4,), identity=True),
}
