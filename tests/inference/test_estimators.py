"""Every estimator against the exact gradient of a small model, and what each of them promises besides."""

from __future__ import annotations

import copy

import pytest
import torch
from inference.estimators_registry import CASES, ROWS, Case, errors, table
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, E, Function, Loss, exp, log
from probflow.errors import LossError
from probflow.inference.gradient_report import gradient_report
from probflow.inference.lower import lower
from probflow.inference.planner import Env, Planner
from probflow.losses.bounds import IWAE
from probflow.losses.defaults import with_estimator
from probflow.losses.estimators import ESTIMATORS, STL, VIMCO, GumbelSoftmax, PerVariable, Rebar, Score
from probflow.losses.probability import Expectation
from probflow.transforms import Affine, Coupling, Planar

z = Function(lambda z: z, ["z"], "z")
y = Function(lambda y: y, ["y"], "y")
ones = torch.ones_like


# ---------------------------------------------------------------------- the registry


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bias(case: Case) -> None:
    """Unbiased: within 5 standard errors of the exact gradient.  Biased: beyond them, so the test can tell; and named so."""
    distance, variance = errors(case)
    assert (distance > 5) == case.biased
    plan = str(case.make(torch.tensor([case.at] * 3)).plan()).replace("unbiased", "").replace("biased for finitely many", "")
    assert ("biased" in plan) == case.biased
    assert variance < 1e4


VARIANCE = [  # the first has less
    ("stl", "pathwise"),
    ("iwae, dreg", "iwae, pathwise"),
    ("renyi, dreg", "renyi, pathwise"),
    ("score", "score, no baseline"),
    ("score, given baseline", "score, no baseline"),
    ("score, learned baseline", "score, no baseline"),
    ("coin, score, K=4", "coin, score, no baseline"),
    ("coin, rebar", "coin, score, no baseline"),
    ("die, rebar, K=4", "die, score, K=4"),
    ("coin iwae, vimco", "coin iwae, no baseline"),
    ("mixed, pathwise + score", "mixed, all score"),
    ("mixed, chosen", "mixed, pathwise + score"),
]


@pytest.mark.parametrize(("less", "more"), VARIANCE)
def test_variance(less: str, more: str) -> None:
    assert CASES[less].gradients(4000).var(0).sum() < CASES[more].gradients(4000).var(0).sum()


def test_every_name_is_in_the_registry() -> None:
    plans = " ".join(str(case.make(torch.tensor([case.at] * 3)).plan()) for case in CASES.values())
    words = {
        "enumerate": "summed exactly",
        "score": "score function",
        "stl": "sticking the landing",
        "dreg": "doubly reparameterised",
    }
    assert all(words.get(name, name) in plans for name in ESTIMATORS)


def test_the_table() -> None:
    lines = table(rows=200).splitlines()
    assert len(lines) == len(CASES) + 1 and "variance" in lines[0]


# ---------------------------------------------------------------------- the value does not depend on the estimator


def gaussian_model(features: int = 2) -> tuple[pf.Distribution, pf.Distribution, pf.Distribution]:
    encoder = nn.Linear(3, 2 * features)
    q = pf.Normal("q(z | x)", lambda x: dict(zip(("loc", "scale"), _split(encoder(x)), strict=True)))
    decoder = nn.Linear(features, 3)
    p = pf.Normal("p(x | z)", lambda z: {"loc": decoder(z), "scale": torch.ones(len(z), 3)})
    return p, pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=features), q


def _split(h: Tensor) -> tuple[Tensor, Tensor]:
    loc, scale = h.chunk(2, 1)
    return loc, scale.exp()


def value_of(loss: Loss, values: dict[str, Tensor]) -> Tensor:
    torch.manual_seed(3)
    return loss.eval(values).detach()


