"""Batches of several sources side by side."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from probflow.data import Batches, ZipBatches
from probflow.errors import ArgumentError
from probflow.models.fit import generators_of


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([{"x": torch.zeros(1)}])


def few(size: int = 2, **options) -> Batches:
    return Batches({"y": torch.arange(6)}, size, seed=1, **options)


def many(size: int = 3, **options) -> Batches:
    return Batches({"x_u": torch.arange(21)}, size, seed=2, **options)


def test_an_epoch_is_one_pass_over_the_longest_source():
    for sources in ((few(), many()), (many(), few())):
        zipped = ZipBatches(*sources)
        steps = list(zipped)
        assert len(zipped) == len(steps) == 7
        assert torch.cat([step["x_u"] for step in steps]).sort().values.tolist() == list(range(21))
        assert [len(step["y"]) for step in steps] == [2] * 7


def test_the_shorter_one_starts_again_in_a_new_order():
    rows = torch.cat([step["y"] for step in ZipBatches(few(), many())]).tolist()
    first, second = rows[:6], rows[6:12]
    assert sorted(first) == sorted(second) == list(range(6)) and first != second


def test_it_draws_what_its_sources_draw():
    small = few()
    wanted = [{**a, **b} for a, b in zip(itertools.chain(small, small, small), many(), strict=False)]
    for ours, theirs in zip(ZipBatches(few(), many()), wanted, strict=True):
        assert list(ours) == ["y", "x_u"] and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_state_of_its_generators_is_the_order():
    zipped = ZipBatches(few(), many())
    list(zipped)
    found = generators_of(zipped, "data")
    assert list(found) == ["data.sources[0].generator", "data.sources[1].generator"]
    states = {name: generator.get_state() for name, generator in found.items()}
    second = [{name: rows.tolist() for name, rows in step.items()} for step in zipped]
    for name, generator in found.items():
        generator.set_state(states[name])
    assert [{name: rows.tolist() for name, rows in step.items()} for step in zipped] == second


def test_numbers_and_other_sources():
    rows: Any = [{"x": torch.tensor(float(i))} for i in range(4)]
    loader = DataLoader(rows, batch_size=2)
    batches = Batches({"y": torch.arange(2), "beta": 0.5}, 2)
    steps = list(ZipBatches(loader, batches, [{"w": torch.zeros(1)}]))
    assert [list(step) for step in steps] == [["x", "y", "beta", "w"]] * 2 and steps[1]["beta"] == 0.5
    batches.numbers["beta"] = 0.1
    assert next(iter(ZipBatches(loader, batches)))["beta"] == 0.1


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ((), "at least one source"),
        (({"x": torch.zeros(2)},), "source 1 is a dict"),
        ((torch.zeros(2),), "source 1 is a Tensor"),
        ((few(), 3), "source 2 is a int"),
        ((few(), iter(many())), "source 2 is an iterator"),
        ((few(), DataLoader(Stream())), "source 2, a DataLoader, has no length"),
        ((few(9, drop_last=True), many()), r"source 1 has no batch, as drop_last"),
        (([],), r"source 1 has no batch\.$"),
    ],
)
def test_sources_that_cannot_be(sources, message):
    with pytest.raises(ArgumentError, match=message):
        ZipBatches(*sources)


def test_every_name_has_one_source():
    with pytest.raises(ArgumentError, match="'y' is in source 2 and in one before it"):
        next(iter(ZipBatches(few(), few(3))))
    with pytest.raises(ArgumentError, match="source 1 yielded a Tensor"):
        next(iter(ZipBatches([torch.zeros(2)])))  # type: ignore[list-item]
