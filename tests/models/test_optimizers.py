from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

from probflow.distributions import Normal
from probflow.errors import ModelError
from probflow.losses import KL, log
from probflow.models import ML, Model


def test_the_default_is_adam_fused_where_the_device_has_it(vae):
    optimizer = Model(vae.loss).optimizer
    assert type(optimizer) is Adam and optimizer.param_groups[0]["lr"] == 1e-3 and optimizer.param_groups[0]["fused"]
    optimizer = Model(vae.loss, optimizer_params={"lr": 0.1, "weight_decay": 0.5}).optimizer
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"], optimizer.defaults["fused"]) == (0.1, 0.5, True)


@pytest.mark.parametrize("options", [{"fused": False}, {"foreach": True}, {"differentiable": True}], ids=str)
def test_the_default_is_plain_adam_where_fused_does_not_go(vae, options):
    assert not Model(vae.loss, optimizer_params=options).optimizer.defaults["fused"]


def test_the_default_falls_back_on_a_device_without_a_fused_kernel(vae, monkeypatch):
    def refusing(self, params, lr=1e-3, fused=None):
        if fused:
            raise RuntimeError("`fused=True` requires supported devices")
        SGD.__init__(self, params, lr)

    monkeypatch.setattr("probflow.models.optimizers.Adam", type("Refusing", (SGD,), {"__init__": refusing}))
    assert type(Model(vae.loss).optimizer).__name__ == "Refusing"


def test_fused_and_plain_adam_agree(make):
    one, two = make(), make()
    for parts, options in ((one, {"lr": 0.01}), (two, {"lr": 0.01, "fused": False})):
        model = Model(parts.loss, optimizer_params=options)
        torch.manual_seed(1)
        for _ in range(10):
            model.train(parts.values)
    for a, b in zip(one.loss.parameters(), two.loss.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_class_gets_its_parameters(vae):
    optimizer = Model(vae.loss, optimizer=SGD, optimizer_params={"lr": 0.3, "momentum": 0.5}).optimizer
    assert type(optimizer) is SGD and optimizer.defaults["momentum"] == 0.5
    assert type(Model(vae.loss, optimizer=functools.partial(SGD, lr=0.2)).optimizer) is SGD


def test_an_instance_is_used_as_it_is(make):
    ours, twin = make(), make()
    optimizer = SGD(ours.loss.parameters(), lr=0.3)
    model = Model(ours.loss, optimizer=optimizer)
    assert model.optimizer is optimizer
    other = Model(twin.loss, optimizer=SGD, optimizer_params={"lr": 0.3})
    for m, parts in ((model, ours), (other, twin)):
        torch.manual_seed(1)
        m.train(parts.values)
    assert all(torch.equal(a, b) for a, b in zip(ours.loss.parameters(), twin.loss.parameters(), strict=True))


def test_an_instance_takes_no_optimizer_params(vae):
    with pytest.raises(ModelError, match=r"already made: optimizer_params=\{'lr': 0.1\} would change nothing"):
        Model(vae.loss, optimizer=SGD(vae.loss.parameters(), lr=0.3), optimizer_params={"lr": 0.1})


def test_an_instance_must_have_every_weight(vae):
    with pytest.raises(ModelError, match=r"lacks weights that the loss trains:\n  p\(x\|z\): network\.net\.0\.weight"):
        Model(vae.loss, optimizer=SGD(vae.q.parameters(), lr=0.3))
    weight = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ModelError, match="lacks weights that the loss trains:\n  trainable scalar #1\n"):
        Model((weight * KL(vae.q, vae.prior)).mean(), optimizer=SGD(vae.q.parameters(), lr=0.3))
    with pytest.warns(UserWarning, match="p\\(x\\|z\\)"):
        Model(vae.loss, distributions=[vae.q], optimizer=SGD(vae.q.parameters(), lr=0.3))


def test_an_instance_must_have_no_other_weight(vae, make):
    with pytest.raises(ModelError, match=r"has weights that are not in the loss:\n  a tensor of shape \(6, 8\)"):
        Model(vae.loss, optimizer=SGD([*vae.loss.parameters(), *make(1).q.parameters()], lr=0.3))
    with pytest.raises(ModelError, match=r"has weights that distributions=\[\.\.\.\] leaves out:\n  p\(x\|z\)"):
        with pytest.warns(UserWarning):
            Model(vae.loss, distributions=[vae.q], optimizer=SGD(vae.loss.parameters(), lr=0.3))


