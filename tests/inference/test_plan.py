"""The plan: what is computed, once, and how."""

from __future__ import annotations

import torch
from torch import nn

import probflow as pf
from probflow import ELBO, KL, E, Function, log
from probflow.inference.program import Program


class Net(nn.Module):
    def forward(self, a: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loc": a, "scale": torch.ones_like(a)}


q, p = pf.Normal("q(z | x)", Net()), pf.Normal("p(x | z)", Net())
prior = pf.Normal("p(z)", loc=0.0, scale=1.0)
loss = (KL(q, prior) - E(q)[log(p)]).mean()


def kinds(program: object) -> list[str]:
    assert isinstance(program, Program)
    return [step.kind for step in program.steps if step.kind not in ("item", "align", "constant")]


def test_vae_as_text() -> None:
    lines = str(loss.plan()).splitlines()
    assert lines[0] == "plan of mean(KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)])"
    shown = [" ".join(line.split()) for line in lines[1:]]
    assert shown[:4] == [
        "1 read x",
        "2 params q(z|x) Normal from Net",
        "3 params p(z) Normal loc=0, scale=1",
        "4 kl KL[q(z|x) || p(z)] closed form",
    ]
    assert "5 draw z ~ q(z|x) 1 per batch element, pathwise" in shown
    assert "6 params p(x|z) Normal from Net" in shown
    assert any(line.startswith("7 log_prob log p(x|z)") for line in shown)
    assert shown[-1].startswith("9 reduce mean(") and shown[-1].endswith("over the batch")


def test_the_encoder_once_one_draw_and_a_closed_form() -> None:
    for same in (loss, (-ELBO(p * prior, q)).mean(), -ELBO(p * prior, q).mean()):
        found = kinds(same.plan())
        assert [found.count(kind) for kind in ("params", "draw", "kl", "log_prob")] == [3, 1, 1, 1]


def test_monte_carlo_is_said() -> None:
    sampled = str(KL(q, prior, sample_shape=[8]).plan())
    assert "8 per batch element, pathwise" in sampled and "closed form" not in sampled
    assert "2 x 3 per batch element" in str(E(q, [2, 3])[log(p)].plan())
    assert "drawn independently" in str((E(q)[log(p)] ** 2).plan())


def test_a_closed_form_under_an_expectation() -> None:
    """Bottom-up inference: E_q(z1|x)[KL[q(z2|z1) || p(z2)]] needs a draw of z1 only."""
    q2, p1 = pf.Normal("q(w | z)", Net()), pf.Normal("p(w)", loc=0.0, scale=1.0)
    found = kinds(E(q * q2)[log(p) + log(p1) - log(q2)].plan())
    assert found.count("kl") == 1 and found.count("draw") == 1


def test_programs_are_kept_and_depend_on_what_they_must() -> None:
    assert loss.plan() is loss.plan()
    x = {"x": torch.zeros(3)}
    loss.eval(x)
    assert loss.plan() is loss.plan()


def test_slots_are_emptied_after_their_last_reader() -> None:
    program = loss.plan()
    assert isinstance(program, Program)
    slots = program.run({"x": torch.zeros(3)})
    kept = {*program.outputs.values(), 0}
    assert all(slots[step.out] is None for step in program.steps if step.out not in kept)


def test_a_function_is_one_call_for_all_samples() -> None:
    calls = []

    def f(z: torch.Tensor) -> torch.Tensor:
        calls.append(z.shape)
        return z

    E(q, [2, 3])[Function(f, ["z"], "f")].eval({"x": torch.zeros(4)})
    assert calls == [(24,)]
