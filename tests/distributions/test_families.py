"""The laws of a distribution family, tested over every family and parameterisation of the registry."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.stats as st
import torch
from distributions.families_registry import FAMILIES, Case
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from probflow import domains as d
from probflow.distributions import families as f
from probflow.distributions.family import Params
from probflow.distributions.parametric import Parametric
from probflow.errors import ArgumentError, NoClosedForm, ParameterError, ShapeError, SupportError

N = 20_000


@pytest.fixture(params=FAMILIES.values(), ids=list(FAMILIES))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def context(batch: int) -> Tensor:
    return torch.zeros(batch, 1)


def on_grid(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Points, weights, log-density at the points."""
    points, weights = case.grid(case.tensors())
    return points, weights, case.constant().log_prob({"x": points}, sample_dims=0)


def within_5_standard_errors(estimates: Tensor, truth: Tensor) -> None:
    """`estimates` are independent rows whose mean is `truth`."""
    error = estimates.std(0) / math.sqrt(len(estimates))
    gap = (estimates.mean(0) - truth).abs()
    assert (gap <= 5 * error + 1e-12).all(), f"off by {(gap / error).max():.1f} standard errors"


def test_the_registry_has_every_family() -> None:
    """Each family, and each of its alternative parameters, is tested."""
    assert set(f.__all__) <= {case.make.__name__ for case in FAMILIES.values()}
    for name in f.__all__:
        family = getattr(f, name).family
        tested = {p for case in FAMILIES.values() if case.make.__name__ == name for p in case.params}
        assert tested == set(family.params)
        assert ">>>" in getattr(f, name).__doc__


# ---------------------------------------------------------------------- the density


def test_log_prob_is_scipys(case: Case) -> None:
    if isinstance(case.scipy, str):
        assert case.scipy == "not in scipy"  # the table says so; normalisation is tested for all
        return
    rows = case.rows(2)
    p = case.network(rows)
    x = p.sample({"c": context(2)}, sample_shape=[50])["x"]
    ours = p.log_prob({"x": x, "c": context(2)}, sample_dims={"x": 1})
    for row in range(2):
        params = {name: value[row].numpy() if value[row].dim() else value[row].item() for name, value in rows.items()}
        theirs = case.scipy(**params)
        formula = theirs.logpmf if case.pmf else theirs.logpdf
        value = x[:, row].numpy()
        expected = [formula(v) for v in value] if case.make.family.event_rank else formula(value)
        assert_close(ours[:, row], torch.as_tensor(np.asarray(expected, dtype=np.float64)).reshape(50), rtol=1e-9, atol=1e-9)


def test_density_integrates_to_one(case: Case) -> None:
    _, weights, log_prob = on_grid(case)
    assert_close((weights * log_prob.exp()).sum(), torch.tensor(1.0), rtol=0, atol=1e-5)


def test_samples_follow_the_density(case: Case) -> None:
    """Kolmogorov-Smirnov, or chi-square for discrete values, on the first element of the event; p > 1e-6."""
    x = case.constant().sample(batch_n=N)["x"].reshape(N, -1)[:, 0]
    points, weights, log_prob = on_grid(case)
    first, mass = points.reshape(len(points), -1)[:, 0], weights * log_prob.exp()
    values, where = first.unique(return_inverse=True)
    mass = torch.zeros(len(values)).index_add(0, where, mass)
    cumulative = mass.cumsum(0)
    if case.pmf:
        expected = mass * N
        edges = (cumulative * N / 40).floor()  # pool neighbours to at least 40 expected draws each
        _, group = edges.unique(return_inverse=True)
        observed = torch.zeros(len(values)).index_add(
            0, torch.searchsorted(values, x - 1e-9).clamp(max=len(values) - 1), torch.ones(N)
        )
        seen, wanted = (torch.zeros(int(group.max()) + 1).index_add(0, group, t) for t in (observed, expected))
        assert st.chisquare(seen.numpy(), (wanted * N / wanted.sum()).numpy()).pvalue > 1e-6
    else:
        middle = (cumulative - mass / 2).numpy()
        assert st.kstest(x.numpy(), lambda v: np.interp(v, values.numpy(), middle)).pvalue > 1e-6


