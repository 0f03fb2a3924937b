"""What every test and every doctest starts from: one thread, seed 0; a doctest runs in an empty folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Tests are many and small: a second thread per operation costs more than it gives, and makes sums depend on the machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(request.node, pytest.DoctestItem):
            patch.chdir(tmp_path_factory.mktemp("doctest"))
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return Path(__file__).parent
