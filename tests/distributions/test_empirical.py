"""The distribution of a data set."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from probflow.distributions import Data, EmpiricalDistribution, Normal
from probflow.errors import ArgumentError, NoDensity, ShapeError, ValuesError


def data(n=10):
    x = torch.arange(2.0 * n).reshape(n, 2)
    return x, x[:, 0].long()


def test_rows_are_drawn_together():
    x, y = data()
    p = EmpiricalDistribution("p_{data}(x, y)", {"x": x, "y": y})
    drawn = p.sample(batch_n=500, sample_shape=2)
    assert drawn["x"].shape == (2, 500, 2) and drawn["y"].shape == (2, 500)
    assert torch.equal(drawn["x"][..., 0].long(), drawn["y"])
    counts = torch.bincount(drawn["y"].flatten() // 2, minlength=10)
    assert bool(((counts - 100).abs() < 5 * (1000 * 0.1 * 0.9) ** 0.5).all())


def test_spellings():
    x, y = data()
    assert Data is EmpiricalDistribution
    assert Data(data={"x": x, "y": y}).var == ("x", "y")
    assert Data("p(x)", x).var == ("x",)
    assert str(Data(var="x", data=x).statement) == "p_{data}(x)"


def test_moments():
    x, _ = data()
    p = Data("p(x)", x)
    assert_close(p.mean(), x.mean(0, keepdim=True))
    assert_close(p.variance(), x.var(0, unbiased=False, keepdim=True))


def test_a_dimension_without_batch_is_not_taken_for_one():
    x, _ = data()
    p = Normal("p(z | x)", loc="x", scale=1.0) * Data("p(x)", x)
    assert p.sample(batch_n=3, sample_shape=4)["z"].shape == (4, 3, 2)


def test_the_data_move_and_stay_out_of_checkpoints():
    x, y = data()
    p = Data(data={"x": x, "y": y}).to(torch.float32)
    assert p.sample()["x"].dtype == torch.float32 and p.sample()["y"].dtype == torch.long
    assert not p.state_dict() and not list(p.parameters())


def test_mistakes():
    x, y = data()
    with pytest.raises(ArgumentError, match="needs data"):
        Data("p(x)")
    with pytest.raises(ShapeError, match=r"x \(10, 2\), y \(9,\)"):
        Data(data={"x": x, "y": y[:9]})
    with pytest.raises(ArgumentError, match="not conditioned"):
        Data("p(x | y)", {"x": x, "y": y})
    with pytest.raises(ArgumentError, match="must be for x, z"):
        Data("p(x, z)", {"x": x, "y": y})
    with pytest.raises(ValuesError, match="torch tensor"):
        Data(data={"x": [1.0, 2.0]})  # type: ignore[dict-item]
    with pytest.raises(NoDensity, match="point masses"):
        Data("p(x)", x).log_prob({"x": x})
    with pytest.raises(ShapeError, match="at least one"):
        Data("p(x)", x[:0])