def test_mean_variance_entropy(case: Case) -> None:
    """Each equals its Monte Carlo estimate where it is known, and is NoClosedForm where not."""
    p = case.constant()
    x = p.sample(batch_n=N)["x"]
    for what in case.without:
        with pytest.raises(NoClosedForm):
            getattr(p, what)()
    assert p.family.has_entropy == ("entropy" not in case.without)
    if "mean" not in case.without:
        mean = case.average(x)
        error = x.std(0) / math.sqrt(N)
        assert ((p.mean()[0] - mean).abs() <= 5 * error + 1e-12).all()
    if "variance" not in case.without:
        within_5_standard_errors((x - x.mean(0)).square(), p.variance()[0])
    if "entropy" not in case.without:
        within_5_standard_errors(-p.log_prob({"x": x}, sample_dims=0), p.entropy()[0])


def test_pathwise_gradient_is_the_gradient_of_the_integral(case: Case) -> None:
    """d/dθ E[tanh(x)] along the draws, against the same derivative of the integral of density times tanh."""
    if not case.make.reparameterised:
        with pytest.raises(ArgumentError, match="no reparameterised draw"):
            case.constant().sample(reparam=True)
        assert not case.constant().sample(batch_n=2)["x"].requires_grad
        return
    leaves = {name: value.requires_grad_() for name, value in case.tensors().items()}
    points, weights = case.grid(leaves)
    density = case.network({n: t[None] for n, t in leaves.items()}).log_prob({"x": points, "c": context(len(points))}).exp()
    (weights * density * h(points)).sum().backward()
    repeated = {n: t.detach().expand(N, *t.shape).clone().requires_grad_() for n, t in leaves.items()}
    h(case.network(repeated).sample({"c": context(N)}, reparam=True)["x"]).sum().backward()
    for name, leaf in leaves.items():
        own = repeated[name].grad
        assert leaf.grad is not None and own is not None
        assert leaf.grad.abs().max() > 1e-4 or name == "df", "the test would pass with a gradient of zero"
        estimate, exact = symmetric(own, name), symmetric(leaf.grad, name)
        error = estimate.std(0) / math.sqrt(N)
        assert ((estimate.mean(0) - exact).abs() <= 5 * error + 1e-6).all(), name


def test_a_draw_carries_a_gradient_only_if_asked(case: Case) -> None:
    """Score-function estimators need draws that are constants; inside an evaluation gradients are on."""
    leaves: dict[str, Any] = {n: nn.Parameter(t) for n, t in case.tensors().items()}
    bound = case.make("p(x)", **leaves).bind([], [])
    (plain,), (pathwise,) = bound.draw((), 3, False), bound.draw((), 3, case.make.reparameterised)
    assert not plain.requires_grad and pathwise.requires_grad == case.make.reparameterised


def h(x: Tensor) -> Tensor:
    """A bounded function of all elements of the event, different in each."""
    flat = x.reshape(len(x), -1)
    return (flat * (1 + torch.arange(flat.shape[1]))).tanh().sum(1)


def symmetric(gradient: Tensor, name: str) -> Tensor:
    """A symmetric matrix is a parameter only in its symmetric directions."""
    return gradient + gradient.mT if name in ("covariance_matrix", "precision_matrix") else gradient


# ---------------------------------------------------------------------- shapes


@pytest.mark.parametrize("extra", [(), (2,), (3, 4)], ids=str)
def test_elements_are_independent(case: Case, extra: tuple[int, ...]) -> None:
    """log p of an event with more dimensions is the sum over its elements, for any batch and sample shape."""
    batch, event = 3, tuple(case.constant().sample(batch_n=1)["x"].shape[1:])
    rows = case.rows(batch, extra)
    p = case.network(rows)
    drawn = p.sample({"c": context(batch)}, sample_shape=[2, 5])
    assert drawn["x"].shape == (2, 5, batch, *extra, *event)
    whole = p.log_prob(drawn)
    assert whole.shape == (2, 5, batch)
    count = batch * math.prod(extra)
    flat = case.network({n: t.reshape(count, *t.shape[1 + len(extra) :]) for n, t in rows.items()})
    single = flat.log_prob({"x": drawn["x"].reshape(2, 5, count, *event), "c": context(count)}, sample_dims={"x": 2, "c": 0})
    assert_close(whole, single.reshape(2, 5, batch, -1).sum(-1))


