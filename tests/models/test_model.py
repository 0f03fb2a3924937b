from __future__ import annotations

import copy
import gc
import warnings
import weakref
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from probflow.distributions import Bernoulli, Normal
from probflow.errors import ModelError
from probflow.losses import KL, E, Function, LogProb, Parameter, log
from probflow.models import ML, Model


def weights(*parts):
    return [w.detach().clone() for part in parts for w in part.parameters()]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------------- one step is what a hand-written loop does


def by_hand(parts, x):
    """-ELBO of the fixture's VAE in plain PyTorch, drawing as the model does."""
    encoded = parts.q.network(x)
    loc, scale = encoded["loc"], encoded["scale"]
    z = torch.addcmul(loc, scale, torch.randn(loc.shape))
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(loc, scale), torch.distributions.Normal(0.0, 1.0)).sum(1)
    likelihood = -F.binary_cross_entropy_with_logits(parts.p.network(z)["logits"], x, reduction="none").sum(1)
    return (kl - likelihood).mean()


@pytest.mark.parametrize(
    "clips", [{}, {"clip_grad_norm": 0.1}, {"clip_grad_value": 0.01}, {"clip_grad_norm": 0.5, "clip_grad_value": 0.01}], ids=str
)
def test_training_is_the_hand_written_loop(make, clips):
    ours, twin = make(), make()
    model = Model(ours.loss, optimizer=torch.optim.Adam, optimizer_params={"lr": 0.05}, **clips)
    trained = [*twin.q.parameters(), *twin.p.parameters()]
    optimizer = torch.optim.Adam(trained, lr=0.05)
    torch.manual_seed(1)
    first = [model.train(ours.values) for _ in range(5)]
    torch.manual_seed(1)
    second = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = by_hand(twin, twin.x)
        loss.backward()
        if "clip_grad_norm" in clips:
            nn.utils.clip_grad_norm_(trained, clips["clip_grad_norm"])
        if "clip_grad_value" in clips:
            nn.utils.clip_grad_value_(trained, clips["clip_grad_value"])
        optimizer.step()
        second.append(loss.detach())
    torch.testing.assert_close(torch.stack(first), torch.stack(second), rtol=1e-12, atol=1e-12)
    for a, b in zip([*ours.q.parameters(), *ours.p.parameters()], trained, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_the_same_loss_expression_by_hand_gives_bit_identical_weights(make):
    ours, twin = make(), make()
    model = Model(ours.loss, optimizer=torch.optim.Adam, optimizer_params={"lr": 0.05})
    loss = twin.loss
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    torch.manual_seed(1)
    first = [model.train(ours.values).item() for _ in range(5)]
    torch.manual_seed(1)
    second = []
    for _ in range(5):
        optimizer.zero_grad()
        value = loss.eval(twin.values)
        value.backward()
        optimizer.step()
        second.append(value.item())
    assert first == second
    assert same(weights(ours.q, ours.p), weights(twin.q, twin.p))


@pytest.mark.parametrize("clip", ["clip_grad_norm", "clip_grad_value"])
def test_clipping_limits_the_gradient(vae, clip):
    limit: dict[str, Any] = {clip: 1e-3}
    model = Model(vae.loss, optimizer=torch.optim.SGD, optimizer_params={"lr": 0.0}, **limit)
    model.train(vae.values)
    gradient = torch.cat([w.grad.flatten() for w in vae.loss.parameters()])
    size = gradient.norm() if clip == "clip_grad_norm" else gradient.abs().max()
    assert 0.99e-3 < size <= 1.0001e-3


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), "1", True])
def test_a_limit_that_makes_no_sense(vae, value):
    with pytest.raises(ModelError, match="clip_grad_norm must be a positive number"):
        Model(vae.loss, clip_grad_norm=value)


# ---------------------------------------------------------------------- traps of training


def test_the_loss_returned_holds_no_graph(vae):
    model = Model(vae.loss)
    loss = model.train(vae.values)
    assert not loss.requires_grad and loss.grad_fn is None and loss.shape == ()


def test_nothing_of_a_step_survives_it(vae):
    x = vae.x.clone()
    model = Model(vae.loss)
    model.train({"x": x})
    model.test({"x": x})
    alive = weakref.ref(x)
    del x
    gc.collect()
    assert alive() is None


