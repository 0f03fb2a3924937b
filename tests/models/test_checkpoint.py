from __future__ import annotations

import functools
import os
import pickle
import random
import zipfile

import numpy
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR, OneCycleLR, ReduceLROnPlateau, StepLR

from probflow.data import Batches
from probflow.distributions import Normal
from probflow.errors import CheckpointError, ModelError
from probflow.losses import KL, E, Function, log
from probflow.models import ML, Model
from probflow.models.checkpoint import state_of
from probflow.models.fit import generators_of


def model_of(parts, loss=None, **options):
    return Model(parts.loss if loss is None else loss, optimizer_params={"lr": 0.05}, **options)


def everything(model):
    """Weights, optimizer, scheduler, epoch and history, comparable with ==."""
    return plain({name: part for name, part in state_of(model, {}).items() if name not in ("random", "generators")})


def plain(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


# ---------------------------------------------------------------------- round trip


@pytest.mark.parametrize(
    "scheduler",
    [
        None,
        functools.partial(StepLR, step_size=2),
        functools.partial(MultiStepLR, milestones=[2, 3]),
        functools.partial(OneCycleLR, max_lr=0.1, total_steps=20),
        functools.partial(LambdaLR, lr_lambda=lambda epoch: 0.5**epoch),
        ReduceLROnPlateau,
    ],
    ids=lambda s: getattr(getattr(s, "func", s), "__name__", "none"),
)
def test_a_loaded_model_goes_on_as_the_saved_one(make, tmp_path, scheduler):
    ours, other = make(), make(1)
    model, fresh = model_of(ours, scheduler=scheduler), model_of(other, scheduler=scheduler)
    model.fit(ours.values, 3, progress=False)
    model.save(tmp_path / "model.pt")
    assert everything(fresh) != everything(model)
    expected = model.fit(ours.values, 3, progress=False)
    fresh.load(tmp_path / "model.pt")
    assert fresh.epoch == 3 and len(fresh.history["loss"]) == 3
    assert fresh.fit(ours.values, 3, progress=False)["loss"] == expected["loss"]
    fresh.history["seconds"] = model.history["seconds"]
    assert everything(fresh) == everything(model)


def test_the_random_state_is_restored(vae, tmp_path):
    def draw():
        return torch.rand(()).item(), random.random(), random.gauss(0, 1), numpy.random.rand(), numpy.random.randn()

    model = model_of(vae)
    random.gauss(0, 1), numpy.random.randn()  # each keeps a second draw
    model.save(tmp_path / "model.pt")
    expected = draw()
    assert draw() != expected
    model.load(tmp_path / "model.pt")
    assert draw() == expected


def test_scalars_functions_buffers_and_the_test_loss_are_saved(make, tmp_path):
    def build(seed):
        parts = make(seed)
        net = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 1), nn.Flatten(0))
        weight = nn.Parameter(torch.tensor(float(seed)))
        extra = Normal("r(x)", loc=nn.Parameter(torch.full((8,), float(seed))), scale=1.0)
        loss = (weight * KL(parts.q, parts.prior) - E(parts.q)[log(parts.p)] + Function(net, ["x"], "f")).mean()
        return parts, net, weight, extra, model_of(parts, loss, test_loss=(-log(extra)).mean())

    parts, net, weight, extra, model = build(1)
    _, other_net, other_weight, other_extra, other = build(2)
    model.fit(parts.values, 2, progress=False)
    model.save(tmp_path / "model.pt")
    other.load(tmp_path / "model.pt")
    assert torch.equal(weight, other_weight) and torch.equal(extra.loc, other_extra.loc)
    assert net[0].num_batches_tracked == 2
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other_net.state_dict().values(), strict=True))


def test_the_order_of_the_terms_does_not_matter(make, tmp_path):
    """The optimizer numbers its weights; a loss written the other way round numbers them differently."""
    one, two = make(), make(1)
    first = model_of(one)
    first.fit(one.values, 3, progress=False)
    first.save(tmp_path / "model.pt")
    turned = model_of(two, (-log(two.p) + KL(two.q, two.prior)).mean())
    assert [id(w) for w in turned.loss.parameters()] == [id(w) for w in (*two.p.parameters(), *two.q.parameters())]
    assert [id(w) for w in first.loss.parameters()] == [id(w) for w in (*one.q.parameters(), *one.p.parameters())]
    turned.load(tmp_path / "model.pt")
    for own, theirs in ((one.q, two.q), (one.p, two.p)):
        for a, b in zip(own.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)
            assert torch.equal(first.optimizer.state[a]["exp_avg"], turned.optimizer.state[b]["exp_avg"])


