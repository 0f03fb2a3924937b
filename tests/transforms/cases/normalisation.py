"""Normalisation layers; their batch-dependent side is tested in test_normalisation.py."""

from __future__ import annotations

import torch
from transforms.registry import Case

from probflow.transforms import Compose, Coupling
from probflow.transforms.normalisation import ActNorm, BatchNorm


def batch_norm_with_statistics(shape: int | tuple[int, ...]) -> BatchNorm:
    """A BatchNorm that has seen batches, so that its running statistics are not trivial."""
    layer = BatchNorm(shape)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        layer.inverse_and_logdet(3 + 2 * torch.randn(16, *(layer.shape or ()), generator=generator))
    return layer


CASES = {
    "actnorm": Case(lambda: ActNorm(3), identity=True),
    "actnorm, one feature": Case(lambda: ActNorm(1), (1,), identity=True),
    "actnorm, images": Case(lambda: ActNorm((3, 4, 2)), (3, 4, 2), identity=True),
    # In training mode a batch is normalised by its own statistics.
    "batchnorm": Case(lambda: BatchNorm(3), identity=True, train_is_eval=False),
    "batchnorm, one feature": Case(lambda: BatchNorm(1), (1,), identity=True, train_is_eval=False),
    "batchnorm, trained": Case(lambda: batch_norm_with_statistics(3), train_is_eval=False),
    "batchnorm, images": Case(lambda: batch_norm_with_statistics((2, 3, 4)), (2, 3, 4), train_is_eval=False),
    "chain with actnorm": Case(lambda: Compose([ActNorm(4), Coupling(4, hidden=(8,)), ActNorm(4)]), (4,), identity=True),
}