def test_same_draws_same_value() -> None:
    p, prior, q = gaussian_model()
    x = {"x": torch.randn(5, 3)}
    for shape in ((), [3]):
        assert_close(*(value_of(ELBO(p * prior, q, shape, estimator=e), x) for e in ("pathwise", "stl")))
        plain = value_of(ELBO(p * prior, q, shape, estimator="score"), x)
        for baseline in ("none", Function(lambda x: x[:, 0], ["x"], "b"), Function(Sum(), ["x"], "b")):
            assert_close(value_of(ELBO(p * prior, q, shape, estimator=Score(baseline=baseline)), x), plain)
    for pair in (("pathwise", "dreg"), ("score", "vimco")):
        assert_close(*(value_of(IWAE(p * prior, q, 4, e), x) for e in pair))
    coin = pf.Bernoulli("q(y | x)", lambda x: {"logits": x[:, 0]})
    for estimator in ("rebar", "straight-through", GumbelSoftmax(hard=True)):
        found = E(coin, [7], estimator=estimator)[y].eval(x).detach() * 7
        assert_close(found, found.round())  # states, not something in between


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.sum(-1)


# ---------------------------------------------------------------------- sticking the landing, and DReG


def test_the_landing_is_silent() -> None:
    """Where q is the posterior, N(x/2, 1/2), every single gradient is 0; pathwise is not."""
    a = torch.full((50,), 0.0, requires_grad=True)
    p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
    q = pf.Normal("q(z | x)", lambda x: {"loc": x / 2 + a, "scale": 0.5**0.5 * a.exp()})
    x = {"x": torch.randn(50)}
    for loss in (
        ELBO(p, q, estimator="stl"),
        ELBO(p, q, [4], "stl"),
        IWAE(p, q, 4, "dreg"),
        log(E(q, [1], "stl")[exp(log(p) - log(q))]),
    ):
        assert torch.autograd.grad(loss.eval(x).sum(), a)[0].abs().max() < 1e-12
    assert torch.autograd.grad(ELBO(p, q, estimator="pathwise").eval(x).sum(), a)[0].abs().min() > 1e-3


