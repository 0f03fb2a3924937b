"""Mixtures: the exact density, gathered draws, responsibilities."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import distributions as td
from torch import nn
from torch.testing import assert_close

from probflow.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Exponential,
    Gamma,
    Laplace,
    MixtureModel,
    MultivariateNormal,
    Normal,
    Poisson,
    Samples,
    Uniform,
)
from probflow.errors import ArgumentError, NoClosedForm, ParameterError, ShapeError, SupportError, UnknownVariable

K = 3
WEIGHTS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


class Net(nn.Module):
    def __init__(self, inputs, **outputs):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(inputs, width) for name, width in outputs.items()})

    def forward(self, inputs):
        return {name: head(inputs).exp() if name in ("scale", "rate") else head(inputs) for name, head in self.heads.items()}


def prior():
    return Categorical("p(z)", probs=WEIGHTS)


def constants():
    return MixtureModel([Normal("p(x)", loc=torch.randn(2), scale=torch.rand(2) + 0.5) for _ in range(K)], prior())


def networks():
    parts = [
        Normal("p(x | y)", Net(2, loc=2, scale=2)),
        Normal("p(x | w)", Net(3, loc=2, scale=2)),
        Normal("p(x)", loc=torch.ones(2), scale=2.0),
    ]
    return MixtureModel(parts, Categorical("p(z | w)", Net(3, logits=K)))


def families():
    parts = [
        Normal("p(x | y)", loc="y", scale=1.0),
        Laplace("p(x | w)", Net(3, loc=2, scale=2)),
        Normal("p(x)", loc=torch.ones(2), scale=2.0),
    ]
    return MixtureModel(parts, Categorical("p(z | y)", Net(2, logits=K)))


def nested():
    return MixtureModel(
        [constants(), Normal("p(x | y)", loc="y", scale=1.0)], Categorical("p(k)", probs=torch.tensor([0.4, 0.6]))
    )


CASES = {"constants": constants, "networks": networks, "families": families, "nested": nested}


def conditions(p, *front):
    return {n: torch.randn(*front, {"y": 2, "w": 3}[n]) for n in p.cond_var}


def by_hand(p, values, dims=None):
    """log w_k + log p_k, one component after the other."""
    terms, index = [], p.hidden_var[0]
    for k, component in enumerate(p.distributions):
        weight = p.prior.log_prob(
            {**values, index: torch.eye(len(p.distributions))[k].expand(*values["x"].shape[:-1], -1)}, dims
        )
        terms.append(weight + component.log_prob({n: values[n] for n in component.var + component.cond_var}, dims))
    return torch.stack(terms)


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_the_density(make):
    p = make()
    values = {**conditions(p, 5), "x": torch.randn(5, 2)}
    assert_close(p.log_prob(values), by_hand(p, values).logsumexp(0))


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_the_density_with_sample_dimensions(make):
    p = make()
    given = conditions(p, 5)
    x = torch.randn(4, 3, 5, 2)
    result = p.log_prob({**given, "x": x}, sample_dims={"x": 2})
    assert result.shape == (4, 3, 5)
    expected = torch.stack([p.log_prob({**given, "x": one}) for one in x.flatten(0, 1)]).reshape(4, 3, 5)
    assert_close(result, expected)
    if p.cond_var:  # samples of a condition, none of the value
        name = p.cond_var[0]
        many = torch.randn(4, *given[name].shape)
        result = p.log_prob({**given, name: many, "x": x[0, 0]}, sample_dims={name: 1})
        assert_close(result, torch.stack([p.log_prob({**given, name: one, "x": x[0, 0]}) for one in many]))


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_the_responsibilities_are_bayes_rule(make):
    p = make()
    values = {**conditions(p, 5), "x": torch.randn(5, 2)}
    posterior = p.posterior(*p.hidden_var)
    assert posterior.var == p.hidden_var and posterior.cond_var == ("x", *p.cond_var)
    expected = by_hand(p, values).softmax(0).T
    assert_close(posterior.mean(values), expected)
    index = torch.tensor([0, 1, 0, 1, 1])
    assert_close(posterior.log_prob({**values, p.hidden_var[0]: index}).exp(), expected[torch.arange(5), index])
    assert posterior.sample(values, sample_shape=7)[p.hidden_var[0]].shape == (7, 5, len(p.distributions))


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_draws_have_the_mean_and_variance_they_should(make):
    p = make()
    given, n = conditions(p, 2), 40_000
    drawn = p.sample(given, sample_shape=n, batch_n=2)
    assert drawn["x"].shape == (n, 2, 2) and not drawn["x"].requires_grad
    assert p.log_prob(drawn).shape == (n, 2)
    x = drawn["x"]
    if make is not nested:
        mean, variance = p.mean(given), p.variance(given)
        assert bool(((x.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all())
        fourth = ((x - mean) ** 4).mean(0) - variance**2
        assert bool(((x.var(0) - variance).abs() < 5 * (fourth / n).sqrt()).all())
    # a test function: E[p(x)^(1/2) / p(x)^(1/2)] is trivial, so compare E[log p] on independent halves
    log_prob = p.log_prob(drawn)
    gap = log_prob[: n // 2].mean(0) - log_prob[n // 2 :].mean(0)
    assert bool((gap.abs() < 5 * log_prob.std(0) * (4 / n) ** 0.5).all())


def test_draws_agree_with_the_density_on_intervals():
    p = MixtureModel(
        [Normal("p(x)", loc=-2.0, scale=0.5), Laplace("p(x)", loc=1.0, scale=1.0)],
        Categorical("p(z)", probs=torch.tensor([0.3, 0.7])),
    )
    n = 100_000
    x = p.sample(batch_n=n)["x"]
    for low, high in ((-3.0, -1.5), (-0.5, 0.5), (1.0, 3.0)):
        grid = torch.linspace(low, high, 2001)
        mass = torch.trapezoid(p.log_prob({"x": grid}).exp(), grid).item()
        assert abs(((x > low) & (x < high)).double().mean().item() - mass) < 5 * (mass * (1 - mass) / n) ** 0.5


def test_each_row_draws_its_own_component_from_its_own_parameters():
    """Components far apart: which one a draw came from can be read off, and must agree with that row's weights."""
    parts = [Normal("p(x | y)", lambda y, k=k: {"loc": y + 1000.0 * k, "scale": torch.ones(len(y), 1)}) for k in range(K)]
    p = MixtureModel(parts, Categorical("p(z | w)", lambda w: {"probs": w}))
    y = torch.tensor([[0.0], [100.0]])
    w = torch.tensor([[0.2, 0.0, 0.8], [0.0, 1.0, 0.0]])
    x = p.sample({"y": y, "w": w}, sample_shape=[100, 50])["x"]
    k = ((x - y) / 1000).round()
    assert bool(((x - y - 1000 * k).abs() < 7).all())
    counts = torch.stack([(k == j).double().mean((0, 1))[:, 0] for j in range(K)], 1)
    assert bool((counts[w == 0] == 0).all()) and abs(counts[0, 0] - 0.2) < 5 * (0.16 / 5000) ** 0.5 and counts[1, 1] == 1


