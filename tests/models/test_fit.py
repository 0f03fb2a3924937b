from __future__ import annotations

import json
import math
import re
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from probflow.data import Batches
from probflow.distributions import Normal
from probflow.errors import ArgumentError, MissingVariable, ModelError
from probflow.losses import KL, E, Function, Parameter, log
from probflow.models import ML, Model, progress
from probflow.models.averages import Averages
from probflow.models.fit import _moved

LIKELIHOOD, DIVERGENCE = "E_q(z|x)[log p(x|z)]", "KL[q(z|x) || p_{prior}(z)]"


def gaussian() -> Normal:
    return Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)


def rows(n: int = 10) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(5))


# ---------------------------------------------------------------------- history


def test_history_has_the_loss_every_term_and_the_validation(vae):
    model = Model(vae.loss)
    history = model.fit(vae.values, 3, validation=vae.values, progress=False)
    assert history is model.history and model.epoch == 3
    terms = ["loss", DIVERGENCE, LIKELIHOOD]
    assert list(history) == [*terms, *(f"test_{name}" for name in terms), "lr", "seconds"]
    assert all(len(numbers) == 3 and all(type(n) is float for n in numbers) for numbers in history.values())
    json.dumps(history)
    for prefix in ("", "test_"):
        for loss, kl, likelihood in zip(*(history[prefix + name] for name in terms), strict=True):
            assert loss == pytest.approx(kl - likelihood)
    assert all(s > 0 for s in history["seconds"])


def test_averages_weigh_the_batches_by_their_size():
    p = gaussian()
    x = rows(10)
    model = ML(p, optimizer=torch.optim.SGD, optimizer_params={"lr": 0.0})
    history = model.fit(Batches({"x": x}, 4), 1, validation=Batches({"x": x}, 3), progress=False)
    exact = -p.log_prob({"x": x}).mean().item()
    assert history["loss"] == pytest.approx([exact]) == history["test_loss"]
    unweighted = sum(-p.log_prob({"x": part}).mean().item() for part in x.split(4)) / 3
    assert abs(unweighted - exact) > 1e-3  # else the test shows nothing


def test_epochs_go_on_and_lists_stay_aligned():
    model = ML(gaussian())
    x = {"x": rows()}
    model.fit(x, 2, progress=False)
    model.fit(x, 1, validation=x, progress=False)
    history = model.fit(x, 0, progress=False)
    assert model.epoch == 3 and len(history["loss"]) == len(history["test_loss"]) == 3
    assert [math.isnan(n) for n in history["test_loss"]] == [True, True, False]
    model.fit(x, 1, progress=False)
    assert [math.isnan(n) for n in history["test_loss"]] == [True, True, False, True]


def test_fit_takes_the_steps_of_train(make):
    fitted, stepped = make(), make()
    first, second = Model(fitted.loss), Model(stepped.loss)
    torch.manual_seed(2)
    history = first.fit(fitted.values, 4, progress=False)
    torch.manual_seed(2)
    assert history["loss"] == [second.train(stepped.values).item() for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(fitted.loss.parameters(), stepped.loss.parameters(), strict=True))


def test_validation_changes_no_weight_and_no_mode(make):
    with_it, without = make(), make()
    for parts, validation in ((with_it, with_it.values), (without, None)):
        parts.q.network.trunk[2].p = 0.0
        torch.manual_seed(2)
        seen: list[tuple[bool, bool]] = []
        parts.q.network.register_forward_hook(
            lambda module, *_, seen=seen: seen.append((module.training, torch.is_grad_enabled()))
        )
        Model(KL(parts.q, parts.prior).mean()).fit(parts.values, 3, validation=validation, progress=False)
        assert seen == ([(True, True), (False, False)] * 3 if validation else [(True, True)] * 3)
    assert all(torch.equal(a, b) for a, b in zip(with_it.loss.parameters(), without.loss.parameters(), strict=True))


def test_a_term_keeps_its_name_while_its_weight_is_trained(make, tmp_path):
    """A resumed run goes on with the curves of the first."""

    def resumed(seed, epochs):
        parts = make(seed)
        weight = nn.Parameter(torch.tensor(1.0))
        model = Model((weight * KL(parts.q, parts.prior) - E(parts.q)[log(parts.p)]).mean(), optimizer_params={"lr": 0.1})
        return model.fit(parts.values, epochs, checkpoint=tmp_path / "model.pt", resume=True, progress=False)

    first = resumed(0, 1)
    assert f"w * {DIVERGENCE}" in first
    assert list(resumed(1, 2)) == list(first)


