"""Reductions over the batch are computed from sums over batch and event: the same numbers and gradients, in fewer kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import probflow as pf
from probflow import KL, E, log
from probflow.inference.evaluate import program_for
from probflow.inference.totals import spread, with_totals
from probflow.losses import Loss

B, D = 7, 3
torch.manual_seed(0)
ENCODER, DECODER = nn.Linear(5, 2 * D), nn.Linear(D, 5)


def encoder(x: Tensor) -> dict[str, Tensor]:
    loc, scale = ENCODER(x).chunk(2, 1)
    return {"loc": loc, "scale": scale.exp()}


p = pf.Bernoulli("p(x | z)", lambda z: {"logits": DECODER(z)})
grey = pf.Normal("p(x | z)", lambda z: {"loc": DECODER(z), "scale": DECODER(z).exp()})
shared = pf.Normal("p(x | z)", lambda z: {"loc": DECODER(z), "scale": DECODER(z)[:1].exp()})  # one scale for all rows
q = pf.Normal("q(z | x)", encoder)
free = pf.Normal("q(z)", loc=nn.Parameter(torch.randn(D)), scale=nn.Parameter(torch.rand(D) + 0.5))  # batch 1
prior = pf.Normal("p(z)", loc=0.5, scale=2.0, features_shape=D)
laplace = pf.Laplace("p(z)", loc=0.0, scale=1.0, features_shape=D)  # no sum of its own
coins = pf.Bernoulli("r(x)", logits=torch.zeros(5))

LOSSES: dict[str, Loss] = {
    "vae": KL(q, prior) - E(q)[log(p)],
    "elbo": pf.ELBO(p * prior, q),
    "density alone": log(coins),
    "grey": E(q)[log(grey) + log(prior) - log(q)],
    "a scale for all rows": E(q)[log(shared)],
    "a divergence for all rows": KL(free, prior) - E(q)[log(p)],
    "a number": 3.0 * KL(q, prior) + 2.0 - log(coins),
    "without a sum of its own": KL(q, prior) - E(q)[log(p) + log(laplace)],
    "samples": KL(q, prior) - E(q, sample_shape=[4])[log(p)],
    "beta": pf.Parameter("beta") * KL(q, prior) - E(q)[log(p)],
    "a sum inside": KL(q, prior).sum() + KL(q, prior),
    "twice": KL(q, prior) + KL(q, prior) - E(q)[log(p)],
}


def by_rows(loss: Loss, values: dict[str, object]) -> Tensor:
    """The same program without this."""
    program = program_for(loss, values)
    plain = type(program)(
        program.formula,
        program.reads,
        [replace(step, total=None) for step in program.steps],
        program.inputs.size,
        program.outputs,
        program.draws,
        program.batched,
        program.groups,
        program.batch_of,
    )
    return plain.value(plain.run(values))


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradients_are_those_of_the_sum_over_rows(name: str, how: str) -> None:
    loss = getattr(LOSSES[name], how)()
    values: dict[str, object] = {"x": torch.rand(B, 5, dtype=torch.float32).round()}
    if name == "beta":
        values["beta"] = 0.5
    weights = [w for w in loss.parameters() if w.requires_grad]
    found = []
    for evaluate in (lambda: loss.eval(values), lambda: by_rows(loss, values)):
        torch.manual_seed(1)
        value = evaluate()
        gradients = torch.autograd.grad(value, weights, allow_unused=True) if weights else ()
        found.append((value.detach(), [g for g in gradients if g is not None]))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert len(found[0][1]) == len(found[1][1])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_per_row_is_computed_for_the_loss_of_a_vae() -> None:
    program = program_for((KL(q, prior) - E(q)[log(p)]).mean())
    steps = with_totals(program.steps, set(program.outputs.values()), program.batch_of)
    changed = {new.kind for old, new in zip(program.steps, steps, strict=True) if old is not new}
    assert changed == {"kl", "log_prob", "combine", "reduce"}


def test_what_is_needed_per_row_stays_so() -> None:
    per_row = KL(q, prior) - E(q)[log(p)]
    values = {"x": torch.rand(B, 5, dtype=torch.float32).round()}
    assert per_row.eval(values).shape == (B,)
    program = program_for((KL(q, prior) * KL(q, prior) + log(coins)).mean())
    steps = with_totals(program.steps, set(program.outputs.values()), program.batch_of)
    changed = {new.kind for old, new in zip(program.steps, steps, strict=True) if old is not new}
    assert "kl" not in changed and "log_prob" in changed


def test_an_empty_batch_and_a_batch_of_one() -> None:
    loss = (KL(q, prior) - E(q)[log(p)]).sum()
    assert loss.eval({"x": torch.zeros(0, 5, dtype=torch.float32)}) == 0
    assert loss.eval({"x": torch.zeros(1, 5, dtype=torch.float32)}).isfinite()


def test_the_sum_of_one_number_for_all_rows() -> None:
    assert spread(2.0, 5) == 10.0
    assert spread(torch.tensor(2.0), 5) == 10.0
    assert spread(torch.tensor([2.0]), 5) == 10.0
    assert spread(torch.tensor([2.0, 3.0]), 2) == 5.0


def test_half_precision_sums_do_not_overflow() -> None:
    wide = pf.Bernoulli("p(x)", logits=torch.full((2000,), 2.0, dtype=torch.float16))
    value = (-log(wide)).mean().eval({"x": torch.zeros(64, 2000, dtype=torch.float16)})
    assert value.isfinite()