@pytest.mark.parametrize("family", ["one", "several"])
def test_samples_of_conditions_are_independent_draws(family):
    second = Normal("p(x | w)", loc="w", scale=1.0) if family == "one" else Laplace("p(x | w)", loc="w", scale=1.0)
    p = MixtureModel([Normal("p(x | y)", loc="y", scale=1.0), second], Categorical("p(z)", probs=torch.tensor([0.5, 0.5])))
    y, w = torch.zeros(2, 1), torch.zeros(3, 2, 1)
    x = p.sample(Samples({"y": y, "w": w}, {"w": 1}), sample_shape=4)["x"]
    assert x.shape == (4, 3, 2, 1) and len(x.unique()) == x.numel()


def test_one_pass_for_components_of_one_family(monkeypatch):
    calls = []
    original = td.MultivariateNormal.log_prob

    def counted(self, x):
        calls.append(1)
        return original(self, x)

    monkeypatch.setattr(td.MultivariateNormal, "log_prob", counted)
    parts = [MultivariateNormal("p(x)", loc=torch.randn(2), scale_tril=torch.eye(2) * (k + 1)) for k in range(K)]
    p = MixtureModel(parts, prior())
    x = torch.randn(5, 2)
    result = p.log_prob({"x": x})
    assert len(calls) <= 1
    expected = torch.stack(
        [original(td.MultivariateNormal(c.get_buffer("loc"), scale_tril=c.get_buffer("scale_tril")), x) for c in parts]
    )
    assert_close(result, (expected + WEIGHTS.log()[:, None]).logsumexp(0))
    assert p.sample(batch_n=4, sample_shape=3)["x"].shape == (3, 4, 2)