class Below(nn.Module):
    """Weights of the second layer of a hierarchical posterior."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.0))

    def forward(self, z: Tensor, x: Tensor) -> dict[str, Tensor]:
        return {"loc": (z + x) / 2 + self.w, "scale": 0.5**0.5 * self.w.exp().expand(len(z))}


def hierarchy() -> tuple[pf.Distribution, pf.Distribution, Tensor, Below]:
    """z ~ N(0, 1), w ~ N(z, 1), x ~ N(w, 1), with the exact posterior q(z|x) q(w|z,x): N(x/3, 2/3) and N((z+x)/2, 1/2)."""
    p = (
        pf.Normal("p(z)", loc=0.0, scale=1.0)
        * pf.Normal("p(w | z)", loc="z", scale=1.0)
        * pf.Normal("p(x | w)", loc="w", scale=1.0)
    )
    top, below = torch.zeros((), requires_grad=True), Below()
    first = pf.Normal("q(z | x)", lambda x: {"loc": x / 3 + top, "scale": (2 / 3) ** 0.5 * ones(x)})
    return p, first * pf.Normal("q(w | z, x)", below), top, below


def test_a_hierarchical_posterior() -> None:
    p, q, top, below = hierarchy()
    x = {"x": torch.randn(30)}
    for loss in (ELBO(p, q, estimator="stl"), ELBO(p, q, [3], "stl"), IWAE(p, q, 3, "dreg")):
        for gradient in torch.autograd.grad(loss.sum().eval(x), [top, below.w]):
            assert gradient.abs() < 1e-12


@pytest.mark.parametrize("estimator", ["stl", "dreg"])
def test_a_hierarchical_posterior_off_the_optimum(estimator: str) -> None:
    """Against pathwise, which is exact on average: within 5 standard errors of the difference of the means."""
    p, q, top, below = hierarchy()
    with torch.no_grad():
        top += 0.5
        below.w.add_(0.3)
    found = {}
    for name in ("pathwise", estimator):
        torch.manual_seed(0)
        loss = ELBO(p, q, estimator=name) if estimator == "stl" else IWAE(p, q, 3, name)
        draws = [
            torch.stack(torch.autograd.grad(loss.mean().eval({"x": torch.full((500,), 0.7)}), [top, below.w]))
            for _ in range(60)
        ]
        found[name] = torch.stack(draws)
    one, two = found.values()
    assert ((one.mean(0) - two.mean(0)).abs() < 5 * ((one.var(0) + two.var(0)) / 60).sqrt()).all()


def test_sticking_the_landing_with_a_flow() -> None:
    """A flow that is the posterior: its weights are held fixed inside the density, which goes through the inverse."""
    flow = Affine(1)
    base = pf.Normal("q(e)", loc=0.0, scale=1.0, features_shape=1)
    q = pf.Flow(base, flow, "q(z)")
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.3)
    target = copy.deepcopy(q)
    for estimator, silent in (("stl", True), ("pathwise", False)):
        loss = E(q, [5], estimator=estimator)[log(target) - log(q)]
        gradients = torch.autograd.grad(loss.sum().eval({}), list(q.parameters()))
        assert all((g.abs().max() < 1e-12) == silent for g in gradients)
    bound = E(q, [50_000], estimator="stl")[log(target) - 2 * log(q)].sum()  # what is left is the entropy's gradient
    stl = torch.autograd.grad(bound.eval({}), list(q.parameters()))
    exact = torch.autograd.grad(-E(q, [50_000], estimator="pathwise")[log(q)].sum().eval({}), list(q.parameters()))
    for one, two in zip(stl, exact, strict=True):  # -log q is the log-scale plus noise: its variance is that of e^2 at most
        assert (one - two).abs().max() < 5 * (2 * 2 / 50_000) ** 0.5


def test_inside_a_nonlinear_function_log_q_is_left_alone() -> None:
    """E_q[(log q)^2] depends on the scale through log q itself; dropping that would be biased."""
    a = torch.full((ROWS,), 0.2, requires_grad=True)
    q = pf.Normal("q(z | x)", lambda x: {"loc": torch.zeros_like(a), "scale": a.exp()})
    x = {"x": torch.zeros(ROWS)}
    gradient = torch.autograd.grad(E(q, estimator="stl")[log(q) ** 2].eval(x).sum(), a)[0]
    entropy = 0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e)) + 0.2
    exact = 2 * entropy  # E[(log q)^2] = H^2 + Var, and Var does not depend on the scale
    assert (gradient.mean() - exact).abs() < 5 * gradient.std() / ROWS**0.5


def test_where_sticking_the_landing_is_wrong() -> None:
    p, prior, q = gaussian_model()
    with pytest.raises(LossError, match="dreg"):
        IWAE(p * prior, q, 5, "stl")
    with pytest.raises(LossError, match="dreg"):
        log(E(q, [5], estimator="stl")[exp(log(p * prior) - log(q))]).plan()
    planar = pf.Flow(pf.Normal("q(e)", loc=0.0, scale=1.0, features_shape=2), OneWay(2), "q(z)")
    with pytest.raises(LossError, match="inverse"):
        ELBO(p * prior, planar, estimator="stl").plan()
    ELBO(p * prior, planar, estimator="pathwise").eval({"x": torch.randn(4, 3)})
    net = Dropped()
    below = pf.Normal("q(z | x)", loc="x", scale=1.0) * pf.Normal("q(w | z)", net)
    loss = E(below, estimator="stl")[-log(below)]
    with pytest.raises(LossError, match="dropout"):
        loss.eval({"x": torch.randn(4)})
    net.eval()
    loss.eval({"x": torch.randn(4)})
    with pytest.raises(LossError, match="same coefficient"):
        q1, q2 = pf.Normal("q(z | x)", loc="x", scale=1.0), pf.Normal("q(w | x)", loc="x", scale=1.0)
        log(E(q1 * q2, [3], estimator="dreg")[exp(log(q1) - 2 * log(q2))]).plan()
    with pytest.raises(LossError, match="all variables"):
        mixed = pf.Normal("q(z | x)", loc="x", scale=1.0) * pf.Bernoulli("q(y | x)", lambda x: {"logits": x})
        log(E(mixed, [3], estimator={"z": "dreg", "y": "score"})[exp(z + y)]).plan()


class OneWay(Planar):
    """A map that cannot be computed backwards."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.inverse_cost = "absent"


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"loc": self.drop(z), "scale": ones(z)}


