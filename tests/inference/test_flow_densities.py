"""The density of a flow in a loss: the sum over the batch at once, the program made for a training loop, and plain code say the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import probflow as pf
from probflow import E, Flow, Loss, errors, log
from probflow import transforms as tr
from probflow.domains import interval
from probflow.inference.evaluate import program_for
from probflow.inference.special import specialist

B, D = 7, 4


def noise(statement: str = "p(z)", **parameters: object) -> pf.Normal:
    return pf.Normal(statement, **{"loc": 0.0, "scale": 1.0, "features_shape": D, **parameters})  # type: ignore[arg-type]


def on(base: pf.Distribution, layers: tr.Transform | list[tr.Transform]) -> Flow:
    return Flow(base, layers, "p(x)")


def couplings() -> list[tr.Transform]:
    layers: list[tr.Transform] = [tr.Coupling(D, "affine", hidden=(8,), flip=i % 2 == 1) for i in range(3)]
    for layer in layers:
        for weight in layer.parameters():
            nn.init.normal_(weight, std=0.3)
    return layers


class OwnDirection(tr.Affine):
    """A transform that computes the terms of its log-determinant in a way of its own."""

    def inverse_and_terms(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, terms = super().inverse_and_terms(x, context)
        return z, terms + 1.0


FLOWS: dict[str, Callable[[], Flow]] = {
    "couplings": lambda: on(noise(), couplings()),
    "log-determinants per row": lambda: on(noise(), [tr.LU(D), *couplings()]),
    "no log-determinant": lambda: on(noise(), [tr.Permute([2, 0, 3, 1])]),
    "another base": lambda: on(noise(loc=0.5, scale=2.0), couplings()),
    "a base of another family": lambda: on(pf.Laplace("p(z)", loc=0.0, scale=1.0, features_shape=D), couplings()),
    "a trainable base": lambda: on(noise(loc=nn.Parameter(torch.randn(D))), couplings()),
    "a flow on a flow": lambda: on(Flow(noise("p(w)"), couplings(), "p(z)"), couplings()),
    "a mixture as base": lambda: on(
        pf.MixtureModel(
            [noise("p0(z)", loc=-1.0), noise("p1(z)", loc=1.0)], pf.Categorical("p(k)", probs=torch.tensor([0.3, 0.7]))
        ),
        couplings(),
    ),
    "with a support": lambda: on(noise(), [*couplings(), tr.Sigmoid()]),
    "masked": lambda: on(noise(), [tr.Autoregressive(D, hidden=(8,))]),
    "images": lambda: on(
        pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=(2, 2, 2)), [tr.Coupling((2, 2, 2), "affine", hidden=(4,))]
    ),
}


def batch(flow: Flow, rows: int = B) -> dict[str, Tensor]:
    torch.manual_seed(rows)
    return {"x": torch.rand(rows, *flow.base.sample(batch_n=1)["z"].shape[1:]) * 0.9 + 0.05}


def programs(loss: Loss, values: dict[str, Tensor]) -> list[object]:
    for _ in range(specialist.RUNS):
        loss.eval(values)
    return [*program_for(loss, values)._special.known]


def outcome(loss: Loss, values: dict[str, Tensor]) -> list[Tensor]:
    value = loss.eval(values)
    weights = [w for w in loss.parameters() if w.requires_grad]
    return [value.detach(), *torch.autograd.grad(value, weights)] if weights else [value]


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize("name", FLOWS)
def test_the_mean_is_that_of_the_rows(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    flow = FLOWS[name]()
    loss, values = getattr(-log(flow), how)(), batch(flow)
    rows = -flow.log_prob(values)
    weights = [w for w in loss.parameters() if w.requires_grad]
    plain = getattr(rows, how)()
    wanted = [plain.detach(), *torch.autograd.grad(plain, weights)] if weights else [plain]
    made = programs(loss, values)
    assert bool(made) == (name not in ("a trainable base", "a flow on a flow", "a mixture as base", "a base of another family"))
    quick = outcome(loss, values)
    monkeypatch.setattr(specialist.Specialist, "__call__", lambda self, values: None)
    slow = outcome(loss, values)
    for a, b, c in zip(quick, slow, wanted, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c)


@pytest.mark.parametrize("name", FLOWS)
def test_one_number_per_row(name: str) -> None:
    torch.manual_seed(0)
    flow = FLOWS[name]()
    values = batch(flow)
    for loss in (log(flow), 2.0 - log(flow) * 3.0, log(flow).exp()):
        density = flow.log_prob(values)
        wanted = {log(flow): density, log(flow).exp(): density.exp()}.get(loss, 2.0 - 3.0 * density)
        for _ in range(specialist.RUNS + 1):
            torch.testing.assert_close(loss.eval(values), wanted)


def test_a_transform_that_overrides_its_terms_is_asked_for_them() -> None:
    flow = on(noise(), OwnDirection(D))
    loss, values = -log(flow).mean(), batch(flow)
    usual = -on(noise(), tr.Affine(D)).log_prob(values).mean()
    assert programs(loss, values)
    torch.testing.assert_close(loss.eval(values), usual - 1.0)
    torch.testing.assert_close(-flow.log_prob(values).mean(), usual - 1.0)


def test_other_layers_and_another_base_count_at_once() -> None:
    torch.manual_seed(0)
    flow = FLOWS["couplings"]()
    loss, values = -log(flow).mean(), batch(flow)
    assert programs(loss, values)

    def check() -> float:
        torch.testing.assert_close(loss.eval(values), -flow.log_prob(values).mean())
        return loss.eval(values).item()

    found = [check()]
    flow.transform = tr.Compose(couplings())
    found.append(check())
    flow.base.get_buffer("scale").fill_(3.0)
    found.append(check())
    flow.base.register_buffer("loc", torch.tensor(0.5))
    found.append(check())
    assert len(set(found)) == 4


def test_another_map_in_a_coupling_counts_at_once() -> None:
    torch.manual_seed(0)
    flow = FLOWS["couplings"]()
    loss, values = -log(flow).mean(), batch(flow)
    assert programs(loss, values)
    before = loss.eval(values).item()
    assert isinstance(flow.transform, tr.Compose)
    for layer in flow.transform:
        layer.map = tr.AffineMap(bound=0.5)
    fresh = on(noise(), list(flow.transform))
    torch.testing.assert_close(loss.eval(values), -fresh.log_prob(values).mean())
    assert abs(loss.eval(values).item() - before) > 1e-3


class Refusing(nn.Module):
    """A conditioner that raises what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.error = nn.Linear(D // 2, D), None

    def forward(self, kept: Tensor) -> Tensor:
        if self.error is not None:
            raise self.error
        return self.net(kept)


@pytest.mark.parametrize("kind", [RuntimeError, TypeError, ValueError])
def test_same_words_for_an_error_in_a_conditioner(kind: type[Exception]) -> None:
    net = Refusing()
    loss = -log(on(noise(), tr.Coupling(D, "affine", conditioner=net))).mean()
    values = {"x": torch.rand(B, D)}
    assert programs(loss, values)
    net.error = kind("refused")  # type: ignore[assignment]
    fresh = -log(on(noise(), tr.Coupling(D, "affine", conditioner=net))).mean()
    with pytest.raises(errors.ProbflowError) as wanted:
        fresh.eval(values)
    with pytest.raises(errors.ProbflowError) as found:
        loss.eval(values)
    assert str(found.value) == str(wanted.value)


def test_values_outside_the_support_and_of_other_shapes() -> None:
    flow = FLOWS["with a support"]()
    loss, values = -log(flow).mean(), batch(flow)
    assert programs(loss, values)
    outside = {"x": values["x"].clone()}
    outside["x"][2, 1] = 1.5
    with pytest.raises(errors.SupportError, match=r"offending: 1\.5 at \[2, 1\]"):
        loss.eval(outside)
    with pytest.raises(errors.ShapeError, match=r"the flow takes \(batch, 4\)"):
        loss.eval({"x": torch.rand(B, D + 1)})
    torch.testing.assert_close(loss.eval(batch(flow, 3)), -flow.log_prob(batch(flow, 3)).mean())
    torch.testing.assert_close(loss.eval(batch(flow, 1)), -flow.log_prob(batch(flow, 1)).mean())


class Declared(tr.Affine):
    """A transform of one's own that says where its values live; its formula does not."""

    def __init__(self) -> None:
        super().__init__(D)
        self.codomain = interval(0, 1)


def test_a_value_outside_the_support_whose_density_is_finite() -> None:
    flow = on(noise(), Declared())
    loss, values = -log(flow).mean(), batch(flow)
    assert programs(loss, values)
    values["x"][2, 1] = 1.5
    assert flow.transform.inverse_and_logdet(values["x"])[1].isfinite().all()
    with pytest.raises(errors.SupportError, match=r"offending: 1\.5 at \[2, 1\]"):
        loss.eval(values)


def test_layers_that_give_nan_are_explained() -> None:
    torch.manual_seed(0)
    flow = FLOWS["couplings"]()
    loss, values = -log(flow).mean(), batch(flow)
    assert programs(loss, values)
    values["x"][1, 0] = float("nan")
    with pytest.raises(errors.ValuesError, match=r"nan in 'x', at \[1, 0\]"):
        loss.eval(values)


def test_sums_of_half_precision_do_not_overflow() -> None:
    wide = 2000
    flow = on(pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=wide), tr.Affine(wide)).half()
    x = torch.full((64, wide), 4.0, dtype=torch.float16)  # 64 rows of 1.8e4 nats
    found = (-log(flow)).mean().eval({"x": x})
    torch.testing.assert_close(found.float(), -flow.log_prob({"x": x}).float().mean(), rtol=1e-2, atol=0.0)


