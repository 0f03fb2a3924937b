"""A plan written as plain PyTorch: it runs, draws the same random numbers, and has the same value and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, E, Entropy, Function, Loss, Max, Parameter, Prob, exp, log
from probflow.distributions import Samples
from probflow.inference import Program

torch.manual_seed(0)
_POSITIVE = ("scale", "rate", "concentration", "df", "temperature")


class Net(nn.Module):
    """One linear layer per parameter."""

    def __init__(self, inputs: int, **outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(inputs, size).double() for name, size in outputs.items()})

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        h = torch.cat(inputs, 1)
        return {n: F.softplus(f(h)) + 0.1 if n.startswith(_POSITIVE) else f(h) for n, f in self.layers.items()}


class Encoder(pf.Normal):
    """q(z|x), in the classic spelling."""

    def __init__(self) -> None:
        super().__init__("q(z | x)")
        self.net = Net(4, loc=3, scale=3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.net(x)


def number(value: float) -> Tensor:
    """Constants are made before the tests' float64 is the default."""
    return torch.tensor(float(value), dtype=torch.float64)


X = torch.bernoulli(torch.rand(5, 4, dtype=torch.float64))
Y = F.one_hot(torch.arange(5) % 3, 3).double()
Z = torch.randn(5, 3, dtype=torch.float64)
W = nn.Parameter(number(1.5))
q, p = Encoder(), pf.Bernoulli("p(x | z)", Net(3, logits=4))
prior = pf.Normal("p(z)", loc=number(0.0), scale=number(1.0), features_shape=3)
q_y, q_zy = pf.Categorical("q(y | x)", Net(4, logits=3)), pf.Normal("q(z | x, y)", Net(7, loc=3, scale=3))
p_xy, p_y = pf.Bernoulli("p(x | z, y)", Net(6, logits=4)), pf.Categorical("p(y)", probs=torch.tensor([0.2, 0.3, 0.5]).double())
q_w, p_z = pf.Normal("q(w | z)", Net(3, loc=2, scale=2)), pf.Normal("p(z | w)", Net(2, loc=3, scale=3))
p_w = pf.Normal("p(w)", loc=0.5, scale=2.0, features_shape=2)
prior_flow = pf.flows.RealNVP("p(z)", features=3, layers=2).double()
posterior_flow = pf.flows.MAF("q(z | x)", features=3, context=4, layers=2).double()
parts = [pf.Normal("p(z)", loc=number(i), scale=number(0.5), features_shape=3) for i in range(3)]
mixture = pf.MixtureModel(parts, pf.Categorical("p(k)", logits=torch.zeros(3).double()))
network_mixture = pf.MixtureModel(
    [pf.Normal("p(z | x)", Net(4, loc=3, scale=3)) for _ in range(2)], pf.Categorical("p(k | x)", Net(4, logits=2))
)
trained = pf.Normal("p(z)", loc=nn.Parameter(number(0.3)), scale=nn.Parameter(torch.ones(3).double()), features_shape=3)
linear = nn.Linear(4, 3).double()
as_tuple = pf.Normal("q(z | x)", lambda x: (linear(x), F.softplus(linear(x))))
as_tensor = pf.Poisson("p(v | x)", nn.Sequential(linear, nn.Softplus()))
one_row = pf.Normal("q(z | x)", lambda x: {"loc": x.new_zeros(1, 3), "scale": x.new_tensor(2.0)})
uneven = pf.Normal("q(z | x)", lambda x: {"loc": x[:, :1], "scale": x.new_ones(x.shape[0], 3)})
unit = pf.Function(lambda z: z.square().sum(1), ["z"], "unit")