def test_batches_are_moved_to_the_weights(vae):
    values = {"x": vae.x, "beta": 2.0}
    assert _moved(values, torch.device("cpu")) is values and _moved(values, None) is values
    moved = _moved(values, torch.device("meta"))
    assert isinstance(moved["x"], torch.Tensor) and moved["x"].device.type == "meta" and moved["beta"] == 2.0


def test_data_without_a_length(vae):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter({"x": row} for row in vae.x)

    history = Model(vae.loss).fit(DataLoader(Stream(), batch_size=8), 2)
    assert len(history["loss"]) == 2


def test_terms_named_like_the_library_s_own_entries_keep_apart():
    p = gaussian()
    model = Model((-log(p) + 0 * Parameter("lr")).mean())
    history = model.fit({"x": rows(), "lr": torch.tensor(3.0)}, 2, progress=False)
    assert history["lr"] == [1e-3, 1e-3]


# ---------------------------------------------------------------------- progress


@pytest.fixture(params=["terminal", "notebook"])
def drawn_over(request, monkeypatch, capsys):
    """What is written can be drawn over."""
    if request.param == "terminal":
        monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)
    else:
        monkeypatch.setattr(progress, "in_notebook", lambda: True)


def test_the_bar_shows_the_loss_and_each_term(vae, capsys, drawn_over):
    model = Model(vae.loss)
    model.fit(Batches(vae.values, 10), 2, validation=vae.values)
    shown = capsys.readouterr().err
    for part in ("epoch 1/2", "epoch 2/2", "4/4 [", "loss=", f"{DIVERGENCE}=", f"{LIKELIHOOD}=", "test_loss="):
        assert part in shown
    assert f"{model.history['loss'][-1]:.4g}" in shown
    assert shown.count("\n") == 1, "one bar for the whole run"
    model.fit(vae.values, 2, progress=False)
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_what_callbacks_print_stands_above_the_bar(vae, capsys, drawn_over):
    def report(model, epoch, logs):
        print(f"after epoch {epoch}")

    Model(vae.loss).fit(Batches(vae.values, 10), 3, callbacks=[report])
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["after epoch 1", "after epoch 2", "after epoch 3"]
    assert captured.err.count("\n") == 1


def test_a_file_gets_a_line_per_epoch(vae, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE", 0.0)
    model = Model(vae.loss)
    model.fit(Batches(vae.values, 10), 3, validation=vae.values)
    lines = capsys.readouterr().err.splitlines()
    number = r"-?\d[\d.e+-]*"
    terms = "".join(rf", {re.escape(name)}={number}" for name in (DIVERGENCE, LIKELIHOOD))
    for place, line in enumerate(lines, 1):
        assert re.fullmatch(rf"epoch {place}/3: loss={number}{terms}, test_loss={number} \(\d+\.\d s\)", line)
    assert len(lines) == 3 and f"loss={model.history['loss'][2]:.4g}"[:8] in lines[2]
    model.fit(vae.values, 2, progress=False)
    assert capsys.readouterr().err == ""


def test_short_epochs_do_not_fill_the_file(vae, capsys):
    """The first, and the last, also where a callback makes it the last."""
    Model(vae.loss).fit(vae.values, 20, callbacks=[lambda model, epoch, logs: epoch == 6])
    lines = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "epoch 1/20" and lines[-1] == "epoch 6/20" and len(lines) < 6


def test_long_epochs_are_heard_of(vae, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LONG", 0.0)
    Model(vae.loss).fit([vae.values, vae.values], 1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/1, batch 1/2", "epoch 1/1, batch 2/2", "epoch 1/1"]


# ---------------------------------------------------------------------- data


def test_dataloaders_of_dicts_lists_and_batches(vae):
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return {"x": vae.x[index], "index": index}

    model = Model(vae.loss)
    for data in (
        DataLoader(Rows(), batch_size=8, shuffle=True),
        [vae.values, vae.values],
        (vae.values,),
        Batches(vae.values, 8),
    ):
        model.fit(data, 2, progress=False)
    assert model.epoch == 8


def test_a_loader_of_tuples_is_told_to_yield_dicts(vae):
    loader = DataLoader(TensorDataset(vae.x, torch.zeros(20)), batch_size=8)
    with pytest.raises(ModelError, match=r"data must yield dicts .* yielded a list(.|\n)*collate_fn") as error:
        Model(vae.loss).fit(loader, 1, progress=False)
    line = str(error.value).splitlines()[-1]
    loader = DataLoader(TensorDataset(vae.x, torch.zeros(20)), batch_size=8, collate_fn=eval(line))
    assert set(next(iter(loader))) == {"x", "y"}
    Model(vae.loss).fit(loader, 1, progress=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda x: x, r'data is a tensor; name it: \{"x": tensor\}'),
        (lambda x: iter([{"x": x}]), "data is an iterator, used up after one epoch"),
        (lambda x: ({"x": x} for _ in range(2)), "data is an iterator"),
        (lambda x: None, "must yield dicts name -> tensor, got a NoneType"),
        (lambda x: [], "data yielded no batch in epoch 1"),
        (lambda x: [x], "yielded a Tensor"),
    ],
)
def test_data_that_cannot_be_used(vae, data, message):
    with pytest.raises(ModelError, match=message):
        Model(vae.loss).fit(data(vae.x), 2, progress=False)


def test_validation_that_cannot_be_used(vae):
    with pytest.raises(ModelError, match="validation must yield dicts"):
        Model(vae.loss).fit(vae.values, 1, validation=[vae.x], progress=False)
    with pytest.raises(ModelError, match="validation yielded no batch"):
        Model(vae.loss).fit(vae.values, 1, validation=[], progress=False)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"batch_size": 32},
            r"no argument 'batch_size'.\nThe data say .*: fit\(pf.data.Batches\({'x': ...}, batch_size=32\), ...\)",
        ),
        ({"shuffle": False}, r"Batches\({'x': ...}, batch_size=128, shuffle=False\)"),
        ({"validation_data": None}, r"called validation="),
        ({"verbose": 0}, r"called progress="),
        ({"lr": 0.1}, r"optimizer_params="),
        ({"callback": None}, r"no argument 'callback'.* 'callbacks'"),
    ],
)
def test_keywords_of_other_libraries_are_told_where_they_go(vae, keywords, message):
    with pytest.raises(ArgumentError, match=message):
        Model(vae.loss).fit(vae.values, epochs=1, **keywords)