def test_dreg_with_a_flow_and_with_shared_draws() -> None:
    """The draws that are weighed are its own: another term on the same draws keeps its gradient."""
    p, prior, q = gaussian_model()
    flow = pf.Flow(pf.Normal("q(e)", loc=0.0, scale=1.0, features_shape=2), [Coupling(2), Affine(2)], "q(z)")
    x = {"x": torch.randn(6, 3)}
    gradients = torch.autograd.grad(IWAE(p * prior, flow, 4, "dreg").sum().eval(x), list(flow.parameters()), allow_unused=True)
    assert any(g is not None and g.abs().max() > 0 for g in gradients)
    a = torch.zeros(6, requires_grad=True)
    q = pf.Normal("q(z | x)", lambda x: {"loc": a, "scale": ones(a)})
    p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
    x = {"x": torch.randn(6)}
    parts = []
    for loss in (IWAE(p, q, 3, "dreg"), E(q, [3])[z**2], IWAE(p, q, 3, "dreg") + E(q, [3])[z**2]):
        torch.manual_seed(5)
        parts.append(torch.autograd.grad(loss.eval(x).sum(), a)[0])
    assert_close(parts[0] + parts[1], parts[2])


# ---------------------------------------------------------------------- baselines and credit


def test_a_learned_baseline_moves_down_its_squared_error_only() -> None:
    rows = 4
    a = torch.full((rows,), 0.4, requires_grad=True)
    q = pf.Poisson("q(y | x)", lambda x: {"rate": a.exp()})
    net = Sum()
    baseline = Function(net, ["x"], "b")
    x = {"x": torch.randn(rows, 2)}
    for sign, weight in ((1.0, 1.0), (-1.0, 1.0), (-1.0, 0.25)):
        loss = sign * weight * E(q, estimator=Score(baseline=baseline))[y]
        assert "x" in loss.input_var and net.scale in set(loss.parameters())
        torch.manual_seed(0)
        value, samples = loss.mean().eval(x, return_dict=True)
        moved, encoder = torch.autograd.grad(value, [net.scale, a])
        b, f = net(x["x"]).detach(), samples["y"]
        assert_close(moved, (weight * 2 * (b - f) * x["x"].sum(-1)).mean())
        score = f - a.detach().exp()  # d log Poisson / da
        assert_close(encoder, sign * weight * (f - b) * score / rows)
    twin = copy.deepcopy(loss.module())
    assert len(list(twin.parameters())) == 1 and next(twin.parameters()) is not net.scale
    twin(x).sum().backward()
    assert next(twin.parameters()).grad is not None and net.scale.grad is None


def test_a_learned_constant_is_a_moving_average() -> None:
    class MovingAverage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.value.expand(len(x))

    net = MovingAverage()
    q = pf.Poisson("q(y | x)", lambda x: {"rate": torch.full((len(x),), 3.0, requires_grad=True)})
    loss = E(q, estimator=Score(baseline=Function(net, ["x"], "b")))[y].mean()
    optimizer, average = torch.optim.SGD(net.parameters(), lr=0.05), 0.0
    for _ in range(20):
        optimizer.zero_grad()
        value, samples = loss.eval({"x": torch.zeros(8)}, return_dict=True)
        value.backward()
        optimizer.step()
        average = 0.9 * average + 0.1 * float(samples["y"].mean())
    assert_close(net.value.item(), average)


def test_a_baseline_may_use_what_is_drawn_before() -> None:
    a = torch.full((ROWS,), 0.3, requires_grad=True)
    q = pf.Normal("q(z | x)", lambda x: {"loc": a, "scale": ones(a)}) * pf.Bernoulli("q(y | z)", lambda z: {"logits": z})
    f = Function(lambda y, z: y * (1 + z), ["y", "z"], "f")
    t = torch.linspace(-9, 9, 4001) + 0.3
    weight = torch.distributions.Normal(0.3, 1.0).log_prob(t).exp() * (t[1] - t[0])
    exact = (weight * (t.sigmoid() + (1 + t) * t.sigmoid() * (1 - t.sigmoid()))).sum()
    for baseline in (Function(lambda z: (1 + z) / 2, ["z"], "b"), Function(Sum1(), ["z"], "b")):
        loss = E(q, estimator={"z": "pathwise", "y": Score(baseline=baseline)})[f]
        gradient = torch.autograd.grad(loss.eval({"x": torch.zeros(ROWS)}).sum(), a)[0]
        assert (gradient.mean() - exact).abs() < 5 * gradient.std() / ROWS**0.5
    with pytest.raises(LossError, match="drawn with or after y"):
        E(q, estimator={"y": Score(baseline=Function(lambda y: y, ["y"], "b"))})[f].plan()
    with pytest.raises(LossError, match="outside the expectation"):
        E(q, estimator={"y": Score(baseline=Function(lambda z: z, ["z"], "b"))})[f.mean()].plan()