def test_two_networks_of_the_same_statement_keep_apart(tmp_path):
    def build(start):
        a, b = (Normal("p(x)", loc=nn.Parameter(torch.full((2,), start + n)), scale=1.0) for n in (0.0, 1.0))
        return a, b, Model((-log(a) - log(b)).mean())

    a, b, model = build(0.0)
    c, d, other = build(5.0)
    model.save(tmp_path / "model.pt")
    other.load(tmp_path / "model.pt")
    assert torch.equal(a.loc, c.loc) and torch.equal(b.loc, d.loc) and not torch.equal(c.loc, d.loc)


def test_a_file_is_replaced_whole(vae, tmp_path, monkeypatch):
    model, path = model_of(vae), tmp_path / "new" / "folder" / "model.pt"
    model.save(path)
    before = path.read_bytes()
    model.train(vae.values)
    real = torch.save

    def cut_off(state, file):
        real(state, file)
        file.truncate(100)
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(OSError, match="No space"):
        model.save(path)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["model.pt"]
    monkeypatch.setattr(torch, "save", real)
    order = []
    monkeypatch.setattr(os, "fsync", lambda file: order.append("fsync"))
    replace = os.replace

    def replaced(a, b):
        order.append("replace")
        replace(a, b)

    monkeypatch.setattr(os, "replace", replaced)
    model.save(path)
    assert order[:2] == ["fsync", "replace"] and path.read_bytes() != before


def test_state_that_could_not_be_read_back_is_an_error_before_training(vae, tmp_path):
    class Opaque(LambdaLR):
        def state_dict(self):
            return {**super().state_dict(), "when": object()}

    model = model_of(vae, scheduler=functools.partial(Opaque, lr_lambda=lambda epoch: 1.0))
    with pytest.raises(CheckpointError, match=r"scheduler\.state\.when is a object"):
        model.fit(vae.values, 1, checkpoint=tmp_path / "model.pt", progress=False)
    assert model.epoch == 0 and not (tmp_path / "model.pt").exists()


# ---------------------------------------------------------------------- files that must not be loaded


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def write_bomb(path, good):
    torch.save({**torch.load(good, weights_only=True), "history": Bomb()}, path)


def rewrite(change):
    def write(path, good):
        state = torch.load(good, weights_only=True)
        change(state)
        torch.save(state, path)

    return write


