"""Tests compute in float64, so that a wrong formula cannot hide in rounding; a test that is about float32 says so itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Generator


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def seed() -> Callable[[int], Generator]:
    """`seed(n)` seeds torch's global generator and returns a new one with the same seed. A test starts with seed 0."""

    def start(n: int) -> Generator:
        torch.manual_seed(n)
        return Generator().manual_seed(n)

    return start
