"""Draws of an index from its log-probabilities."""

from __future__ import annotations

import pytest
import torch

from probflow.distributions.index import draw_index


@pytest.mark.parametrize("batch", [1, 3])
def test_a_state_of_probability_0_is_never_drawn(monkeypatch, batch):
    log_probs = torch.tensor([0.0, 0.5, 0.5, 0.0]).log()[:, None].expand(4, batch)
    for uniform, state in ((0.0, 1), (0.25, 1), (0.5, 2), (1 - 2.0**-53, 2)):  # also where the uniform number hits a step
        monkeypatch.setattr(torch, "rand", lambda shape, uniform=uniform, **options: torch.full(shape, uniform, **options))
        assert bool((draw_index(log_probs, (2,), 3) == state).all())


def test_frequencies_per_row_and_sample_dimension():
    probs = torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]])
    n = 40_000
    index = draw_index(probs.log().T, (n,), 2)
    assert index.shape == (n, 2)
    counts = torch.stack([(index == k).double().mean(0) for k in range(3)], 1)
    assert bool(((counts - probs).abs() <= 5 * (probs * (1 - probs) / n).sqrt()).all())
    lead = draw_index(probs.log().T[:, :, None], (5, 2), 4)  # sample dimensions of the probabilities, one row for all
    assert lead.shape == (5, 2, 2, 4) and bool((lead[:, :, 1] < 2).all())


def test_half_precision_is_widened():
    index = draw_index(torch.zeros(1000, 1, dtype=torch.bfloat16).log_softmax(0), (), 50_000)
    assert index.max() > 900 and len(index.unique()) > 950