def test_a_tensor_for_the_epochs_is_not_printed(vae):
    with pytest.raises(ModelError, match=r"got a Tensor\.$"):
        Model(vae.loss).fit(vae.values, torch.zeros(1000))  # type: ignore[arg-type]


def test_a_batch_that_lacks_a_variable_says_so(vae):
    with pytest.raises(MissingVariable, match="'x'"):
        Model(vae.loss).fit({"image": vae.x}, 1, progress=False)


@pytest.mark.parametrize("epochs", [-1, 1.5, True, "3", None])
def test_epochs_that_make_no_sense(vae, epochs):
    with pytest.raises(ModelError, match="epochs must be a non-negative integer"):
        Model(vae.loss).fit(vae.values, epochs)


# ---------------------------------------------------------------------- callbacks


def test_callbacks_get_the_epoch_and_its_numbers(vae):
    model, seen = Model(vae.loss), []
    model.fit(vae.values, 2, callbacks=[lambda m, epoch, logs: seen.append((m, epoch, m.epoch, dict(logs)))], progress=False)
    assert [entry[:3] for entry in seen] == [(model, 1, 1), (model, 2, 2)]
    for place, (*_, logs) in enumerate(seen):
        assert logs == {name: numbers[place] for name, numbers in model.history.items()}


def test_a_callback_that_returns_true_ends_the_training(vae):
    model, others = Model(vae.loss), []
    model.fit(vae.values, 9, callbacks=[lambda m, e, logs: e == 2, lambda m, e, logs: others.append(e)], progress=False)
    assert model.epoch == 2 and others == [1, 2]


def test_what_a_callback_writes_is_history(vae, tmp_path):
    seen = []

    def measure(model, epoch, logs):
        logs["twice"] = torch.tensor(2 * logs["loss"])
        if epoch > 1:
            logs["late"] = epoch
        del logs["lr"]

    def after(model, epoch, logs):
        seen.append(logs["twice"])
        logs["loss"] += 1

    model, path = Model(vae.loss), tmp_path / "model.pt"
    history = model.fit(vae.values, 3, callbacks=[measure, after], checkpoint=path, progress=False)
    assert history["twice"] == seen == pytest.approx([2 * (n - 1) for n in history["loss"]])
    assert math.isnan(history["late"][0]) and history["late"][1:] == [2.0, 3.0]
    assert all(type(n) is float for n in history["twice"]) and len(history["lr"]) == 3
    model.fit(vae.values, 1, progress=False)
    assert math.isnan(history["twice"][3])
    again = Model(vae.loss)
    again.load(path)
    assert again.history["twice"] == seen


