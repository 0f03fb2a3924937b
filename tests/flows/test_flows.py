"""The laws that every ready-made flow obeys, over the whole registry, with large random parameters, in float64."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch
from flows.flows_registry import FLOWS, Entry
from torch.testing import assert_close

import probflow as pf
from probflow import E, log
from probflow.errors import ArgumentError, ShapeError

every = pytest.mark.parametrize("entry", FLOWS.values(), ids=FLOWS)


@pytest.fixture(autouse=True)
def _double() -> object:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def built(entry: Entry) -> pf.Flow:
    torch.manual_seed(7)
    flow = entry.make().eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(entry.spread * torch.randn_like(parameter))
    return flow


@every
def test_the_density_of_a_draw_is_the_same_along_it_and_by_the_inverse(entry: Entry) -> None:
    flow = built(entry)
    values, log_p = flow.sample_with_log_prob(entry.values(), batch_n=5)
    assert values["x"].shape == (5, *entry.shape) and log_p.shape == (5,)
    assert_close(flow.log_prob(values), log_p, rtol=entry.tolerance, atol=entry.tolerance)


@every
def test_noise_goes_there_and_back(entry: Entry) -> None:
    flow = built(entry)
    values = flow.sample(entry.values(), batch_n=5)
    noise = flow.to_noise(values)
    assert_close(
        flow.from_noise(noise, entry.values() and {k: values[k] for k in flow.cond_var}), values["x"], rtol=1e-5, atol=1e-5
    )
    assert sum(part[0].numel() for part in noise.values()) == math.prod(entry.shape)  # all of the noise, slices included


@every
@pytest.mark.parametrize("batch", [0, 1, 4])
@pytest.mark.parametrize("sample_shape", [(), (3,), (2, 3)])
def test_batches_and_samples(entry: Entry, batch: int, sample_shape: tuple[int, ...]) -> None:
    flow = built(entry).train(entry.train_is_eval)
    drawn = flow.sample(entry.values(batch), batch_n=batch, sample_shape=sample_shape)
    assert drawn["x"].shape == (*sample_shape, batch, *entry.shape)
    log_p = flow.log_prob(drawn)
    assert log_p.shape == (*sample_shape, batch) and bool(log_p.isfinite().all())
    if batch and sample_shape == (3,):
        for k in range(3):
            one = {**{n: drawn[n] for n in flow.cond_var}, "x": drawn["x"][k]}
            assert_close(log_p[k], flow.log_prob(one), rtol=1e-5, atol=1e-5)


@every
def test_gradients_reach_everything(entry: Entry) -> None:
    flow = built(entry)
    values = {**entry.values(), "x": built(entry).sample(entry.values(), batch_n=5)["x"]}
    for key, value in values.items():
        if value.is_floating_point():
            values[key] = value.detach().requires_grad_()
    flow.log_prob(values).sum().backward()
    for name, parameter in flow.named_parameters():
        if not any(part in name for part in entry.exempt):
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
            assert bool((parameter.grad != 0).any()), f"{name} gets no gradient"
    assert all(v.grad is not None and bool((v.grad != 0).any()) for v in values.values() if v.is_floating_point())
    flow.zero_grad()
    flow.rsample(entry.values(), batch_n=5)["x"].square().sum().backward()
    reached = [n for n, p in flow.named_parameters() if p.grad is not None and bool((p.grad != 0).any())]
    lacking = [n for n, _ in flow.named_parameters() if n not in reached and not any(part in n for part in entry.exempt)]
    assert not lacking


@every
def test_a_bad_row_stays_in_its_row(entry: Entry) -> None:
    flow = built(entry)
    good = flow.sample(entry.values(), batch_n=5)
    flat = flow.transform.inverse_and_logdet(good["x"], _context(flow, good))[1]
    spoilt = good["x"].clone()
    spoilt[2] = math.nan
    assert_close(flow.transform.inverse_and_logdet(spoilt, _context(flow, good))[1][[0, 1, 3, 4]], flat[[0, 1, 3, 4]])


def _context(flow: pf.Flow, values: dict[str, torch.Tensor]) -> torch.Tensor | None:
    bound = flow.bind([values[n] for n in flow.cond_var], [0] * len(flow.cond_var))
    return bound.context


@every
def test_saves_copies_and_pickles(entry: Entry) -> None:
    flow = built(entry)
    values = flow.sample(entry.values(), batch_n=5)
    expected = flow.log_prob(values)
    assert_close(copy.deepcopy(flow).log_prob(values), expected)
    buffer = io.BytesIO()
    torch.save(flow.state_dict(), buffer)
    buffer.seek(0)
    torch.manual_seed(99)
    fresh = entry.make().eval()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert_close(fresh.log_prob(values), expected)
    if not any("Embed" in type(m).__name__ for m in flow.modules()):
        assert_close(pickle.loads(pickle.dumps(flow)).log_prob(values), expected)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_goes_through(entry: Entry, dtype: torch.dtype) -> None:
    flow = built(entry).to(dtype)
    given = {k: v.to(dtype) if v.is_floating_point() else v for k, v in entry.values().items()}
    values, log_p = flow.sample_with_log_prob(given, batch_n=5)
    assert values["x"].dtype == dtype and log_p.dtype == dtype
    if flow.transform.inverse_cost == "one pass" or dtype == torch.float32:
        assert flow.log_prob(values).dtype == dtype


@every
def test_the_plan_traces_without_a_graph_break(entry: Entry) -> None:
    flow = built(entry)
    values = flow.sample(entry.values(), batch_n=5)
    torch._dynamo.reset()
    if flow.transform.inverse_cost == "one pass":
        module = (-log(flow).mean()).module()
        assert_close(torch.compile(module, fullgraph=True, backend="eager")(dict(values)), module(dict(values)))
    if flow.transform.forward_cost == "one pass":
        loss = E(flow)[pf.Function(lambda x: x.flatten(1).sum(1), ["x"], "f") - log(flow)].mean().module()
        given = {k: values[k] for k in flow.cond_var}
        torch.manual_seed(3)
        expected = loss(given)
        torch.manual_seed(3)
        assert_close(torch.compile(loss, fullgraph=True, backend="eager")(given), expected)


TWO_D = {name: entry for name, entry in FLOWS.items() if entry.shape == (2,)}


@pytest.mark.parametrize("entry", TWO_D.values(), ids=TWO_D)
def test_the_density_integrates_to_one_and_samples_follow_it(entry: Entry) -> None:
    """Chi-squared over a grid of cells; its expected value and spread are known, the bound is five of the latter."""
    flow = built(entry)
    given = {k: v[:1] for k, v in entry.values().items()}
    n = 20_000
    with torch.no_grad():
        x = flow.sample(given, batch_n=None if given else n, sample_shape=n if given else ())["x"].reshape(n, 2)
        low, high = x.amin(0) - 1.0, x.amax(0) + 1.0
        cells, fine = 24, 30
        axes = [low[i] + (high[i] - low[i]) * (torch.arange(cells * fine) + 0.5) / (cells * fine) for i in range(2)]
        points = torch.cartesian_prod(*axes)
        many = {k: v.expand(len(points), *v.shape[1:]) for k, v in given.items()}
        density = flow.log_prob({**many, "x": points}).exp()
        area = ((high - low) / (cells * fine)).prod()
        mass = (density * area).reshape(cells, fine, cells, fine).sum((1, 3)).flatten()
        assert abs(mass.sum().item() - 1) < 0.02
        index = ((x - low) / (high - low) * cells).long().clamp(0, cells - 1)
        counts = torch.bincount(index[:, 0] * cells + index[:, 1], minlength=cells * cells).double()
    expected = mass / mass.sum() * n
    enough = expected > 20  # the others together are one cell
    observed = torch.cat([counts[enough], counts[~enough].sum()[None]])
    wanted = torch.cat([expected[enough], expected[~enough].sum()[None]])
    kept = wanted > 5
    statistic = ((observed - wanted).square() / wanted)[kept].sum().item()
    freedom = int(kept.sum()) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom), (statistic, freedom)


def test_multi_scale_noise_and_temperature() -> None:
    flow = built(FLOWS["Glow"])
    noise = flow.to_noise(flow.sample(batch_n=3))
    assert set(noise) == {"z", "z_1"}
    cool = flow.tempered(0.01)
    middle = flow.from_noise({name: torch.zeros_like(part) for name, part in noise.items()})
    torch.manual_seed(0)
    close = cool.sample(batch_n=200)["x"]
    warm = flow.sample(batch_n=200)["x"]
    assert (close - middle[:1]).abs().mean() < 0.05 * (warm - middle[:1]).abs().mean()
    values, log_p = cool.sample_with_log_prob(batch_n=5)
    assert_close(cool.log_prob(values), log_p, rtol=1e-4, atol=1e-4)


def test_bits_per_dim_of_pixels() -> None:
    flow = pf.flows.Glow("p(x)", shape=(1, 4, 4), levels=1, steps=1, hidden=8, bits=8)
    x = torch.randint(0, 256, (64, 1, 4, 4)).to(torch.get_default_dtype())
    bits = pf.transforms.bits_per_dim(flow.log_prob({"x": x}), (1, 4, 4))
    assert bits.shape == (64,) and bool(bits.isfinite().all()) and 7.5 < bits.mean() < 12
    drawn = flow.sample(batch_n=20)["x"]
    assert bool((drawn == drawn.floor()).all()) and bool(((drawn >= 0) & (drawn <= 255)).all())
    with pytest.raises(pf.errors.SupportError, match="'x'"):
        flow.log_prob({"x": x + 0.5})


ERRORS = {
    "no features": (lambda: pf.flows.RealNVP("p(x)"), ArgumentError, "how many features"),
    "misspelt keyword": (lambda: pf.flows.MAF("p(x)", features=2, contxt=3), ArgumentError, "Did you mean 'context'"),  # type: ignore[call-arg]
    "context not said": (lambda: pf.flows.RealNVP("p(x | y)", features=2), ArgumentError, "say how wide y is"),
    "context without a variable": (lambda: pf.flows.RealNVP("p(x)", features=2, context=3), ArgumentError, r'"p\(x \| y\)"'),
    "hidden is a number": (lambda: pf.flows.RealNVP("p(x)", features=2, hidden=64), ArgumentError, r"hidden=\(64,\)"),  # type: ignore[arg-type]
    "one feature": (lambda: pf.flows.RealNVP("p(x)", features=1), ArgumentError, "nothing to split"),
    "odd images": (lambda: pf.flows.Glow("p(x)", shape=(1, 7, 7), levels=1), ShapeError, "multiples of 2"),
    "no shape": (lambda: pf.flows.Glow("p(x)"), ArgumentError, r"shape=\(channels, height, width\)"),
    "both": (lambda: pf.flows.RealNVP("p(x)", features=2, shape=(1, 4, 4)), ArgumentError, "not both"),
    "mixing": (lambda: pf.flows.NSF("p(x)", features=2, mixing="plu"), ArgumentError, "'lu'"),
    "layers": (lambda: pf.flows.NSF("p(x)", features=2, layers=-1), ArgumentError, "layers must be a number of layers"),
    "half a layer": (lambda: pf.flows.Planar("p(x)", features=2, layers=2.5), ArgumentError, "an integer"),  # type: ignore[arg-type]
    "steps": (lambda: pf.flows.Glow("p(x)", shape=(1, 8, 8), steps=-1), ArgumentError, "Glow: steps must be"),
    "a float of features": (lambda: pf.flows.MAF("p(x)", features=4.0), ArgumentError, "positive integer"),  # type: ignore[arg-type]
    "a float of context": (lambda: pf.flows.MAF("p(x | y)", features=4, context=3.0), ArgumentError, "positive integer"),  # type: ignore[arg-type]
    "its own argument": (lambda: pf.flows.MAF("p(x)", features=4, layer=2), ArgumentError, "Did you mean 'layers'"),  # type: ignore[call-arg]
    "bits of vectors": (lambda: pf.flows.RealNVP("p(x)", features=4, bits=8), ArgumentError, "bits= is for images"),
    "layers of images": (
        lambda: pf.flows.RealNVP("p(x)", shape=(1, 8, 8), layers=4),
        ArgumentError,
        "layers= is for vectors.*Leave it out",
    ),
    "width 0": (lambda: pf.flows.RealNVP("p(x)", features=4, hidden=(8, 0)), ArgumentError, "every width"),
    "an activation that is made": (
        lambda: pf.flows.RealNVP("p(x)", features=4, activation=torch.nn.SiLU()),
        ArgumentError,
        "Write: activation=nn.SiLU",
    ),
    "an activation by function": (lambda: pf.flows.MAF("p(x)", features=4, activation=torch.relu), ArgumentError, "nn.ReLU"),  # type: ignore[arg-type]
    "an activation by name": (lambda: pf.flows.NICE("p(x)", features=4, activation="relu"), ArgumentError, "nn.ReLU"),  # type: ignore[arg-type]
    "a discrete base": (
        lambda: pf.flows.MAF("p(x)", features=4, base=pf.Bernoulli("p(z)", probs=0.5, features_shape=4)),
        ArgumentError,
        "is discrete.*density",
    ),
    "unknown width": (lambda: pf.flows.MAF("p(x | y)", features=2, context=torch.nn.ReLU()), ArgumentError, "how wide"),
}


@pytest.mark.parametrize(("make", "error", "match"), ERRORS.values(), ids=ERRORS)
def test_errors(make, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


X, Y = torch.zeros(5, 4), torch.zeros(5, 3)
RUNNING = {
    "integers": ("p(x)", None, {"x": X.long()}, "weights are torch.float.., x is torch.int64"),
    "another precision": ("p(x)", None, {"x": X.half()}, "x is torch.float16: convert one"),
    "an index too large": (
        "p(x | y)",
        torch.nn.Embedding(10, 3),
        {"x": X, "y": Y[:, 0].long() + 10},
        "10 rows, for 0 ... 9; y",
    ),
    "no indices": ("p(x | y)", torch.nn.Embedding(10, 3), {"x": X, "y": Y[:, 0]}, "takes class indices"),
}


@pytest.mark.parametrize(("statement", "context", "values", "match"), RUNNING.values(), ids=RUNNING)
def test_values_that_do_not_fit_the_layers(statement, context, values, match: str) -> None:
    flow = pf.flows.RealNVP(statement, features=4, context=context, layers=2, hidden=(8,))
    with pytest.raises(pf.errors.NetworkError, match=match):
        flow.log_prob(values)


def test_noise_that_does_not_fit_the_layers() -> None:
    zero = torch.zeros(4, dtype=torch.float32)
    base = pf.Normal("p(z)", loc=zero, scale=zero.exp())
    flow = pf.flows.RealNVP("p(x)", features=4, base=base, layers=2, hidden=(8,))
    for draw in (flow.sample, flow.sample_with_log_prob):
        with pytest.raises(pf.errors.NetworkError, match="the noise is torch.float32: convert one"):
            draw(batch_n=2)


@pytest.mark.parametrize("make", [pf.flows.RealNVP, pf.flows.NSF, pf.flows.NICE], ids=lambda make: make.__name__)
@pytest.mark.parametrize("features", [2, 3, 5, 7])
def test_couplings_that_take_turns_change_every_feature(make, features: int) -> None:
    torch.manual_seed(0)
    flow = make("p(x)", features=features, layers=2, hidden=(8,))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(torch.randn_like(parameter))
    z = torch.randn(4, features)
    couplings = flow.transform[:2]
    assert bool((couplings.forward(z) != z).any(0).all())