def test_a_divergence_from_draws_to_a_flow() -> None:
    """Drawn values are not looked at, their density is."""
    torch.manual_seed(0)
    q = pf.Normal("q(x)", loc=torch.zeros(D), scale=torch.ones(D))
    flow = FLOWS["couplings"]()
    loss = -E(q)[log(flow)].mean()
    for seed in range(specialist.RUNS + 1):
        torch.manual_seed(seed)
        found = loss.eval({})
        torch.manual_seed(seed)
        x = q.sample(batch_n=1)
        torch.testing.assert_close(found, -flow.log_prob(x).mean())


@pytest.mark.parametrize("runs", [1, 8])
def test_a_base_that_is_replaced_is_seen(runs: int) -> None:
    """By the general program, and by the one made for these values."""
    p = pf.Flow(pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2), [pf.transforms.Affine(2)], "p(x)")
    loss, values = -pf.log(p).mean(), {"x": torch.randn(5, 2)}
    for _ in range(runs):
        before = loss.eval(values)
    p.base = pf.Normal("p(z)", loc=3.0, scale=1.0, features_shape=2)
    for _ in range(runs):
        after = loss.eval(values)
        torch.testing.assert_close(after, -p.log_prob(values).mean())
    assert abs(float((after - before).detach())) > 0.1