class Sum1(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, z: Tensor) -> Tensor:
        return self.scale * z


@pytest.mark.parametrize("estimator", ["score", "rebar", Score(baseline="none")])
@pytest.mark.parametrize("shape", [(), [3]])
def test_credit(estimator: object, shape: object) -> None:
    """q(y) q(v): the gradient of y's parameters does not contain v's cost."""
    a, b = torch.zeros(20, requires_grad=True), torch.zeros(20, requires_grad=True)
    q = pf.Bernoulli("q(y | x)", lambda x: {"logits": a}) * pf.Bernoulli("q(v | x)", lambda x: {"logits": b})
    v = Function(lambda v: v, ["v"], "v")
    found = []
    for size in (1.0, 100.0):
        torch.manual_seed(0)
        loss = E(q, shape, estimator=estimator)[y + size * v]  # type: ignore[arg-type]
        found.append(torch.autograd.grad(loss.eval({"x": torch.zeros(20)}).sum(), a)[0])
    assert_close(found[0], found[1])


def planned_as_typed(loss: Loss, rows: int) -> Tensor:
    """The value without rewriting first."""
    planner = Planner(loss, {}, frozenset(), frozenset())
    program = planner.program("f", {"": lower(loss, planner, Env({}))}, False)
    torch.manual_seed(0)
    return program.value(program.run({"x": torch.zeros(rows)}))


def test_credit_is_taken_from_the_plan() -> None:
    """The same where nothing was split before planning."""
    a = torch.zeros(20, requires_grad=True)
    q = pf.Bernoulli("q(y | x)", lambda x: {"logits": a}) * pf.Bernoulli("q(v | x)", lambda x: {"logits": 0 * x})
    v = Function(lambda v: v, ["v"], "v")
    for estimator in ("score", "rebar"):
        found = []
        for size in (1.0, 100.0):
            value = planned_as_typed(E(q, estimator=estimator)[y + size * v], 20)
            found.append(torch.autograd.grad(value.sum(), a)[0])
        assert_close(found[0], found[1])


def test_credit_and_sums_together() -> None:
    """u scored, y summed given u, v with a cost of its own: the cost of u is averaged over y, and is without v."""
    a = torch.full((ROWS,), 0.3, requires_grad=True)
    v = Function(lambda v: v, ["v"], "v")
    f = Function(lambda y, u: 4 * y * u, ["y", "u"], "f")
    q = pf.Bernoulli("q(u | x)", lambda x: {"logits": a}) * pf.Bernoulli("q(y | u)", lambda u: {"logits": 3 * u - 1})
    q = q * pf.Bernoulli("q(v | x)", lambda x: {"logits": 0 * x})
    exact = 4 * torch.tensor(2.0).sigmoid() * torch.tensor(0.3).sigmoid() * torch.tensor(-0.3).sigmoid()
    for baseline in ("none", "leave-one-out"):
        loss = E(q, estimator={"u": Score(baseline=baseline), "y": "enumerate", "v": "score"})[f + 50 * v]
        (gradient,) = torch.autograd.grad(planned_as_typed(loss, ROWS).sum(), a)
        assert (gradient.mean() - exact).abs() < 5 * gradient.std() / ROWS**0.5
        assert gradient.std() < 3  # v alone would give 25


def test_sums_below_a_scored_draw() -> None:
    """q(y|u) with y summed: the baseline must not be taken state by state, as the weights of the states depend on u."""
    rate = torch.full((ROWS,), 0.4, requires_grad=True)
    q = pf.Poisson("q(u | x)", lambda x: {"rate": rate.exp()}) * pf.Bernoulli("q(y | u)", lambda u: {"logits": u - 1})
    f = Function(lambda y, u: y * (1 + u), ["y", "u"], "f")
    counts = torch.arange(60.0)
    b = torch.tensor(0.4, requires_grad=True)
    (exact,) = torch.autograd.grad(
        (torch.distributions.Poisson(b.exp()).log_prob(counts).exp() * (counts - 1).sigmoid() * (1 + counts)).sum(), b
    )
    for shape in ((), [3]):
        estimator = None if not shape else {"y": "enumerate"}
        gradient = torch.autograd.grad(E(q, shape, estimator=estimator)[f].eval({"x": torch.zeros(ROWS)}).sum(), rate)[0]
        assert (gradient.mean() - exact).abs() < 5 * gradient.std() / ROWS**0.5


