"""Every rule: both sides have the same value on randomised models, and it refuses where its side condition fails."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import KL, CrossEntropy, E, Entropy, Expectation, log
from probflow.losses import Loss, Prob
from probflow.losses.arithmetic import Sum
from probflow.losses.change_of_variables import LogDet, NoiseLogProb
from probflow.losses.rules import RULES
from probflow.transforms import Affine, UniformDequantise

N = 40_000


class Model:
    """A random linear-Gaussian model x <- z1 <- z2 with a chain posterior z1 <- x, z2 <- z1, and a finite k."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)

        def normal(statement: str) -> pf.Normal:
            net, scale = nn.Linear(1, 1), torch.rand(1) + 0.5
            return pf.Normal(statement, lambda v: {"loc": net(v), "scale": scale.expand_as(v)})

        self.px, self.pz1 = normal("p(x | z1)"), normal("p(z1 | z2)")
        self.pz2 = pf.Normal("p(z2)", loc=torch.randn(1), scale=torch.rand(1) + 0.5)
        self.qz1, self.qz2 = normal("q(z1 | x)"), normal("q(z2 | z1)")
        self.p, self.q = self.px * self.pz1 * self.pz2, self.qz1 * self.qz2
        self.r = pf.Normal("r(z1)", loc=torch.randn(1), scale=torch.rand(1) + 0.5)
        self.rz2 = normal("r(z2 | z1)")
        self.k = pf.Categorical("p(k)", logits=torch.randn(3))
        table = nn.Linear(3, 1)
        self.xk = pf.Normal("p(x | k)", lambda k: {"loc": table(k), "scale": torch.ones_like(table(k))})
        self.flow = pf.Flow(pf.Normal("p(u)", loc=0.0, scale=1.0, features_shape=1), Affine(1), "p(x)")
        with torch.no_grad():
            self.flow.get_parameter("transform.h").normal_()
        noise = pf.Normal("p(u)", loc=1.5, scale=0.7, features_shape=1)
        self.rounded = pf.Flow(noise, UniformDequantise(4), "p(v)")
        self.f = pf.Function(lambda z1: z1.square().sum(1), ["z1"], "f")
        self.g = pf.Function(lambda z2: z2.sin().sum(1), ["z2"], "g")
        self.gx = pf.Function(lambda x: x.sum(1), ["x"], "g")
        self.both = pf.Function(lambda z1, z2: (z1 * z2).sum(1), ["z1", "z2"], "b")
        self.beta = pf.Parameter("beta")


# name -> (an expression that the rule applies to, one that it must refuse)
CASES = {
    "log of a product": (lambda m: log(m.p), lambda m: log(m.px)),
    "log of positive factors": (
        lambda m: log(E(m.k, sample_shape=[2])[0.5 * Prob(m.xk) ** 2 / (Prob(m.k) + 1)] / 2),
        lambda m: log(E(m.k)[Prob(m.xk)] * E(m.k)[Prob(m.k)]),  # independent draws, which a sum would share
    ),
    "linearity": (lambda m: E(m.q)[m.beta * m.f + m.g - 2 * m.both], lambda m: E(m.q)[m.f]),
    "cancellation": (
        lambda m: log(m.px) + log(m.pz1) - log(m.px),
        lambda m: log(m.qz1) - log(pf.Normal("q(z1 | x)", loc="x", scale=1.0)),  # the same name, another network
    ),
    "cancellation of factors": (
        lambda m: m.f * Prob(m.px * m.pz2) / Prob(m.px),
        lambda m: m.f * log(m.px) / log(m.px),  # log p may be 0
    ),
    "distributive law": (
        lambda m: m.beta * (log(m.px) - 2 * (m.f - m.gx)) - m.g,
        lambda m: log(m.px) * (m.g - m.gx),  # a log-density is no coefficient
    ),
    "double negative": (lambda m: -(-(log(m.px)) + log(m.pz1)), lambda m: -log(m.px)),
    "expectation of a constant": (
        lambda m: E(m.q)[m.gx],
        lambda m: Expectation(m.px.given(x=torch.zeros(1, 1)) * m.r, 3.0),  # observed: not normalised
    ),
    "Rao-Blackwellisation": (lambda m: E(m.q)[m.f + m.gx - m.beta], lambda m: E(m.q)[m.f - m.g]),
    "barren variables": (lambda m: E(m.q)[m.f], lambda m: E(m.q)[m.g]),  # g needs z2, and z2 needs z1
    "tower rule": (lambda m: E(m.q)[m.both], lambda m: E(m.qz1)[m.f]),
    "log-ratio to KL": (
        lambda m: E(m.q)[m.f + log(m.qz2) - log(m.rz2)],
        lambda m: E(m.q)[log(m.qz1) - log(m.pz1)],  # z2 is drawn below z1: not a KL
    ),
    "entropy": (lambda m: E(m.q)[m.f - log(m.qz2)], lambda m: E(m.q)[m.f - log(m.pz2)]),
    "definition of KL": (lambda m: KL(m.qz1, m.r), lambda m: Entropy(m.r)),
    "definition of entropy": (lambda m: Entropy(m.qz1), lambda m: KL(m.qz1, m.r)),
    "definition of cross-entropy": (lambda m: CrossEntropy(m.qz1, m.r), lambda m: KL(m.qz1, m.r)),
    "cross-entropy": (lambda m: CrossEntropy(m.qz1, m.r), lambda m: Entropy(m.qz1)),
    "chain rule of KL": (
        lambda m: KL(m.q, m.r * m.rz2),
        lambda m: KL(m.q, m.pz1 * m.pz2),  # p factorises the other way round
    ),
    "change of variables": (lambda m: log(m.flow), lambda m: log(m.px)),
    "variational lower bound": (lambda m: log(m.rounded), lambda m: log(m.flow)),
    "marginal of a finite variable": (
        lambda m: log((m.xk * m.k).marginalize_var("k")),
        lambda m: log((m.px * m.r).marginalize_var("z1")),  # not finite
    ),
    "Bayes' rule": (lambda m: log((m.xk * m.k).marginalize_var("k")), lambda m: log(m.xk)),
    "Jensen's inequality": (lambda m: log(E(m.k)[Prob(m.xk)]), lambda m: log(Prob(m.px))),
    "KL is not negative": (lambda m: m.gx + KL(m.qz1, m.r), lambda m: m.gx - KL(m.qz1, m.r)),
}