LOSSES: dict[str, tuple[Loss, dict[str, Any]]] = {
    "VAE": ((KL(q, prior) - E(q)[log(p)]).mean(), {"x": X}),
    "CVAE": (-ELBO(p_xy * prior, q_zy).mean(), {"x": X, "y": Y}),
    "hierarchical VAE": (-ELBO(p * p_z * p_w, q * q_w).mean(), {"x": X}),
    "hierarchical VAE, K": (-ELBO(p * p_z * p_w, q * q_w, sample_shape=[4]).mean(), {"x": X}),
    "M2, unlabelled": (-ELBO(p_xy * prior * p_y, q_zy * q_y).mean(), {"x": X}),
    "M2, unlabelled, by samples": (-ELBO(p_xy * prior * p_y, q_zy * q_y, sample_shape=[4]).mean(), {"x": X}),
    "IWAE": (-log(E(q, [6])[exp(log(p * prior) - log(q))]).mean(), {"x": X}),
    "2 x 3 samples": (-ELBO(p * prior, q, sample_shape=[2, 3]).mean(), {"x": X}),
    "flow prior": (-ELBO(p * prior_flow, q).mean(), {"x": X}),
    "flow prior, K": (-ELBO(p * prior_flow, q, sample_shape=[3]).mean(), {"x": X}),
    "flow posterior": (-ELBO(p * prior, posterior_flow).mean(), {"x": X}),
    "flow posterior, K, both terms": (-ELBO(p * prior, posterior_flow, sample_shape=[4]).expand().mean(), {"x": X}),
    "a flow's density": (log(prior_flow).mean(), {"z": Z}),
    "a flow's two terms": (log(prior_flow).expand().mean(), {"z": Z}),
    "mixture": (-ELBO(p * mixture, q).mean(), {"x": X}),
    "mixture, K": (-ELBO(p * mixture, q, sample_shape=[3]).mean(), {"x": X}),
    "mixture of networks": (log(network_mixture), {"x": X, "z": Z}),
    "draws of a mixture": (E(mixture, [2])[log(p)], {"x": X}),
    "beta": ((Parameter("beta") * KL(q, prior) - W * E(q)[log(p)]).mean(), {"x": X, "beta": 0.3}),
    "beta per row": ((Parameter("beta") * KL(q, prior) - W * E(q)[log(p)]).mean(), {"x": X, "beta": torch.rand(5).double()}),
    "free bits": (Max(KL(q, prior), 2.0).sum() + Entropy(q).mean(), {"x": X}),
    "a function": (E(q, [4])[Function(lambda x, z: z.square().sum(1) + x.sum(1), ["x", "z"], "f")].mean(), {"x": X}),
    "score": (E(q, [4], estimator="score")[log(p)].mean(), {"x": X}),
    "score, one sample": (E(q, estimator="score")[log(p)], {"x": X}),
    "score, parts": (-ELBO(p_xy * prior * p_y, q_zy * q_y, estimator="score", sample_shape=[3]), {"x": X}),
    "stl": (-ELBO(p * prior, q, sample_shape=[3], estimator="stl"), {"x": X}),
    "the library's own op": (-log(E(q, [6], estimator="dreg")[exp(log(p * prior) - log(q))]).mean(), {"x": X}),
    "independent draws": ((E(q)[log(p)] ** 2).mean(), {"x": X}),
    "nested": (E(q, [2])[E(q_w, [3])[log(p_z)]], {"x": X}),
    "draws of constants": (E(prior, [3])[log(p)], {"x": X}),
    "nothing but constants": (KL(pf.Normal("q(z)", loc=number(1.0), scale=number(2.0), features_shape=3), prior), {}),
    "trained constants": (KL(q, trained) + KL(trained, prior) + E(trained)[log(p)] + Entropy(trained), {"x": X}),
    "a constant to a network": (
        KL(pf.Bernoulli("q(b)", logits=torch.tensor([0.3, -0.2])), pf.Bernoulli("p(b | x)", Net(4, logits=2)))
        + KL(pf.Normal("q(v)", loc=0.0, scale=2.0, features_shape=3), pf.Normal("p(v | x)", Net(4, loc=3), scale=0.5)),
        {"x": X},
    ),
    "arithmetic": (E(q)[log(p).detach() - log(q) / 4].abs().clamp(max=3.0) * 2 + exp(log(prior)) - 1, {"x": X, "z": Z}),
    "probabilities": (log(E(q, [3])[Prob(p)]) - 2 * log(q_zy), {"x": X, "y": Y, "z": Z}),
    "sums of densities": (log(Prob(p) / 2 + E(q, [3])[Prob(p) / Prob(q)] + 1).mean(), {"x": X, "z": Z}),
    "given": (log(p_xy.given(y=Y[:1])), {"x": X, "z": Z}),
    "summed out": (log((p_xy * p_y).marginalize_var("y")), {"x": X, "z": Z}),
    "deterministic": (E(pf.Deterministic("h(z | x)", linear) * q_w, [3])[log(p_z)], {"x": X}),
    "class indices": (log(q_y), {"x": X, "y": torch.tensor([0, 2, 1, 1, 0])}),
    "renamed": (log(p.replace_var(x="x'", z="z'")), {"x'": X, "z'": Z}),
    "uneven parameters": (E(uneven, [2])[log(p)] + KL(uneven, prior), {"x": X}),
    "a binary latent": (
        -ELBO(pf.Bernoulli("p(x|b)", Net(1, logits=4)) * pf.Bernoulli("p(b)", probs=0.3, features_shape=1),
              pf.Bernoulli("q(b|x)", Net(4, logits=1))), {"x": X},
    ),
}  # fmt: skip