def test_parameter_groups_added_later_are_cleared_and_trained():
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    extra = nn.Parameter(torch.zeros(()))
    model = ML(p, optimizer=SGD, optimizer_params={"lr": 0.1})
    model.optimizer.add_param_group({"params": [extra]})
    extra.grad = torch.ones(())
    model.train({"x": torch.ones(3, 2)})
    assert extra.grad is None and extra.item() == 0.0


def test_lbfgs_gets_its_closure():
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    model = ML(p, optimizer=torch.optim.LBFGS)
    x = torch.randn(50, 2)
    for _ in range(5):
        loss = model.train({"x": x})
    assert not loss.requires_grad
    torch.testing.assert_close(p.get_parameter("loc").detach(), x.mean(0))
    with torch.no_grad():
        p.get_parameter("loc").add_(1.0)
    before = model.test({"x": x}).item()
    assert model.fit({"x": x}, 1, progress=False)["loss"] == [before]  # not an average over the optimizer's own trials


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        ("Adam", None, "optimizer must be a class such as torch.optim.Adam.* got 'Adam'"),
        (None, {"lrr": 0.1}, r"Adam refused its parameters: .*lrr.*Did you mean 'lr'\?\n  its parameters: lr, betas"),
        (SGD, {"learning_rate": 0.1}, "SGD refused its parameters"),
        (Adam, {"lr": -1.0}, "Adam refused its parameters: Invalid learning rate"),
        (None, "lr", r"optimizer_params must be a dict.* got a str"),
        (lambda params: params, None, r"optimizer\(parameters\) gave a list"),
        (3, None, "got a int"),
    ],
)
def test_optimizers_that_make_no_sense(vae, optimizer, options, message):
    with pytest.raises(ModelError, match=message):
        Model(vae.loss, optimizer=optimizer, optimizer_params=options)


# ---------------------------------------------------------------------- schedulers


def test_a_scheduler_is_stepped_once_per_epoch(vae):
    model = Model(vae.loss, optimizer_params={"lr": 0.1}, scheduler=functools.partial(StepLR, step_size=2, gamma=0.1))
    batches = [{"x": vae.x[:10]}, {"x": vae.x[10:]}]
    history = model.fit(batches, 5, progress=False)
    assert history["lr"] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    model.train(vae.values)
    assert model.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


def test_a_scheduler_may_be_an_instance(vae):
    optimizer = SGD(vae.loss.parameters(), lr=0.1)
    scheduler = ExponentialLR(optimizer, 0.5)
    model = Model(vae.loss, optimizer=optimizer, scheduler=scheduler)
    assert model.scheduler is scheduler
    assert model.fit(vae.values, 3, progress=False)["lr"] == [0.1, 0.05, 0.025]


@pytest.mark.parametrize("validated", [False, True])
def test_plateaus_are_those_of_the_validation_loss_if_there_is_one(vae, validated):
    seen = []

    class Spy(ReduceLROnPlateau):
        def step(self, metrics, epoch=None):  # type: ignore[override]
            seen.append(metrics)
            super().step(metrics)

    model = Model(vae.loss, scheduler=Spy)
    history = model.fit(vae.values, 3, validation={"x": 1 - vae.x} if validated else None, progress=False)
    assert seen == history["test_loss" if validated else "loss"]


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (StepLR, r"scheduler\(optimizer\) failed: .*step_size.*\nGive it its other arguments with functools.partial\(StepLR"),
        ("StepLR", "got 'StepLR'"),
        (lambda optimizer: None, "gave a NoneType"),
    ],
)
def test_schedulers_that_make_no_sense(vae, scheduler, message):
    with pytest.raises(ModelError, match=message):
        Model(vae.loss, scheduler=scheduler)


def test_a_scheduler_of_another_optimizer(vae):
    scheduler = ExponentialLR(SGD(vae.loss.parameters(), lr=0.1), 0.5)
    with pytest.raises(ModelError, match="ExponentialLR.* belongs to another optimizer"):
        Model(vae.loss, scheduler=scheduler)


def test_the_density_is_maximised():
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=nn.Parameter(torch.ones(2)))
    x = 2.0 + 0.5 * torch.randn(2000, 2)
    model = Model((-log(p)).mean(), optimizer_params={"lr": 0.05})
    for _ in range(400):
        model.train({"x": x})
    torch.testing.assert_close(p.get_parameter("loc").detach(), x.mean(0), atol=1e-3, rtol=0)
    torch.testing.assert_close(p.get_parameter("scale").detach(), x.std(0, unbiased=False), atol=1e-3, rtol=0)