@pytest.mark.parametrize("batch", [0, 1, 4])
def test_any_batch(case: Case, batch: int) -> None:
    for p, given in ((case.constant(), {}), (case.network(case.rows(batch)), {"c": context(batch)})):
        drawn = p.sample(given, batch_n=batch)
        assert drawn["x"].shape[0] == batch and drawn["x"].isfinite().all()
        log_prob = p.log_prob(drawn)
        assert log_prob.shape == (batch,) and log_prob.isfinite().all()


def test_wrong_width_is_an_error(case: Case) -> None:
    """Never a silent (B, B), and never a value that is repeated to fit."""
    batch = 3
    p = case.network(case.rows(batch, (batch,)))
    x = p.sample({"c": context(batch)})["x"]
    wide = torch.cat([x, x], 1)
    narrow = x[:, :1]
    for wrong in (wide, narrow, x[:, 0], x[:, None]):
        with pytest.raises(ShapeError, match="'x' has shape"):
            p.log_prob({"x": wrong, "c": context(batch)})
    if case.make.family.event_rank:
        with pytest.raises(ShapeError, match="'x' has shape"):
            p.log_prob({"x": torch.cat([x, x], -1), "c": context(batch)})
    with pytest.raises(ShapeError, match="batch"):
        p.log_prob({"x": x[:2], "c": context(batch)})


def test_constants_network_and_names_agree(case: Case) -> None:
    params = case.tensors()
    constant = case.constant()
    network = case.network({n: t.expand(4, *t.shape) for n, t in params.items()})
    x = constant.sample(batch_n=4)["x"]
    expected = constant.log_prob({"x": x}, sample_dims=0)
    assert_close(network.log_prob({"x": x, "c": context(4)}), expected)
    names: dict[str, Any] = {n: "the_" + n for n in params}
    named = case.make(f"p(x | {', '.join(names.values())})", **names)
    values = {"the_" + n: t.expand(4, *t.shape) for n, t in params.items()}
    assert_close(named.log_prob({"x": x, **values}), expected)
    leaves: dict[str, Any] = {n: nn.Parameter(t) for n, t in params.items()}
    trained = case.make("p(x)", **leaves)
    assert_close(trained.log_prob({"x": x}, sample_dims=0), expected)


# ---------------------------------------------------------------------- what does not belong


def test_values_outside_the_support(case: Case) -> None:
    for p, given in ((case.constant(), {}), (case.network(case.rows(2)), {"c": context(2)})):
        inside = p.sample(given, batch_n=2)["x"]
        for outside in case.outside:
            x = inside.clone()
            x[1] = torch.tensor(outside)
            with pytest.raises(SupportError, match=r"the value of 'x' is outside the support of") as caught:
                p.log_prob({"x": x, **given})
            message = str(caught.value)
            assert case.make.__name__ in message and "support:" in message and " at [1" in message
            if isinstance(outside, float) and not math.isnan(outside):
                assert f"{outside:.6g}" in message


BAD: dict[d.Domain, list[float]] = {
    d.real: [math.inf, -math.inf],
    d.real_vector: [math.inf],
    d.real_matrix: [math.inf],
    d.positive: [0.0, -0.3],
    d.positive_vector: [0.0, -0.3],
    d.nonnegative: [-0.3],
    d.natural: [-1.0, 0.5, math.inf],
    d.unit_interval: [-0.1, 1.1],
    d.simplex: [-0.1, 0.9],
    d.logit_vector: [math.inf],
    d.lower_cholesky: [-1.0],
    d.positive_definite: [-10.0],
}


def test_parameters_outside_their_domain(case: Case) -> None:
    for name, value in case.tensors().items():
        for bad in [*BAD.get(case.make.family.params[name], [math.inf if name == "logits" else -math.inf]), math.nan]:
            wrong = value.clone()
            wrong.view(-1)[0] = bad
            with pytest.raises(ParameterError, match=rf"{case.make.__name__} p\(x\): {name} must be"):
                case.make("p(x)", **{**case.tensors(), name: wrong})
            p = case.network({n: (wrong if n == name else t)[None] for n, t in case.tensors().items()})
            with pytest.raises(ParameterError, match=rf"p\(x ?\| ?c\): {name} must be"):
                p.sample({"c": context(2)})


