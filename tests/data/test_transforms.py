from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from probflow.data import binarize, one_hot
from probflow.errors import ArgumentError, ShapeError, SupportError


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_one_hot(dtype):
    assert_close(one_hot(torch.tensor([1, 0, 2], dtype=dtype), 3), torch.eye(3)[[1, 0, 2]])


def test_one_hot_is_of_the_default_float_type():
    torch.set_default_dtype(torch.float32)
    assert one_hot(torch.tensor([0]), 2).dtype == torch.float32


def test_one_hot_of_nothing():
    assert one_hot(torch.empty(0, dtype=torch.long), 10).shape == (0, 10)


@pytest.mark.parametrize("y", [torch.tensor([1.0]), torch.tensor([True]), np.array([1]), [1]])
def test_one_hot_takes_integers(y):
    with pytest.raises(ArgumentError, match=r"integers in 0\.\.9"):
        one_hot(y, 10)


def test_one_hot_takes_one_index_per_row():
    with pytest.raises(ShapeError, match=r"\(2, 1\)"):
        one_hot(torch.zeros(2, 1, dtype=torch.long), 10)


@pytest.mark.parametrize("bad", [-1, 10])
def test_one_hot_names_the_index_outside(bad):
    with pytest.raises(SupportError, match=f"contains {bad}, expected"):
        one_hot(torch.tensor([3, bad]), 10)


def test_binarize():
    x = torch.tensor([[0.0, 0.5], [0.51, 1.0]], dtype=torch.float32)
    assert_close(binarize(x), torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float32))
    assert_close(binarize(x, threshold=0.2), torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float32))