OTHERS: dict[str, Callable[[], pf.distributions.Factor]] = {
    "of another family": lambda: pf.Laplace("p(z)", loc=0.0, scale=1.0, features_shape=D),
    "of one with bounded support": lambda: pf.Uniform("p(z)", low=-9.0, high=9.0, features_shape=D),
    "a flow on another family": lambda: Flow(pf.Laplace("p(y)", loc=0.0, scale=1.0, features_shape=D), tr.Affine(D), "p(z)"),
    "a mixture": lambda: pf.MixtureModel([noise(), noise(loc=1.0)], pf.Categorical("p(k)", probs=torch.full((2,), 0.5))),
}


@pytest.mark.parametrize("runs", [0, 1, 8])
@pytest.mark.parametrize("context", [None, 1], ids=["without conditions", "conditional"])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_base_may_be_replaced_by_one_without_a_sum_of_its_own(
    other: Callable[[], pf.distributions.Factor], context: int | None, runs: int
) -> None:
    flow = Flow(noise(), [tr.Coupling(D, context=context)], "p(x)" if context is None else "p(x | c)")
    values = {"x": torch.randn(B, D)} | ({} if context is None else {"c": torch.randn(B, 1)})
    loss = -log(flow).mean()
    loss.plan()
    for _ in range(runs):
        loss.eval(values)
    flow.base = other()
    wanted = -flow.log_prob(values).mean()
    for _ in range(max(1, runs)):
        torch.testing.assert_close(loss.eval(values), wanted)
    if runs != 1:
        return
    flow.base = noise()  # not the one that the loss was planned with
    compiled = loss.compile(backend="eager")
    torch.testing.assert_close(compiled(values), -flow.log_prob(values).mean())
    flow.base = other()
    torch.testing.assert_close(compiled(values), wanted)