def test_density_outside_the_support_is_not_a_number_to_believe(case: Case) -> None:
    """Draws are not checked; the formula of a continuous family gives -inf or NaN where it has no density."""
    if case.pmf or case.make.family.support in (d.real, d.real_vector) or case.make is f.VonMises:
        return
    bound = case.constant().bind([], [])
    for outside in case.outside:
        x = torch.tensor(outside)[None]
        if x.dim() == 1 and x.isfinite().all() and abs(outside) not in (0, 1):
            log_prob = bound.log_prob((x,), (0,), check=False)
            assert log_prob.isnan() or log_prob == -math.inf or case.make is f.ContinuousBernoulli


# ---------------------------------------------------------------------- dtypes, copies, seeds


def test_double(case: Case) -> None:
    torch.set_default_dtype(torch.float32)
    p = case.constant()
    x = p.sample(batch_n=4)["x"]
    assert x.dtype == torch.float32
    single = p.log_prob({"x": x}, sample_dims=0)
    assert single.dtype == torch.float32
    p.double()
    assert p.sample(batch_n=2)["x"].dtype == torch.float64
    double = p.log_prob({"x": x.double()}, sample_dims=0)
    assert double.dtype == torch.float64
    assert_close(single.double(), double, rtol=1e-4, atol=1e-3)


def link(domain: d.Domain, raw: Tensor, name: str, value: Tensor) -> Tensor:
    """What a user writes behind the last linear layer."""
    if name in ("low", "high"):
        return -F.softplus(raw) if name == "low" else F.softplus(raw) + 0.1
    if "positive numbers" in domain.text or domain in (d.positive_vector, d.nonnegative):
        return F.softplus(raw) + 0.1
    if domain is d.simplex:
        return raw.softmax(-1)
    if domain is d.natural:
        return value.expand(raw.shape)
    if domain is d.lower_cholesky:
        return raw.tril(-1) + torch.diag_embed(F.softplus(raw.diagonal(dim1=-2, dim2=-1)) + 0.1)
    if domain is d.positive_definite:
        return torch.diag_embed(F.softplus(raw.diagonal(dim1=-2, dim2=-1)) + 0.1)
    return raw.sigmoid() if name == "probs" else raw


