"""The examples: every printed loss is the paper's equation, every value is right, and they run at a tiny size."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

import probflow as pf
from examples import gaussian_mixture, hierarchical_vae, semi_supervised_m2
from probflow import log

# ---------------------------------------------------------------------- printed losses


def test_the_loss_of_the_gaussian_mixture():
    joint = gaussian_mixture.mixture(torch.randn(3, 2))
    assert str(-log(joint.marginalize_var("z")).mean()) == gaussian_mixture.LOSS == "-mean(log p(x))"
    bound = "mean(E_p(z|x)[log p(x,z) - log p(z|x)])"
    assert str(pf.ELBO(joint, joint.posterior("z")).mean()) == gaussian_mixture.BOUND == bound


def test_the_loss_of_m2_is_that_of_the_paper():
    loss = semi_supervised_m2.m2(semi_supervised_m2.classifier(4), 4, 2)
    assert str(loss) == semi_supervised_m2.LOSS
    assert str(loss) == (
        "mean(-E_q(z|x,y)[log p(x|y,z) + log p(y) + log p(z) - log q(z|x,y)]) + "
        "mean(E_q(y_u|x_u)[-E_q(z_u|x_u,y_u)[log p(x_u|y_u,z_u) + log p(y_u) + log p(z_u) - log q(z_u|x_u,y_u)]] "
        "- H[q(y_u|x_u)]) - alpha * mean(log q(y|x))"
    )
    assert set(loss.input_var) == {"x", "y", "x_u", "alpha"}


def test_the_losses_of_the_hierarchical_vae():
    golden = {
        "bottom-up": "-mean(E_q(z1,z2|x)[log p(x,z1,z2) - log q(z1,z2|x)])",
        "top-down": "-mean(E_q(z2,z1|x)[log p(x,z1,z2) - log q(z2,z1|x)])",
    }
    assert golden == hierarchical_vae.LOSSES
    assert {name: str(build(4, 3, 2)) for name, build in hierarchical_vae.BUILD.items()} == golden


def test_the_derivations_of_the_hierarchical_vae():
    """Top-down both layers have a closed divergence; bottom-up the lower one has none."""
    last = {name: str(build(4, 3, 2).derive()).splitlines()[-1] for name, build in hierarchical_vae.BUILD.items()}
    assert "E_q(z2|x)[KL[q(z1|z2,x) || p(z1|z2)]] - KL[q(z2|x) || p(z2)]" in last["top-down"]
    assert "E_q(z1,z2|x)[log p(z1|z2)] - E_q(z1|x)[KL[q(z2|z1) || p(z2)]] + H[q(z1|x)]" in last["bottom-up"]
    assert "|| p(z1|z2)]" not in last["bottom-up"]


# ---------------------------------------------------------------------- values


def test_both_fits_of_the_mixture_reach_the_same_likelihood(capsys):
    reached = gaussian_mixture.main(["--n", "400", "--steps", "300", "--em-steps", "30"])
    assert abs(reached["gradient"] - reached["em"]) < 1e-3
    printed = capsys.readouterr().out
    assert f"gradient minimises {gaussian_mixture.LOSS}\n" in printed and f"EM maximises {gaussian_mixture.BOUND}\n" in printed


def test_em_never_falls():
    x = pf.data.toy("eight_gaussians", 300, 0)["x"].to(torch.get_default_dtype())
    joint = gaussian_mixture.mixture(x[:5])
    before = log(joint.marginalize_var("z")).mean().eval({"x": x}).detach()
    reached = gaussian_mixture.by_em(joint, x, 20)
    assert_close(reached[0], float(before))
    assert all(b >= a - 1e-12 for a, b in pairwise(reached)) and reached[-1] > reached[0] + 0.1


def test_the_unlabelled_bound_is_the_sum_over_y_of_the_labelled_one():
    """U(x) = sum_y q(y|x) L(x, y) - H(q(y|x)), eq. 7, with L taken label by label."""
    q_y = semi_supervised_m2.classifier(4)
    p = pf.Normal("p(x | y)", pf.nn.MLP(10, [4], {"loc": 784, "scale": 784}, output={"scale": F.softplus}))
    p_y = pf.Categorical("p(y)", probs=torch.full((10,), 0.1))
    p_z = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)  # q(z) = p(z), and x does not depend on z: nothing is random
    labelled = semi_supervised_m2.labelled_bound(p, p_y, p_z, p_z)
    unlabelled = pf.E(q_y)[labelled] - pf.Entropy(q_y)
    x = torch.rand(3, 784)
    probs = q_y.mean({"x": x})
    by_label = torch.stack([labelled.eval({"x": x, "y": row.expand(3, 10)}) for row in torch.eye(10)], 1)
    assert_close(unlabelled.eval({"x": x}), (probs * (by_label + probs.log())).sum(1))


def test_the_labels_are_spread_over_the_classes():
    y = torch.arange(1000) % 10
    rows = semi_supervised_m2.few_labels(y, 100, torch.Generator().manual_seed(0))
    assert y[rows].bincount().tolist() == [10] * 10 and len(rows.unique()) == 100


# ---------------------------------------------------------------------- they run


@pytest.fixture
def small(monkeypatch):
    """200 digits to learn from and 50 to test on, in float32."""
    generator = torch.Generator().manual_seed(0)
    parts = [{"x": torch.rand(n, 784, generator=generator, dtype=torch.float32), "y": torch.arange(n) % 10} for n in (200, 50)]
    monkeypatch.setattr(pf.data, "load_digits", lambda: pf.data.Split(*parts))
    torch.set_default_dtype(torch.float32)


def test_m2_runs(small, capsys):
    arguments = ["--epochs", "1", "--batch-size", "30", "--hidden", "8", "--z", "2", "--alone-steps", "5", "--seeds", "2"]
    reached = semi_supervised_m2.main([*arguments, "--validation", "40"])
    printed = capsys.readouterr().out
    assert list(reached) == ["validation alone", "validation m2", "test alone", "test m2"]
    assert all(0 <= value <= 1 for value in reached.values())
    assert printed.count(semi_supervised_m2.LOSS + "\n") == 1
    assert "\nvalidation accuracy with 100 labels, mean of 2 seeds" in printed and "\ntest accuracy with 100" in printed
    reached = semi_supervised_m2.main([*arguments, "--validation", "0", "--labelled-batch", "20"])
    assert list(reached) == ["test alone", "test m2"] and "validation" not in capsys.readouterr().out


def test_the_batches_of_m2_have_sizes_of_their_own(small, monkeypatch):
    seen = []
    monkeypatch.setattr(
        pf.Model, "train", lambda model, batch: seen.append({name: len(v) for name, v in batch.items() if name != "alpha"})
    )
    options = ["--epochs", "1", "--batch-size", "30", "--hidden", "8", "--z", "2", "--alone-steps", "0", "--validation", "40"]
    semi_supervised_m2.main(options)
    assert seen == [{"x": 100, "y": 100, "x_u": 30}] * 5  # of 160 images


def test_what_is_held_out_is_not_learnt_from():
    data = {"x": torch.arange(50.0)[:, None], "y": torch.arange(50)}
    rest, held = semi_supervised_m2.held_out(data, 20)
    assert len(held["y"]) == 20 and sorted(rest["y"].tolist() + held["y"].tolist()) == list(range(50))
    assert torch.equal(held["x"][:, 0], held["y"].double()) and torch.equal(
        semi_supervised_m2.held_out(data, 20)[1]["y"], held["y"]
    )


def test_the_hierarchical_vae_runs(small, capsys):
    reached = hierarchical_vae.main(["--epochs", "2", "--hidden", "8", "--z1", "3", "--z2", "2"])
    printed = capsys.readouterr().out
    for name, loss in hierarchical_vae.LOSSES.items():
        assert f"{name}: {loss}\n" in printed
        assert abs(reached[name] - 543) < 30  # pixels are fair coins, of log 2 nats each