def test_the_full_batch_can_be_trained_on_again_and_again(vae):
    model = Model(vae.loss, optimizer_params={"lr": 0.02})
    losses = [model.train(vae.values).item() for _ in range(300)]
    assert sum(losses[-20:]) / 20 < sum(losses[:20]) / 20 - 0.3


def test_testing_first_does_not_stop_training(make):
    tested, plain = make(), make()
    first, second = Model(tested.loss), Model(plain.loss)
    before = weights(tested.q, tested.p)
    state = torch.get_rng_state()
    first.test(tested.values)
    torch.set_rng_state(state)
    first.train(tested.values)
    torch.set_rng_state(state)
    second.train(plain.values)
    assert same(weights(tested.q, tested.p), weights(plain.q, plain.p))
    assert not any(torch.equal(a, b) for a, b in zip(weights(tested.q, tested.p), before, strict=True))


def test_the_test_loss_sees_the_weights_of_now(vae):
    vae.q.eval()
    model = Model(KL(vae.q, vae.prior).mean(), optimizer_params={"lr": 0.1})
    losses = []
    for _ in range(4):
        losses.append(model.test(vae.values).item())
        model.train(vae.values)
    assert len(set(losses)) == 4


def test_a_model_that_was_used_can_be_copied_and_the_copy_trained(make):
    parts = make()
    model = Model(parts.loss, optimizer=torch.optim.Adam, optimizer_params={"lr": 0.01}, scheduler=halving)
    model.fit(parts.values, 2, progress=False)
    twin = copy.deepcopy(model)
    before = weights(parts.q, parts.p)
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_copy = twin.fit(parts.values, 2, progress=False)["loss"]
    assert same(weights(parts.q, parts.p), before), "training the copy changed the original"
    torch.manual_seed(3)
    assert model.fit(parts.values, 2, progress=False)["loss"] == from_copy
    assert same(weights(*model.distributions), weights(*twin.distributions))
    assert model.optimizer.param_groups[0]["lr"] == twin.optimizer.param_groups[0]["lr"] == 0.01 / 16