class Net(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.values = {n: t.float() for n, t in case.tensors().items()}
        self.domains = case.make.family.params
        self.layers = nn.ModuleDict({n: nn.Linear(3, max(1, t.numel())) for n, t in self.values.items()})

    def forward(self, c: Tensor) -> Params:
        raw = {n: self.layers[n](c).reshape(-1, *t.shape) for n, t in self.values.items()}
        return {n: link(self.domains[n], raw[n], n, t) for n, t in self.values.items()}


def test_bfloat16_autocast(case: Case) -> None:
    torch.set_default_dtype(torch.float32)
    p = case.make("p(x | c)", Net(case))
    c = torch.randn(8, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        drawn = p.sample({"c": c})
        log_prob = p.log_prob(drawn)
    assert log_prob.dtype == torch.float32 and log_prob.isfinite().all()
    log_prob.sum().backward()
    for parameter in p.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_copies(case: Case) -> None:
    p = case.constant()
    x = p.sample(batch_n=3)["x"]
    expected = p.log_prob({"x": x}, sample_dims=0)
    assert set(p.state_dict()) == set(case.params)
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert_close(twin.log_prob({"x": x}, sample_dims=0), expected, rtol=0, atol=0)
    other = case.make("p(x)", **{n: t[1] for n, t in case.rows(2).items()})
    other.load_state_dict(p.state_dict())
    assert_close(other.log_prob({"x": x}, sample_dims=0), expected, rtol=0, atol=0)


def test_a_seed_fixes_the_draw(case: Case) -> None:
    p = case.constant()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(p.sample(batch_n=40)["x"])
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_states(case: Case) -> None:
    """A finite family lists each of its values once."""
    states = case.constant().bind([], []).states(2**20)
    assert (states is not None) == case.make.finite
    if states is not None:
        points, _ = case.grid(case.tensors())
        assert_close(states[0].reshape(points.shape), points)
        two = case.constant(features_shape=(2, *points.shape[1:])).bind([], []).states(2**20)
        assert two is not None and len(two[0]) == len(points) ** 2


# ---------------------------------------------------------------------- exactness at the edge

L3, L1000 = math.log(3), math.log(1000)
EXACT: dict[str, tuple[type[Parametric], dict[str, Any], Any, float]] = {
    "Bernoulli, sure": (f.Bernoulli, {"logits": 1000.0}, 1.0, 0.0),
    "Bernoulli, against": (f.Bernoulli, {"logits": 1000.0}, 0.0, -1000.0),
    "Bernoulli, sure of 0": (f.Bernoulli, {"logits": -1000.0}, 0.0, 0.0),
    "Binomial, sure": (f.Binomial, {"total_count": 3.0, "logits": 1000.0}, 3.0, 0.0),
    "Binomial, against": (f.Binomial, {"total_count": 3.0, "logits": 1000.0}, 2.0, L3 - 1000),
    "Binomial, sure of 0": (f.Binomial, {"total_count": 3.0, "logits": -1000.0}, 0.0, 0.0),
    "Binomial, probs 1": (f.Binomial, {"total_count": 3.0, "probs": 1.0}, 3.0, 0.0),
    "Binomial, probs 0": (f.Binomial, {"total_count": 3.0, "probs": 0.0}, 0.0, 0.0),
    "Binomial, impossible": (f.Binomial, {"total_count": 3.0, "probs": 0.0}, 1.0, -math.inf),
    "Binomial, no trials": (f.Binomial, {"total_count": 0.0, "probs": 0.3}, 0.0, 0.0),
    "Geometric, sure": (f.Geometric, {"logits": 1000.0}, 0.0, 0.0),
    "Geometric, against": (f.Geometric, {"logits": 1000.0}, 2.0, -2000.0),
    "Geometric, rare": (f.Geometric, {"logits": -1000.0}, 5.0, -1000.0),
    "Geometric, probs 1": (f.Geometric, {"probs": 1.0}, 0.0, 0.0),
    "NegativeBinomial, sure of 0": (f.NegativeBinomial, {"total_count": 2.0, "logits": -1000.0}, 0.0, 0.0),
    "NegativeBinomial, against": (f.NegativeBinomial, {"total_count": 2.0, "logits": 1000.0}, 3.0, math.log(4) - 2000),
    "NegativeBinomial, probs 0": (f.NegativeBinomial, {"total_count": 2.0, "probs": 0.0}, 0.0, 0.0),
    "Poisson, rate 0": (f.Poisson, {"rate": 0.0}, 0.0, 0.0),
    "Categorical, sure": (f.Categorical, {"logits": [1000.0, 0.0, -1000.0]}, [1.0, 0.0, 0.0], 0.0),
    "Categorical, against": (f.Categorical, {"logits": [1000.0, 0.0, -1000.0]}, [0.0, 0.0, 1.0], -2000.0),
    "Categorical, log 0": (f.Categorical, {"logits": [0.0, -math.inf, 0.0]}, [1.0, 0.0, 0.0], -math.log(2)),
    "Categorical, probs 0": (f.Categorical, {"probs": [1.0, 0.0, 0.0]}, [1.0, 0.0, 0.0], 0.0),
    "Multinomial, sure": (f.Multinomial, {"total_count": 2.0, "logits": [1000.0, 0.0, -1000.0]}, [2.0, 0.0, 0.0], 0.0),
    "Multinomial, against": (
        f.Multinomial,
        {"total_count": 2.0, "logits": [1000.0, 0.0, -1000.0]},
        [1.0, 1.0, 0.0],
        math.log(2) - 1000,
    ),
    "Multinomial, log 0": (f.Multinomial, {"total_count": 2.0, "logits": [0.0, -math.inf, 0.0]}, [1.0, 0.0, 1.0], -math.log(2)),
    "Multinomial, probs 0": (f.Multinomial, {"total_count": 2.0, "probs": [1.0, 0.0, 0.0]}, [2.0, 0.0, 0.0], 0.0),
    "ContinuousBernoulli, at 1": (f.ContinuousBernoulli, {"logits": 1000.0}, 1.0, L1000),
    "ContinuousBernoulli, at 0": (f.ContinuousBernoulli, {"logits": -1000.0}, 0.0, L1000),
    "ContinuousBernoulli, middle": (f.ContinuousBernoulli, {"logits": 1000.0}, 0.5, L1000 - 500),
    "ContinuousBernoulli, uniform": (f.ContinuousBernoulli, {"logits": 0.0}, 0.3, 0.0),
    "Logistic, far": (f.Logistic, {"loc": 0.0, "scale": 1.0}, 1000.0, -1000.0),
    "VonMises, narrow": (f.VonMises, {"loc": 0.0, "concentration": 1e4}, 0.0, 0.5 * math.log(1e4 / (2 * math.pi)) - 1 / 8e4),
    "DiscretizedLogistic, far": (
        f.DiscretizedLogistic,
        {"loc": 0.0, "scale": 1e-3},
        0.6,
        -(152.5 / 0.255) + math.log(-math.expm1(-1 / 0.255)),
    ),
    "DiscretizedLogistic, sure": (f.DiscretizedLogistic, {"loc": 9.0, "scale": 1e-3}, 1.0, 0.0),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("make", "params", "value", "expected"), EXACT.values(), ids=EXACT)
def test_exact_at_the_edge(
    make: type[Parametric], params: dict[str, Any], value: Any, expected: float, dtype: torch.dtype
) -> None:
    """Saturated logits and certain probabilities: the value to rounding, and a gradient without NaN."""
    torch.set_default_dtype(dtype)
    trained: dict[str, Any] = {n: nn.Parameter(torch.tensor(v)) for n, v in params.items()}
    log_prob = make("p(x)", **trained).log_prob({"x": torch.tensor(value)[None]}, sample_dims=0)
    assert_close(log_prob, torch.tensor([expected]), rtol=1e-6 if dtype == torch.float32 else 1e-9, atol=1e-6)
    if math.isfinite(expected):
        log_prob.sum().backward()
        assert all(not p.grad.isnan().any() for p in trained.values() if p.grad is not None)


def test_gradient_where_zero_times_log_zero() -> None:
    """d/dπ [x log π + (n - x) log(1 - π)] at π = 0, x = 0 is -n, not NaN; d/dλ of a Poisson at 0 is -1."""
    probs, rate = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    f.Binomial("p(x)", total_count=3, probs=probs).log_prob({"x": torch.zeros(1, 1)}).sum().backward()
    f.Poisson("p(x)", rate=rate).log_prob({"x": torch.zeros(1, 1)}).sum().backward()
    assert probs.grad == -3 and rate.grad == -1


@pytest.mark.parametrize("make", [f.RelaxedBernoulli, f.RelaxedCategorical, f.Beta, f.Dirichlet, f.Kumaraswamy, f.Gamma])
def test_extreme_draws_keep_a_density(make: type[Parametric]) -> None:
    """Draws that round to the border of the support are moved inside it."""
    torch.set_default_dtype(torch.float32)
    extreme = {"temperature": 0.1, "logits": [80.0, -80.0, 0.0], "concentration1": 0.02, "concentration0": 0.02, "rate": 1.0}
    extreme["concentration"] = [0.02, 0.02, 0.02] if make is f.Dirichlet else 0.02
    names = [n for n in make.family.params if n in extreme]
    params: dict[str, Any] = {n: torch.tensor(extreme[n]) for n in names}
    p = make("p(x)", **params)
    drawn = p.sample(batch_n=1000)
    assert p.log_prob(drawn).isfinite().all()


@pytest.mark.parametrize("logits", [-1000.0, -3.0, -0.0999, 0.0, 1e-9, 0.0999, 3.0, 1000.0])
def test_continuous_bernoulli_moments(logits: float) -> None:
    """Mean, variance and entropy against the integral, across the switch from series to formula."""
    p = f.ContinuousBernoulli("p(x)", logits=logits)
    u = (torch.arange(200_000) + 0.5) / 200_000
    log_prob = p.log_prob({"x": u})
    mass = log_prob.exp() / len(u)
    mean = (mass * u).sum()
    for ours, integral in (
        (p.mean(), mean),
        (p.variance(), (mass * (u - mean).square()).sum()),
        (p.entropy(), -(mass * log_prob).sum()),
    ):
        assert_close(ours[0], integral, rtol=1e-9 if abs(logits) < 10 else 1e-5, atol=1e-12)


def test_log_prob_of_continuous_bernoulli_is_smooth_across_the_series() -> None:
    logits = torch.tensor([0.0999999, 0.1000001, -0.0999999, -0.1000001], requires_grad=True)
    log_prob = f.ContinuousBernoulli("p(x | l)", logits="l").log_prob({"x": torch.full((4,), 0.3), "l": logits})
    assert_close(log_prob[0::2], log_prob[1::2], rtol=0, atol=1e-7)
    (gradient,) = torch.autograd.grad(log_prob.sum(), logits)
    assert_close(gradient[0::2], gradient[1::2], rtol=0, atol=1e-7)


def test_draws_of_continuous_bernoulli_are_smooth_across_the_series() -> None:
    """The same uniform number on both sides of the switch; the inverse distribution function, to third order in logits."""
    for sign in (-1, 1):
        draws = []
        for logits in (sign * 0.00999999, sign * 0.01000001):
            torch.manual_seed(0)
            draws.append(f.ContinuousBernoulli("p(x)", logits=logits).sample(batch_n=1000)["x"])
        assert_close(draws[0], draws[1], rtol=0, atol=1e-7)


# ---------------------------------------------------------------------- what single families promise


@pytest.mark.parametrize("make", [f.Categorical, f.Multinomial])
def test_probs_are_normalised(make: type[Parametric]) -> None:
    """float32 probabilities sum to 1 within rounding only; the family's sum to 1."""
    more: dict[str, Any] = {"total_count": 1} if make is f.Multinomial else {}
    p = make("p(y)", probs=torch.tensor([0.2, 0.8]) * 1.0005, **more)
    assert_close(p.log_prob({"y": torch.eye(2)}).exp(), torch.tensor([0.2, 0.8]))


def test_class_indices() -> None:
    """Integer labels, F.one_hot and one-hot floats are the same value, also for as many labels as classes."""
    labels = torch.tensor([2, 0, 1])
    logits = torch.randn(3, 3)
    expected = logits.log_softmax(-1)[torch.arange(3), labels]
    p = f.Categorical("p(y | l)", logits="l")
    for y in (labels, labels.int(), F.one_hot(labels, 3), F.one_hot(labels, 3).double()):
        assert_close(p.log_prob({"y": y, "l": logits}), expected)
    constant = f.Categorical("p(y)", logits=logits[0])
    for y in (labels, F.one_hot(labels, 3), F.one_hot(labels, 3).double()):
        assert_close(constant.log_prob({"y": y}), logits[0].log_softmax(-1)[labels])
    assert_close(constant.log_prob({"y": labels.expand(2, 3)}, sample_dims=1), logits[0].log_softmax(-1)[labels].expand(2, 3))
    with pytest.raises(SupportError, match="class indices 0 to 2"):
        constant.log_prob({"y": torch.tensor([3])})
    with pytest.raises(ShapeError, match="F.one_hot"):
        p.log_prob({"y": labels.double(), "l": logits})
    with pytest.raises(SupportError, match="one-hot"):
        constant.log_prob({"y": torch.tensor([[1, 1, 0]])})


def test_a_row_of_impossible_classes_is_an_error() -> None:
    logits = torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]])
    with pytest.raises(ParameterError, match=r"at \[1\]"):
        f.Categorical("p(y | l)", logits="l").sample({"l": logits})