def test_discrete_components():
    p = MixtureModel([Poisson("p(x)", rate=torch.tensor([r])) for r in (1.0, 4.0, 9.0)], prior())
    x = torch.arange(60.0)[:, None]
    assert_close(p.log_prob({"x": x}).exp().sum(), torch.tensor(1.0))
    bits = MixtureModel([Bernoulli("p(x)", probs=torch.tensor([r, 1 - r])) for r in (0.1, 0.4, 0.9)], prior())
    grid = torch.tensor([[0.0, 0.0], [0, 1], [1, 0], [1, 1]])
    assert_close(bits.log_prob({"x": grid}).exp().sum(), torch.tensor(1.0))
    classes = MixtureModel([Categorical("p(x)", probs=row) for row in torch.eye(4)[:3] * 0.6 + 0.1], prior())
    assert_close(classes.log_prob({"x": torch.arange(4)}), classes.log_prob({"x": torch.eye(4)}))
    assert_close(classes.log_prob({"x": torch.arange(4)}).exp().sum(), torch.tensor(1.0))


def test_components_with_supports_of_their_own():
    half = Categorical("p(z)", probs=torch.tensor([0.5, 0.5]))
    boxes = MixtureModel([Uniform("p(x)", low=0.0, high=1.0), Uniform("p(x)", low=2.0, high=4.0)], half)
    assert_close(boxes.log_prob({"x": torch.tensor([0.5, 3.0])}).exp(), torch.tensor([0.5, 0.25]))
    with pytest.raises(SupportError, match="'x' in row 1"):
        boxes.log_prob({"x": torch.tensor([0.5, 1.5])})
    mixed = MixtureModel(
        [Normal("p(x)", loc=0.0, scale=1.0), Gamma("p(x)", concentration=nn.Parameter(torch.tensor(2.0)), rate=3.0)], half
    )
    x = torch.tensor([-1.0, 1.0])
    result = mixed.log_prob({"x": x})
    normal, gamma = td.Normal(0.0, 1.0).log_prob(x).exp(), td.Gamma(2.0, 3.0).log_prob(x.abs()).exp() * (x > 0)
    assert_close(result.exp(), 0.5 * (normal + gamma))
    result.sum().backward()  # the discarded branch must not poison the gradient
    assert all(t.grad is not None and bool(t.grad.isfinite().all()) for t in mixed.parameters())
    with pytest.raises(SupportError):
        MixtureModel([Beta("p(x)", concentration1=2.0, concentration0=2.0), Exponential("p(x)", rate=1.0)], half).log_prob(
            {"x": torch.tensor([-1.0])}
        )
    with pytest.raises(SupportError, match="nan"):
        constants().log_prob({"x": torch.full((2, 2), torch.nan)})


def test_trained_parameters_get_gradients_and_are_checked():
    parts = [Normal("p(x)", loc=nn.Parameter(torch.randn(2)), scale=nn.Parameter(torch.ones(2))) for _ in range(K)]
    logits = nn.Parameter(torch.zeros(K))
    p = MixtureModel(parts, Categorical("p(z)", logits=logits))
    p.log_prob({"x": torch.randn(5, 2)}).sum().backward()
    assert all(t.grad is not None and bool((t.grad != 0).all()) for t in p.parameters()) and len(list(p.parameters())) == 7
    with torch.no_grad():
        parts[1].get_parameter("scale")[0] = -1
    with pytest.raises(ParameterError, match="scale must be positive.*-1"):
        p.log_prob({"x": torch.randn(5, 2)})


def test_copies_pickles_and_checkpoints():
    p = networks()
    values = {**conditions(p, 5), "x": torch.randn(5, 2)}
    expected = p.log_prob(values)
    assert_close(copy.deepcopy(p).log_prob(values), expected)
    assert_close(pickle.loads(pickle.dumps(p)).log_prob(values), expected)
    other = networks()
    other.load_state_dict(p.state_dict())
    assert_close(other.log_prob(values), expected)
    assert p.to(torch.float32).log_prob({n: v.float() for n, v in values.items()}).dtype == torch.float32


