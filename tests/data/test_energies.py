"""The energies: their integrals are finite, and their masses are where the papers draw them."""

from __future__ import annotations

import pytest
import torch

from probflow.data import ENERGIES, energy
from probflow.errors import ArgumentError


def grid(low: float, high: float, n: int) -> tuple[torch.Tensor, float]:
    axis = torch.linspace(low, high, n, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), ((high - low) / (n - 1)) ** 2


@pytest.mark.parametrize("name", ENERGIES)
def test_the_integral_is_finite_and_inside_the_window(name: str) -> None:
    masses = []
    for half in (9.0, 18.0):
        points, cell = grid(-half, half, 901)
        masses.append(energy(name)(points).exp().sum().item() * cell)
    assert masses[0] > 0 and abs(masses[1] / masses[0] - 1) < 1e-2


def test_the_double_well_has_two_wells_of_unequal_depth() -> None:
    points, _ = grid(-5.0, 5.0, 501)
    line = points[points[:, 1].abs() < 1e-9]
    density = energy("double_well")(line)
    peaks = [i for i in range(1, len(line) - 1) if density[i] > density[i - 1] and density[i] > density[i + 1]]
    assert [round(line[i, 0].item(), 1) for i in peaks] == [-2.5, 2.4]
    assert density[peaks[0]] > density[peaks[1]]


def test_the_two_moons_are_two() -> None:
    at = energy("two_moons")(torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))
    assert torch.isclose(at[0], at[1]) and at[0] > at[2] + 4 and at[2] > at[3]


def test_unknown() -> None:
    with pytest.raises(ArgumentError, match=r"(?s)no energy 'wav'.*'wave'"):
        energy("wav")