def halving(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


def test_gradients_of_another_use_do_not_leak_into_a_step(make):
    ours, plain = make(), make()
    first, second = Model(ours.loss), Model(plain.loss)
    ours.loss.eval(ours.values).backward()
    for model, parts in ((first, ours), (second, plain)):
        torch.manual_seed(1)
        model.train(parts.values)
    assert same(weights(ours.q, ours.p), weights(plain.q, plain.p))


# ---------------------------------------------------------------------- modes


def test_training_and_testing_set_the_mode_and_testing_restores_it(vae):
    seen = []
    vae.q.network.trunk.register_forward_hook(lambda module, *_: seen.append(module.training))
    vae.q.network.trunk[2].register_forward_hook(lambda module, *_: seen.append(module.training))
    model = Model(vae.loss)
    vae.q.network.trunk[2].eval()  # deep inside
    model.test(vae.values)
    assert seen == [False, False] and vae.q.training and vae.q.network.trunk.training
    assert not vae.q.network.trunk[2].training
    model.train(vae.values)
    assert seen[2:] == [True, True]
    vae.q.eval()
    model.test(vae.values)
    assert not vae.q.training and not vae.q.network.training and vae.p.training


def test_the_mode_is_restored_after_an_error_too(vae):
    model = Model(vae.loss)
    with pytest.raises(ValueError):
        model.test({"x": vae.x[:, :3]} | {"x": 3})
    assert vae.q.training and torch.is_grad_enabled()


def test_testing_has_no_gradient_and_uses_the_test_loss(vae):
    model = Model(vae.loss, test_loss=KL(vae.q, vae.prior).mean())
    value = model.test(vae.values)
    vae.q.eval()
    assert torch.equal(value, KL(vae.q, vae.prior).eval(vae.values).mean().detach())
    assert not value.requires_grad


# ---------------------------------------------------------------------- what is trained


def test_everything_is_trained_by_default(vae):
    vae.p.network.net[0].weight.requires_grad_(False)
    scale = nn.Parameter(torch.tensor(0.5))
    weight = nn.Parameter(torch.tensor(2.0))
    critic = nn.Linear(8, 1)
    extra = Normal("r(x)", loc=0.0, scale=scale, features_shape=8)
    loss = (
        weight * KL(vae.q, vae.prior)
        - E(vae.q)[log(vae.p)]
        - log(extra)
        + Function(lambda x: x.sum(1), "x")
        + Function(Squeezed(critic), ["x"], "critic")
    ).mean()
    model = Model(loss, optimizer=torch.optim.SGD, optimizer_params={"lr": 0.01})
    all_weights = [*vae.q.parameters(), *vae.p.parameters(), scale, weight, *critic.parameters()]
    before = [w.detach().clone() for w in all_weights]
    model.train(vae.values)
    moved = [not torch.equal(a, b) for a, b in zip(all_weights, before, strict=True)]
    assert moved == [w.requires_grad for w in all_weights] and moved.count(False) == 1


class Squeezed(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).squeeze(1)


def test_a_distribution_left_out_is_not_trained_and_named(vae):
    with pytest.warns(UserWarning, match=r"q\(z\|x\) occurs in the loss .* will not be trained") as found:
        model = Model(vae.loss, distributions=[vae.p])
    assert len(found) == 1 and found[0].filename == __file__
    before = weights(vae.q)
    model.train(vae.values)
    assert same(weights(vae.q), before)
    r = Normal("r(z)", loc=nn.Parameter(torch.zeros(3)), scale=1.0)
    with pytest.warns(UserWarning, match=r"p\(x\|z\) occurs") as found:
        ML(vae.p * r, distributions=[r])
    assert found[0].filename == __file__


@pytest.mark.parametrize("spelling", ["list", "joint", "renamed", "one frozen"])
def test_no_warning_when_nothing_trainable_is_left_out(vae, spelling):
    given = {
        "list": [vae.p, vae.q],
        "joint": [vae.p * vae.prior, vae.q],
        "renamed": [vae.p.replace_var(x="u"), vae.q, vae.prior],
        "one frozen": [vae.q],
    }[spelling]
    vae.p.requires_grad_(spelling != "one frozen")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Model(vae.loss, distributions=given)
    model.train(vae.values)


def test_trainable_scalars_are_trained_whatever_distributions_says(vae):
    weight = nn.Parameter(torch.tensor(2.0))
    model = Model(
        (weight * KL(vae.q, vae.prior)).mean(), distributions=[vae.q], optimizer=torch.optim.SGD, optimizer_params={"lr": 0.1}
    )
    model.train(vae.values)
    assert weight.item() < 2.0


def test_the_module_of_a_function_can_be_named_or_left_out(vae):
    critic = Squeezed(nn.Linear(8, 1))
    loss = (Function(critic, ["x"], "critic") - log(Normal("r(x)", loc=nn.Parameter(torch.zeros(8)), scale=1.0))).mean()
    (r,) = loss.distributions
    with pytest.warns(UserWarning, match="Squeezed occurs in the loss"):
        Model(loss, distributions=[r])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Model(loss, distributions=[r, critic])
    before = weights(critic)
    model.train(vae.values)
    assert not same(weights(critic)[:1], before[:1])


def test_weights_shared_by_several_distributions_are_given_to_the_optimizer_once():
    trunk = nn.Linear(4, 4)
    p, r = Normal("p(x | y)", trunk, scale=1.0), Normal("r(x | u)", nn.Sequential(trunk, nn.Tanh()), scale=1.0)
    model = Model((log(p) + log(r) + log(p.replace_var(y="v"))).mean())
    listed = [id(w) for group in model.optimizer.param_groups for w in group["params"]]
    assert listed == [id(w) for w in trunk.parameters()]
    x = torch.randn(3, 4)
    model.train({"x": x, "y": x, "u": x, "v": x})


def test_a_distribution_that_is_not_in_the_loss_is_named(vae, make):
    other = make(1)
    with pytest.raises(
        ModelError, match=r"q\(z\|x\) of distributions=\[...\] does not occur in the loss.* another distribution"
    ):
        Model(vae.loss, distributions=[vae.p, other.q])
    stranger = Normal("p(u)", loc=nn.Parameter(torch.zeros(1)), scale=1.0)
    with pytest.raises(ModelError, match=r"p\(u\) of distributions.*does not occur"):
        Model(vae.loss, distributions=[vae.p, vae.q, vae.prior * stranger])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("p", "must be a list of distributions, such as .*got 'p'"),
        (["p"], r"distributions\[0\] must be a distribution .* got 'p'"),
        (3, "got a int"),
        ([nn.Linear(2, 2)], r"distributions\[0\].* got a Linear that does not occur in the loss"),
    ],
    ids=str,
)
def test_distributions_that_are_none(vae, wrong, message):
    with pytest.raises(ModelError, match=message) as error:
        Model(vae.loss, distributions=wrong)
    assert "the loss has: q(z|x), p_{prior}(z), p(x|z)" in str(error.value)


