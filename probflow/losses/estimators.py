"""How the gradient of an expectation is to be estimated: names, and small frozen objects where there is something to choose.

====================  ==========================================================================  =========  ==================
name                  gradient                                                                    bias       needs
====================  ==========================================================================  =========  ==================
``enumerate``         exact sum over the states                                                   none       finite
``pathwise``          :math:`\\nabla f(g(\\epsilon, \\phi))` (arXiv:1312.6114)                         none       rsample
``score``             :math:`(f - b)\\,\\nabla \\log q` (Williams 1992; arXiv:1402.0030)              none       a density
``stl``               pathwise, q's parameters inside log q held fixed (arXiv:1703.09194)         none       rsample
``dreg``              :math:`\\sum_k \\tilde w_k^2 \\nabla_z \\log w_k \\nabla z_k` (arXiv:1810.04152)  none       rsample, log E[exp]
``vimco``             score, each sample against the bound of the others (arXiv:1602.06725)       none       K > 1, log E[exp]
``rebar``             score with a relaxed control variate (arXiv:1703.07370)                     none       Bernoulli, Categorical
``straight-through``  that of the probabilities, passed through the draw (arXiv:1308.3432)        **yes**    Bernoulli, Categorical
``gumbel-softmax``    pathwise through a relaxed draw (arXiv:1611.01144, arXiv:1611.00712)        **yes**    Bernoulli, Categorical
====================  ==========================================================================  =========  ==================

Left to itself (None), an expectation takes the exact sum of a small finite variable, else pathwise, else score.
``loss.plan()`` says what is used for which draw, and which of them are biased.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

from torch import nn

from probflow._typing import Names
from probflow.errors import LossError
from probflow.losses.scalars import Function
from probflow.printing import did_you_mean


@dataclass(frozen=True)
class Estimator:
    """What all estimators share: a name, whether the gradient is biased, and options, which are the fields."""

    name: ClassVar[str] = ""
    biased: ClassVar[bool] = False

    def __str__(self) -> str:
        options = [
            f"{f.name}={value!r}" if not isinstance(value, Function) else f"{f.name}={value}"
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default
        ]
        return f"{self.name} ({', '.join(options)})" if options else self.name


@dataclass(frozen=True)
class Enumerate(Estimator):
    """The exact sum over the states of a finite variable.

    >>> import torch
    >>> import probflow as pf
    >>> q = pf.Bernoulli("q(z)", logits=torch.nn.Parameter(torch.zeros(3)))
    >>> f = pf.Function(lambda z: (z - 0.4).square().sum(1), ["z"], "f")
    >>> round(pf.E(q, estimator=pf.Enumerate())[f].eval().item(), 4)  # all 2³ states: exact
    0.78
    """

    name = "enumerate"


@dataclass(frozen=True)
class Pathwise(Estimator):
    r""":math:`\nabla_\phi f(g(\epsilon, \phi))`: the draw is a differentiable function of noise (arXiv:1312.6114, section 2.4).

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
    >>> q = pf.Normal("q(z | x)", pf.nn.MLP(1, [4], {"loc": 1, "scale": 1}, output={"scale": torch.nn.functional.softplus}))
    >>> loss = pf.ELBO(p, q, estimator=pf.Pathwise())
    >>> print(next(" ".join(line.split()) for line in str(loss.plan()).splitlines() if " draw " in line))
    3 draw z ~ q(z|x) 1 per batch element, pathwise
    """

    name = "pathwise"


@dataclass(frozen=True)
class Score(Estimator):
    r""":math:`(f - b)\,\nabla_\phi \log q_\phi(z)`, unbiased for every baseline b that does not depend on the draw.

    Inside a nonlinear function of the expectation the whole function takes the place of f, and b is the function without the draw.

    baseline: ``"leave-one-out"``, the mean cost of the other samples, or of the other rows of the batch where there is one sample
    (Kool et al. 2019); ``"none"``; or a :class:`Function` of named variables: those of the batch, and those drawn before.

    A Function of a module with weights is *learned*: it is trained with the loss by its own squared error (b - f)², which leaves the
    value of the loss and every other gradient as they are (arXiv:1402.0030, section 3.1).  Each term is weighted with the size of
    the weight that the cost itself has in the loss, whatever its sign.

    A moving average is a learned constant: SGD with the step size r on (b - f)² is b ← (1 - 2r) b + 2r f.  It lives in a module
    that you hold; nothing is remembered elsewhere::

        class MovingAverage(nn.Module):
            def __init__(self):
                super().__init__()
                self.value = nn.Parameter(torch.zeros(()))
            def forward(self, x):
                return self.value.expand(len(x))

    >>> import torch
    >>> Score(baseline=Function(torch.nn.Linear(2, 1), ["x"], "b")).name
    'score'

    Errors: LossError for anything else; for a Function inside a nonlinear function, whose value it would have to foretell.
    """

    name = "score"
    baseline: str | Function = "leave-one-out"

    def __post_init__(self) -> None:
        if isinstance(self.baseline, Function) or self.baseline in ("leave-one-out", "none"):
            return
        hint = ""
        if callable(self.baseline):
            what = type(self.baseline).__name__ if isinstance(self.baseline, nn.Module) else "a function"
            hint = f'\n{what} needs names: Score(baseline=Function(b, ["x"], "b")).'
        raise LossError(
            f"Score(baseline=...) takes 'leave-one-out', 'none', or a Function of named variables, got {self.baseline!r}.{hint}"
        )


@dataclass(frozen=True)
class STL(Estimator):
    r"""Sticking the landing (Roeder et al., arXiv:1703.09194, section 3): pathwise, with q's parameters held fixed inside log q.

    What is dropped, :math:`\mathbb E_q[\nabla_\phi \log q_\phi(z)]`, is 0 on average; its noise is gone, and with it all noise where q
    is the posterior.  Holds where log q is a term of f, and the expectation a term of the loss: inside a nonlinear function log q
    is left as it is.  A factor conditioned on an earlier draw, a flow or a mixture is computed a second time, with fixed weights; a
    flow needs its inverse.

    Errors: LossError for the log of a mean of several samples, where it is biased (there is DReG), for a flow without an inverse,
    and for a q that has dropout switched on, as the two passes would differ.

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
    >>> q = pf.Normal("q(z | x)", pf.nn.MLP(1, [4], {"loc": 1, "scale": 1}, output={"scale": torch.nn.functional.softplus}))
    >>> loss = pf.ELBO(p, q, estimator=pf.STL())
    >>> print(next(" ".join(line.split()) for line in str(loss.plan()).splitlines() if " draw " in line))
    3 draw z ~ q(z|x) 1 per batch element, pathwise, sticking the landing
    """

    name = "stl"


@dataclass(frozen=True)
class DReG(Estimator):
    r"""Doubly reparameterised (Tucker et al., arXiv:1810.04152, eq. 8), for ``log(E(q, sample_shape=[K])[exp(log p - log q)])``:

    .. math:: \nabla_\phi = \sum_k \tilde w_k^2\,\frac{\partial \log w_k}{\partial z_k}\frac{\partial z_k}{\partial \phi},
        \qquad \tilde w_k = w_k / \textstyle\sum_j w_j.

    With a power, exp(c (log p - log q)), the factor is :math:`(1 - c)\,\tilde w_k + c\,\tilde w_k^2` (section 6).  Without a logarithm, or
    with one sample, it is sticking the landing.

    Errors: LossError where log q does not enter with one constant coefficient, or a factor of q is not reparameterised.

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
    >>> q = pf.Normal("q(z | x)", pf.nn.MLP(1, [4], {"loc": 1, "scale": 1}, output={"scale": torch.nn.functional.softplus}))
    >>> loss = pf.IWAE(p, q, samples=8, estimator=pf.DReG())
    >>> print(next(" ".join(line.split()) for line in str(loss.plan()).splitlines() if " draw " in line))
    3 draw z ~ q(z|x) 8 per batch element, pathwise, doubly reparameterised
    """

    name = "dreg"


@dataclass(frozen=True)
class VIMCO(Estimator):
    r"""For ``log(E(q, sample_shape=[K])[exp(f)])``, K > 1 (Mnih & Rezende, arXiv:1602.06725, eq. 7-10): the score of each sample times
    the bound minus what it would be had this sample been the mean of the others.

    mean: ``"geometric"``, as the paper recommends, or ``"arithmetic"``, what "score" uses.

    >>> import torch
    >>> import probflow as pf
    >>> q = pf.Bernoulli("q(z)", logits=torch.nn.Parameter(torch.zeros(3)))
    >>> f = pf.Function(lambda z: (z - 0.4).square().sum(1), ["z"], "f")
    >>> loss = pf.log(pf.E(q, sample_shape=[4], estimator=pf.VIMCO())[f.exp()])
    >>> print(next(" ".join(line.split()) for line in str(loss.plan()).splitlines() if " draw " in line))
    2 draw z ~ q(z) 4 per batch element, score function, vimco
    """

    name = "vimco"
    mean: str = "geometric"

    def __post_init__(self) -> None:
        if self.mean not in ("geometric", "arithmetic"):
            raise LossError(f"VIMCO(mean=...) takes 'geometric' or 'arithmetic', got {self.mean!r}.")


@dataclass(frozen=True)
class Rebar(Estimator):
    r"""REBAR for Bernoulli and Categorical variables (Tucker et al., arXiv:1703.07370, eq. 3): the score function with the control variate
    :math:`\eta\,c(\tilde z)`, :math:`c(z) = f(\sigma(z / \lambda))`, and its mean put back by a pathwise gradient.

    temperature: λ; eta: η; unbiased for every choice.  f is computed three times, and must make sense for values between the states.

    >>> import torch
    >>> import probflow as pf
    >>> q = pf.Bernoulli("q(z)", logits=torch.nn.Parameter(torch.zeros(3)))
    >>> f = pf.Function(lambda z: (z - 0.4).square().sum(1), ["z"], "f")
    >>> loss = pf.E(q, estimator=pf.Rebar(temperature=0.3))[f]
    >>> print(next(" ".join(line.split()) for line in str(loss.plan()).splitlines() if " draw " in line))
    2 draw z ~ q(z) 1 per batch element, rebar (temperature=0.3): unbiased
    """

    name = "rebar"
    temperature: float = 0.5
    eta: float = 1.0

    def __post_init__(self) -> None:
        _positive("Rebar", self.temperature)


@dataclass(frozen=True)
class StraightThrough(Estimator):
    r"""The draw with the gradient of the probabilities, :math:`z + \pi - \mathrm{sg}(\pi)` (arXiv:1308.3432).  **Biased**; the value is not.

    >>> import torch
    >>> import probflow as pf
    >>> q = pf.Bernoulli("q(z)", logits=torch.nn.Parameter(torch.zeros(3)))
    >>> f = pf.Function(lambda z: (z - 0.4).square().sum(1), ["z"], "f")
    >>> loss = pf.E(q, estimator=pf.StraightThrough())[f]
    >>> print(next(" ".join(line.split()) for line in str(loss.plan()).splitlines() if " draw " in line))
    2 draw z ~ q(z) 1 per batch element, straight-through: biased
    """

    name = "straight-through"
    biased = True


@dataclass(frozen=True)
class GumbelSoftmax(Estimator):
    r"""A relaxed draw :math:`\mathrm{softmax}((\log \pi + g) / \tau)` with Gumbel noise g (Jang et al., arXiv:1611.01144, eq. 2; Maddison et al.,
    arXiv:1611.00712); for Bernoulli its binary form.  **Biased**: f is computed at values between the states.

    temperature: τ.  hard: the nearest state instead, with the gradient of the relaxed draw; then the value is not biased.

    >>> import torch
    >>> import probflow as pf
    >>> q = pf.Bernoulli("q(z)", logits=torch.nn.Parameter(torch.zeros(3)))
    >>> f = pf.Function(lambda z: (z - 0.4).square().sum(1), ["z"], "f")
    >>> loss = pf.E(q, estimator=pf.GumbelSoftmax(temperature=0.5))[f]
    >>> print(next(" ".join(line.split()) for line in str(loss.plan()).splitlines() if " draw " in line))
    2 draw z ~ q(z) 1 per batch element, gumbel-softmax (temperature=0.5): biased
    """

    name = "gumbel-softmax"
    biased = True
    temperature: float = 1.0
    hard: bool = False

    def __post_init__(self) -> None:
        _positive("GumbelSoftmax", self.temperature)


def _positive(who: str, temperature: float) -> None:
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not temperature > 0:
        raise LossError(f"{who}: the temperature must be a positive number, got {temperature!r}.")


class PerVariable(dict[str, Any]):
    """An estimator for each of some variables: ``PerVariable(z="pathwise", y="score")``, the same as a dict; others are chosen.

    >>> import torch
    >>> import probflow as pf
    >>> q = pf.Normal("q(z | y)", loc="y", scale=1.0) * pf.Bernoulli("q(y)", logits=torch.nn.Parameter(torch.zeros(1)))
    >>> f = pf.Function(lambda z, y: (z * y).sum(1), ["z", "y"], "f")
    >>> loss = pf.E(q, estimator=pf.PerVariable(z="pathwise", y="score"))[f]
    >>> for line in str(loss.plan()).splitlines():
    ...     if " draw " in line:
    ...         print(*line.split())
    2 draw y ~ q(y) 1 per batch element, score function with leave-one-out baseline
    6 draw z ~ q(z|y) 1 per batch element, pathwise
    """


EstimatorLike: TypeAlias = str | Estimator | Mapping[str, "str | Estimator"]
Canonical: TypeAlias = str | Estimator | tuple[tuple[str, "str | Estimator"], ...] | None
"""What an expectation keeps: a name where there are no options, pairs for a choice per variable."""

NAMED: dict[str, Estimator] = {
    made.name: made
    for made in (Enumerate(), Pathwise(), Score(), STL(), DReG(), VIMCO(), Rebar(), StraightThrough(), GumbelSoftmax())
}
ESTIMATORS = tuple(NAMED)

_MADE: weakref.WeakValueDictionary[tuple[Any, ...], Estimator] = weakref.WeakValueDictionary()
"""Equal choices are one object, so that equal expectations are one node."""

_OTHER_NAMES = {
    "reinforce": "score",
    "reparam": "pathwise",
    "reparameterized": "pathwise",
    "relax": "rebar",
    "st": "straight-through",
}


def canonical(value: object, var: Names, who: str) -> Canonical:
    """`value` as an expectation over `var` keeps it.

    Errors: LossError for a name that no estimator has, and for a choice for a variable that is not drawn.
    """
    if value is None or isinstance(value, tuple):  # pairs were looked at when the author gave them
        return value
    if isinstance(value, Mapping):
        for name in value:
            if name not in var:
                raise LossError(
                    f"{who} draws {', '.join(var)}, not {name!r}, so estimator={{{name!r}: ...}} chooses nothing.{did_you_mean(str(name), var)}"
                )
        return tuple((name, _one(entry, who)) for name, entry in value.items())
    return _one(value, who)


def _one(value: object, who: str) -> str | Estimator:
    if isinstance(value, Estimator):
        if value == NAMED.get(value.name):
            return value.name
        options = tuple(getattr(value, f.name) for f in fields(value))
        return _MADE.setdefault((type(value), *options), value)
    if isinstance(value, type) and issubclass(value, Estimator):
        raise LossError(f"{who}: estimator={value.__name__} is a class; write {value.__name__}().")
    if isinstance(value, str) and value in NAMED:
        return value
    hint = did_you_mean(value, list(NAMED)) if isinstance(value, str) else ""
    if isinstance(value, str) and value.lower() in _OTHER_NAMES:
        hint = f" Did you mean {_OTHER_NAMES[value.lower()]!r}?"
    raise LossError(f"{who} has no estimator {value!r}; choose from {', '.join(ESTIMATORS)}, or None.{hint}")


def baselines(value: Canonical) -> tuple[Function, ...]:
    """The baselines that the author gave: expressions of their own, with variables and weights."""
    if value is None or isinstance(value, str):
        return ()
    if isinstance(value, tuple):
        return tuple(b for _, entry in value for b in baselines(entry))
    baseline = value.baseline if isinstance(value, Score) else None
    return (baseline,) if isinstance(baseline, Function) else ()


def asked(value: Canonical, var: Names) -> Estimator | None:
    """What was asked for a factor over `var`; None where the choice was left open."""
    if isinstance(value, tuple):
        value = next((entry for name, entry in value if name in var), None)
    return NAMED[value] if isinstance(value, str) else value
