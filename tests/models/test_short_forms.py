from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from probflow.distributions import Normal
from probflow.errors import LossError, ModelError
from probflow.losses import ELBO, KL, E, log
from probflow.models import ML, VAE, VI, Model


def test_vae_is_its_loss(make):
    short, long = make(), make()
    first = VAE(short.q, short.p, KL(short.q, short.prior))
    second = Model((-E(long.q)[log(long.p)] + KL(long.q, long.prior)).mean())
    assert str(first.loss) == str(second.loss) == "mean(-E_q(z|x)[log p(x|z)] + KL[q(z|x) || p_{prior}(z)])"
    for model, parts in ((first, short), (second, long)):
        torch.manual_seed(1)
        model.fit(parts.values, 3, progress=False)
    assert first.history["loss"] == second.history["loss"]
    assert first.encoder is short.q and first.decoder is short.p and isinstance(first, Model)


def test_vae_makes_the_standard_normal_prior(make):
    parts = make()
    torch.manual_seed(1)
    expected = VAE(parts.q, parts.p, KL(parts.q, parts.prior)).test(parts.values)
    for model in (
        VAE(parts.q, parts.p, features_shape=3),
        VAE(parts.q, parts.p, features_shape=[3]),
        VAE(parts.q, parts.p, prior=parts.prior),
        VAE(declared(parts.q), parts.p),
    ):
        torch.manual_seed(1)
        assert torch.equal(model.test(parts.values), expected)


def declared(q):
    return Normal("q(z | x)", q.network, features_shape=3)


def test_vae_with_a_renamed_encoder_keeps_the_declared_shape():
    q = Normal("q(z | x)", nn.Linear(4, 2), scale=1.0, features_shape=2).replace_var(z="u")
    p = Normal("p(x | u)", nn.Linear(2, 4), scale=1.0)
    VAE(q, p).train({"x": torch.randn(3, 4)})


def test_vae_needs_the_latent_s_shape(vae):
    with pytest.raises(
        ModelError, match=r"the shape of z is not known before q\(z\|x\) has run(.|\n)*features_shape=64(.|\n)*KL\(q, prior\)"
    ):
        VAE(vae.q, vae.p)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: VAE(v.p, v.q, KL(v.q, v.prior)), "the arguments are swapped: the encoder comes first"),
        (lambda v: VAE(v.q, v.p.replace_var(z="u"), KL(v.q, v.prior)), r"the decoder p\(x\|u\) is not conditioned on z"),
        (lambda v: VAE(v.q, v.p, v.prior), "the regularizer must be a loss .* got a Normal. Write prior=..."),
        (lambda v: VAE(v.q, v.p, "kl"), "the regularizer must be a loss .* got a str"),  # type: ignore[arg-type]
        (lambda v: VAE(v.q, v.p, KL(v.q, v.prior), features_shape=3), "give one of regularizer, prior and features_shape"),
        (lambda v: VAE(v.q.network, v.p), r"the encoder must be a distribution q\(z\|x\), got a Encoder"),
        (lambda v: VAE(v.q, None), "the decoder must be a distribution"),  # type: ignore[arg-type]
    ],
)
def test_vaes_that_make_no_sense(vae, call, message):
    with pytest.raises(ModelError, match=message):
        call(vae)


def test_options_are_handed_on(vae):
    options: dict[str, Any] = {
        "optimizer": torch.optim.SGD,
        "optimizer_params": {"lr": 0.3},
        "clip_grad_norm": 2.0,
        "test_loss": KL(vae.q, vae.prior).mean(),
    }
    for model in (
        VAE(vae.q, vae.p, KL(vae.q, vae.prior), **options),
        VI(vae.p * vae.prior, vae.q, **options),
        ML(vae.p, **options),
    ):
        assert (
            type(model.optimizer) is torch.optim.SGD and model.clip_grad_norm == 2.0 and model.test_loss is options["test_loss"]
        )
    with pytest.raises(TypeError, match="optimiser"):
        ML(vae.p, optimiser=torch.optim.SGD)  # type: ignore[call-arg]


def test_vi_maximises_the_bound(vae):
    model = VI(vae.p * vae.prior, vae.q)
    assert str(model.loss) == str((-ELBO(vae.p * vae.prior, vae.q)).mean())
    torch.manual_seed(1)
    ours = model.test(vae.values)
    torch.manual_seed(1)
    torch.testing.assert_close(ours, VAE(vae.q, vae.p, prior=vae.prior).test(vae.values))
    with pytest.raises(LossError, match="swapped"):
        VI(vae.q, vae.p * vae.prior)


def test_vi_finds_the_posterior_of_a_linear_gaussian_model():
    """p(z) = N(0, 1), p(x|z) = N(z, 1): the posterior is N(x/2, 1/2)."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope, self.log_scale = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return {"loc": self.slope * x, "scale": self.log_scale.exp().expand_as(x)}

    net = Linear()
    p = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0, features_shape=1)
    model = VI(p, Normal("q(z | x)", net), optimizer_params={"lr": 0.02})
    x = {"x": math.sqrt(2.0) * torch.randn(2000, 1)}
    for _ in range(400):
        model.train(x)
    assert net.slope.item() == pytest.approx(0.5, abs=0.03)
    assert net.log_scale.exp().item() == pytest.approx(math.sqrt(0.5), abs=0.03)


def test_ml_minimises_the_negative_log_likelihood():
    p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    model = ML(p)
    x = {"x": torch.randn(5, 2)}
    torch.testing.assert_close(model.test(x), -p.log_prob(x).mean().detach())
    with pytest.raises(LossError, match="got a Tensor|got a str"):
        ML("p")  # type: ignore[arg-type]