def test_uniform_needs_low_below_high() -> None:
    with pytest.raises(ParameterError, match=r"Uniform|p\(x\): low must be below high, got low=1, high=0"):
        f.Uniform("p(x)", low=1.0, high=0.0)
    with pytest.raises(ParameterError, match="low=2, high=1"):
        f.Uniform("p(x | a)", low="a", high=1.0).sample({"a": torch.tensor([0.0, 2.0])})
    p = f.Uniform("p(x)", low=-1.0, high=2.0)
    assert_close(p.log_prob({"x": torch.tensor([-1.0, 2.0])}), torch.full((2,), -math.log(3)))  # both ends belong to it
    with pytest.raises(SupportError, match=r"\[-1, 2\]"):
        p.log_prob({"x": torch.tensor([3.0])})


def test_the_value_may_be_one_row_where_bounds_are_many() -> None:
    """The offender is found where the parameters have more rows than the value."""
    bound = f.Uniform("p(x | a)", low="a", high=9.0).bind([torch.tensor([0.0, 5.0])], [0])
    with pytest.raises(SupportError, match=r"offending: 1 at \[1\]"):
        bound.log_prob((torch.ones(1),), (0,))


@pytest.mark.parametrize("make", [f.Binomial, f.Multinomial])
def test_total_count_of_each_row(make: type[Parametric]) -> None:
    """Unequal total counts: each row has its own, in draws, density and entropy."""
    probs = torch.tensor([0.2, 0.8]) if make is f.Multinomial else torch.tensor(0.2)
    total = torch.tensor([1, 0, 5])  # integers are numbers, too
    p = make("p(x | n)", lambda n: {"total_count": n, "probs": probs.expand(3, *probs.shape)})
    drawn = p.sample({"n": total}, sample_shape=[2000])
    x = drawn["x"] if make is f.Binomial else drawn["x"][..., 0]
    within_5_standard_errors(x[:, [0, 2]], 0.2 * total[[0, 2]])
    assert (x[:, 1] == 0).all()
    for row, n in enumerate(total.tolist()):
        alone = make("p(x)", total_count=n, probs=probs)
        assert_close(p.entropy({"n": total})[row], alone.entropy()[0])
        assert_close(p.log_prob(drawn)[:, row], alone.log_prob({"x": drawn["x"][:, row]}, sample_dims=0))
    if make is f.Binomial:
        assert p.bind([total], [0]).states(100) is None


