"""Flows inside other models: prior, posterior, decoder, component, student; every value against the formula by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torch.nn import functional as F
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, CrossEntropy, E, flows, log
from probflow.errors import NoDensity, NoSampler, ShapeError, SupportError
from probflow.inference.evaluate import plan
from probflow.nn import MLP
from probflow.transforms import LU, Affine, Sigmoid, Transform

X, Y, Z, N = 4, 3, 2, 6
T = TypeVar("T", bound=nn.Module)
HALF = torch.tensor([0.3, 0.7], dtype=torch.float64)


def gaussian(*widths: int, out: int = Z) -> MLP:
    return MLP(list(widths), [8], {"loc": out, "scale": out}, output={"scale": F.softplus})


def shaken(module: T, spread: float = 0.3) -> T:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return module


def standard(statement: str = "p(z)", width: int = Z) -> pf.Normal:
    return pf.Normal(statement, loc=0.0, scale=1.0, features_shape=width)


def batch(n: int = N) -> dict[str, Tensor]:
    return {"x": torch.rand(n, X), "y": F.one_hot(torch.arange(n) % Y, Y).to(torch.get_default_dtype())}


def gradients(module: nn.Module, value: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad(value, list(module.parameters()), allow_unused=True)
    return {n: g if g is not None else torch.zeros(()) for (n, _), g in zip(module.named_parameters(), found, strict=True)}


# ------------------------------------------------------------------ every recipe, every law


@dataclass(frozen=True)
class Recipe:
    make: Callable[[], pf.Loss]
    shown: str
    needs: tuple[str, ...] = ("x",)


def vae(prior: pf.Distribution, q: pf.Distribution, p: pf.Distribution) -> pf.Loss:
    return (KL(q, prior) - E(q)[log(p)]).mean()


def decoder(statement: str = "p(x | z)", *widths: int) -> pf.Normal:
    return pf.Normal(statement, gaussian(*(widths or (Z,)), out=X))


def encoder(statement: str = "q(z | x)", *widths: int) -> pf.Normal:
    return pf.Normal(statement, gaussian(*(widths or (X,))))


def spline(statement: str, features: int = Z, **more: Any) -> pf.Flow:
    return flows.NSF(statement, features=features, layers=2, bins=4, hidden=(8,), **more)


def real(statement: str, features: int = 2, **more: Any) -> pf.Flow:
    return flows.RealNVP(statement, features=features, layers=2, hidden=(8,), **more)


def mixture(statement: str = "p(x)", **more: Any) -> pf.MixtureModel:
    parts = [real(statement, X, **more), spline(statement, X, **more)]
    return pf.MixtureModel(parts, pf.Categorical("p(k)", logits=nn.Parameter(HALF.log())))


VAE = "mean(KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)])"
WELL = pf.data.energy("double_well")
RECIPES = {
    "spline prior": Recipe(lambda: vae(spline("p(z)"), encoder(), decoder()), VAE),
    "RealNVP prior": Recipe(lambda: vae(real("p(z)"), encoder(), decoder()), VAE),
    "prior, as a bound": Recipe(
        lambda: -ELBO(decoder() * real("p(z)"), encoder()).mean(), "-mean(E_q(z|x)[log p(x,z) - log q(z|x)])"
    ),
    "IAF posterior": Recipe(
        lambda: vae(standard(), flows.IAF("q(z | x)", features=Z, layers=2, hidden=(8,), context=X), decoder()), VAE
    ),
    "planar posterior": Recipe(
        lambda: vae(standard(), flows.Planar("q(z | x)", features=Z, layers=2, base=encoder("q(z_0 | x)")), decoder()), VAE
    ),
    "Sylvester posterior": Recipe(
        lambda: vae(
            standard(), flows.Sylvester("q(z | x)", features=Z, layers=2, base=encoder("q(z_0 | x)"), context=X), decoder()
        ),
        VAE,
    ),
    "flow posterior and flow prior": Recipe(
        lambda: vae(real("p(z)"), flows.IAF("q(z | x)", features=Z, layers=1, hidden=(8,), context=X), decoder()), VAE
    ),
    "flow decoder": Recipe(lambda: vae(standard(), encoder(), real("p(x | z)", X, context=Z)), VAE),
    "conditional flow": Recipe(
        lambda: -log(flows.MAF("p(x | y)", features=X, layers=2, hidden=(8,), context=Y)).mean(),
        "-mean(log p(x|y))",
        ("y", "x"),
    ),
    "CVAE with a spline prior": Recipe(
        lambda: vae(spline("p(z | y)", context=Y), encoder("q(z | x, y)", X, Y), decoder("p(x | z, y)", Z, Y)),
        "mean(KL[q(z|x,y) || p(z|y)] - E_q(z|x,y)[log p(x|z,y)])",
        ("x", "y"),
    ),
    "mixture of flows": Recipe(lambda: -log(mixture()).mean(), "-mean(log p(x))"),
    "mixture of conditional flows": Recipe(
        lambda: -log(mixture("p(x | y)", context=Y)).mean(), "-mean(log p(x|y))", ("x", "y")
    ),
    "mixture of flows as a prior": Recipe(
        lambda: vae(
            pf.MixtureModel([real("p(z)"), spline("p(z)")], pf.Categorical("p(k)", probs=HALF)), encoder(), decoder()
        ),
        VAE,
    ),
    "reverse KL": Recipe(
        lambda: KL(real("q(x)"), pf.CustomProb("p(x)", WELL), sample_shape=[64]).mean(), "mean(KL[q(x) || p(x)])", ()
    ),
    "forward KL": Recipe(
        lambda: KL(standard("p(x)"), real("q(x)"), sample_shape=[8]).mean(), "mean(KL[p(x) || q(x)])", ()
    ),
    "cross-entropy of two flows": Recipe(
        lambda: CrossEntropy(real("p(x)"), spline("q(x)"), sample_shape=[8]).mean(), "mean(H[p(x), q(x)])", ()
    ),
}  # fmt: skip
every = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def built(recipe: Recipe) -> tuple[pf.Loss, nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    loss = recipe.make()
    module = shaken(loss.module())
    return loss, module, {n: v for n, v in batch().items() if n in recipe.needs}


@every
def test_it_reads_as_it_is_written(recipe: Recipe) -> None:
    loss, _, _ = built(recipe)
    assert str(loss) == recipe.shown and set(loss.input_var) == set(recipe.needs)


@every
def test_gradients_reach_every_weight(recipe: Recipe) -> None:
    loss, module, values = built(recipe)
    for name, gradient in gradients(module, loss.eval(values)).items():
        assert bool(gradient.isfinite().all()), name
        masked = "conditioner.layers.0.weight" in name  # an IAF of two features: the first layer sees one of them
        assert masked or bool((gradient != 0).any()), f"{name} gets no gradient"


@every
def test_it_compiles_without_a_graph_break(recipe: Recipe) -> None:
    _, module, values = built(recipe)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    torch.manual_seed(1)
    expected = module(values)
    torch.manual_seed(1)
    assert_close(compiled(values), expected)


@every
def test_it_trains(recipe: Recipe) -> None:
    loss, _, values = built(recipe)
    model = pf.Model(loss, optimizer_params={"lr": 1e-2})

    def now() -> float:
        torch.manual_seed(2)
        return sum(float(model.test(values)) for _ in range(20)) / 20

    before = now()
    for _ in range(30):
        model.train(values)
    assert now() < before


# ------------------------------------------------------------------ prior


@pytest.mark.parametrize("make", [real, spline], ids=["RealNVP", "NSF"])
def test_a_flow_prior_is_evaluated_at_the_encoders_draw(make: Callable[[str], pf.Flow], seed) -> None:
    prior, q, p = shaken(make("p(z)")), shaken(encoder()), shaken(decoder())
    loss, values = vae(prior, q, p), {"x": batch()["x"]}
    kinds = [step.kind for step in plan(loss).steps]
    assert "kl" not in kinds and "entropy" in kinds and kinds.count("draw") == 1
    assert "closed form" in str(vae(standard(), q, p).plan()).split("kl ")[1].splitlines()[0]  # with a Normal it has one
    seed(3)
    got = loss.eval(values)
    seed(3)
    z = q.rsample(values)["z"]
    u, logdet = prior.transform.inverse_and_logdet(z)
    log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1) + logdet
    expected = (-q.entropy(values) - log_prior - p.log_prob({"z": z, **values})).mean()
    assert_close(got, expected)
    both = nn.ModuleList([prior, q, p])
    for a, b in zip(gradients(both, got).values(), gradients(both, expected).values(), strict=True):
        assert_close(a, b)


# ------------------------------------------------------------------ posterior

POSTERIORS = {
    "IAF": (flows.IAF, {"layers": 2, "hidden": (8,)}),
    "planar": (flows.Planar, {"layers": 2}),
    "Sylvester": (flows.Sylvester, {"layers": 2, "rank": 2}),
}
FED = {
    "base": lambda: {"base": encoder("q(z_0 | x)")},
    "context": lambda: {"context": X},
    "base and context": lambda: {"base": encoder("q(z_0 | x)"), "context": X},
}


@pytest.mark.parametrize("feed", FED.values(), ids=FED)
@pytest.mark.parametrize("kind", POSTERIORS.values(), ids=POSTERIORS)
def test_a_posterior_needs_no_inverse_and_has_the_gradient_of_its_formula(kind, feed, seed, monkeypatch) -> None:
    family, options = kind
    seed(1)
    q = shaken(family("q(z | x)", features=Z, **options, **feed()))
    prior, p, values = standard(), shaken(decoder()), batch()

    def refuse(*_: object) -> None:
        raise AssertionError("the inverse was asked for")

    monkeypatch.setattr(q.transform, "inverse_and_logdet", refuse)
    loss = vae(prior, q, p)
    (line,) = [line for line in str(loss.plan()).splitlines() if "log q(z|x)" in line and " log_prob " in line]
    assert line.endswith("along its draw")
    seed(3)
    got = loss.eval(values)
    # by hand: the change of variables with the determinant of autograd's Jacobian, row by row
    seed(3)
    context = values["x"] if q.transform.context else None
    given = {"x": values["x"]} if q.base.cond_var else {}
    z0 = q.base.rsample(given, batch_n=N)["z_0"]
    rows = []
    for i in range(N):
        here = None if context is None else context[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda z, here=here: q.transform.forward(z[None], here)[0], z0[i], create_graph=True
        )
        rows.append(torch.linalg.slogdet(jacobian).logabsdet)
    log_q = q.base.log_prob({**given, "z_0": z0}) - torch.stack(rows)
    z = q.transform.forward(z0, context)
    log_joint = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + p.log_prob({"x": values["x"], "z": z})
    expected = (log_q - log_joint).mean()
    assert_close(got, expected)
    both = nn.ModuleList([q, p])
    for a, b in zip(gradients(both, got).values(), gradients(both, expected).values(), strict=True):
        assert_close(a, b)


def test_samples_of_a_flow_posterior_are_one_tensor(seed) -> None:
    q, p = shaken(flows.Planar("q(z | x)", features=Z, layers=2, base=encoder("q(z_0 | x)"))), shaken(decoder())
    joint, values = p * shaken(real("p(z)")), batch()
    loss = ELBO(joint, q, sample_shape=[5])
    value, drawn = loss.eval(values, return_dict=True)
    assert value.shape == (N,) and drawn["z"].shape == (5, N, Z)
    each = [
        joint.log_prob({"x": values["x"], "z": z}) - q.log_prob({"x": values["x"], "z": z})  # here the inverse is searched for
        for z in drawn["z"]
    ]
    assert_close(value, torch.stack(each).mean(0), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ linear-Gaussian truth


def linear_gaussian() -> tuple[pf.Distribution, pf.Flow, Tensor, MultivariateNormal, Callable[[Tensor], MultivariateNormal]]:
    """x = A u + b with u | z ~ N(z, 0.7²), z = B v + m: prior and decoder are affine flows.  Its p(x) and p(z | x) are known."""
    torch.manual_seed(5)
    prior = shaken(pf.Flow(standard("p(v)"), [LU(Z), Affine(Z)], "p(z)"), 0.4)
    likelihood = shaken(pf.Flow(pf.Normal("p(u | z)", loc="z", scale=0.7), [LU(Z), Affine(Z)], "p(x | z)"), 0.4)

    def matrix(flow: pf.Flow) -> tuple[Tensor, Tensor]:
        shift = flow.transform.forward(torch.zeros(1, Z))
        return (flow.transform.forward(torch.eye(Z)) - shift).T.detach(), shift[0].detach()

    (b, m), (a, c) = matrix(prior), matrix(likelihood)
    s_z, noise = b @ b.T, 0.49 * a @ a.T
    s_x = a @ s_z @ a.T + noise
    evidence = MultivariateNormal(a @ m + c, s_x)
    gain = s_z @ a.T @ torch.linalg.inv(s_x)
    spread = s_z - gain @ a @ s_z
    posterior = lambda x: MultivariateNormal(m + (x - evidence.loc) @ gain.T, (spread + spread.T) / 2)  # noqa: E731
    return likelihood * prior, prior, evidence.sample((5,)), evidence, posterior


def test_the_bound_and_the_estimate_of_an_affine_model_against_its_evidence(seed) -> None:
    joint, _, x, evidence, posterior = linear_gaussian()
    truth = evidence.log_prob(x)
    seed(0)
    q = pf.Normal("q(z | x)", lambda x: {"loc": posterior(x).mean, "scale": 1.3 * posterior(x).stddev.expand(len(x), Z)})
    bound = ELBO(joint, q, sample_shape=[4000])
    value, drawn = bound.eval({"x": x}, return_dict=True)
    weights = joint.log_prob(pf.Samples({"x": x, "z": drawn["z"]}, {"z": 1})) - q.log_prob(
        pf.Samples({"x": x, "z": drawn["z"]}, {"z": 1})
    )
    assert bool((value < truth + 5 * weights.std(0) / math.sqrt(4000)).all())
    gap = torch.distributions.kl_divergence(
        MultivariateNormal(posterior(x).mean, torch.diag_embed(1.69 * posterior(x).variance.expand(5, Z))), posterior(x)
    )
    assert bool(((truth - value - gap).abs() < 5 * weights.std(0) / math.sqrt(4000)).all())  # log p(x) - ELBO = KL(q, p(z|x))
    result = pf.importance(joint, q, {"x": x}, samples=4000)
    assert bool(((result.log_evidence - truth).abs() < 5 * result.standard_error).all())


def test_with_the_exact_posterior_as_an_affine_flow_nothing_is_lost(seed) -> None:
    joint, _, x, evidence, posterior = linear_gaussian()
    factor = torch.linalg.cholesky(posterior(x[:1]).covariance_matrix[0])
    base = pf.Normal(
        "q(z_0 | x)", lambda x: {"loc": torch.linalg.solve(factor, posterior(x).mean.T).T, "scale": torch.ones(len(x), Z)}
    )
    q = pf.Flow(base, [Triangle(factor)], "q(z | x)")
    assert_close(ELBO(joint, q, sample_shape=[3]).eval({"x": x}), evidence.log_prob(x))
    result = pf.importance(joint, q, {"x": x}, samples=20)
    assert_close(result.log_evidence, evidence.log_prob(x))
    assert_close(result.effective_samples, torch.full((5,), 20.0))


class Triangle(Transform):
    """x = L z for a fixed lower triangle."""

    factor: Tensor

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor)
        self.shape = (factor.shape[0],)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return z @ self.factor.T, self.factor.diagonal().log().sum().expand(len(z))

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return torch.linalg.solve(self.factor, x.T).T, -self.factor.diagonal().log().sum().expand(len(x))


# ------------------------------------------------------------------ flows as decoders and as densities of data


def test_a_flow_decoder_sees_every_sample_of_its_latent(seed) -> None:
    prior, q, p = standard(), shaken(encoder()), shaken(real("p(x | z)", X, context=Z))
    values = batch()
    loss = KL(q, prior) - E(q, sample_shape=[3])[log(p)]
    assert "closed form" in str(loss.plan())
    seed(3)
    value, drawn = loss.eval(values, return_dict=True)
    assert drawn["z"].shape == (3, N, Z)
    each = [p.log_prob({"x": values["x"], "z": z}) for z in drawn["z"]]
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(*q.network(values["x"]).values()), torch.distributions.Normal(0.0, 1.0)
    ).sum(1)
    assert_close(value, exact - torch.stack(each).mean(0))
    drawn = (p * prior).sample(batch_n=5, sample_shape=2)
    assert drawn["x"].shape == (2, 5, X)
    assert_close((p * prior).log_prob(drawn), p.log_prob(drawn) + prior.log_prob({"z": drawn["z"]}))


def test_a_conditional_flow_learns_one_density_per_condition(seed) -> None:
    """Two classes, N(-2, 0.5²) and N(1, 0.25²) in each of two features: the best loss is the entropy, known."""
    seed(0)
    y = F.one_hot(torch.randint(2, (2000,)), 2).to(torch.float64)
    loc, scale = y @ torch.tensor([[-2.0], [1.0]]), y @ torch.tensor([[0.5], [0.25]])
    x = loc + scale * torch.randn(2000, 2)
    p = flows.MAF("p(x | y)", features=2, layers=2, hidden=(8,), context=2)
    model = pf.Model(-log(p).mean(), optimizer_params={"lr": 2e-2})
    for _ in range(200):
        model.train({"x": x, "y": y})
    best = -torch.distributions.Normal(loc, scale).log_prob(x).sum(1)
    assert abs(float(model.test({"x": x, "y": y})) - best.mean()) < 0.1
    drawn = p.sample({"y": torch.eye(2)}, sample_shape=2000)["x"]
    assert_close(drawn.mean((0, 2)), torch.tensor([-2.0, 1.0]), rtol=0, atol=0.1)


# ------------------------------------------------------------------ mixtures


def weighted(parts: Sequence[pf.Distribution], values: dict[str, Tensor], log_weights: Tensor) -> Tensor:
    return torch.stack([part.log_prob({n: values[n] for n in part.var + part.cond_var}) for part in parts], -1) + log_weights


def test_a_mixture_of_flows_is_the_logsumexp_of_its_parts() -> None:
    torch.manual_seed(0)
    p = shaken(mixture())
    x = torch.randn(N, X)
    joint = weighted(list(p.distributions), {"x": x}, p.get_parameter("prior.logits").log_softmax(0))
    assert_close(p.log_prob({"x": x}), joint.logsumexp(1))
    assert_close(p.posterior("k").mean({"x": x}), joint.softmax(1))
    responsibilities = p.posterior("k").sample({"x": x}, sample_shape=4000)["k"].mean(0)
    share = joint.softmax(1)
    assert bool(((responsibilities - share).abs() < 5 * (share * (1 - share) / 4000).sqrt() + 1e-9).all())


def test_a_mixture_of_conditional_flows_and_a_normal() -> None:
    torch.manual_seed(0)
    parts = [real("p(x | y)", context=Y), standard("p(x)"), spline("p(x)")]
    p = shaken(pf.MixtureModel(parts, pf.Categorical("p(k | y)", MLP(Y, [8], {"logits": 3}))))
    values = {"y": torch.randn(N, Y)}
    for shape in ((), (3,), (3, 4)):
        drawn = p.sample(values, sample_shape=shape)
        assert drawn["x"].shape == (*shape, N, 2) and p.log_prob(drawn).shape == (*shape, N)
        assert p.posterior("k").mean(drawn).shape == (*shape, N, 3)
    network = p.get_submodule("prior.network")
    weights = network(values["y"])["logits"].log_softmax(1)
    expected = [weighted(parts, {**values, "x": x}, weights).logsumexp(1) for x in drawn["x"].flatten(0, 1)]
    assert_close(p.log_prob(drawn), torch.stack(expected).reshape(3, 4, N))
    one = p.given(y=values["y"][:1])
    assert_close(one.log_prob({"x": drawn["x"][0, 0]}), p.log_prob({"x": drawn["x"][0, 0], "y": values["y"][:1].expand(N, Y)}))
    new = p.replace_var(x="u", y="w")
    assert_close(new.log_prob({"u": drawn["x"][0, 0], "w": values["y"]}), p.log_prob({"x": drawn["x"][0, 0], **values}))
    assert str(new.posterior("k").statement) == "p(k|u,w)"


def test_draws_of_a_mixture_of_flows_follow_its_density(seed) -> None:
    """E[1 / p(x)] over a box is its area: a test of sampler and density together; 5 standard errors."""
    seed(2)
    p = shaken(pf.MixtureModel([real("p(x)"), spline("p(x)")], pf.Categorical("p(k)", probs=HALF)))
    with torch.no_grad():
        drawn = p.sample(batch_n=40_000)
        inside = (drawn["x"].abs() < 1).all(1)
        terms = torch.where(inside, (-p.log_prob(drawn)).exp(), 0.0)
    assert abs(terms.mean() - 4.0) < 5 * terms.std() / 200
    assert not drawn["x"].requires_grad


def test_a_mixture_of_flows_separates_two_shapes(seed) -> None:
    seed(0)
    moons, blobs = pf.data.toy("moons", 500)["x"] - 4.0, pf.data.toy("rings", 500)["x"] + 4.0
    starts = [pf.Normal("p(z)", loc=m, scale=1.5, features_shape=2) for m in (-4.0, 4.0)]
    parts = [flows.RealNVP("p(x)", features=2, layers=4, hidden=(16,), base=start) for start in starts]
    p = pf.MixtureModel(parts, pf.Categorical("p(k)", logits=nn.Parameter(torch.zeros(2))))
    x = torch.cat([moons, blobs[:250]])
    model = pf.Model(-log(p).mean(), optimizer_params={"lr": 1e-2})
    before = float(model.test({"x": x}))
    for _ in range(80):
        model.train({"x": x})
    assert float(model.test({"x": x})) < before - 0.3
    assert_close(p.get_parameter("prior.logits").softmax(0), torch.tensor([2 / 3, 1 / 3]), rtol=0, atol=0.1)
    found = p.posterior("k").mean({"x": x}).argmax(1)
    assert (found == (torch.arange(750) >= 500).long()).double().mean() > 0.98


def test_components_with_supports_of_their_own(seed) -> None:
    unit = pf.Flow(standard(), Sigmoid(), "p(x)")
    wide = nn.Parameter(torch.zeros(2))
    p = pf.MixtureModel([unit, pf.Normal("p(x)", loc=wide, scale=1.0)], pf.Categorical("p(k)", probs=HALF))
    x = torch.tensor([[0.5, 0.25], [2.0, 0.5]], requires_grad=True)
    outside = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1) + math.log(0.7)
    both = torch.logaddexp(unit.log_prob({"x": x[:1]}) + math.log(0.3), outside[:1])
    result = p.log_prob({"x": x})
    assert_close(result, torch.cat([both, outside[1:]]))
    result.sum().backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in (x, wide))
    assert_close(p.posterior("k").mean({"x": x})[1], torch.tensor([0.0, 1.0]))
    assert_close((-log(p).mean()).eval({"x": x}), -result.mean())
    assert bool(p.log_prob(p.sample(batch_n=200)).isfinite().all())
    narrow = pf.MixtureModel(
        [unit, pf.Uniform("p(x)", low=torch.full((2,), 2.0), high=3.0)], pf.Categorical("p(k)", probs=HALF)
    )
    assert bool(narrow.log_prob(narrow.sample(batch_n=50)).isfinite().all())
    with pytest.raises(SupportError, match=r"'x' in row 1 is outside the support of every component \(flow, Uniform\)"):
        narrow.log_prob({"x": torch.tensor([[0.5, 0.5], [0.5, 1.5]])})


class Absent(Transform):
    """x = 2 z, said to have no inverse."""

    inverse_cost = "absent"

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return 2 * z, torch.full_like(z, math.log(2.0)).sum(1)


def test_mistakes_with_mixtures_and_flows_of_flows() -> None:
    hidden = pf.Flow(standard(), Absent(), "p(x)")  # type: ignore[abstract]
    p = pf.MixtureModel([hidden, real("p(x)")], pf.Categorical("p(k)", probs=HALF))
    assert p.sample(batch_n=3)["x"].shape == (3, 2)
    text = r"mixture p\([xz]\) has no density.*Absent.*(?s:.*)transform\.inv"
    for fails in (
        lambda: p.log_prob({"x": torch.zeros(1, 2)}),
        lambda: E(p)[log(p)].eval(),
        lambda: p.posterior("k").log_prob({"x": torch.zeros(1, 2), "k": torch.tensor([0])}),
        lambda: p.posterior("k").sample({"x": torch.zeros(1, 2)}),
        lambda: pf.Flow(p.replace_var(x="z"), [Affine(2)], "p(x)").log_prob({"x": torch.zeros(1, 2)}),
    ):
        with pytest.raises(NoDensity, match=text):
            fails()
    with pytest.raises(NoDensity, match=r"p\(u\) has no density at given values"):
        pf.Flow(pf.Flow(standard(), Absent(), "p(u)"), [Affine(2)], "p(x)").log_prob({"x": torch.zeros(1, 2)})  # type: ignore[abstract]
    with pytest.raises(NoSampler, match=r"p\(x\).*from z to x"):
        pf.MixtureModel([pf.Flow(standard(), Absent().inv, "p(x)")] * 2, pf.Categorical("p(k)", probs=HALF)).sample()  # type: ignore[abstract]
    with pytest.raises(ShapeError, match=r"different event shapes: \(2,\) \(flow.*\) and \(3,\)"):
        pf.MixtureModel([real("p(x)"), real("p(x)", 3)], pf.Categorical("p(k)", probs=HALF))
    with pytest.raises(ShapeError, match=r"different event shapes: \(2,\) \(flow.*\) and \(3,\) \(Normal"):
        pf.MixtureModel([real("p(x)"), standard("p(x)", 3)], pf.Categorical("p(k)", probs=HALF))


def test_a_label_of_the_flow_summed_out() -> None:
    """∑_k p(k) p(x | k) with one flow that is told k: the mixture whose components share their weights."""
    torch.manual_seed(0)
    flow = shaken(real("p(x | k)", context=2))
    p = (flow * pf.Categorical("p(k)", probs=HALF)).marginalize_var("k")
    x = torch.randn(N, 2)
    parts = torch.stack([flow.log_prob({"x": x, "k": row.expand(N, 2)}) for row in torch.eye(2)], 1)
    assert_close(p.log_prob({"x": x}), (parts + HALF.log()).logsumexp(1))
    assert_close((-log(p).mean()).eval({"x": x}), -p.log_prob({"x": x}).mean())
    with pytest.raises(NoDensity, match=r"ELBO"):
        (pf.Normal("p(v | x)", loc="x", scale=1.0) * real("p(x)")).marginalize_var("x").log_prob({"v": x})


# ------------------------------------------------------------------ teacher and student


@pytest.mark.parametrize("how", [KL, CrossEntropy])
def test_a_student_learns_its_teacher_by_forward_kl(how, seed) -> None:
    seed(0)
    teacher, student = shaken(spline("p(x)")), shaken(real("q(x)"))
    teacher.requires_grad_(False)
    loss = how(teacher, student, sample_shape=[64]).mean()
    value, drawn = loss.eval({}, return_dict=True)
    log_q = student.log_prob(drawn)
    log_p = teacher.log_prob({"x": drawn["x"]}) if how is KL else torch.zeros(1)
    assert_close(value, (log_p - log_q).mean(), rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients(student, value).values(), gradients(student, -log_q.mean()).values(), strict=True):
        assert_close(a, b)
    model, weights = pf.Model(loss, distributions=[student], optimizer_params={"lr": 1e-2}), teacher.state_dict()
    kept = {n: t.clone() for n, t in weights.items()}
    seed(1)
    before = sum(float(model.test({})) for _ in range(20)) / 20
    for _ in range(60):
        model.train({})
    seed(1)
    assert sum(float(model.test({})) for _ in range(20)) / 20 < before - 0.1
    assert all(torch.equal(t, kept[n]) for n, t in teacher.state_dict().items())


def test_forward_kl_at_the_teacher_is_zero_and_elsewhere_positive(seed) -> None:
    seed(0)
    teacher = shaken(real("p(x)"))
    assert_close(KL(teacher, teacher).mean().eval(), torch.zeros(()))
    closed = pf.Flow(standard(), Affine(2), "q(x)")
    with torch.no_grad():
        closed.get_parameter("transform.h").copy_(torch.tensor([[0.5, -0.5], [1.0, 0.0]]))
    first, n = standard("p(x)"), 20_000
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(torch.zeros(2), 1.0),
        torch.distributions.Normal(torch.tensor([1.0, 0.0]), torch.tensor([0.5, -0.5]).exp()),
    ).sum()
    x = first.sample(batch_n=n)
    spread = (first.log_prob(x) - closed.log_prob(x)).std() / math.sqrt(n)
    assert abs(KL(first, closed, sample_shape=[n]).mean().eval() - exact) < 5 * spread


# ------------------------------------------------------------------ anomalies


def auroc(normal: Tensor, strange: Tensor) -> float:
    """P(score of a strange point > score of a normal one) by the sum of ranks (Mann and Whitney, 1947)."""
    ranks = torch.cat([normal, strange]).argsort().argsort().double() + 1
    n, m = len(normal), len(strange)
    return ((ranks[n:].sum() - m * (m + 1) / 2) / (n * m)).item()


def test_auroc() -> None:
    assert auroc(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])) == 1.0
    assert auroc(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0])) == 0.75


@pytest.mark.parametrize(("name", "other", "least"), [("moons", "checkerboard", 0.9), ("eight_gaussians", "spirals", None)])
def test_low_density_marks_what_is_strange(name: str, other: str, least: float | None, seed) -> None:
    seed(0)
    p = flows.NSF("p(x)", features=2, layers=2, bins=8, hidden=(32,), mixing="lu")
    model = pf.Model(-log(p).mean(), optimizer_params={"lr": 1e-2})
    data = pf.data.toy(name, 1000, seed=1)["x"]
    for step in range(150):
        model.train({"x": data[(step % 2) * 500 :][:500]})
    points = [pf.data.toy(which, 1000, seed=2) for which in (name, other)]
    with torch.no_grad():
        found = auroc(*(-p.log_prob(x) for x in points))
    if least is not None:
        assert found > least
        return
    corners = [3.0 * torch.tensor([math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)]) for k in range(8)]
    truth = pf.MixtureModel(
        [pf.Normal("p(x)", loc=c, scale=0.3) for c in corners], pf.Categorical("p(k)", probs=torch.ones(8) / 8)
    )
    best = auroc(*(-truth.log_prob(x) for x in points))  # what the density itself reaches
    assert best - 0.03 < found < best + 0.03 and best > 0.9
