"""`check_transform` passes what is right, and catches each fault by its name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transforms.registry import CASES, Case

import probflow as pf
from probflow import testing
from probflow.errors import ArgumentError, BrokenLaw
from probflow.transforms import Affine, Exp, Transform

Pair = tuple[Tensor, Tensor]


class Stretch(Transform):
    """x = z e^s, right; each subclass below breaks one law."""

    shape = (3,)

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(3))

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z * self.log_scale.exp(), self.log_scale.expand_as(z)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return x * (-self.log_scale).exp(), -self.log_scale.expand_as(x)


class WrongSign(Stretch):
    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z * self.log_scale.exp(), -self.log_scale.expand_as(z)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return x * (-self.log_scale).exp(), self.log_scale.expand_as(x)


class NoInverseAtAll(Stretch):
    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return x * self.log_scale.exp(), -self.log_scale.expand_as(x)


class SumsTheBatch(Stretch):
    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z * self.log_scale.exp(), self.log_scale.expand_as(z).sum(0)


class UsesTheBatch(Stretch):
    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z * self.log_scale.exp() + z.detach().mean(0) * 0, self.log_scale.expand_as(z)


class Detached(Stretch):
    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z * self.log_scale.detach().exp(), self.log_scale.detach().expand_as(z)


class Typed(Stretch):
    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z * self.log_scale.exp(), self.log_scale.expand_as(z).double()


class LeftBehind(Stretch):
    def __init__(self) -> None:
        super().__init__()
        self.two = torch.full((3,), 2.0)  # no buffer

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z * self.log_scale.exp() + self.two.to(z.dtype), self.log_scale.expand_as(z)

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
        return (x - self.two.to(x.dtype)) * (-self.log_scale).exp(), -self.log_scale.expand_as(x)


class NeedsARow(Stretch):
    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return z * self.log_scale.exp() + 0 * z.amax(), self.log_scale.expand_as(z)


class Unpicklable(Stretch):
    def __init__(self) -> None:
        super().__init__()
        self.function = lambda t: t


class DropsOut(Stretch):
    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> Pair:
        return nn.functional.dropout(z, 0.5, self.training) * self.log_scale.exp(), self.log_scale.expand_as(z)


class OneWay(Stretch):
    inverse_cost = "absent"


BROKEN: dict[str, tuple[type[Transform], str]] = {
    "the sign of the log-determinant": (WrongSign, r"law 'log-determinant'[\s\S]*wrong sign"),
    "the inverse": (NoInverseAtAll, "law 'round trip'"),
    "the batch summed": (SumsTheBatch, "law 'shapes'"),
    "rows mixed": (UsesTheBatch, "law 'rows'"),
    "a detached weight": (Detached, "law 'gradients'"),
    "a type of its own": (Typed, "law 'dtype'"),
    "a constant on the CPU": (LeftBehind, "law 'device'"),
    "an empty batch": (NeedsARow, "law '(batches|rows)'"),
    "pickling": (Unpicklable, "law 'copies'"),
    "dropout": (DropsOut, "law 'training'"),
}


def test_a_right_one_passes_and_is_left_alone() -> None:
    transform = Stretch().train()
    before = torch.get_rng_state()
    report = testing.check_transform(transform)
    assert set(report.outcomes) >= {"round trip", "log-determinant", "rows", "gradients", "copies"}
    assert all(outcome.checked for outcome in report.outcomes.values())
    assert "log-determinant  ok" in str(report)
    assert transform.training and transform.log_scale.dtype == torch.float64 and bool((transform.log_scale == 0).all())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("make", "says"), BROKEN.values(), ids=BROKEN)
def test_each_fault_is_named(make: type[Transform], says: str) -> None:
    with pytest.raises(BrokenLaw, match=says):
        testing.check_transform(make())


def test_a_law_can_be_left_out_by_its_name() -> None:
    report = testing.check_transform(Unpicklable(), without=["copies"])
    assert not report["copies"].checked and report["copies"].note == "left out on request"
    with pytest.raises(ArgumentError, match="Did you mean 'copies'"):
        testing.check_transform(Stretch(), without=["copied"])


def test_one_direction_is_not_passed_silently() -> None:
    report = testing.check_transform(OneWay())
    assert not report["round trip"].checked and report["log-determinant"].checked


def test_values_to_test_at() -> None:
    with pytest.raises(ArgumentError, match="say where to test it"):
        testing.check_transform(Exp())
    assert testing.check_transform(Exp(), torch.randn(4, 2))["round trip"].checked
    with pytest.raises(ArgumentError, match="three rows"):
        testing.check_transform(Affine(3), torch.zeros(2, 3))


def test_an_error_inside_is_that_of_the_law() -> None:
    class Fails(Stretch):
        def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> Pair:
            raise ValueError("no")

    with pytest.raises(BrokenLaw, match="it fails with ValueError"):
        testing.check_transform(Fails())


SMALL = {
    name: case for name, case in CASES.items() if name.startswith(("affine", "coupling affine", "maf", "squeeze", "sylvester"))
}


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_the_library_passes(case: Case) -> None:
    torch.manual_seed(0)
    testing.check_transform(case.make(), case.z(), case.c(), spread=case.spread, tolerance=case.tolerance, exempt=case.exempt,
                            without=["copies"])  # fmt: skip


def test_a_transform_of_torch_obeys_the_laws() -> None:
    report = pf.testing.check_transform(torch.distributions.transforms.ExpTransform(), torch.randn(4, 3))
    assert report["log-determinant"].checked


def test_a_module_is_told_what_a_transform_is() -> None:
    for use in (pf.testing.check_transform, lambda module: pf.Flow(pf.Normal("p(z)", loc=0.0, scale=1.0), [module], "p(x)")):
        with pytest.raises(
            ArgumentError, match="got a Linear.\nFor one of your own derive from Transform: _forward_and_logdet"
        ):
            use(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"got a int.$"):
        pf.testing.check_transform(3)  # type: ignore[arg-type]


def test_a_missing_direction_is_named() -> None:
    class Up(pf.transforms.Transform):
        def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
            return z + 1, torch.zeros_like(z)

    class Nothing(pf.transforms.Transform):
        def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
            return z + 1

    z = torch.zeros(3, 2)
    with pytest.raises(ArgumentError, match=r"Up has no _inverse_and_logdet\(self, x, context\)"):
        Up().inverse_and_logdet(Up()(z))  # type: ignore[abstract]
    with pytest.raises(ArgumentError, match=r"Nothing has no _forward_and_logdet\(self, z, context\)"):
        Nothing().forward_and_logdet(z)  # type: ignore[abstract]
    with pytest.raises(BrokenLaw, match="A transform of your own defines _forward_and_logdet and _inverse_and_logdet"):
        pf.testing.check_transform(Nothing(), z)  # type: ignore[abstract]
