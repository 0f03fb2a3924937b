"""Nodes for probabilities: log-densities, expectations, divergences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn, overload

from probflow._typing import Shape
from probflow.distributions import Distribution
from probflow.distributions.joint import product
from probflow.distributions.mistakes import torch_hint, unknown_keywords
from probflow.distributions.values import as_shape
from probflow.errors import LossError
from probflow.losses.arithmetic import Elementwise, Sum
from probflow.losses.estimators import Canonical, EstimatorLike, baselines, canonical
from probflow.losses.node import Loss, Scalar, as_loss, intern
from probflow.losses.scalars import Function
from probflow.printing import kind_text


class LogProb(Loss):
    r""":math:`\log p(x \mid z)` at the values of its variables, in nats, shape (batch,).  Short: ``log(p)``.

    >>> import torch
    >>> import probflow as pf
    >>> loss = pf.log(pf.Normal("p(x)", loc=0.0, scale=1.0, features_shape=3))
    >>> print(loss)
    log p(x)
    >>> loss.eval({"x": torch.zeros(2, 3)})
    tensor([-2.7568, -2.7568])
    """

    __slots__ = ("p",)
    fields = ("p",)
    p: Distribution

    def __new__(cls, p: Distribution) -> LogProb:
        return intern(cls, _distribution(p, "LogProb"))


class Prob(Loss):
    r""":math:`p(x \mid z)`, the density itself, shape (batch,).

    >>> import torch
    >>> import probflow as pf
    >>> loss = pf.Prob(pf.Bernoulli("p(x)", probs=torch.tensor([0.25])))
    >>> print(loss)
    p(x)
    >>> loss.eval({"x": torch.ones(1, 1)})
    tensor([0.2500])
    """

    __slots__ = ("p",)
    fields = ("p",)
    p: Distribution

    def __new__(cls, p: Distribution) -> Prob:
        return intern(cls, _distribution(p, "Prob"))


class Entropy(Loss):
    r""":math:`H[p] = -\mathbb E_p[\log p]`, in nats, shape (batch,).

    In closed form where it is known; ``analytical=False`` or a `sample_shape` asks for Monte Carlo.

    >>> import torch
    >>> import probflow as pf
    >>> loss = pf.Entropy(pf.Bernoulli("p(x)", probs=torch.tensor([0.5])))
    >>> print(loss)
    H[p(x)]
    >>> loss.eval()
    tensor([0.6931])
    """

    __slots__ = ("analytical", "p", "sample_shape")
    fields = ("p", "analytical", "sample_shape")
    p: Distribution
    analytical: bool
    sample_shape: Shape

    def __new__(cls, p: Distribution, analytical: bool = True, sample_shape: int | Sequence[int] = ()) -> Entropy:
        if isinstance(analytical, Distribution):
            raise LossError("Entropy takes one distribution; of two, write CrossEntropy(q, p) or KL(q, p).")
        shape = as_shape(sample_shape, "Entropy: sample_shape")
        return intern(cls, _distribution(p, "Entropy"), bool(analytical) and not shape, shape)


class KullbackLeibler(Loss):
    r""":math:`D_{KL}[q \,\|\, p] = \mathbb E_q[\log q - \log p] \ge 0`, in nats, shape (batch,).  Short: ``KL(q, p)``.

    In closed form where the table has the pair; ``analytical=False`` or a `sample_shape` asks for Monte Carlo.

    Errors: LossError when q and p are not distributions of the same variables.

    >>> import torch
    >>> import probflow as pf
    >>> q, p = pf.Normal("q(z | x)", loc="x", scale=1.0), pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=1)
    >>> loss = pf.KL(q, p)
    >>> print(loss)
    KL[q(z|x) || p(z)]
    >>> loss.eval({"x": torch.tensor([[0.0], [2.0]])})  # (the mean)² / 2
    tensor([0., 2.])
    """

    __slots__ = ("analytical", "p", "q", "sample_shape")
    fields = ("q", "p", "analytical", "sample_shape")
    q: Distribution
    p: Distribution
    analytical: bool
    sample_shape: Shape

    def __new__(
        cls, q: Distribution, p: Distribution, analytical: bool = True, sample_shape: int | Sequence[int] = ()
    ) -> KullbackLeibler:
        _same_variables(_distribution(q, "KullbackLeibler"), _distribution(p, "KullbackLeibler"), "KL", "||")
        shape = as_shape(sample_shape, "KullbackLeibler: sample_shape")
        return intern(cls, q, p, bool(analytical) and not shape, shape)


class CrossEntropy(Loss):
    r""":math:`H[q, p] = -\mathbb E_q[\log p]`, in nats, shape (batch,).

    >>> import torch
    >>> import probflow as pf
    >>> q, p = (pf.Bernoulli(name, probs=torch.tensor([w])) for name, w in (("q(y)", 1.0), ("p(y)", 0.25)))
    >>> loss = pf.CrossEntropy(q, p)
    >>> print(loss)
    H[q(y), p(y)]
    >>> loss.eval()  # -log 0.25
    tensor([1.3863])
    """

    __slots__ = ("analytical", "p", "q", "sample_shape")
    fields = ("q", "p", "analytical", "sample_shape")
    q: Distribution
    p: Distribution
    analytical: bool
    sample_shape: Shape

    def __new__(
        cls, q: Distribution, p: Distribution, analytical: bool = True, sample_shape: int | Sequence[int] = ()
    ) -> CrossEntropy:
        _same_variables(_distribution(q, "CrossEntropy"), _distribution(p, "CrossEntropy"), "H", ",")
        shape = as_shape(sample_shape, "CrossEntropy: sample_shape")
        return intern(cls, q, p, bool(analytical) and not shape, shape)


class Expectation(Loss):
    r""":math:`\mathbb E_q[f]`, averaged over its samples, all computed at once.  Short: ``E(q)[f]``.

    sample_shape: how many samples; () is one per batch element.  estimator: how the gradient is found: None chooses (exact sum
    over a small finite variable, else pathwise, else score function); a name such as "score" or "stl", or an object with options
    (`Score`, `GumbelSoftmax`, ...) asks for one; a dict {variable: estimator} asks per variable.  With an estimator, or with a
    number of samples, nothing is replaced by a closed form.

    >>> from probflow.distributions import Normal
    >>> q, p = Normal("q(z)", loc=0.0, scale=1.0), Normal("p(z)", loc=1.0, scale=1.0)
    >>> print(Expectation(q, LogProb(p), sample_shape=[10]))
    E_q(z)[log p(z)]
    """

    __slots__ = ("baselines", "estimator", "f", "q", "sample_shape")
    fields = ("q", "f", "sample_shape", "estimator", "baselines")
    q: Distribution
    f: Loss
    sample_shape: Shape
    estimator: Canonical
    baselines: tuple[Function, ...]
    """Those that the estimator uses; expressions of their own, so that their variables and weights belong to the loss."""

    def __new__(
        cls,
        q: Distribution,
        f: Loss | Scalar,
        sample_shape: int | Sequence[int] = (),
        estimator: EstimatorLike | Canonical = None,
    ) -> Expectation:
        _distribution(q, "Expectation")
        if isinstance(f, Distribution):
            raise LossError(
                f"E_{q.statement}[...] takes a loss, {f.statement} is a distribution: write log(p) for its log-density."
            )
        body, shape = as_loss(f, "An expectation"), as_shape(sample_shape, "Expectation: sample_shape")
        if estimator is None:
            return intern(cls, q, body, shape, None, ())
        how = canonical(estimator, q.var, f"E_{q.statement}")
        return intern(cls, q, body, shape, how, baselines(how))


_COUNTS = dict.fromkeys(("K", "k", "n", "samples", "num_samples", "n_samples"), "Write sample_shape=[K].")
_WEIGHTS = dict.fromkeys(("beta", "kl_weight", "weight"), "A weight is written out: E(q)[log(p)] - beta * KL(q, prior).")


class E:
    """``E(q)[f]``, ``E(q, sample_shape=[K])[f]``: the expectation of f under q.

    >>> import torch
    >>> import probflow as pf
    >>> q, f = pf.Bernoulli("q(z)", probs=torch.tensor([0.25])), pf.Function(lambda z: 10 * z[:, 0], ["z"], "f")
    >>> print(pf.E(q)[f])
    E_q(z)[f(z)]
    >>> pf.E(q)[f].eval()  # z has two states: the exact sum
    tensor([2.5000])
    >>> pf.E(q)
    E_q(z)[...]
    """

    def __init__(
        self,
        q: Distribution,
        sample_shape: int | Sequence[int] = (),
        estimator: EstimatorLike | Canonical = None,
        **unknown: NoReturn,
    ) -> None:
        if unknown:
            raise unknown_keywords("E", unknown, ("q", "sample_shape", "estimator"), _COUNTS)
        if isinstance(sample_shape, (Loss, Distribution)):
            raise LossError(f"E(q, ...) takes no loss in round brackets; write E(q)[{sample_shape}].")
        self._arguments = (_distribution(q, "E"), sample_shape, estimator)

    def __call__(self, f: object) -> NoReturn:
        """An expectation is written with square brackets."""
        raise LossError(f"E_{self._arguments[0].statement} takes what it averages in square brackets: E(q)[{f}].")

    def __class_getitem__(cls, f: object) -> NoReturn:
        q, inside = (f.name, "f") if isinstance(f, Distribution) else ("q", str(f))
        raise LossError(f"E takes first, in round brackets, the distribution that it averages over: E({q})[{inside}].")

    def __repr__(self) -> str:
        return f"E_{self._arguments[0].statement}[...]"

    def __getitem__(self, f: Loss | Scalar) -> Expectation:
        q, sample_shape, estimator = self._arguments
        return Expectation(q, f, sample_shape, estimator)


def ELBO(
    p: Distribution,
    q: Distribution,
    sample_shape: int | Sequence[int] = (),
    estimator: EstimatorLike | Canonical = None,
    form: Literal["joint", "kl", "entropy"] = "joint",
    **unknown: NoReturn,
) -> Loss:
    r"""Evidence lower bound :math:`\mathbb E_q[\log p(x, z) - \log q(z \mid x)] \le \log p(x)`, in nats, shape (batch,).

    Parts with a closed form (a KL to the prior, an entropy) are computed in closed form; a `sample_shape` or an `estimator` forces
    Monte Carlo.  form: how it is written; all three have the same expectation (Kingma & Welling, arXiv:1312.6114, eq. 2-3;
    Hoffman & Johnson 2016):

    - "joint": :math:`\mathbb E_q[\log p(x, z) - \log q(z \mid x)]`
    - "kl": :math:`\mathbb E_q[\log p(x \mid z)] - D_{KL}[q(z \mid x) \,\|\, p(z)]`; p must be a product with a prior over the
      variables of q.  A divergence that has a closed form stays closed.
    - "entropy": :math:`\mathbb E_q[\log p(x, z)] + H[q(z \mid x)]`

    Errors: LossError when q is not over variables of p, or p has no prior of its own for form="kl".

    >>> from probflow.distributions import Normal
    >>> p, q = Normal("p(x | z)", loc="z", scale=1.0) * Normal("p(z)", loc=0.0, scale=1.0), Normal("q(z | x)", loc="x", scale=1.0)
    >>> print(ELBO(p, q))
    E_q(z|x)[log p(x,z) - log q(z|x)]
    >>> print(ELBO(p, q, form="kl"))
    E_q(z|x)[log p(x|z)] - KL[q(z|x) || p(z)]
    >>> print(ELBO(p, q, form="entropy"))
    E_q(z|x)[log p(x,z)] + H[q(z|x)]
    """
    if unknown:
        raise unknown_keywords("ELBO", unknown, ("p", "q", "sample_shape", "estimator", "form"), {**_COUNTS, **_WEIGHTS})
    check_model(p, q, "ELBO")
    if form == "joint":
        return Expectation(q, intern(Sum, (1, -1), (LogProb(p), LogProb(q))), sample_shape, estimator)
    if form == "entropy":
        return intern(Sum, (1, 1), (Expectation(q, LogProb(p), sample_shape, estimator), Entropy(q)))
    if form != "kl":
        raise LossError(f"ELBO has no form {form!r}; choose from 'joint', 'kl', 'entropy'.")
    prior = tuple(factor for factor in p.factors if set(factor.var) <= set(q.var))
    rest = tuple(factor for factor in p.factors if not set(factor.var) <= set(q.var))
    covered = {name for factor in prior for name in factor.var}
    if covered != set(q.var) or not rest:
        lacking = ", ".join(n for n in q.var if n not in covered) or "the observed variables"
        raise LossError(
            f"ELBO(..., form='kl') needs a product p(x|z) p(z); {p.statement} has no factor for {lacking} alone.\n"
            "Write form='joint', which needs none."
        )
    likelihood = Expectation(q, LogProb(product(rest)), sample_shape, estimator)
    return intern(Sum, (1, -1), (likelihood, KullbackLeibler(q, product(prior))))


def check_model(p: Distribution, q: Distribution, who: str) -> None:
    """A bound on log p(x) needs a q over latent variables of the joint p."""
    _distribution(p, who), _distribution(q, who)
    foreign = [n for n in q.var if n not in p.var]
    if foreign:
        swapped = set(p.var) <= set(q.var)
        raise LossError(
            f"{who}(p, q): {', '.join(foreign)} of {q.statement} is not a variable of {p.statement}.\n"
            + (
                f"The arguments are swapped: the model comes first, {who}(p, q)."
                if swapped
                else f"{p.statement} is conditioned on {', '.join(foreign)}: multiply it with a prior, {who}({p.name} * prior, q)."
                if set(foreign) <= set(p.cond_var)
                else "q must be over latent variables of the joint p."
            )
        )


KL = KullbackLeibler


@overload
def log(x: Distribution) -> LogProb: ...


@overload
def log(x: Loss) -> Loss: ...


def log(x: Distribution | Loss) -> Loss:
    """``log(p)`` of a distribution is `LogProb`; of a loss, its natural logarithm.

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x)", loc=0.0, scale=1.0)
    >>> print(pf.log(p), "and", pf.log(pf.Parameter("a") + 1))
    log p(x) and log(a + 1)
    """
    if isinstance(x, Distribution):
        return LogProb(x)
    if isinstance(x, Loss):
        return Elementwise("log", x)
    raise LossError(f"log takes a distribution or a loss, got {kind_text(x)}; for tensors use torch.log.{torch_hint(x)}")


def exp(x: Loss) -> Loss:
    """exp of a loss.

    >>> import torch
    >>> import probflow as pf
    >>> loss = pf.exp(-pf.Parameter("a"))
    >>> print(loss, loss.eval({"a": 0.0}).item())
    exp(-a) 1.0
    """
    if not isinstance(x, Loss):
        raise LossError(f"exp takes a loss, got a {type(x).__name__}.")
    return Elementwise("exp", x)


def _distribution(p: object, who: str) -> Distribution:
    if isinstance(p, Distribution):
        return p
    hint = "\nIt is a loss already." if isinstance(p, Loss) else ""
    raise LossError(f"{who} takes a distribution, got {kind_text(p)}.{hint or torch_hint(p)}")


def _same_variables(q: Distribution, p: Distribution, who: str, bar: str) -> None:
    if set(q.var) != set(p.var):
        raise LossError(
            f"{who}[{q.statement} {bar} {p.statement}]: the two must be distributions of the same variables.\n"
            f"  first:  {', '.join(q.var)}\n  second: {', '.join(p.var)}\n"
            "Rename with p.replace_var(...), or drop a variable with p.marginalize_var(...)."
        )