def test_renamed_and_in_a_product():
    p = constants()
    q = p.replace_var(x="u")
    x = torch.randn(4, 2)
    assert_close(q.log_prob({"u": x}), p.log_prob({"x": x}))
    assert str(q.posterior("z").statement) == "p(z|u)"
    assert_close(q.posterior("z").mean({"u": x}), p.posterior("z").mean({"x": x}))
    joint = p * Normal("p(y | x)", loc="x", scale=1.0)
    assert joint.log_prob(joint.sample(batch_n=3, sample_shape=2)).shape == (2, 3)


def test_an_inserted_dimension_changes_nothing():
    for make in CASES.values():
        p = make()
        x = torch.randn(6, 4, 5, 2)
        dims = dict.fromkeys(p.cond_var, 1)
        given = conditions(p, 4, 5)
        bound = p.bind([given[n] for n in p.cond_var], [dims[n] for n in p.cond_var])
        wide = bound.insert(0)  # a sample dimension next to the batch
        expected = p.log_prob({**given, "x": x}, {"x": 2, **dims})
        if p.cond_var:
            got = wide.log_prob((x.unsqueeze(-3),), (3,))
            assert got.shape == (6, 4, 1, 5)
            assert_close(got.squeeze(-2), expected)


def test_print_shows_the_components():
    text = str(networks())
    assert text.splitlines()[0] == "p(x|y,w): mixture of 3 components chosen by z"
    assert "p(x|y): Normal" in text and "p(z|w): Categorical" in text and "Linear(in_features=3" in text


def test_no_draw_has_a_pathwise_gradient():
    with pytest.raises(ArgumentError, match="reparam"):
        constants().sample(reparam=True)


def test_no_closed_entropy():
    with pytest.raises(NoClosedForm, match="sample_shape"):
        constants().entropy()


def normal(statement="p(x)", **more):
    return Normal(statement, **{"loc": 0.0, "scale": 1.0, **more})


@pytest.mark.parametrize(
    ("components", "index", "error", "text"),
    [
        (lambda: [], prior, ArgumentError, "list of components"),
        (lambda: normal(), prior, ArgumentError, "list of components"),
        (lambda: [normal(), normal("p(y)"), normal()], prior, ArgumentError, r"p\(x\) and p\(y\)"),
        (lambda: [normal(), normal()], prior, ParameterError, r"2 components, but its prior p\(z\) has 3 states"),
        (lambda: [normal("p(x | z)", loc="z")] * 3, prior, ArgumentError, r"'z' is the index.*p\(x\|z\)"),
        (lambda: [normal("p(z)")] * 3, prior, ArgumentError, "'z' is the index"),
        (lambda: [normal()] * 3, lambda: normal("p(z)"), ArgumentError, "must be a Categorical"),
        (lambda: [normal()] * 3, lambda: Categorical("p(z | x)", Net(1, logits=3)), ArgumentError, "depends on 'x'"),
        (lambda: [normal() * normal("p(y)")] * 3, prior, ArgumentError, "single distribution"),
        (
            lambda: [normal(loc=torch.zeros(2)), normal(loc=torch.zeros(2, 2)), normal()],
            prior,
            ParameterError,
            "event dimension",
        ),
    ],
)
def test_mistakes_at_construction(components, index, error, text):
    with pytest.raises(error, match=text):
        MixtureModel(components(), index())


def test_mistakes_at_evaluation():
    p = MixtureModel([normal("p(x | y)", loc="y")] * 2, Categorical("p(z | y)", Net(2, logits=3)))
    with pytest.raises(ParameterError, match="2 components.*3 states"):
        p.log_prob({"x": torch.zeros(4, 2), "y": torch.zeros(4, 2)})
    p = MixtureModel([normal("p(x)", loc=torch.zeros(2)), normal("p(x)", loc=torch.zeros(3)), normal()], prior())
    with pytest.raises(ShapeError, match="different event shapes"):
        p.log_prob({"x": torch.zeros(4, 2)})
    with pytest.raises(UnknownVariable, match="'k'"):
        constants().posterior("k")
    with pytest.raises(ShapeError, match=r"\(4, 3\)"):
        constants().log_prob({"x": torch.zeros(4, 3)})
