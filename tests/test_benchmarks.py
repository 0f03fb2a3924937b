"""The benchmarks run and say what they measured; how fast anything is, is not tested here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.mixture import same_moments
from benchmarks.timing import Contestant, Disagreement, Workload, argument_checks, same_losses, time_turns

ONES: Callable[[], Tensor] = lambda: torch.ones(())  # noqa: E731


def test_quick_run_prints_a_row_and_writes_the_measurements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "times.json"
    main(["--quick", "--threads", "1", "--workloads", "small", "planning", "--json", str(file)])
    printed = capsys.readouterr().out
    assert "small VAE 16-32-4" in printed and "building and planning" in printed
    seconds = json.loads(file.read_text())["threads 1"]["seconds"]
    assert {"hand", "probflow", "Model"} <= seconds["small"].keys()
    assert all(value > 0 for value in seconds["small"].values())


def test_programs_that_compute_different_things_are_not_compared() -> None:
    wrong = Contestant("wrong", lambda: torch.full((), 1.1))
    same_losses([Contestant("hand", ONES), Contestant("other", ONES)])
    with pytest.raises(Disagreement, match="hand and wrong differ"):
        same_losses([Contestant("hand", ONES), wrong])
    with pytest.raises(Disagreement, match="mean of its samples"):
        same_moments([Contestant("hand", lambda: torch.randn(10_000, 2))])


def test_turns_prepare_each_step_and_run_it_in_its_own_state() -> None:
    seen: dict[bool, set[bool]] = {True: set(), False: set()}
    prepared = []

    def contestant(checked: bool) -> Contestant:
        def step() -> Tensor:
            seen[checked].add(torch.distributions.Distribution._validate_args)
            return torch.ones(())

        return Contestant(str(checked), step, checked, lambda: prepared.append(checked))

    with argument_checks(True):
        medians = time_turns([contestant(True), contestant(False)], rounds=4)
        assert torch.distributions.Distribution._validate_args is True
    assert seen == {True: {True}, False: {False}}
    assert prepared.count(True) >= 4
    assert set(medians) == {"True", "False"}


def test_table_marks_what_misses_its_target() -> None:
    workload = Workload("w", "a workload", list, same_losses, 1, targets={"probflow": 1.1}, overhead={"probflow": 50.0})
    slow = report.time_rows(workload, {"hand": 100e-6, "probflow": 160e-6})
    fast = report.time_rows(workload, {"hand": 1000e-6, "probflow": 1040e-6})
    assert "1.600 FAIL" in slow[0][2] and "+60 us FAIL" in slow[1][2]
    assert "1.040 ok" in fast[0][2] and "+40 us ok" in fast[1][2]
    assert report.table(slow).count("\n") == 3