# ---------------------------------------------------------------------- losses that cannot be trained


def test_a_loss_with_a_batch_dimension_says_mean(vae):
    with pytest.raises(ModelError, match=r"KL\[q\(z\|x\) .*one number per batch element; write loss\.mean\(\)"):
        Model(KL(vae.q, vae.prior))
    with pytest.raises(ModelError, match=r"test_loss .*one number per batch element"):
        Model(vae.loss, test_loss=KL(vae.q, vae.prior))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda v: v.p, r"is the distribution p\(x\|z\), not a loss"),
        (lambda v: v.loss.eval(v.values), "is a value"),
        (lambda v: None, "got a NoneType"),
        (lambda v: "loss", "got a str"),
    ],
)
def test_a_loss_that_is_none(vae, wrong, message):
    with pytest.raises(ModelError, match=message):
        Model(wrong(vae))


def test_nothing_to_train(vae):
    with pytest.raises(ModelError, match=r"log p_\{prior\}\(z\)\) has nothing to train: no distribution in it has a weight"):
        Model(LogProb(vae.prior).mean())
    vae.p.requires_grad_(False)
    with pytest.raises(ModelError, match="every weight is frozen"):
        ML(vae.p)


def test_a_loss_without_gradient(vae):
    with pytest.raises(ModelError, match="has no gradient.*depends on no weight"):
        Model(vae.loss.detach().mean()).train(vae.values)
    model = Model(vae.loss)
    with torch.no_grad(), pytest.raises(ModelError, match="inside torch.no_grad"):
        model.train(vae.values)


# ---------------------------------------------------------------------- values, numbers, precision


def test_names_that_the_loss_does_not_need_are_ignored(vae):
    model = Model(vae.loss)
    model.train({**vae.values, "label": torch.zeros(20)})


def test_a_named_parameter_comes_with_the_batch(vae):
    model = Model((Parameter("beta") * KL(vae.q, vae.prior)).mean())
    vae.q.network.trunk[2].p = 0.0
    small, large = model.test({**vae.values, "beta": torch.tensor(0.5)}), model.test({**vae.values, "beta": torch.tensor(1.0)})
    torch.testing.assert_close(2 * small, large)
    model.train({**vae.values, "beta": torch.tensor(0.5)})


def test_bfloat16_autocast():
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    seen = []
    net = nn.Linear(4, 4)
    net.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    p = Bernoulli("p(x | z)", Logits(net))
    model = ML(p, optimizer_params={"lr": 0.05})
    x, z = torch.bernoulli(torch.full((64, 4), 0.2)), torch.randn(64, 4)
    losses = []
    for _ in range(100):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses.append(model.train({"x": x, "z": z}).item())
    assert seen[0] == torch.bfloat16 and net.weight.dtype == torch.float32
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.LBFGS])
def test_one_autocast_around_all_steps_is_one_around_each(optimizer):
    """torch casts a weight once per autocast, and would train, and test, with the weights as they were when it began."""
    torch.set_default_dtype(torch.float32)
    x, z = torch.bernoulli(torch.full((64, 4), 0.2)), torch.randn(64, 4)
    values = {"x": x, "z": z}

    def trained(around: bool):
        torch.manual_seed(0)
        net = nn.Linear(4, 4)
        model = ML(Bernoulli("p(x | z)", Logits(net)), optimizer=optimizer, optimizer_params={"lr": 0.5})
        numbers = []
        with torch.autocast("cpu", dtype=torch.bfloat16) if around else nullcontext():
            for _ in range(5):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    numbers.append(model.train(values).item())
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    numbers.append(model.test(values).item())
        return numbers, weights(net)

    apart, together = trained(False), trained(True)
    assert apart[0] == together[0] and same(apart[1], together[1])
    assert apart[0][-1] < apart[0][0] - 0.1


class Logits(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        return {"logits": self.net(z)}


def test_printing(vae):
    model = Model(vae.loss)
    assert str(model).startswith(
        "Model minimises mean(KL[q(z|x) || p_{prior}(z)] - E_q(z|x)[log p(x|z)])\n  Adam on q(z|x), p(x|z)"
    )
