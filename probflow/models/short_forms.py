"""The usual objectives as models: variational autoencoder, variational inference, maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from torch import nn

from probflow.distributions import Distribution, Normal, Parametric
from probflow.distributions.values import as_shape
from probflow.errors import ModelError
from probflow.losses import ELBO, Expectation, KullbackLeibler, LogProb, Loss
from probflow.models.model import Model
from probflow.models.optimizers import OptimizerLike, SchedulerLike

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ModelOptions(TypedDict, total=False):
    """The keyword arguments that every short form hands on to `Model`."""

    test_loss: Loss | None
    distributions: Sequence[nn.Module] | None
    optimizer: OptimizerLike | None
    optimizer_params: Mapping[str, Any] | None
    scheduler: SchedulerLike | None
    clip_grad_norm: float | None
    clip_grad_value: float | None


class VAE(Model):
    r"""Variational autoencoder: minimises :math:`-\mathbb E_{q(z \mid x)}[\log p(x \mid z)] + \text{regularizer}`, averaged
    over the batch, in nats.

    encoder, decoder: q(z|x) and p(x|z).  regularizer: a loss, such as ``KL(q, prior)``.  Instead of it: `prior`, a distribution
    of the latent variables, for the KL from the encoder to it; or neither, for the standard normal prior N(0, I), whose shape
    is the encoder's declared ``features_shape`` or given here.  options: as for `Model`.

    Errors: `ModelError` when encoder and decoder are swapped or share no variable, or when the latent's shape is not known.
    Source: Kingma & Welling, arXiv:1312.6114, eq. 7.

    >>> q = Normal("q(z | x)", nn.Linear(4, 2), scale=1.0, features_shape=2)
    >>> p = Normal("p(x | z)", nn.Linear(2, 4), scale=1.0)
    >>> print(VAE(q, p).loss)
    mean(-E_q(z|x)[log p(x|z)] + KL[q(z|x) || p(z)])
    """

    def __init__(
        self,
        encoder: Distribution,
        decoder: Distribution,
        regularizer: Loss | None = None,
        *,
        prior: Distribution | None = None,
        features_shape: int | Sequence[int] | None = None,
        **options: Unpack[ModelOptions],
    ) -> None:
        _check_pair(encoder, decoder)
        if sum(given is not None for given in (regularizer, prior, features_shape)) > 1:
            raise ModelError("VAE: give one of regularizer, prior and features_shape; each says what q(z|x) is kept close to.")
        if regularizer is None:
            regularizer = KullbackLeibler(encoder, _standard_normal(encoder, features_shape) if prior is None else prior)
        elif not isinstance(regularizer, Loss):
            hint = " Write prior=... for a distribution." if isinstance(regularizer, Distribution) else ""
            raise ModelError(
                f"VAE: the regularizer must be a loss such as KL(encoder, prior), got a {type(regularizer).__name__}.{hint}"
            )
        super().__init__((-Expectation(encoder, LogProb(decoder)) + regularizer).mean(), **options)
        self.encoder, self.decoder = encoder, decoder


class VI(Model):
    r"""Variational inference: maximises the evidence lower bound :math:`\mathbb E_q[\log p(x, z) - \log q(z \mid x)]`, averaged
    over the batch, in nats.

    p: the joint model, such as ``p(x|z) p(z)``.  q: the approximate posterior.  sample_shape: draws per batch element; any
    forces Monte Carlo where a closed form is known.  options: as for `Model`.

    >>> p = Normal("p(x | z)", nn.Linear(2, 4), scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    >>> q = Normal("q(z | x)", nn.Linear(4, 2), scale=1.0)
    >>> print(VI(p, q).loss)
    mean(-E_q(z|x)[log p(x,z) - log q(z|x)])
    """

    def __init__(
        self, p: Distribution, q: Distribution, *, sample_shape: int | Sequence[int] = (), **options: Unpack[ModelOptions]
    ) -> None:
        super().__init__((-ELBO(p, q, sample_shape)).mean(), **options)
        self.p, self.q = p, q


class ML(Model):
    r"""Maximum likelihood: minimises :math:`-\log p(x)`, averaged over the batch, in nats.  options: as for `Model`.

    >>> import torch
    >>> p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    >>> print(ML(p).loss)
    mean(-log p(x))
    """

    def __init__(self, p: Distribution, **options: Unpack[ModelOptions]) -> None:
        super().__init__((-LogProb(p)).mean(), **options)
        self.p = p


def _check_pair(encoder: object, decoder: object) -> None:
    for value, what, example in ((encoder, "encoder", "q(z|x)"), (decoder, "decoder", "p(x|z)")):
        if not isinstance(value, Distribution):
            raise ModelError(f"VAE: the {what} must be a distribution {example}, got a {type(value).__name__}.")
    if not isinstance(encoder, Distribution) or not isinstance(decoder, Distribution):
        return
    if not set(encoder.var) & set(decoder.cond_var):
        raise ModelError(
            f"VAE: the decoder {decoder.statement} is not conditioned on {', '.join(encoder.var)}, the latent of the encoder "
            f"{encoder.statement}.\n"
            f"Rename with replace_var, or say in the decoder's statement what it takes: p(x | {encoder.var[0]})."
        )
    # the two statements have the same form either way round; only their names tell
    if encoder.name.startswith("p") and decoder.name.startswith("q"):
        raise ModelError(
            f"VAE: the arguments are swapped: the encoder comes first, VAE(encoder, decoder), so here "
            f"{encoder.statement} would be the encoder and {decoder.statement} the decoder."
        )


def _standard_normal(encoder: Distribution, features_shape: int | Sequence[int] | None) -> Normal:
    shown = str(encoder.statement)
    if len(encoder.var) != 1:
        raise ModelError(
            f"VAE: {shown} has several latent variables; say what they are kept close to: VAE(q, p, regularizer=KL(q, prior))."
        )
    declared = as_shape(features_shape, "VAE: features_shape") if features_shape is not None else _declared(encoder)
    if declared is None:
        name = encoder.var[0]
        raise ModelError(
            f"VAE: the shape of {name} is not known before {shown} has run, so the prior p({name}) = N(0, I) cannot be made.\n"
            f"Write VAE(q, p, features_shape=64) with the size of {name}, or VAE(q, p, regularizer=KL(q, prior))."
        )
    return Normal(var=encoder.var, name="p", loc=0.0, scale=1.0, features_shape=declared)


def _declared(encoder: Distribution) -> tuple[int, ...] | None:
    (factor,) = encoder.factors
    return factor.origin._features if isinstance(factor.origin, Parametric) else None
