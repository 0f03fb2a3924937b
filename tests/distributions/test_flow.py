"""A flow is a distribution: density, sampling, conditioning, shapes, products, renaming, errors."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import transforms as td
from torch.testing import assert_close

import probflow as pf
from probflow import KL, E, log
from probflow.checks import deferred, require, reworded
from probflow.errors import ArgumentError, NoDensity, NoSampler, ShapeError, SupportError
from probflow.transforms import Affine, Compose, Coupling, Sigmoid, Transform


def shaken(flow: pf.Flow, spread: float = 0.3) -> pf.Flow:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return flow


def base(width: int = 2, name: str = "p(z)") -> pf.Normal:
    return pf.Normal(name, loc=0.0, scale=1.0, features_shape=width)


def plain(width: int = 2, **kwargs: Any) -> pf.Flow:
    layers = [Coupling(width, hidden=(16,)), Affine(width), Coupling(width, hidden=(16,), flip=True)]
    return shaken(pf.Flow(base(width), layers, "p(x)", **kwargs))


def conditional() -> pf.Flow:
    layers = [Coupling(2, hidden=(16,), context=5), Affine(2, context=5)]
    return shaken(pf.Flow(base(), layers, "p(x | y, c)"))


class Absent(Transform):
    """x = 2 z, said to have no inverse."""

    inverse_cost = "absent"

    def _forward_and_logdet(self, z, context):
        return 2 * z, torch.full_like(z, math.log(2.0)).sum(1)

    def _inverse_and_logdet(self, x, context):
        return x / 2, torch.full_like(x, -math.log(2.0)).sum(1)


def test_density_is_the_change_of_variables() -> None:
    flow = plain()
    x = torch.randn(7, 2)
    z, logdet = flow.transform.inverse_and_logdet(x)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + logdet
    assert_close(flow.log_prob({"x": x}), expected)


def test_an_affine_flow_is_a_normal() -> None:
    layer = Affine(2)
    with torch.no_grad():
        layer.h.copy_(torch.tensor([[0.5, -1.0], [3.0, 1.0]]))
    flow = pf.Flow(base(), layer, "p(x)")
    x = torch.randn(9, 2)
    truth = pf.Normal("p(x)", loc=torch.tensor([3.0, 1.0]), scale=torch.tensor([0.5, -1.0]).exp())
    assert_close(flow.log_prob({"x": x}), truth.log_prob({"x": x}))


def test_integrates_to_one_in_two_dimensions() -> None:
    flow = plain().double()
    grid = torch.linspace(-25, 25, 1501, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    total = flow.log_prob({"x": points}).exp().sum() * (50 / 1500) ** 2
    assert abs(total.item() - 1) < 1e-3


@pytest.mark.parametrize("sample_shape", [(), (3,), (3, 4)])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_shapes_with_samples_and_conditions(sample_shape: tuple[int, ...], batch: int) -> None:
    flow = conditional()
    given = {"y": torch.randn(batch, 3), "c": torch.randn(batch, 2)}
    drawn = flow.sample(given, sample_shape=sample_shape)
    assert drawn["x"].shape == (*sample_shape, batch, 2)
    assert flow.log_prob(drawn).shape == (*sample_shape, batch)
    values, log_prob = flow.sample_with_log_prob(given, sample_shape=sample_shape)
    assert_close(flow.log_prob(values), log_prob, rtol=1e-4, atol=1e-4)
    assert flow.to_noise(drawn)["z"].shape == (*sample_shape, batch, 2)


def test_sample_dimensions_are_the_same_as_a_loop() -> None:
    flow = conditional()
    given = {"y": torch.randn(5, 3), "c": torch.randn(5, 2)}
    drawn = flow.sample(given, sample_shape=4)
    whole = flow.log_prob(drawn)
    for k in range(4):
        assert_close(whole[k], flow.log_prob({**given, "x": drawn["x"][k]}))


def test_noise_and_back() -> None:
    flow = conditional()
    given = {"y": torch.randn(5, 3), "c": torch.randn(5, 2)}
    drawn = flow.sample(given, sample_shape=2)
    noise = flow.to_noise(drawn)
    assert_close(flow.from_noise(noise, given), drawn["x"], rtol=1e-4, atol=1e-4)


def test_every_row_and_sample_has_noise_of_its_own() -> None:
    flow = pf.Flow(base(), Affine(2, context=3), "p(x | y)")
    given = {"y": torch.zeros(6, 3)}
    x = flow.sample(given, sample_shape=4)["x"].flatten(0, 1)
    assert len(x.unique(dim=0)) == 24
    inner = pf.Normal("q(y | w)", loc="w", scale=1.0)  # y has samples, the flow's base does not know of them
    loss = E(inner, sample_shape=[5])[E(flow)[pf.Function(lambda x: x.sum(1), ["x"], "f")]]
    _, found = loss.eval({"w": torch.zeros(6, 3)}, return_dict=True)
    assert len(found["x"].reshape(-1, 2).unique(dim=0)) == 30


def test_rsample_is_differentiable_to_base_and_layers() -> None:
    flow = shaken(pf.Flow(pf.Normal("p(z)", loc=nn.Parameter(torch.zeros(2)), scale=1.0), [Coupling(2), Affine(2)], "p(x)"))
    flow.rsample(batch_n=5)["x"].square().sum().backward()
    assert all(p.grad is not None for p in flow.parameters())
    assert not flow.sample(batch_n=5)["x"].requires_grad


def test_context_by_name_through_a_shared_embedding() -> None:
    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.dense = nn.Embedding(10, 4), nn.Linear(2, 4)

        def forward(self, c: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.table(y) + self.dense(c)

    flow = shaken(pf.Flow(base(), [Coupling(2, context=4)], "p(x | y, c)", embedding=Embed()))
    values = {"x": torch.randn(5, 2), "y": torch.arange(5), "c": torch.randn(5, 2)}
    flow.log_prob(values).sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in flow.embedding.parameters())


def test_a_conditional_base_and_layers_that_ignore_its_condition() -> None:
    net = nn.Linear(3, 2)
    conditional_base = pf.Normal("p(z | y)", lambda y: {"loc": net(y), "scale": torch.ones(len(y), 2)})
    flow = pf.Flow(conditional_base, [Coupling(2, context=2)], "p(x | y, c)", context="c")
    y, c, x = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 2)
    assert_close(flow.log_prob({"x": x, "y": y, "c": c}), torch.distributions.Normal(net(y), 1.0).log_prob(x).sum(1))


def test_a_mixture_as_base() -> None:
    parts = [pf.Normal("p(z)", loc=m, scale=1.0, features_shape=2) for m in (-2.0, 2.0)]
    flow = shaken(
        pf.Flow(pf.MixtureModel(parts, pf.Categorical("p(k)", probs=torch.tensor([0.3, 0.7]))), [Coupling(2)], "p(x)")
    )
    drawn = flow.sample(batch_n=100)
    assert flow.log_prob(drawn).isfinite().all()
    assert not flow.reparameterised


def test_product_rename_given_and_state_dict() -> None:
    prior = plain()
    decoder = pf.Normal("p(v | x)", loc="x", scale=1.0)
    joint = decoder * prior
    drawn = joint.sample(batch_n=4)
    assert_close(joint.log_prob(drawn), decoder.log_prob(drawn) + prior.log_prob({"x": drawn["x"]}))
    renamed = prior.replace_var(x="w")
    assert_close(renamed.log_prob({"w": drawn["x"]}), prior.log_prob({"x": drawn["x"]}))
    assert len((joint * renamed).state_dict()) == len(joint.state_dict())  # one set of weights for both names
    flow = conditional()
    y, c, x = torch.randn(1, 3), torch.randn(4, 2), torch.randn(4, 2)
    assert_close(flow.given(y=y).log_prob({"x": x, "c": c}), flow.log_prob({"x": x, "c": c, "y": y.expand(4, 3)}))
    buffer = io.BytesIO()
    torch.save(flow.state_dict(), buffer)
    buffer.seek(0)
    fresh = conditional()
    shaken(fresh, 1.0)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert_close(fresh.log_prob({"x": x, "c": c, "y": y.expand(4, 3)}), flow.log_prob({"x": x, "c": c, "y": y.expand(4, 3)}))
    assert_close(
        copy.deepcopy(flow).log_prob({"x": x, "c": c, "y": y.expand(4, 3)}),
        flow.log_prob({"x": x, "c": c, "y": y.expand(4, 3)}),
    )


def test_a_flow_of_a_flow() -> None:
    inner = plain()
    outer = shaken(pf.Flow(inner.replace_var(x="z"), [Coupling(2)], "p(x)"))
    assert isinstance(inner.transform, Compose) and isinstance(outer.transform, Compose)
    together = pf.Flow(base(), Compose([*inner.transform, *outer.transform]), "p(x)")
    x = torch.randn(5, 2)
    assert_close(outer.log_prob({"x": x}), together.log_prob({"x": x}))


def test_support() -> None:
    flow = pf.Flow(base(), Sigmoid(), "p(x)")
    assert bool(((flow.sample(batch_n=50)["x"] > 0) & (flow.sample(batch_n=50)["x"] < 1)).all())
    with pytest.raises(SupportError, match=r"(?s)p\(x\).*'x'.*open unit interval.*1\.5"):
        flow.log_prob({"x": torch.tensor([[0.5, 1.5]])})
    with pytest.raises(SupportError, match="'x'"):
        (-log(flow).mean()).eval({"x": torch.tensor([[0.5, 1.5]])})


def on_a_flow() -> pf.Flow:
    return pf.Flow(pf.Flow(base(), Sigmoid(), "p(u)"), Affine(2), "p(x)")


BOUNDED: dict[str, Callable[[], pf.Flow]] = {
    "a flow onto an interval": on_a_flow,
    "a flow of a flow onto an interval": lambda: pf.Flow(on_a_flow().replace_var(x="v"), Affine(2), "p(x)"),
    "Uniform": lambda: pf.Flow(pf.Uniform("p(u)", low=0.0, high=1.0, features_shape=2), Affine(2), "p(x)"),
    "Exponential": lambda: pf.Flow(pf.Exponential("p(u)", rate=1.0, features_shape=2), Affine(2), "p(x)"),
    "HalfNormal": lambda: pf.Flow(pf.HalfNormal("p(u)", scale=1.0, features_shape=2), Affine(2), "p(x)"),
    "a mixture": lambda: pf.Flow(
        pf.MixtureModel(
            [pf.Uniform("p(u)", low=0.0, high=high, features_shape=2) for high in (1.0, 2.0)],
            pf.Categorical("p(k)", probs=torch.tensor([0.5, 0.5])),
        ),
        Affine(2),
        "p(x)",
    ),
}


@pytest.mark.parametrize("make", BOUNDED.values(), ids=BOUNDED)
def test_a_value_that_leads_outside_the_support_of_the_base_is_an_error_about_the_variable_of_the_flow(
    make: Callable[[], pf.Flow],
) -> None:
    flow = make()
    inside, outside = torch.full((3, 2), 0.4), torch.full((3, 2), 0.4)
    outside[1, 1] = -3.0
    words = r"(?s)^p\(x\): the value of 'x' is outside the support of the flow.*p\(u\): the value of 'u'.*"
    with pytest.raises(SupportError, match=words + r"(in row 1 is|offending: -\d.* at \[1, 1\])"):
        flow.log_prob({"x": outside})
    for loss in (-log(flow).mean(), log(flow).sum(), log(flow)):
        for run in (loss.eval, loss.compile(backend="eager")):
            for _ in range(4):  # the last by a program made for these shapes
                assert bool(run({"x": inside}).isfinite().all())
            with pytest.raises(SupportError, match="'x' is outside the support of the flow"):
                run({"x": outside})
    mapped = torch.func.vmap(lambda row: flow.log_prob({"x": row[None]}))(outside)[:, 0]
    assert_close(mapped, torch.where(torch.arange(3) == 1, -torch.inf, flow.log_prob({"x": inside})))


def test_components_on_bounded_bases_cover_what_one_of_them_reaches() -> None:
    rate = pf.Exponential("p(z)", rate=1.0, features_shape=1)
    one, two = (pf.Flow(rate, td.AffineTransform(0.0, scale), "p(x)") for scale in (1.0, -1.0))
    both = pf.MixtureModel([one, two], pf.Categorical("p(k)", probs=torch.tensor([0.5, 0.5])))
    x = torch.tensor([[0.5], [-0.5]])
    assert_close(both.log_prob({"x": x}), torch.full((2,), -0.5 - math.log(2)))
    apart = pf.MixtureModel([one, one], pf.Categorical("p(k)", probs=torch.tensor([0.5, 0.5])))
    with pytest.raises(SupportError, match="'x' in row 1 is outside the support of every component"):
        apart.log_prob({"x": x})


class Elsewhere(torch.Tensor):
    """A tensor that says it is on an accelerator, where checks are decided at the end."""

    device = torch.device("cuda")


def test_what_is_decided_at_the_end_is_said_in_the_words_of_the_flow() -> None:
    said: list[str] = []

    def look(words: str) -> None:
        require(torch.ones(()).as_subclass(Elsewhere), lambda number: False, lambda: SupportError(words))

    with pytest.raises(SupportError, match="^x: u$"), deferred():
        with reworded(lambda error: SupportError(f"x: {error}")):
            look("u")
            said.append("later")
        look("v")
    assert said == ["later"]


# ------------------------------------------------------------------ the plan


def test_density_at_its_own_draw_is_had_along_the_way() -> None:
    q = pf.Flow(pf.Normal("q(z_0 | v)", loc="v", scale=1.0), [Absent()], "q(z | v)")
    prior, decoder = base(), pf.Normal("p(v | z)", loc="z", scale=1.0)
    loss = (KL(q, prior) - E(q)[log(decoder)]).mean()
    assert "along its draw" in str(loss.plan())
    v = torch.randn(200_000, 2)
    # q(z|v) = N(2v, 4): KL to N(0, 1) and E(z - v)^2 / 2 are known
    truth = 0.5 * (4 + 4 * v.square() - 1 - math.log(4.0)).sum(1) + (0.5 * (4 + v.square()) + 0.5 * math.log(2 * math.pi)).sum(
        1
    )
    value = loss.eval({"v": v})
    one = -pf.ELBO(decoder * prior, q)
    spread = one.eval({"v": v}).std() / math.sqrt(len(v))
    assert abs(value - truth.mean()) < 5 * spread


def test_the_same_value_with_and_without_the_inverse() -> None:
    q = shaken(pf.Flow(pf.Normal("q(z_0 | v)", loc="v", scale=1.0), [Coupling(2, hidden=(16,))], "q(z | v)"))
    loss = E(q, sample_shape=[3])[log(q)].mean()
    v = torch.randn(5, 2)
    torch.manual_seed(3)
    value, drawn = loss.eval({"v": v}, return_dict=True)
    assert_close(value, q.log_prob({"v": v.expand(3, 5, 2), "z": drawn["z"]}, sample_dims=1).mean())


def test_gradients_of_a_flow_posterior_are_those_of_the_formula() -> None:
    q = shaken(
        pf.Flow(pf.Normal("q(z_0 | v)", loc="v", scale=0.5), [Coupling(2, hidden=(16,)), Affine(2)], "q(z | v)")
    ).double()
    v = torch.randn(6, 2, dtype=torch.float64)
    torch.manual_seed(3)
    (E(q)[log(q)] - E(q)[log(base())]).mean().eval({"v": v}).backward()
    got = [p.grad.clone() for p in q.parameters() if p.grad is not None]
    for p in q.parameters():
        p.grad = None
    torch.manual_seed(3)
    z0 = pf.Normal("q(z_0 | v)", loc="v", scale=0.5).double().rsample({"v": v})["z_0"]
    z, logdet = q.transform.forward_and_logdet(z0)
    log_q = torch.distributions.Normal(v, 0.5).log_prob(z0).sum(1) - logdet
    (log_q - torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)).mean().backward()
    for a, p in zip(got, q.parameters(), strict=True):
        assert_close(a, p.grad)


def test_no_density_elsewhere_is_said_before_anything_runs() -> None:
    p = pf.Flow(base(), [Absent()], "p(x)")
    with pytest.raises(NoDensity, match=r"p\(x\) has no density at given values.*(?s:.*)sample_with_log_prob"):
        (-log(p).mean()).eval({"x": torch.zeros(3, 2)})
    with pytest.raises(NoDensity):
        p.log_prob({"x": torch.zeros(3, 2)})
    with pytest.raises(NoSampler):
        pf.Flow(base(), [Absent()], "p(x)").transform  # noqa: B018
        pf.Flow(base(), Absent().inv, "p(x)").sample()


def test_maximum_likelihood_through_model() -> None:
    torch.manual_seed(0)
    flow = pf.Flow(base(), [Coupling(2, hidden=(32,)), Coupling(2, hidden=(32,), flip=True), Affine(2)], "p(x)")
    data = pf.data.toy("moons", 512)
    model = pf.Model(-log(flow).mean(), optimizer_params={"lr": 5e-3})
    first = float(model.test(data))
    for _ in range(60):
        model.train(data)
    assert float(model.test(data)) < first - 0.5


def test_compiles_without_a_graph_break() -> None:
    flow, x = plain(), torch.randn(5, 2)
    module = (-log(flow).mean()).module()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    assert_close(compiled({"x": x}), module({"x": x}))


# ------------------------------------------------------------------ temperature


def test_temperature_scales_the_noise() -> None:
    flow = shaken(pf.Flow(base(), Affine(2), "p(x)"))
    cool = flow.tempered(0.5)
    torch.manual_seed(4)
    a = flow.to_noise(flow.sample(batch_n=6))["z"]
    torch.manual_seed(4)
    b = flow.to_noise(cool.sample(batch_n=6))["z"]
    assert_close(b, 0.5 * a, rtol=1e-4, atol=1e-5)
    x = torch.randn(4, 2)
    z, logdet = flow.transform.inverse_and_logdet(x)
    assert_close(cool.log_prob({"x": x}), torch.distributions.Normal(0.0, 0.5).log_prob(z).sum(1) + logdet)
    assert set(map(id, cool.parameters())) == set(map(id, flow.parameters()))


# ------------------------------------------------------------------ errors


ERRORS = {
    "two variables": (lambda: pf.Flow(base(), Affine(2), "p(x, y)"), ArgumentError, "exactly one variable"),
    "not a transform": (lambda: pf.Flow(base(), nn.Linear(2, 2), "p(x)"), ArgumentError, "a Linear"),  # type: ignore[arg-type]
    "a class": (lambda: pf.Flow(base(), Sigmoid, "p(x)"), ArgumentError, r"Sigmoid\(\.\.\.\)"),  # type: ignore[arg-type]
    "base is a product": (
        lambda: pf.Flow(base() * pf.Normal("p(w)", loc=0.0, scale=1.0, features_shape=2), Affine(2), "p(x)"),
        ArgumentError,
        "one distribution of one variable",
    ),
    "widths": (lambda: pf.Flow(base(3), Affine(2), "p(x)"), ShapeError, r"\(2,\).*\(3,\)"),
    "forgotten features_shape": (
        lambda: pf.Flow(pf.Normal("p(z)", loc=0.0, scale=1.0), Affine(2), "p(x)"),
        ShapeError,
        r"features_shape=\[2\]",
    ),
    "no condition": (lambda: pf.Flow(base(), Affine(2, context=3), "p(x)"), ArgumentError, r'Write "p\(x \| y\)"'),
    "idle condition": (lambda: pf.Flow(base(), Affine(2), "p(x | y)"), ArgumentError, "nothing uses y"),
    "base condition not said": (
        lambda: pf.Flow(pf.Normal("p(z | y)", loc="y", scale=1.0), Affine(2), "p(x)"),
        ArgumentError,
        r'"p\(x \| y\)"',
    ),
    "support of the base": (
        lambda: pf.Flow(base(), Sigmoid().inv, "p(x)"),
        ArgumentError,
        "takes the open unit interval",
    ),
    "order of the chain": (lambda: Compose([Affine(2), Sigmoid().inv]), ArgumentError, r"layer 1 \(Sigmoid.inv\)"),
    "widths in the chain": (lambda: Compose([Affine(2), Affine(3)]), ShapeError, r"layer 1 \(Affine\)"),
    "contexts in the chain": (lambda: Compose([Affine(2, context=1), Affine(2, context=2)]), ShapeError, "different shapes"),
    "memory": (lambda: Compose([Affine(2)], memory="none"), ArgumentError, "'store' or 'invert'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("make", "error", "match"), ERRORS.values(), ids=ERRORS)
def test_errors_at_construction(make, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


def test_errors_of_values() -> None:
    flow = conditional()
    y, c, x = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 2)
    with pytest.raises(ShapeError, match=r"'x' has shape \(5, 3\), but the flow takes \(batch, 2\)"):
        flow.log_prob({"x": torch.randn(5, 3), "y": y, "c": c})
    with pytest.raises(ShapeError, match=r"(?s)context of shape \(5,\).*\(6,\).*y \(5, 4\)"):
        flow.log_prob({"x": x, "y": torch.randn(5, 4), "c": c})
    with pytest.raises(ArgumentError, match=r"(?s)'y' has dtype int64.*one_hot"):
        pf.Flow(base(), Affine(2, context=3), "p(x | y)").log_prob({"x": x, "y": torch.zeros(5, 3, dtype=torch.long)})
    with pytest.raises(ShapeError, match=r"x\[None\]"):
        plain().log_prob({"x": torch.randn(2)})


def test_torch_transforms_are_accepted() -> None:
    flow = pf.Flow(base(), [td.AffineTransform(1.0, 2.0), td.ExpTransform()], "p(x)")
    x = torch.rand(5, 2) + 0.1
    truth = torch.distributions.LogNormal(1.0, 2.0).log_prob(x).sum(1)
    assert_close(flow.log_prob({"x": x}), truth)


# ------------------------------------------------------------------ the density written out


def test_log_of_a_flow_written_out() -> None:
    flow = conditional()
    written = log(flow).expand()
    assert str(written) == "log p_z(f^-1(x; y, c)) + log|det df^-1(x; y, c)/dx|"
    assert written.latex() == (
        r"\log p_{z}\left(f^{-1}(x; y, c)\right) + \log\left|\det \frac{\partial f^{-1}(x; y, c)}{\partial x}\right|"
    )
    values = {"x": torch.randn(5, 2), "y": torch.randn(5, 3), "c": torch.randn(5, 2)}
    assert_close(written.eval(values), flow.log_prob(values))
    assert str(written.plan()).count("inverse") == 1  # one pass for both terms


def test_written_out_along_a_draw() -> None:
    q = pf.Flow(pf.Normal("q(z_0 | v)", loc="v", scale=1.0), [Absent()], "q(z | v)")
    loss = E(q)[log(q)]
    v = torch.randn(5, 2)
    torch.manual_seed(3)
    expected = loss.eval({"v": v})
    torch.manual_seed(3)
    assert_close(loss.expand().eval({"v": v}), expected)


def test_expansion_of_a_product_with_a_flow_prior() -> None:
    decoder, prior = pf.Normal("p(v | x)", loc="x", scale=1.0), plain()
    q = pf.Normal("q(x | v)", loc="v", scale=1.0)
    loss = pf.ELBO(decoder * prior, q).mean()
    assert str(loss.expand()) == (
        "mean(E_q(x|v)[log p(v|x)]) + mean(E_q(x|v)[log p_z(f^-1(x))]) + mean(E_q(x|v)[log|det df^-1(x)/dx|])"
        " - mean(E_q(x|v)[log q(x|v)])"
    )
    v = torch.randn(5, 2)
    torch.manual_seed(3)
    expected = pf.ELBO(decoder * prior, q, sample_shape=[1]).mean().eval({"v": v})
    torch.manual_seed(3)
    assert_close(pf.ELBO(decoder * prior, q, sample_shape=[1]).mean().expand().eval({"v": v}), expected)