# ---------------------------------------------------------------------- asking


def test_one_choice_is_one_node() -> None:
    q = pf.Normal("q(z | x)", loc="x", scale=1.0)
    assert E(q, estimator=Score())[z] is E(q, estimator="score")[z]
    assert E(q, estimator=Score(baseline="none"))[z] is E(q, estimator=Score(baseline="none"))[z]
    assert E(q, estimator={"z": STL()})[z] is E(q, estimator=PerVariable(z="stl"))[z]
    assert E(q, estimator="score")[z] is not E(q)[z]
    assert copy.deepcopy(E(q, estimator=Rebar(eta=0.5))[z]).estimator == Rebar(eta=0.5)
    assert isinstance(E(q, estimator="stl")[z], Expectation)
    assert str(E(q, estimator="stl")[z]) == "E_q(z|x)[z(z)]"


MISTAKES = {
    "has no estimator 'scroe'.*Did you mean 'score'": lambda q: E(q, estimator="scroe")[z],
    "Did you mean 'score'": lambda q: E(q, estimator="REINFORCE")[z],
    "write Score()": lambda q: E(q, estimator=Score)[z],  # type: ignore[arg-type]
    "not 'w'": lambda q: E(q, estimator={"w": "score"})[z],
    "takes 'leave-one-out'": lambda q: E(q, estimator=Score(baseline="mean"))[z],
    r'Function\(b, \["x"\], "b"\)': lambda q: E(q, estimator=Score(baseline=nn.Linear(1, 1)))[z],  # type: ignore[arg-type]
    "positive number": lambda q: E(q, estimator=GumbelSoftmax(temperature=0.0))[z],
    "geometric": lambda q: E(q, estimator=VIMCO(mean="harmonic"))[z],
    "is for log": lambda q: E(q, [3], estimator="vimco")[z].plan(),
    "one sample": lambda q: log(E(q, [1], estimator="vimco")[exp(z)]).plan(),
    "relaxes Bernoulli and Categorical": lambda q: E(q, estimator="rebar")[z].plan(),
    "not finite": lambda q: E(q, estimator={"z": "enumerate"})[z].plan(),
    "not for its logarithm": lambda q: log(
        E(pf.Bernoulli("q(y | x)", lambda x: {"logits": x}), [3], estimator="rebar")[exp(y)]
    ).plan(),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message: str) -> None:
    with pytest.raises(LossError, match=message):
        MISTAKES[message](pf.Normal("q(z | x)", loc="x", scale=1.0))


def test_relaxed_values_need_a_meaning() -> None:
    q = pf.Bernoulli("q(y | x)", lambda x: {"logits": x})
    below = pf.Normal("q(w | y)", loc="y", scale=1.0)
    w = Function(lambda w: w, ["w"], "w")
    with pytest.raises(LossError, match="drawn given the state of y"):
        E(q * below, estimator={"y": "rebar"})[w].plan()
    E(q * below, estimator={"y": "gumbel-softmax"})[w].eval({"x": torch.zeros(3)})
    with pytest.raises(LossError, match="between the states"):
        E(q, estimator="gumbel-softmax")[log(pf.Binomial("p(y)", total_count=1.0, probs=0.5))].plan()


def test_relaxed_densities_are_the_densities_at_the_states_and_have_a_gradient() -> None:
    logits, other = torch.randn(6, 3), torch.randn(3)
    q, p = pf.Categorical("q(y | x)", lambda x: {"logits": logits}), pf.Categorical("p(y)", probs=other.softmax(0))
    loss = E(q, estimator="straight-through")[log(p) - log(q)]
    torch.manual_seed(0)
    value, samples = loss.eval({"x": torch.zeros(6)}, return_dict=True)
    state = samples["y"].detach().round()
    assert_close(value, p.log_prob({"y": state}) - q.log_prob({"y": state, "x": torch.zeros(6)}))
    logits.requires_grad_()
    assert (
        torch.autograd.grad(E(q, estimator="gumbel-softmax")[log(p)].sum().eval({"x": torch.zeros(6)}), logits)[0].abs().min()
        > 0
    )