@pytest.mark.parametrize(("name", "value"), [("a", [1.0]), ("a", "1"), ("a", torch.ones(2)), ("a", None), (3, 1.0)])
def test_what_is_no_number_is_no_history(vae, name, value):
    model = Model(vae.loss)
    with pytest.raises(ModelError, match=r"a callback wrote logs\[.*\] = .*one number per epoch"):
        model.fit(vae.values, 1, callbacks=[lambda m, e, logs: logs.update({name: value})], progress=False)
    assert name not in model.history


def test_callbacks_that_cannot_be_called(vae):
    with pytest.raises(ModelError, match=r"must be a list of functions: callbacks=\[callback\]"):
        Model(vae.loss).fit(vae.values, 1, callbacks=print)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="a str cannot be called"):
        Model(vae.loss).fit(vae.values, 1, callbacks=["early stopping"])  # type: ignore[list-item]


# ---------------------------------------------------------------------- numbers that are not finite


def exploding():
    """log p(x) plus a term that is infinite at 7; the weight is in both."""
    weight = nn.Parameter(torch.tensor(1.0))
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    return p, (weight * Function(lambda x: 1 / (7 - x[:, 0]), ["x"], "barrier") - log(p)).mean()


def test_a_loss_that_is_not_finite_is_named_before_the_weights_change():
    _, loss = exploding()
    model = Model(loss, optimizer=torch.optim.SGD, optimizer_params={"lr": 0.1})
    good, bad = {"x": torch.zeros(3, 2)}, {"x": torch.tensor([[7.0, 0.0]])}
    model.fit([good], 2, progress=False)
    steps = []

    def batches():
        for batch in (good, good, bad, good):
            steps.append([w.detach().clone() for w in loss.parameters()])
            yield batch

    class Data:
        def __iter__(self):
            return batches()

    with pytest.raises(ModelError, match=r"epoch 3, step 3: the loss mean\(.*barrier.*\) is inf\.") as error:
        model.fit(Data(), 1, progress=False)
    lines = str(error.value).splitlines()
    assert [line.endswith("<- not finite") for line in lines if "log p(x)" in line and not line.startswith("epoch")] == [False]
    assert sum(line.endswith("<- not finite") and "barrier(x)" in line for line in lines) == 1
    assert "The weights are those before this step." in str(error.value)
    assert len(steps) == 3 and all(torch.equal(a, b) for a, b in zip(loss.parameters(), steps[2], strict=True))
    assert model.epoch == 2 and len(model.history["loss"]) == 2


def test_a_validation_loss_that_is_not_finite_is_named():
    _, loss = exploding()
    with pytest.raises(ModelError, match="epoch 1, validation, step 1: the loss .* is inf"):
        Model(loss).fit({"x": torch.zeros(3, 2)}, 1, validation={"x": torch.tensor([[7.0, 0.0]])}, progress=False)


def test_on_an_accelerator_numbers_are_read_late_and_the_step_is_still_named(vae):
    late, soon = Averages(vae.loss, "epoch 1", immediate=False), Averages(vae.loss, "epoch 1", immediate=True)
    for averages in (late, soon):
        for size, number in ((4, 1.0), (2, 4.0)):
            averages.start(size)
            averages.add(torch.tensor(number), {"a": torch.tensor(number / 2)})
    assert late.result() == soon.result() == {"loss": 2.0, "a": 1.0}
    for number in (1.0, math.nan, math.nan):
        late.start(1)
        late.add(torch.tensor(number), {"a": torch.tensor(1.0)})
    with pytest.raises(ModelError, match="epoch 1, step 4: the loss .* is nan") as error:
        late.result()
    assert "before this step" not in str(error.value)


def test_the_terms_come_from_the_evaluation_that_is_trained(vae):
    calls = []
    vae.q.network.register_forward_hook(lambda *_: calls.append(1))
    vae.p.network.register_forward_hook(lambda *_: calls.append(1))
    Model((KL(vae.q, vae.prior) - E(vae.q)[log(vae.p)]).mean()).fit(vae.values, 3, progress=False)
    assert len(calls) == 6


def test_a_notebook_without_widgets_imports_without_a_warning():
    notebook = """
import sys, types
python = types.ModuleType("IPython")
python.get_ipython = object
sys.modules.update({"ipykernel.zmqshell": types.ModuleType("zmqshell"), "IPython": python, "ipywidgets": None})
import probflow
"""
    done = subprocess.run([sys.executable, "-c", notebook], capture_output=True, text=True, check=True)
    assert done.stderr == ""
