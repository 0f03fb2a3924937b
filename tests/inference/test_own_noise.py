"""The log-density of a draw under what drew it, from the noise of the draw: the same number, gradient and words as from its value."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import probflow as pf
from probflow import KL, E, Loss, errors, log
from probflow.inference import program as programs
from probflow.inference.evaluate import program_for
from probflow.inference.ops import NoiseDensity
from probflow.inference.special import specialist

B, D = 5, 3
torch.manual_seed(0)
ENCODER, DECODER = nn.Linear(4, 2 * D, dtype=torch.float64), nn.Linear(D, 4, dtype=torch.float64)


def encoder(x: Tensor) -> dict[str, Tensor]:
    loc, raw = ENCODER(x).chunk(2, 1)
    return {"loc": loc, "scale": raw.exp()}


def prior() -> pf.Normal:
    return pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=D)


def posterior() -> pf.Normal:
    return pf.Normal("q(z | x)", encoder)


def likelihood() -> pf.Bernoulli:
    return pf.Bernoulli("p(x | z)", lambda z: {"logits": DECODER(z)})


def free() -> pf.Normal:
    return pf.Normal("q(z)", loc=nn.Parameter(torch.ones(D)), scale=nn.Parameter(torch.full((D,), 0.5)))


def sum_of(*shape: int) -> Loss:
    """No closed form is found for this: the draw's own density stays."""
    q = posterior()
    return E(q, sample_shape=list(shape))[log(likelihood()) + (log(prior()) - log(q)) ** 2]


LOSSES: dict[str, Callable[[], Loss]] = {
    "per row": lambda: sum_of(),
    "mean": lambda: sum_of().mean(),
    "samples": lambda: sum_of(6).mean(),
    "samples of samples": lambda: sum_of(2, 3).mean(),
    "summed over the batch": lambda: KL(posterior(), prior(), analytical=False).mean(),
    "IWAE": lambda: pf.IWAE(likelihood() * prior(), posterior(), samples=4).mean(),
    "without conditions": lambda: pf.IWAE(likelihood() * prior(), free(), samples=4).mean(),
    "constants": lambda: pf.IWAE(
        likelihood() * prior(), pf.Normal("q(z)", loc=0.5, scale=2.0, features_shape=D), samples=4
    ).mean(),
    "renamed": lambda: pf.IWAE(likelihood() * prior(), free().replace_var(z="w").replace_var(w="z"), samples=4).mean(),
}


def data() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"x": torch.rand(B, 4).round()}


def outcome(loss: Loss, seed: int = 0) -> list[Tensor | None]:
    values = data()
    torch.manual_seed(seed)
    value = loss.eval(values)
    weights = [*ENCODER.parameters(), *DECODER.parameters(), *loss.parameters()]
    return [value.detach(), *torch.autograd.grad(value.sum(), weights, allow_unused=True)]


@pytest.mark.parametrize("name", LOSSES)
def test_the_same_as_from_the_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = LOSSES[name]()
    ops = [getattr(step.run, "__self__", step.run) for step in program_for(loss, data())._straight]
    assert any(isinstance(op, NoiseDensity) for op in ops)
    for _ in range(specialist.RUNS):
        outcome(loss)
    quick = outcome(loss)
    monkeypatch.setattr(specialist.Specialist, "__call__", lambda self, values: None)
    general = outcome(loss)
    object.__setattr__(loss, "_plans", None)
    monkeypatch.setattr(programs, "with_noise", tuple)
    plain = outcome(loss)
    for a, b, c in zip(quick, general, plain, strict=True):
        assert (a is None) == (b is None) == (c is None)
        if a is not None and b is not None and c is not None:
            assert torch.equal(a, b)
            torch.testing.assert_close(a, c)


def test_exact_where_the_scale_is_small_beside_the_mean() -> None:
    q = pf.Normal("q(z)", loc=torch.full((D,), 1e4, dtype=torch.float32), scale=torch.full((D,), 1e-4, dtype=torch.float32))
    r = pf.Normal("r(z)", loc=torch.full((D,), 1e4, dtype=torch.float32), scale=torch.full((D,), 1.0, dtype=torch.float32))
    torch.manual_seed(3)
    found = E(q)[(log(q) - log(r)) ** 2].eval({})
    torch.manual_seed(3)
    noise = torch.randn(1, D, dtype=torch.float32).double()
    z = 1e4 + 1e-4 * noise
    wanted = (-0.5 * noise**2 - math.log(1e-4) + 0.5 * (z - 1e4) ** 2).sum(1)
    torch.testing.assert_close(found.double(), wanted**2, rtol=1e-5, atol=0.0)


def test_samples_are_what_was_drawn() -> None:
    loss = sum_of(6).mean()
    for _ in range(specialist.RUNS + 2):
        _, drawn = loss.eval(data(), return_dict=True)
        assert list(drawn) == ["z"] and drawn["z"].shape == (6, B, D)


def test_of_another_distribution_the_value_counts() -> None:
    """The same family, and even the same parameters, but not what drew it."""
    q, other = posterior(), pf.Normal("r(z | x)", encoder)
    loss = E(q)[(log(other) - log(prior())) ** 2].mean()
    ops = [getattr(step.run, "__self__", step.run) for step in program_for(loss, data())._straight]
    assert not any(isinstance(op, NoiseDensity) for op in ops)


@pytest.mark.parametrize("scale", [-1.0, float("nan")])
def test_a_wrong_scale_is_named(scale: float) -> None:
    wrong = [1.0]
    q = pf.Normal("q(z | x)", lambda x: {"loc": x[:, :D], "scale": torch.full((x.shape[0], D), wrong[0])})
    loss = E(q)[(log(prior()) - log(q)) ** 2].mean()
    for _ in range(specialist.RUNS):
        loss.eval(data())
    wrong[0] = scale
    with pytest.raises(errors.ParameterError, match=r"q\(z\|x\).*scale"):
        loss.eval(data())
