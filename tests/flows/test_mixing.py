"""Flows inside other models: prior, posterior, decoder, component, student; every value against the formula by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torch.nn import functional as F
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, CrossEntropy, E, flows, log
from probflow.nn import MLP
from probflow.transforms import LU, Affine, Transform

X, Y, Z, N = 4, 3, 2, 6
HALF = torch.tensor([0.3, 0.7])


def gaussian(*widths: int, out: int = Z) -> MLP:
    return MLP(list(widths), [8], {"loc": out, "scale": out}, output={"scale": F.softplus})


def shaken(module: nn.Module, spread: float = 0.3) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return module


def standard(statement: str = "p(z)", width: int = Z) -> pf.Normal:
    return pf.Normal(statement, loc=0.0, scale=1.0, features_shape=width)


def batch(n: int = N) -> dict[str, Tensor]:
    return {"x": torch.rand(n, X), "y": F.one_hot(torch.arange(n) % Y, Y).to(torch.get_default_dtype())}


def plan_lines(loss: pf.Loss) -> list[list[str]]:
    """(kind, what, note) of every step of the plan."""
    return [line.split(maxsplit=2)[1:] for line in str(loss.plan()).splitlines()[1:] if line.strip()[:1].isdigit()]


def gradients(module: nn.Module, value: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad(value, list(module.parameters()), allow_unused=True)
    return {n: g if g is not None else torch.zeros(()) for (n, _), g in zip(module.named_parameters(), found, strict=True)}


# ------------------------------------------------------------------ every recipe, every law


@dataclass(frozen=True)
class Recipe:
    make: Callable[[], tuple[pf.Loss, ...]]
    shown: str
    needs: tuple[str, ...] = ("x",)
    noisy: bool = True
    lead: dict[str, int] = field(default_factory=dict)


def vae(prior: pf.Distribution, q: pf.Distribution, p: pf.Distribution) -> pf.Loss:
    return (KL(q, prior) - E(q)[log(p)]).mean()


def decoder(statement: str = "p(x | z)", *widths: int) -> pf.Normal:
    return pf.Normal(statement, gaussian(*(widths or (Z,)), out=X))


def encoder(statement: str = "q(z | x)", *widths: int) -> pf.Normal:
    return pf.Normal(statement, gaussian(*(widths or (X,))))


def spline(statement: str, features: int = Z, **more: object) -> pf.Flow:
    return flows.NSF(statement, features=features, layers=2, bins=4, hidden=(8,), **more)


def real(statement: str, features: int = 2, **more: object) -> pf.Flow:
    return flows.RealNVP(statement, features=features, layers=2, hidden=(8,), **more)


def mixture(statement: str = "p(x)", **more: object) -> pf.MixtureModel:
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
        noisy=False,
    ),
    "CVAE with a spline prior": Recipe(
        lambda: vae(spline("p(z | y)", context=Y), encoder("q(z | x, y)", X, Y), decoder("p(x | z, y)", Z, Y)),
        "mean(KL[q(z|x,y) || p(z|y)] - E_q(z|x,y)[log p(x|z,y)])",
        ("x", "y"),
    ),
    "mixture of flows": Recipe(lambda: -log(mixture()).mean(), "-mean(log p(x))", noisy=False),
    "mixture of conditional flows": Recipe(
        lambda: -log(mixture("p(x | y)", context=Y)).mean(), "-mean(log p(x|y))", ("x", "y"), noisy=False
    ),
    "mixture of flows as a prior": Recipe(
        lambda: vae(
            pf.MixtureModel([real("p(z)"), spline("p(z)")], pf.Categorical("p(k)", probs=HALF)), encoder(), decoder()
        ),
        VAE,
    ),
    "reverse KL": Recipe(
        lambda: KL(real("q(x)"), pf.CustomProb("p(x)", WELL), sample_shape=[8]).mean(), "mean(KL[q(x) || p(x)])", ()
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
def test_its_terms_add_up(recipe: Recipe) -> None:
    loss, _, values = built(recipe)
    torch.manual_seed(1)
    whole = loss.eval(values)
    torch.manual_seed(1)
    terms = loss.terms(values)
    assert whole.isfinite() and whole.shape == ()
    bare = loss.plan()
    assert str(bare)
    signs = [sum(s * t for s, t in zip(row, terms.values(), strict=True)) for row in _signs(len(terms))]
    assert any(torch.isclose(whole, total) for total in signs), terms


def _signs(n: int) -> Iterator[tuple[int, ...]]:
    yield from ([()] if n == 0 else [(s, *rest) for s in (1, -1) for rest in _signs(n - 1)])


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
    loss, values = vae(prior, q, p), batch()
    kinds = [step.kind for step in loss.plan().steps]
    assert "kl" not in kinds and "entropy" in kinds and kinds.count("draw") == 1
    assert "closed form" in str(vae(standard(), q, p).plan()).split("kl ")[1].splitlines()[0]  # with a Normal it has one
    seed(3)
    got = loss.eval(values)
    seed(3)
    z = q.rsample(values)["z"]
    u, logdet = prior.transform.inverse_and_logdet(z)
    log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1) + logdet
    expected = (-q.entropy({"x": values["x"]}) - log_prior - p.log_prob({"z": z, "x": values["x"]})).mean()
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
    assert ["log_prob", "log", "q(z|x)                                                    along its draw"] in [
        [*line[:2], *line[2:]] for line in plan_lines(loss)
    ] or ("log q(z|x)" in str(loss.plan()) and "along its draw" in str(loss.plan()))
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
    base = pf.Normal("q(z_0 | x)", lambda x: {"loc": torch.linalg.solve(factor, posterior(x).mean.T).T, "scale": torch.ones(len(x), Z)})
    layer = LU(Z)
    q = pf.Flow(base, [layer], "q(z | x)")
    with torch.no_grad():  # the lower Cholesky factor as P L U with U diagonal
        mine = layer.forward(torch.eye(Z)).T
    turned = torch.distributions.transforms.LowerCholeskyTransform  # noqa: F841
    q = pf.Flow(base, [Triangle(factor)], "q(z | x)")
    assert mine.shape == (Z, Z)
    assert_close(ELBO(joint, q, sample_shape=[3]).eval({"x": x}), evidence.log_prob(x))
    result = pf.importance(joint, q, {"x": x}, samples=20)
    assert_close(result.log_evidence, evidence.log_prob(x))
    assert_close(result.effective_samples, torch.full((5,), 20.0))


class Triangle(Transform):
    """x = L z for a fixed lower triangle."""

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor)
        self.shape = (factor.shape[0],)

    def _forward_and_logdet(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return z @ self.factor.T, self.factor.diagonal().log().sum().expand(len(z))

    def _inverse_and_logdet(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return torch.linalg.solve(self.factor, x.T).T, -self.factor.diagonal().log().sum().expand(len(x))