def test_pixels_are_divided_by_255() -> None:
    p = f.DiscretizedLogistic("p(x)", loc=0.5, scale=0.1)
    with pytest.raises(SupportError, match=r"x.float\(\) / 255"):
        p.log_prob({"x": torch.tensor([128, 7])})
    for dtype in (torch.float32, torch.float64):
        x = torch.arange(256, dtype=torch.uint8).to(dtype) / 255
        assert_close(p.log_prob({"x": x}).exp().sum(), torch.tensor(1.0), rtol=0, atol=1e-5, check_dtype=False)


def test_mixture_of_three_channels_is_its_chain_rule() -> None:
    """With one component: red, green given red, blue given both, each a DiscretizedLogistic (arXiv:1701.05517, eq. 3)."""
    loc, scale, coeffs = torch.rand(2, 3, 2, 2, 1), torch.rand(2, 3, 2, 2, 1) / 10 + 0.01, torch.randn(2, 3, 2, 2, 1)
    p = f.DiscretizedLogisticMixture(
        "p(x | c)", lambda c: dict(logits=torch.zeros(2, 2, 2, 1), loc=loc, scale=scale, coeffs=coeffs)
    )
    x = p.sample({"c": context(2)})["x"]
    assert x.shape == (2, 3, 2, 2)
    r, g, _ = x.unbind(1)
    shift = torch.stack([torch.zeros_like(r), coeffs[:, 0, ..., 0] * r, coeffs[:, 1, ..., 0] * r + coeffs[:, 2, ..., 0] * g], 1)
    chain = f.DiscretizedLogistic("p(x | m, s)", loc="m", scale="s")
    expected = chain.log_prob({"x": x, "m": loc[..., 0] + shift, "s": scale[..., 0]})
    assert_close(p.log_prob({"x": x, "c": context(2)}), expected)