WITH_EXAMPLE: dict[str, tuple[Loss, dict[str, Any]]] = {
    "a tuple": (KL(as_tuple, prior) - E(as_tuple, [2])[unit], {"x": X}),
    "a tensor": (log(as_tensor), {"x": X, "v": torch.ones(5, 3).double()}),
    "one row for the batch": (E(one_row, [2])[log(p)] + Entropy(one_row), {"x": X}),
    "binary latents": (
        -ELBO(pf.Bernoulli("p(x|b)", Net(3, logits=4)) * pf.Bernoulli("p(b)", probs=0.3, features_shape=3),
              pf.Bernoulli("q(b|x)", Net(4, logits=3))), {"x": X},
    ),
    "samples": (log(p) + log(prior), Samples({"x": X, "z": torch.randn(7, 5, 3).double()}, {"z": 1})),
    "bits as integers": (log(p), {"x": X.long(), "z": Z}),
}  # fmt: skip


def agree(loss: Loss, values: dict[str, Any], plan: Any) -> None:
    """Same value, same gradients, and as many random numbers used up."""
    namespace: dict[str, Any] = {}
    exec(plan.to_python(), namespace)
    weights = list(loss.parameters())

    def result(function: Any) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        torch.manual_seed(3)
        value = function()
        state = torch.get_rng_state()
        gradients = torch.autograd.grad(value.sum(), weights, allow_unused=True) if value.requires_grad and weights else ()
        return value.detach(), state, gradients

    value, state, gradients = result(lambda: namespace["loss"](values, **plan.networks))
    expected, expected_state, expected_gradients = result(lambda: loss.eval(values))
    assert_close(value, expected)
    assert torch.equal(state, expected_state)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        some = got if got is not None else wanted
        if some is not None:
            zero = torch.zeros_like(some)
            assert_close(zero if got is None else got, zero if wanted is None else wanted)


@pytest.mark.parametrize("name", LOSSES)
def test_the_text_computes_the_loss(name: str) -> None:
    loss, values = LOSSES[name]
    agree(loss, values, loss.plan(values))
    if not any(isinstance(value, Tensor) and value.dim() for key, value in values.items() if key == "beta"):
        agree(loss, values, loss.plan())


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_what_only_example_values_tell(name: str) -> None:
    loss, values = WITH_EXAMPLE[name]
    agree(loss, values, loss.plan(values))