def values(loss: Loss, model: Model) -> dict[str, Tensor]:
    """One row, repeated: averages over the batch are averages over draws."""
    torch.manual_seed(5)
    row = {
        "x": torch.randn(1, 1),
        "z1": torch.randn(1, 1),
        "z2": torch.randn(1, 1),
        "k": torch.eye(3)[:1],
        "v": torch.ones(1, 1),
    }
    found: dict[str, Tensor] = {n: row[n].expand(N, -1) for n in loss.input_var if n in row}
    if "beta" in loss.input_var:
        found["beta"] = torch.tensor(0.7)
    return found


def mean_and_error(loss: Loss, given: dict[str, Tensor], seed: int) -> tuple[float, float]:
    torch.manual_seed(seed)
    with torch.no_grad():
        value = loss.eval(given).double()
    if value.dim() == 0 or len(value) < N:
        return value.mean().item(), 0.0
    return value.mean().item(), value.std().item() / math.sqrt(N)


def of_a_level(loss: Loss, model: Model) -> float:
    """log P(v) = log(F(v + 1) - F(v)): what the dequantised density is a bound of."""
    base = torch.distributions.Normal(1.5, 0.7)
    return (base.cdf(torch.tensor(2.0)) - base.cdf(torch.tensor(1.0))).log().item()


KNOWN = {"variational lower bound": of_a_level}
"""Left sides that evaluation itself replaces by a bound."""


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_sides_agree(name: str, seed: int) -> None:
    model, rule = Model(seed), RULES[name]
    left = CASES[name][0](model)
    right = rule(left)
    assert right is not None and right is not left
    given = {**values(left, model), **values(right, model)}
    a, a_error = mean_and_error(left, given, 11) if name not in KNOWN else (KNOWN[name](left, model), 0.0)
    b, b_error = mean_and_error(right, given, 12)
    slack = 5 * math.hypot(a_error, b_error) + 2e-4 * (1 + abs(a))
    if rule.relation == "=":
        assert abs(a - b) < slack, (str(left), str(right), a, b)
    else:
        assert a > b - slack and a - b > 1e-5, "a bound, and not by accident tight"


@pytest.mark.parametrize("name", CASES)
def test_refuses_where_the_condition_fails(name: str) -> None:
    model = Model(0)
    assert RULES[name](CASES[name][1](model)) is None


def test_the_trap_of_the_hierarchical_model_is_real() -> None:
    """What the refused rewriting would have given is another number."""
    gaps = []
    for seed in range(6):
        model = Model(seed)
        ratio = E(model.q)[log(model.qz1) - log(model.pz1)]
        wrong = E(model.q)[KL(model.qz1, model.pz1)]
        given = values(ratio, model)
        a, a_error = mean_and_error(ratio, given, 1)
        b, b_error = mean_and_error(wrong, given, 2)
        gaps.append(abs(a - b) / math.hypot(a_error, b_error))
    assert max(gaps) > 20


def test_in_parts_and_in_order() -> None:
    m = Model(0)
    new = RULES["log-ratio to KL"](E(m.q)[log(m.px) + log(m.rz2) - log(m.qz1) - log(m.qz2)])
    assert str(new) == "E_q(z1,z2|x)[log p(x|z1) - log q(z1|x)] - E_q(z1|x)[KL[q(z2|z1) || r(z2|z1)]]"


def test_anywhere_looks_from_the_outside_in() -> None:
    m = Model(0)
    loss = (E(m.q)[log(m.p) - log(m.q)] * 2).mean()
    once = RULES["log of a product"].anywhere(loss)
    assert str(once) == "mean(E_q(z1,z2|x)[log p(x|z1) + log p(z1|z2) + log p(z2) - log q(z1,z2|x)] * 2)"
    assert RULES["chain rule of KL"].anywhere(loss) is None


def test_flow_terms() -> None:
    m = Model(0)
    new = RULES["change of variables"](log(m.flow))
    assert isinstance(new, Sum) and [type(t) for t in new.summands] == [NoiseLogProb, LogDet]


def test_bounds_are_never_used_silently() -> None:
    m = Model(0)
    for loss in (log(E(m.k)[Prob(m.xk)]), m.gx + KL(m.qz1, m.r)):
        a = loss.simplify()
        given = values(loss, m)
        assert_close(mean_and_error(a, given, 3)[0], mean_and_error(loss, given, 3)[0], rtol=1e-4, atol=1e-4)