def test_a_default_for_a_whole_loss() -> None:
    p, prior, q = gaussian_model()
    loss = (KL(q, prior) - E(q)[log(p)] - E(q, estimator="pathwise")[log(prior)]).mean()
    score = with_estimator(loss, "score")
    assert str(score) == str(loss)
    plan = str(score.plan())
    assert "score function" in plan and "closed form" in plan and "pathwise" in plan
    joint = p * prior
    assert with_estimator(ELBO(joint, q), "stl") is ELBO(joint, q, estimator="stl")
    assert with_estimator(loss, {"z": "score"}).input_var == loss.input_var
    for wrong in (
        lambda: with_estimator(loss, {"w": "score"}),
        lambda: with_estimator(KL(q, prior), "score"),
        lambda: with_estimator(loss, "x"),
    ):
        with pytest.raises(LossError):
            wrong()


# ---------------------------------------------------------------------- the report


def test_gradient_report() -> None:
    """Score function of E_q[z], q = N(w, 1), one row: the gradient is z (z - w), of mean 1 and variance w^2 + 2."""
    weight = nn.Parameter(torch.tensor(2.0))
    q = pf.Normal("q(z)", loc=weight, scale=1.0)
    p = pf.Normal("p(x | z)", loc="z", scale=nn.Parameter(torch.tensor(1.0)))
    torch.manual_seed(0)
    report = gradient_report(E(q, estimator="score")[z], draws=4000)
    row = report["q(z)"]
    assert weight.grad is None and row.weights == 1
    assert abs(row.mean - 1) < 5 * 6**0.5 / 4000**0.5
    assert abs(row.deviation**2 - 6) < 1.5  # its own standard error is about 0.3
    assert abs(row.ratio - 1 / 6**0.5) < 0.1
    exact = gradient_report(E(q)[z], draws=5)["q(z)"]
    assert exact.deviation == 0 and exact.ratio == float("inf")
    both = gradient_report(nn.Parameter(torch.tensor(0.5)) * E(q)[log(p)], {"x": torch.randn(4)}, draws=5)
    assert [r.name for r in both.rows] == ["q(z)", "p(x|z)", "w"] and "signal/noise" in str(both)
    with pytest.raises(LossError, match="nothing to train"):
        gradient_report(log(pf.Normal("p(x)", loc=0.0, scale=1.0)), {"x": torch.zeros(3)})
    with pytest.raises(LossError, match="two draws"):
        gradient_report(E(q)[z], draws=1)
    with pytest.raises(LossError, match="no row"):
        both["r(z)"]


def test_an_estimator_that_nobody_knows_is_an_error() -> None:
    class Mine(pf.losses.estimators.Estimator):
        name = "mine"

    q = pf.Normal("q(z)", loc=torch.nn.Parameter(torch.zeros(1)), scale=1.0)
    loss = pf.E(q, estimator=Mine())[log(q)]
    with pytest.raises(pf.errors.LossError, match="Mine is no estimator that the plan knows"):
        loss.plan()


def test_a_refusal_says_what_the_factor_is_in_one_line() -> None:
    parts = [pf.Normal(f"q{i}(z | x)", pf.nn.MLP(1, [2], {"loc": 1}), scale=1.0) for i in range(2)]
    q = pf.MixtureModel(parts, pf.Categorical("q(k)", probs=torch.ones(2) / 2), name="q").replace_var(z="h")
    h = Function(lambda h: h.sum(1), ["h"], "h")
    with pytest.raises(LossError) as error:
        E(q, estimator="pathwise")[h].plan()
    assert "q(h|x) (mixture of 2 components chosen by k, renamed from q(z|x)) has no reparameterised draw" in str(error.value)
    assert len(str(error.value).split("\n")) == 2


def test_a_refusal_asks_for_what_is_not_refused() -> None:
    """One sample: no 'vimco'."""
    f = Function(lambda y: y.sum(1), ["y"], "f")
    q = pf.Bernoulli("q(y)", logits=torch.zeros(1))
    for shape, other in (((), "score"), ([3], "vimco")):
        with pytest.raises(LossError, match=f"Ask for '{other}'"):
            pf.log(E(q, shape, "rebar")[f.exp()]).plan()
        pf.log(E(q, shape, other)[f.exp()]).plan()