def ones(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {name: torch.ones(shape) for name, shape in shapes.items()}


def test_mixture_needs_as_many_coefficients_as_pairs() -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "logits": (1, 1, 2),
        "loc": (3, 1, 1, 2),
        "scale": (3, 1, 1, 2),
        "coeffs": (2, 1, 1, 2),
    }
    with pytest.raises(ParameterError, match=r"coeffs must have C\(C-1\)/2 = 3 coefficients for 3 channels"):
        f.DiscretizedLogisticMixture("p(x)", **ones(shapes))
    shapes.update(coeffs=(3, 1, 1, 2), scale=(3, 1, 1, 5))
    with pytest.raises(ParameterError, match="same number of components"):
        f.DiscretizedLogisticMixture("p(x)", **ones(shapes))


def test_an_angle_has_no_first_turn() -> None:
    p = f.VonMises("p(a)", loc=0.3, concentration=2.0)
    a = torch.linspace(-3, 3, 7)
    assert_close(p.log_prob({"a": a}), p.log_prob({"a": a + 2 * math.pi}))


def test_temperature_of_each_row() -> None:
    """As many rows as classes: a temperature per row must not be read as one per class."""
    temperature, logits = torch.tensor([0.3, 2.0, 5.0]), torch.randn(3)
    p = f.RelaxedCategorical("p(y | t)", lambda t: {"temperature": t, "logits": logits.expand(3, 3)})
    drawn = p.sample({"t": temperature})
    for row in range(3):
        alone = f.RelaxedCategorical("p(y)", temperature=temperature[row], logits=logits)
        assert_close(p.log_prob(drawn)[row], alone.log_prob({"y": drawn["y"][row : row + 1]})[0])
    shared = f.RelaxedBernoulli("p(y | t)", temperature="t", logits=0.0).sample({"t": torch.ones(50)})["y"]
    assert len(shared.unique()) == 50  # one draw per row, also where only the temperature has rows
