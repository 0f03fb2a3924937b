"""Training a loss over several batches: history, checkpoints, compilation."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import E, Model, log
from probflow.data import Batches, ZipBatches

D, Y, Z = 3, 2, 2
X, X_U = torch.rand(29, D, generator=torch.Generator().manual_seed(4), dtype=torch.float64).split((8, 21))
LABELS = torch.arange(8) % Y
CLASSIFIER, LIKELIHOOD = "log q(y|x)", "E_q(z|x_u)[log p(x_u|z)]"


def parts() -> tuple[pf.Distribution, pf.Distribution, pf.Distribution, pf.Distribution]:
    torch.manual_seed(1)
    encoder = pf.nn.MLP(D, [4], {"loc": Z, "scale": Z}, output={"scale": nn.functional.softplus})
    return (
        pf.Categorical("q(y | x)", pf.nn.MLP(D, [4], {"logits": Y})),
        pf.Normal("q(z | x_u)", encoder),
        pf.Normal("p(x_u | z)", pf.nn.MLP(Z, [4], {"loc": D}), scale=1.0),
        pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=Z),
    )


def semi() -> pf.Loss:
    q_y, q, p, prior = parts()
    return (pf.KL(q, prior) - E(q)[log(p)]).mean() - pf.Parameter("alpha") * log(q_y).mean()


def data(seed: int = 3) -> ZipBatches:
    labelled = Batches({"x": X, "y": LABELS, "alpha": 0.5}, 3, seed=seed)
    return ZipBatches(labelled, Batches({"x_u": X_U}, 5, seed=seed))


def test_every_term_is_averaged_over_the_rows_of_its_own_batch() -> None:
    p, p_u = (pf.Normal(f"p({name})", loc=nn.Parameter(torch.zeros(D)), scale=1.0) for name in ("x", "x_u"))
    loss = log(p).exp().mean() - log(p_u).mean() * 2 - log(p).mean()
    source = ZipBatches(Batches({"x": X}, 3, shuffle=False), Batches({"x_u": X_U[:7]}, 3, shuffle=False))
    model = Model(loss, optimizer=torch.optim.SGD, optimizer_params={"lr": 0.0})
    history = model.fit(source, 1, validation=source, progress=False)
    labelled, many = (
        p.log_prob({"x": X}).detach(),
        p_u.log_prob({"x_u": X_U[:7]}).detach(),
    )  # 3 + 3 + 2 rows, 3 + 3 + 1 rows: each row once
    wanted = [labelled.exp().mean(), 2 * many.mean(), labelled.mean()]
    names = [name for name in history if not name.startswith("test_") and name not in ("loss", "lr", "seconds")]
    assert [history[name][0] for name in names] == pytest.approx([float(w) for w in wanted])
    assert history["loss"][0] == pytest.approx(float(wanted[0] - wanted[1] - wanted[2])) == history["test_loss"][0]
    by_rows_of_the_first = (3 * many[:3].mean() + 3 * many[3:6].mean() + 2 * many[6]) * 2 / 8
    assert abs(by_rows_of_the_first - wanted[1]) > 1e-3  # else the test shows nothing


def test_a_term_of_two_batches_counts_the_rows_of_both() -> None:
    p, p_u = (pf.Normal(f"p({name})", loc=nn.Parameter(torch.zeros(D)), scale=1.0) for name in ("x", "x_u"))
    batches = [{"x": X[:2], "x_u": X_U[:6]}, {"x": X[:4], "x_u": X_U[:1]}]
    loss = log(p).mean() * log(p_u).mean()
    history = Model(loss, optimizer=torch.optim.SGD, optimizer_params={"lr": 0.0}).fit(batches, 1, progress=False)
    first, second = (loss.eval(batch).item() for batch in batches)
    assert history["loss"] == pytest.approx([(8 * first + 5 * second) / 13])


@pytest.mark.parametrize("term", [CLASSIFIER, LIKELIHOOD, "KL[q(z|x_u) || p(z)]"])
def test_fit_learns_both(term: str) -> None:
    history = Model(semi(), optimizer_params={"lr": 0.02}).fit(data(), 8, progress=False)
    (name,) = [name for name in history if term in name]
    assert len(history[name]) == 8 and history["loss"][-1] < history["loss"][0]


def test_fit_takes_the_steps_of_train() -> None:
    first, second = Model(semi()), Model(semi())
    torch.manual_seed(2)
    first.fit(data(), 2, progress=False)
    torch.manual_seed(2)
    source = data()
    for _ in range(2):
        for batch in source:
            second.train(batch)
    for ours, theirs in zip(first.loss.parameters(), second.loss.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_resumed_run_ends_where_one_in_one_go_does(tmp_path: Path) -> None:
    def weights(*stops: int) -> list[Tensor]:
        path = tmp_path / f"{len(stops)}.pt"
        for epochs in stops:
            model = Model(semi(), scheduler=functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.8))
            torch.manual_seed(5)
            model.fit(data(), epochs, checkpoint=path, resume=True, progress=False)
        return [*model.loss.parameters(), torch.tensor(model.history["loss"])]

    for ours, theirs in zip(weights(2, 3, 5), weights(5), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
def test_compiled_training_is_eager_training(optimizer: Any) -> None:
    torch._dynamo.reset()

    def train(**options: Any) -> tuple[Model, list[float]]:
        model = Model(semi(), optimizer=optimizer, optimizer_params={"lr": 0.01}, clip_grad_norm=1.0, **options)
        torch.manual_seed(2)
        history = model.fit(data(), 3, progress=False)
        return model, history["loss"]

    eager, wanted = train()
    compiled, found = train(compile={"backend": "eager"})
    assert found == pytest.approx(wanted)
    for ours, theirs in zip(compiled.loss.parameters(), eager.loss.parameters(), strict=True):
        assert_close(ours, theirs)