FAMILIES = [
    "Gamma", "Laplace", "LogNormal", "Exponential", "StudentT", "Weibull", "Logistic", "HalfNormal", "Gumbel", "InverseGamma",
    "Cauchy", "Poisson", "Geometric", "Normal",
]  # fmt: skip
CONSTANTS: dict[str, dict[str, Any]] = {
    "Beta": {"concentration1": 2.0, "concentration0": 1.5},
    "Kumaraswamy": {"concentration1": 2.0, "concentration0": 1.5},
    "Uniform": {"low": 0.2, "high": 1.0},
    "ContinuousBernoulli": {"logits": 0.7},
    "RelaxedBernoulli": {"temperature": 0.5, "logits": 0.3},
    "RelaxedCategorical": {"temperature": 0.5, "logits": torch.tensor([1.0, 2.0, 3.0])},
    "VonMises": {"loc": 0.1, "concentration": 2.0},
    "Dirichlet": {"concentration": torch.tensor([1.0, 2.0, 3.0])},
    "Categorical": {"logits": torch.tensor([1.0, 2.0, 3.0])},
    "Bernoulli": {"probs": torch.tensor([0.2, 0.3])},
    "Binomial": {"total_count": 3.0, "probs": torch.tensor([0.2, 0.3])},
    "MultivariateNormal": {"loc": torch.zeros(2), "scale_tril": torch.eye(2)},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_with_networks(name: str) -> None:
    """Log-density, draw (with all random numbers), divergence and entropy."""
    cls = getattr(pf, name)
    grouped = {n for group in cls.family.either for n in group}
    names = [n for n in cls.family.params if n not in cls.family.defaults and n not in grouped] or ["logits"]
    a = cls("q(s | x)", Net(4, **dict.fromkeys(names, 3)))
    b = cls("p(s)", **{n: 0.4 if n == "logits" else 1.3 for n in names}, features_shape=3)
    total = Function(lambda s: s.sum(1), ["s"], "f")
    for loss in (E(a, [2])[log(a) - log(b) + total], E(b)[log(b) + total], KL(a, b)):
        agree(loss, {"x": X}, loss.plan())
        agree(loss, {"x": X}, loss.plan({"x": X}))


@pytest.mark.parametrize("name", CONSTANTS)
def test_families_with_constants(name: str) -> None:
    constants = {n: v.double() if isinstance(v, Tensor) else v for n, v in CONSTANTS[name].items()}
    a = getattr(pf, name)("p(s)", **constants)
    for loss in (E(a, [2])[log(a)], E(a)[log(a)], Entropy(a)):
        agree(loss, {}, loss.plan())


GOLDEN = '''"""mean(KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)]), as plain PyTorch."""

import torch
import torch.nn.functional as F


def loss(values, q_z_given_x, p_x_given_z):
    x = values["x"]

    # q(z|x): Encoder (Normal)
    out = q_z_given_x(x)
    q_z_loc, q_z_scale = out["loc"], out["scale"]

    # KL[q(z|x) || p(z)] = Σ ½ (σ_q² + (μ_q - μ_p)²) / σ_p² - ½ + log σ_p - log σ_q
    kl_z = (0.5 * (q_z_loc**2 + q_z_scale**2 - 1) - q_z_scale.log()).sum(-1)

    # z ~ q(z|x):  z = μ + σ ε, ε ~ N(0, 1)
    noise = torch.randn(q_z_loc.shape, dtype=q_z_loc.dtype, device=q_z_loc.device)
    z = q_z_loc + q_z_scale * noise

    # p(x|z): Bernoulli from Net
    p_x_logits = p_x_given_z(z)["logits"]

    # log p(x|z) = Σ x log π + (1 - x) log(1 - π), here its negative
    nll_p_x = F.binary_cross_entropy_with_logits(p_x_logits, x, reduction="none").sum(-1)

    # KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)]
    total = kl_z + nll_p_x

    # mean(KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)]): over the batch
    return total.mean()
'''


def test_the_vae_as_text() -> None:
    loss, values = LOSSES["VAE"]
    assert loss.plan(values).to_python() == GOLDEN


def test_networks_are_the_authors_own() -> None:
    loss, values = LOSSES["VAE"]
    assert loss.plan(values).networks == {"q_z_given_x": q, "p_x_given_z": p.network}


def test_what_has_no_short_form_is_said() -> None:
    assert "the library's own object" in LOSSES["given"][0].plan().to_python()
    assert "the library's own op is passed in" in LOSSES["the library's own op"][0].plan().to_python()
    for name in ("VAE", "IWAE", "M2, unlabelled", "flow posterior", "mixture", "score"):
        assert "no short form" not in LOSSES[name][0].plan().to_python()


def test_example_values_leave_no_trace() -> None:
    """Random state and running statistics are as before; the plan says the shapes."""
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout()).double()
    r = pf.Normal("q(z | x)", net_with_scale(net))
    torch.manual_seed(1)
    before, mean = torch.get_rng_state(), net.get_buffer("1.running_mean").clone()
    plan = KL(r, prior).plan({"x": X})
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(net.get_buffer("1.running_mean"), mean)
    assert int(net.get_buffer("1.num_batches_tracked")) == 0
    assert "loc (5, 3), scale (5, 3)" in str(plan) and "x (5, 4)" in str(plan)
    assert "(5, 3)" not in str(KL(r, prior).plan())


def net_with_scale(net: nn.Module) -> nn.Module:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            loc = self.net(x)
            return {"loc": loc, "scale": torch.ones_like(loc)}

    return Both()


def test_the_data_flow() -> None:
    plan = LOSSES["VAE"][0].plan()
    assert isinstance(plan, Program)
    graph = plan.graph
    kinds = {data["kind"]: node for node, data in graph.nodes(data=True) if data["kind"] in ("read", "kl", "draw", "reduce")}
    assert list(graph.successors("x")) == [2, 7] and graph.nodes[2]["text"] == "q(z|x)"
    assert set(graph.predecessors(kinds["kl"])) == {2, 3} and graph.out_degree(kinds["reduce"]) == 0
    for node, data in graph.nodes(data=True):  # the numbers are those of the printed plan
        if isinstance(node, int):
            assert f"{node}  {data['kind']}" in str(plan)
    drawn = plan.draw().splitlines()
    assert drawn[0] == str(plan).splitlines()[0]
    assert " ".join(drawn[2].split()) == "2 params q(z|x) --> 4 kl, 5 draw"
    assert drawn[-1].strip().startswith("9 reduce mean(")
    assert LOSSES["VAE"][0].plan({"x": X}).graph.nodes[5]["shape"] == "(5, 3)"
