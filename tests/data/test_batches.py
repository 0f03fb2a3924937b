from __future__ import annotations

import numpy as np
import pytest
import torch

from probflow.data import Batches
from probflow.errors import ArgumentError, ShapeError

N = 10
VALUES = {"x": torch.arange(N * 3).view(N, 3), "y": torch.arange(N)}


@pytest.mark.parametrize(
    ("size", "drop_last", "sizes"),
    [(3, False, [3, 3, 3, 1]), (3, True, [3, 3, 3]), (5, False, [5, 5]), (5, True, [5, 5]), (99, False, [10]), (99, True, [])],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_sizes(size, drop_last, sizes, shuffle):
    batches = Batches(VALUES, size, shuffle=shuffle, drop_last=drop_last, seed=0)
    assert [len(batch["y"]) for batch in batches] == sizes
    assert len(batches) == len(sizes)


def test_an_epoch_has_every_row_once_and_keeps_rows_together():
    for _ in range(3):
        rows = list(Batches(VALUES, 3, seed=1))
        assert torch.cat([batch["y"] for batch in rows]).sort().values.tolist() == list(range(N))
        for batch in rows:
            assert torch.equal(batch["x"], VALUES["x"][batch["y"]])


def test_without_shuffling_the_order_is_that_of_the_values():
    assert torch.equal(torch.cat([batch["x"] for batch in Batches(VALUES, 4, shuffle=False)]), VALUES["x"])


def order(batches: Batches) -> list[int]:
    return torch.cat([batch["y"] for batch in batches]).tolist()


def test_every_epoch_has_its_own_order_and_a_seed_repeats_them():
    batches, again = Batches(VALUES, 4, seed=5), Batches(VALUES, 4, seed=5)
    first, second = order(batches), order(batches)
    assert first != second
    assert [order(again), order(again)] == [first, second]


def test_restoring_the_generator_restores_the_order():
    batches = Batches(VALUES, 4, seed=5)
    order(batches)
    state = batches.generator.get_state()
    expected = order(batches)
    other = Batches(VALUES, 4)
    other.generator.set_state(state)
    assert order(other) == expected


def test_the_global_seed_decides_when_nothing_is_given(seed):
    seed(3)
    first = order(Batches(VALUES, 4))
    seed(3)
    assert order(Batches(VALUES, 4)) == first


def test_iterating_does_not_touch_the_global_generator(seed):
    batches = Batches(VALUES, 4, seed=0)
    seed(3)
    expected = torch.rand(())
    seed(3)
    order(batches)
    assert torch.rand(()) == expected


def test_takes_the_generator_it_is_given():
    generator = torch.Generator().manual_seed(5)
    batches = Batches(VALUES, 4, generator=generator)
    assert batches.generator is generator
    assert order(batches) == order(Batches(VALUES, 4, seed=5))


@pytest.mark.parametrize("shuffle", [False, True])
def test_changing_a_batch_leaves_the_data_alone(shuffle):
    values = {"x": torch.zeros(4, 2)}
    for batch in Batches(values, 2, shuffle=shuffle, seed=0):
        batch["x"] += 1.0
    assert values["x"].sum() == 0.0


def test_different_lengths_name_both():
    with pytest.raises(ShapeError, match="'x' has 10 rows and 'y' has 9"):
        Batches({"x": VALUES["x"], "y": torch.arange(9)}, 4)


def test_a_number_goes_into_every_batch():
    batches = Batches({"x": VALUES["x"], "beta": 0.5}, 4)
    assert len(batches) == 3
    assert [batch["beta"] for batch in batches] == [0.5, 0.5, 0.5]
    batches.numbers["beta"] = 1.0
    assert [batch["beta"] for batch in batches] == [1.0, 1.0, 1.0]


def test_numbers_alone_are_no_data():
    with pytest.raises(ArgumentError, match="at least one tensor"):
        Batches({"beta": torch.tensor(1.0)}, 4)


def test_numpy_is_an_error_with_the_line_to_write():
    with pytest.raises(ArgumentError, match=r"'x' is a numpy\.ndarray") as error:
        Batches({"x": np.zeros((4, 2))}, 4)  # type: ignore[dict-item]
    assert "{'x': torch.from_numpy(x), ...}" in str(error.value)
    with pytest.raises(ArgumentError, match=r"'y' is a list.\nWrite: \{'y': torch\.as_tensor\(y\)"):
        Batches({"x": torch.zeros(2), "y": [1, 2]}, 4)  # type: ignore[dict-item]


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_batch_sizes_that_make_no_sense(size):
    with pytest.raises(ArgumentError, match="batch_size"):
        Batches(VALUES, size)


def test_other_misuse():
    with pytest.raises(ArgumentError, match="takes a dict"):
        Batches(torch.zeros(3), 2)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="at least one tensor"):
        Batches({}, 2)
    with pytest.raises(ArgumentError, match="not both"):
        Batches(VALUES, 2, generator=torch.Generator(), seed=0)
