"""The hand-written flows of the benchmarks are probflow's flows; how fast anything is, is not tested here."""

from __future__ import annotations

from importlib import metadata

import pytest
import torch
from torch import nn

from benchmarks import density, flows, memory, report, tabular
from benchmarks.flow_images import ImageSize
from benchmarks.flow_networks import Size
from benchmarks.flow_peers import LOADERS, PEERS, Peer
from benchmarks.timing import Contestant, Disagreement

SIZES: dict[str, Size | ImageSize] = {
    "realnvp": Size(6, 4, (16, 12), batch=32),
    "maf": Size(6, 4, (16, 12), batch=32),
    "nsf": Size(6, 4, (16, 12), bins=5, batch=32),
    "glow": ImageSize((3, 8, 8), levels=2, steps=2, hidden=8, batch=16),
}


@pytest.mark.parametrize("kind", SIZES)
def test_hand_written_flow_is_probflows_density_and_gradient(kind: str) -> None:
    hand, ours = flows.networks(kind, SIZES[kind])
    with torch.no_grad():
        for p, q in zip(hand.parameters(), ours.parameters(), strict=True):
            q.copy_(p.add_(0.2 * torch.randn_like(p)))
    x = 2 * flows.batch(SIZES[kind])
    ours.log_prob({"x": x})  # the first batch in training mode initialises Glow's normalisations
    if kind == "glow":
        hand.log_prob(x, initialise=True)
    a, b = hand.log_prob(x), ours.log_prob({"x": x})
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    a.mean().backward()
    b.mean().backward()
    for p, q in zip(hand.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["realnvp", "maf"])
def test_hand_written_samples_are_probflows(kind: str) -> None:
    hand, ours = flows.networks(kind, SIZES[kind])
    torch.manual_seed(1)
    a = hand.sample(50)
    torch.manual_seed(1)
    torch.testing.assert_close(a, ours.sample(batch_n=50)["x"])


@pytest.mark.parametrize("kind", SIZES)
def test_every_contestant_trains(kind: str) -> None:
    found = flows.trainers(kind, SIZES[kind])
    assert [contestant.name for contestant in found[:2]] == ["hand", "probflow"]
    flows.same_training(found)


def test_networks_of_other_sizes_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = flows.KINDS["maf"].hand(SIZES["maf"])
    with pytest.raises(Disagreement, match="other weights"):
        flows.copy_weights(hand, flows.KINDS["maf"].ours(Size(6, 3, (16, 12))))
    small = nn.Linear(2, 2)
    monkeypatch.setitem(PEERS["maf"], "tiny", lambda modules, size: Peer(small, small, [*small.parameters()], True))
    monkeypatch.setitem(LOADERS, "tiny", object)
    with pytest.raises(Disagreement, match="tiny has 6 weights"):
        flows.trainers("maf", SIZES["maf"])


def test_other_samples_are_not_compared() -> None:
    def draws(name: str, shift: float) -> Contestant:
        return Contestant(name, lambda: torch.randn(10, 2) + shift)

    flows.same_samples([draws("hand", 0.0), draws("probflow", 0.0), draws("Pyro", 1.0)])
    with pytest.raises(Disagreement, match="not those of the hand-written"):
        flows.same_samples([draws("hand", 0.0), draws("probflow", 0.1)])
    with pytest.raises(Disagreement, match="Pyro: its samples"):
        flows.same_samples([draws("hand", 0.0), draws("probflow", 0.0), draws("Pyro", float("nan"))])


def test_inverting_keeps_activations_of_one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "INVERTED", Size(8, flows.LEAST_DEPTH, (16, 16), batch=64))
    found = {name: memory.tensor_peak("memory-invert-16", name) for name in ("hand", "probflow")}
    assert found["probflow"] <= memory.TARGET * found["hand"]


def test_libraries_without_a_program_have_no_column() -> None:
    row = ["a workload", "1 us", "1.000", *[""] * (len(report.COLUMNS) - 1)]
    assert report.table([row]).splitlines()[0].split() == ["workload", "by", "hand", "probflow"]


def _lacks(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return True
    return False


@pytest.mark.parametrize("name", tabular.TABLES)
def test_real_tables(name: str) -> None:
    if _lacks(tabular.TABLES[name].package):
        with pytest.raises(tabular.NotInstalled, match="pip install --no-deps"):
            tabular.load(name)
        return
    split = tabular.load(name)
    whole = tabular.dequantised(name)
    assert len(split.train) + len(split.validation) + len(split.test) == len(whole) == tabular.TABLES[name].rows > 40_000
    torch.testing.assert_close(split.train.double().mean(0), torch.zeros(split.features).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(split.train.double().std(0), torch.ones(split.features).double(), rtol=0, atol=1e-4)
    assert torch.equal(split.test, tabular.load(name).test)
    assert all(len(column.unique()) > 0.9 * len(whole) for column in whole.unbind(1))


def test_density_keeps_the_weights_that_validation_liked_best() -> None:
    rows = torch.randn(400, 2)
    split = tabular.Split(rows[:300] + 1, rows[300:350], rows[350:])  # trained on other data: it gets worse
    flow = density.build("realnvp", "probflow", Size(2, 2, (8,)))
    assert flow is not None
    before = density.likelihood(flow.log_prob, split.test)
    plan = density.Plan(steps=40, batch=50, rate=1e-2, clip=5.0, every=1, patience=5)
    best, test, best_step, last_step = density.train(flow, split, plan, seed=0)
    assert last_step < 40 and best_step <= last_step - 5
    assert best == pytest.approx(density.likelihood(flow.log_prob, split.validation), abs=1e-5)
    assert test == pytest.approx(before, abs=0.5)
    assert "± " in density.table(
        [density.Result("shuttle", "maf", "zuko", seed, 0.0, float(seed), 1, 1, 0.0, 1) for seed in (0, 1)]
    )