def flip(path, good):
    """One byte of a weight changed: the archive's structure is whole."""
    content = bytearray(good.read_bytes())
    with zipfile.ZipFile(good) as archive:
        largest = max((i for i in archive.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
    content[largest.header_offset + 200] ^= 0xFF
    path.write_bytes(content)


BAD = {
    "missing": (lambda path, good: None, "There is no checkpoint"),
    "code": (write_bomb, "holds something other than tensors.*\nNothing in it was run"),
    "pickle": (lambda path, good: path.write_bytes(pickle.dumps(Bomb())), "is not a checkpoint"),
    "cut off": (lambda path, good: path.write_bytes(good.read_bytes()[:-1000]), "is not a checkpoint, or it is cut off"),
    "one byte": (flip, "the checksum of .* is wrong"),
    "empty": (lambda path, good: path.write_bytes(b""), "is not a checkpoint"),
    "text": (lambda path, good: path.write_text("epoch,loss\n1,2\n"), "is not a checkpoint"),
    "weights only": (lambda path, good: torch.save(nn.Linear(2, 2).state_dict(), path), "was not written by Model.save"),
    "newer": (rewrite(lambda s: s.update(version=99)), "has the format version 99; this probflow reads version 1"),
    "without optimizer": (rewrite(lambda s: s.pop("optimizer")), "is damaged: KeyError: 'optimizer'"),
    "history of text": (rewrite(lambda s: s["history"].update(loss=["a"])), "history is not made of numbers"),
    "random state": (
        rewrite(lambda s: s["random"].update(torch=torch.zeros(3, dtype=torch.uint8))),
        "is damaged: RuntimeError",
    ),
    "python's random state": (rewrite(lambda s: s["random"].update(python=(3, (1, 2), None))), "is damaged: ValueError"),
    "numpy's random state": (
        rewrite(lambda s: s["random"]["numpy"].__setitem__(slice(1, 3), [torch.arange(5), 0])),
        "is damaged",
    ),
    "numpy's position": (rewrite(lambda s: s["random"]["numpy"].__setitem__(2, 10**6)), "a position outside its table"),
    "optimizer state": (
        rewrite(lambda s: s["optimizer"]["state"]["param_groups"].pop()),
        "the optimizer's state is incomplete",
    ),
}


@pytest.mark.parametrize(("write", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_changes_nothing_and_runs_nothing(make, tmp_path, monkeypatch, write, message):
    monkeypatch.chdir(tmp_path)
    good, path = tmp_path / "good.pt", tmp_path / "bad.pt"
    parts = make()
    model = model_of(parts)
    model.fit(parts.values, 2, progress=False)
    model.save(good)
    model.fit(parts.values, 1, progress=False)
    write(path, good)
    before, state = everything(model), torch.get_rng_state()
    with pytest.raises(CheckpointError, match=message):
        model.load(path)
    assert everything(model) == before and torch.equal(torch.get_rng_state(), state)
    assert not (tmp_path / "exploded").exists()
    model.load(good)


def test_the_bomb_would_go_off(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Bomb(), "bomb.pt")
    torch.load("bomb.pt", weights_only=False)
    assert (tmp_path / "exploded").exists()


def test_a_checkpoint_of_another_model_lists_the_differences(make, tmp_path):
    parts = make()
    model_of(parts).save(tmp_path / "model.pt")
    wide = make()
    wide.p.network.net[2] = nn.Linear(6, 9)
    extra = Normal("r(x)", loc=nn.Parameter(torch.zeros(8)), scale=1.0)
    weight = nn.Parameter(torch.tensor(1.0))
    loss = (weight * KL(wide.q, wide.prior) - log(wide.p) - log(extra)).mean()
    other = Model(loss, optimizer=torch.optim.SGD, scheduler=functools.partial(StepLR, step_size=2))
    before = everything(other)
    with pytest.raises(CheckpointError) as error:
        other.load(tmp_path / "model.pt")
    for line in (
        "p(x|z): network.net.2.weight has shape (9, 6) in the model and (8, 6) in the checkpoint",
        "the model has r(x), the checkpoint does not",
        "the model has trainable scalar #1, the checkpoint does not",
        "the optimizer is SGD in the model and Adam in the checkpoint",
        "the scheduler is StepLR in the model and None in the checkpoint",
    ):
        assert f"  {line}\n" in str(error.value) + "\n"
    assert everything(other) == before
    with pytest.raises(CheckpointError, match=r"the checkpoint has p\(x\|z\), the model does not"):
        model_of(make(), KL(wide.q, wide.prior).mean()).load(tmp_path / "model.pt")


def test_a_checkpoint_of_another_precision_is_not_rounded(make, tmp_path):
    model, other = model_of(make()), model_of(make())
    model.to(torch.float64).save(tmp_path / "model.pt")
    other.to(torch.float32)
    before = everything(other)
    with pytest.raises(
        CheckpointError, match=r"net.0.weight is torch.float32 in the model and torch.float64 in the checkpoint"
    ):
        other.load(tmp_path / "model.pt")
    assert everything(other) == before
    other.to(torch.float64).load(tmp_path / "model.pt")
    assert everything(other) == everything(model)


def test_a_checkpoint_of_other_trained_weights(make, tmp_path):
    with pytest.warns(UserWarning):
        some = make()
        model_of(some, distributions=[some.q]).save(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"the optimizer trains p\(x\|z\): network.net.0.bias in the model only"):
        model_of(make()).load(tmp_path / "model.pt")


# ---------------------------------------------------------------------- in fit


def test_fit_writes_one_after_every_epoch(vae, tmp_path):
    path, seen = tmp_path / "run" / "model.pt", []
    model = model_of(vae)
    model.fit(
        vae.values,
        3,
        checkpoint=path,
        progress=False,
        callbacks=[lambda m, e, logs: seen.append(path.exists() and torch.load(path, weights_only=True)["epoch"])],
    )
    assert seen == [False, 1, 2] and torch.load(path, weights_only=True)["epoch"] == 3


def test_resuming_counts_the_total(make, tmp_path):
    path = tmp_path / "model.pt"
    straight, first, second = make(), make(), make(7)
    torch.manual_seed(3)
    expected = model_of(straight).fit(straight.values, 5, progress=False)["loss"]
    torch.manual_seed(3)
    model_of(first).fit(first.values, 2, checkpoint=path, resume=True, progress=False)  # nothing to resume from: it starts
    model = model_of(second)
    assert model.fit(second.values | first.values, 5, checkpoint=path, resume=True, progress=False)["loss"] == expected
    assert model.fit(first.values, 5, checkpoint=path, resume=True, progress=False)["loss"] == expected
    assert model.fit(first.values, 4, checkpoint=path, resume=True, progress=False)["loss"] == expected


class Rows(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        return self.rows[place]


@pytest.mark.parametrize("kind", ["batches", "loader", "wrapped"])
def test_the_data_s_generators_are_restored(make, tmp_path, kind):
    class Wrapped:
        def __init__(self, batches):
            self.inner = batches

        def __iter__(self):
            return iter(self.inner)

    def data(x, seed):
        if kind == "loader":
            return torch.utils.data.DataLoader(
                Rows([{"x": row} for row in x]), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(seed)
            )
        batches = Batches({"x": x}, 8, seed=seed)
        return Wrapped(batches) if kind == "wrapped" else batches

    path = tmp_path / "model.pt"
    straight, first, second = make(), make(), make()
    torch.manual_seed(3)
    expected = model_of(straight).fit(data(straight.x, 1), 4, progress=False)["loss"]
    torch.manual_seed(3)
    model_of(first).fit(data(first.x, 1), 2, checkpoint=path, progress=False)
    model = model_of(second)
    assert model.fit(data(second.x, 99), 4, checkpoint=path, resume=True, progress=False)["loss"] == expected
    with pytest.warns(UserWarning, match="other random generators on the data"):
        model.fit([second.values], 5, checkpoint=path, resume=True, progress=False)


def test_generators_are_found_once_each():
    generator = torch.Generator()
    loader = torch.utils.data.DataLoader(Rows([1, 2]), shuffle=True, generator=generator)
    assert list(generators_of(loader, "data").values()) == [generator]
    assert generators_of([{"x": torch.zeros(1)}], "data") == generators_of(None, "data") == {}
    assert list(generators_of(Batches({"x": torch.zeros(2)}, 1), "data")) == ["data.generator"]


def test_arguments_that_make_no_sense(vae, tmp_path):
    model = model_of(vae)
    with pytest.raises(ModelError, match="resume=True needs the file"):
        model.fit(vae.values, 1, resume=True)
    with pytest.raises(ModelError, match="is a folder; name a file in it"):
        model.fit(vae.values, 1, checkpoint=tmp_path)
    with pytest.raises(ModelError, match="must be the path of a file, got True"):
        model.fit(vae.values, 1, checkpoint=True)


def test_a_bad_generator_state_changes_nothing(make, tmp_path):
    parts, path = make(), tmp_path / "model.pt"
    data = Batches(parts.values, 8, seed=1)
    model = model_of(parts)
    model.fit(data, 1, checkpoint=path, progress=False)
    rewrite(lambda s: s["generators"].update({"data.generator": torch.zeros(3, dtype=torch.uint8)}))(path, path)
    fresh = model_of(make(1))
    before = everything(fresh)
    with pytest.raises(CheckpointError, match="is damaged: RuntimeError"):
        fresh.fit(data, 2, checkpoint=path, resume=True, progress=False)
    assert everything(fresh) == before


def test_resuming_from_a_bad_file_trains_nothing(vae, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"x")
    model = model_of(vae)
    with pytest.raises(CheckpointError):
        model.fit(vae.values, 1, checkpoint=tmp_path / "model.pt", resume=True, progress=False)
    assert model.epoch == 0 and (tmp_path / "model.pt").read_bytes() == b"x"


def test_the_example_of_a_short_form(tmp_path):
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    ML(p).save(tmp_path / "m.pt")
    ML(p).load(tmp_path / "m.pt")
