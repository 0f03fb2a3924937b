"""A loss in a loop: the program made for the shapes of the last runs says the same as the general one, errors included."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from inference.compiled_registry import BAD, LOSSES, D, Net, Z, batch, decoder, encoder, prior, vae
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

import probflow as pf
from probflow import KL, E, Loss, errors, log
from probflow.checks import is_lenient
from probflow.inference.evaluate import program_for
from probflow.inference.special import specialist

DIRECT = [
    "VAE",
    "VAE, 4 samples",
    "CVAE with a coefficient",
    "hierarchical",
    "M2",
    "IWAE",
    "flow prior",
    "flow posterior",
    "no mean",
]
"""Losses with a network whose parameters nothing has to be asked about."""


def data(size: int) -> dict[str, Any]:
    """The same rows in every call, in new tensors."""
    with torch.random.fork_rng():
        torch.manual_seed(size)
        return batch(size)


class Marked(Tensor):
    """A tensor of a class of its own."""


def warm(loss: Loss, values: dict[str, Any], runs: int = specialist.RUNS) -> list[Any]:
    """The programs made for these values."""
    for _ in range(runs):
        loss.eval(values)
    return program_for(loss, values)._special.known


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A switch to the general program."""
    none = property(lambda self: [], lambda self, known: None)
    yield lambda: monkeypatch.setattr(specialist.Specialist, "known", none, raising=False)


def outcome(loss: Loss, values: dict[str, Any], seed: int) -> list[Tensor]:
    """Value, terms, samples and gradients."""
    torch.manual_seed(seed)
    value, drawn = loss.eval(values, return_dict=True)
    parts = [p for p in loss.module().parameters() if p.requires_grad]
    grads = torch.autograd.grad(value.sum(), parts, allow_unused=True) if parts else ()
    terms = loss.terms(values)
    plain = loss.eval(values)
    with torch.no_grad():
        quiet = loss.eval(values)
    return [value, plain, quiet, *terms.values(), *drawn.values(), *(g for g in grads if g is not None)]


@pytest.mark.parametrize("name", LOSSES)
def test_same_numbers_to_the_last_bit(name: str, general: Callable[[], None]) -> None:
    torch.manual_seed(0)
    loss = LOSSES[name]()
    known = warm(loss, data(5))
    warm(loss, data(3))
    assert known or name not in DIRECT
    for _ in range(specialist.RUNS):
        outcome(loss, data(5), 0)
    quick = {(size, seed): outcome(loss, data(size), seed) for size in (5, 3, 4) for seed in range(3)}
    general()
    for (size, seed), found in quick.items():
        for a, b in zip(found, outcome(loss, data(size), seed), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", BAD)
def test_same_words_for_a_mistake(name: str) -> None:
    torch.manual_seed(0)
    make, spoil = BAD[name]
    loss, fresh = make(), make()
    values = data(5)
    warm(loss, values)
    spoil(values)
    with pytest.raises(errors.ProbflowError) as expected:
        fresh.eval(values)
    with pytest.raises(errors.ProbflowError) as found:
        loss.eval(values)
    assert (type(found.value), str(found.value)) == (type(expected.value), str(expected.value))


class Changing(nn.Module):
    """A network that returns something else when told to; it counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.change, self.calls = nn.Linear(D, 2 * Z), "", 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        loc, raw = self.net(x).chunk(2, 1)
        scale = F.softplus(raw)
        returned: dict[str, Any] = {
            "": {"loc": loc, "scale": scale},
            "order": {"scale": scale, "loc": loc},
            "tuple": (loc, scale),
            "list": [loc, scale],
            "one row": {"loc": loc, "scale": torch.ones(1, Z)},
            "number": {"loc": loc, "scale": 2.0},
            "double": {"loc": loc.double(), "scale": scale.double()},
            "negative": {"loc": loc, "scale": -scale},
            "nan": {"loc": loc * float("nan"), "scale": scale},
            "width": {"loc": loc[:, :1], "scale": scale[:, :1]},
            "name": {"loc": loc, "std": scale},
            "rows": {"loc": loc[:2], "scale": scale[:2]},
        }
        return returned[self.change]


GOOD = ["order", "tuple", "list", "one row", "number", "double"]


def drawing(net: Changing) -> Loss:
    """Nothing betrays a wrong scale but the look at it."""
    return -E(pf.Normal("q(z | x)", net))[log(prior())].mean()


def divergence(net: Changing) -> Loss:
    """A wrong scale shows in the result."""
    q = pf.Normal("q(z | x)", net)
    return (KL(q, prior()) - E(q)[log(decoder())]).mean()


@pytest.mark.parametrize("change", GOOD)
@pytest.mark.parametrize("make", [drawing, divergence])
def test_network_that_returns_something_else(
    change: str, make: Callable[[Changing], Loss], general: Callable[[], None]
) -> None:
    torch.manual_seed(0)
    net = Changing()
    loss, values = make(net), data(5)
    assert warm(loss, values)
    net.change, net.calls = change, 0
    torch.manual_seed(1)
    found = loss.eval(values)
    assert net.calls == 1  # what it returned is used, not asked for again
    general()
    torch.manual_seed(1)
    assert torch.equal(found, loss.eval(values))


@pytest.mark.parametrize("change", ["negative", "nan", "width", "name", "rows"])
@pytest.mark.parametrize("make", [drawing, divergence])
def test_network_that_returns_something_wrong(change: str, make: Callable[[Changing], Loss]) -> None:
    torch.manual_seed(0)
    net = Changing()
    loss, values = make(net), data(5)
    assert warm(loss, values)
    fresh = make(copy.deepcopy(net))
    for module in (net, *(m for m in fresh.module().modules() if isinstance(m, Changing))):
        module.change = change
    with pytest.raises(errors.ProbflowError) as expected:
        fresh.eval(values)
    for _ in range(2 * specialist.PATIENCE):  # also once the specialised program is given up
        with pytest.raises(errors.ProbflowError) as found:
            loss.eval(values)
        assert (type(found.value), str(found.value)) == (type(expected.value), str(expected.value))
    net.change = ""
    assert bool(loss.eval(values).isfinite())


@pytest.mark.parametrize("change", ["tuple", "list"])
def test_network_that_always_returned_that(change: str, general: Callable[[], None]) -> None:
    torch.manual_seed(0)
    net = Changing()
    net.change = change
    loss, values = divergence(net), data(5)
    assert bool(warm(loss, values))
    torch.manual_seed(1)
    found = loss.eval(values)
    general()
    torch.manual_seed(1)
    assert torch.equal(found, loss.eval(values))


@pytest.mark.parametrize("returned", [Tensor, tuple, dict])
def test_one_row_of_a_family_with_parameters_left_out(returned: type, general: Callable[[], None]) -> None:
    """What stands for them has the shape (1, 1), as what the network returns has."""
    torch.manual_seed(0)
    net = nn.Linear(1, 1)

    def df(x: Tensor) -> Any:
        first = F.softplus(net(x)) + 1
        return {Tensor: first, tuple: (first,), dict: {"df": first}}[returned]

    loss = -log(pf.StudentT("p(y | x)", df)).mean()
    values = {"x": torch.ones(1, 1), "y": torch.ones(1, 1)}
    warm(loss, values)
    found = loss.eval(values)
    general()
    assert torch.equal(found, loss.eval(values))


def test_one_of_two_batches_is_empty() -> None:
    torch.manual_seed(0)
    apart, p = KL(encoder(), prior()).mean(), pf.Exponential("p(u)", rate=1.0, features_shape=2)
    loss, values = apart - log(p).sum(), {**data(5), "u": torch.zeros(0, 2)}
    assert warm(loss, values)
    assert torch.equal(loss.eval(values), apart.eval(values))


def test_likelihood_of_observed_values(general: Callable[[], None]) -> None:
    """What is observed is in the factor itself: its density takes no value."""
    torch.manual_seed(0)
    q = encoder()
    p = (decoder() * prior()).given(x=torch.rand(1, D).round())
    loss = E(q)[log(p) - log(q)].mean()
    assert warm(loss, data(5))
    quick = outcome(loss, data(5), 0)
    general()
    for a, b in zip(quick, outcome(loss, data(5), 0), strict=True):
        assert torch.equal(a, b)


def test_constants_are_read_in_every_run() -> None:
    torch.manual_seed(0)
    pz = prior()
    loss, values = (KL(encoder(), pz)).mean(), data(5)
    assert warm(loss, values)
    before = loss.eval(values)
    pz.get_buffer("scale").fill_(3.0)  # in place
    inside = loss.eval(values)
    pz.register_buffer("scale", torch.tensor(5.0))  # another tensor
    outside = loss.eval(values)
    pz.register_buffer("scale", torch.tensor(1.0))
    again = loss.eval(values)
    assert len({x.item() for x in (before, inside, outside)}) == 3
    assert torch.equal(before, again)


def test_constants_that_no_longer_fit_each_other() -> None:
    """A draw does not betray them."""
    torch.manual_seed(0)
    pw = pf.Uniform("p(w)", low=0.0, high=1.0, features_shape=2)
    total = pf.Function(lambda w: w.sum(1), ["w"], "total")
    loss, values = (KL(encoder(), prior()) + E(pw)[total]).mean(), data(5)
    assert warm(loss, values)
    pw.get_buffer("low").fill_(2.0)
    with pytest.raises(errors.ParameterError, match=r"p\(w\): low must be below high, got low=2, high=1"):
        loss.eval(values)


def test_nothing_that_was_computed_of_constants_is_kept() -> None:
    torch.manual_seed(0)
    pw = pf.Weibull("p(w)", scale=1.0, concentration=2.0, features_shape=2)
    apart = KL(encoder(), prior())
    loss, values = (apart + pf.Entropy(pw)).mean(), data(5)
    with torch.inference_mode():
        assert warm(loss, values)
        loss.eval(values)
    pw.get_buffer("concentration").fill_(5.0)
    wanted = pf.Weibull("p(w)", scale=1.0, concentration=5.0, features_shape=2).entropy({})
    torch.testing.assert_close(loss.eval(values), (apart.eval(values) + wanted).mean())


@pytest.mark.parametrize("runs", [1, 2 * specialist.RUNS])
def test_another_network_in_place_of_a_function(runs: int) -> None:
    def once(x: Tensor) -> dict[str, Tensor]:
        return {"loc": x, "scale": torch.ones_like(x)}

    q = pf.Normal("q(z | x)", once)
    loss, values = KL(q, prior("p(z)", D)).mean(), data(5)
    warm(loss, values, runs)
    first = loss.eval(values)
    q.network = lambda x: once(2 * x)
    torch.testing.assert_close(loss.eval(values), 4 * first)
    q.network = pf.nn.MLP(D, [4], {"loc": D, "scale": D}, output={"scale": F.softplus})
    torch.testing.assert_close(loss.eval(values), KL(q, prior("p(z)", D)).mean().eval(values))


def test_a_constant_becomes_trainable(general: Callable[[], None]) -> None:
    torch.manual_seed(0)
    pz = prior()
    loss, values = KL(encoder(), pz).mean(), data(5)
    assert warm(loss, values)
    del pz.scale
    pz.scale = nn.Parameter(torch.tensor(2.0))
    found = loss.eval(values)
    (slope,) = torch.autograd.grad(found, [pz.scale])
    general()
    assert torch.equal(found, loss.eval(values)) and slope != 0


def test_a_program_that_never_fits_is_given_up() -> None:
    torch.manual_seed(0)
    net = Changing()
    loss, values = divergence(net), data(5)
    assert warm(loss, values)
    net.change = "one row"
    known = warm(loss, values, specialist.PATIENCE + specialist.RUNS)
    assert all(program.misses == 0 for program in known)  # of the new one "q(z|x)" is called as in the general program


def test_too_many_states_behind_no_guard() -> None:
    """What a network returns in a dict of another kind is taken by the general call: nothing says before that there are more."""
    torch.manual_seed(0)
    coins = [D]
    q = pf.Bernoulli("q(y | x)", lambda x: OrderedDict(logits=x.sum(1, keepdim=True).expand(-1, coins[0])))
    p = pf.Normal("p(x | y)", lambda y: {"loc": y[..., :D], "scale": torch.ones_like(y[..., :D])})
    loss, values = E(q)[log(p)].mean(), {"x": torch.randn(5, D)}
    assert warm(loss, values)
    coins[0] = 20
    assert bool(loss.eval(values).isfinite())
    assert "draw" in {step.kind for step in program_for(loss, values).steps}


@pytest.mark.parametrize("change", [lambda t: t.as_subclass(Marked), nn.Parameter], ids=["subclass", "Parameter"])
def test_result_of_another_type(change: Callable[[Tensor], Any], general: Callable[[], None]) -> None:
    torch.manual_seed(0)
    changed = [False]

    def f(z: Tensor) -> Any:
        total = z.detach().square().sum(1)
        return change(total) if changed[0] else total

    loss, values = E(encoder())[pf.Function(f, ["z"], "f")], data(5)
    assert warm(loss, values)
    changed[0] = True
    torch.manual_seed(1)
    found = loss.eval(values)
    general()
    torch.manual_seed(1)
    wanted = loss.eval(values)
    assert type(found) is type(wanted) and torch.equal(found, wanted)


def test_given_up_while_its_own_network_evaluates_it() -> None:
    torch.manual_seed(0)
    net = Changing()
    loss, values = divergence(net), data(5)
    assert warm(loss, values)
    net.change = "one row"
    loss.eval(values)
    inside: list[Tensor] = []

    def evaluate(*_: Any) -> None:
        if len(inside) % 2 == 0:  # not again inside
            inside.append(torch.zeros(()))
            inside.append(loss.eval(values))

    net.register_forward_pre_hook(evaluate)
    for _ in range(specialist.PATIENCE):
        assert loss.eval(values).isfinite()
    assert len(inside) == 2 * specialist.PATIENCE


def test_shapes_that_change_all_the_time() -> None:
    torch.manual_seed(0)
    loss = KL(encoder(), prior()).mean()
    for size in range(1, 200):
        loss.eval({"x": torch.zeros(size, D)})
    special = program_for(loss)._special
    assert len(special.known) == specialist.MOST
    assert special.made <= specialist.MOST + 6  # 3, 6, 12, ... runs for each one more


def test_a_loop_after_many_other_shapes() -> None:
    torch.manual_seed(0)
    loss = KL(encoder(), prior()).mean()
    special = program_for(loss)._special
    for size in range(1, 6):
        warm(loss, data(size))
    made = special.made
    assert made == specialist.MOST  # none for the fifth yet
    warm(loss, data(5), specialist.RUNS)
    assert special.made == made + 1 and len(special.known) == specialist.MOST
    first, *others = special.known
    loss.eval(data(5))
    assert special.known == [first, *others] and special.waited == 0
    loss.eval(data(3))
    assert special.waited == 0 and special.known[1] is first  # those that ran last are in front


def test_inside_a_compiled_function_of_the_users(general: Callable[[], None]) -> None:
    """No guards on which programs there are: none is a reason to compile again."""

    def graphs() -> tuple[int, list[Tensor]]:
        torch._dynamo.reset()
        torch.manual_seed(0)
        loss, counter = KL(encoder(), prior()).mean(), CompileCounter()
        warm(loss, data(5))
        compiled = torch.compile(lambda values: 2 * loss.eval(values), backend=counter)
        found = [compiled(data(size)) for size in (5,) * 10 + (3, 4, 5, 6) * 5]
        return counter.frame_count, found

    count, found = graphs()
    general()
    expected = graphs()
    assert count == expected[0]
    torch.testing.assert_close(found, expected[1])


def test_dtype_and_autocast() -> None:
    torch.manual_seed(0)
    loss, values = vae(), {"x": data(5)["x"].float()}
    module = loss.module().float()
    assert warm(loss, values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = loss.eval(values)
    assert coarse.dtype == torch.float32 and not torch.equal(coarse, coarse.bfloat16().float())
    assert module.double()({"x": values["x"].double()}).dtype == torch.float64
    assert module.float()(values).dtype == torch.float32


class Counting(nn.Module):
    """Its output after so many calls is not a number."""

    def __init__(self, good: int) -> None:
        super().__init__()
        self.net, self.good = nn.Linear(D, Z), good

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.good -= 1
        logits = self.net(x)
        return {"loc": logits if self.good >= 0 else logits / 0, "scale": torch.ones_like(logits)}


class Asking(nn.Module):
    """A network whose output shows which checks it is called under."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net(D, loc=Z, scale=Z)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        params = self.net(x)
        return {**params, "loc": params["loc"] + is_lenient()}


def test_networks_are_called_as_in_the_general_program() -> None:
    torch.manual_seed(0)
    loss, values = KL(pf.Normal("q(z | x)", Asking()), prior()).mean(), data(5)
    first = loss.eval(values)
    assert warm(loss, values)
    assert torch.equal(loss.eval(values), first)


def test_infinite_result_is_looked_into() -> None:
    torch.manual_seed(0)
    loss = (KL(pf.Normal("q(z | x)", Counting(6)), prior())).mean()
    values = data(5)
    assert warm(loss, values, 6)
    with pytest.raises(errors.ParameterError, match=r"q\(z\|x\): loc must be real numbers"):
        loss.eval(values)


def test_training_is_the_same(general: Callable[[], None]) -> None:
    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        model = pf.Model(vae())
        data = {"x": torch.rand(50, D).round()}
        batches = pf.data.Batches(data, 8, generator=torch.Generator().manual_seed(0))  # the last one has 2 rows
        model.fit(batches, epochs=4, progress=False)
        return [*model.loss.module().parameters(), torch.tensor(model.history["loss"])]

    quick = trained()
    general()
    for a, b in zip(quick, trained(), strict=True):
        assert torch.equal(a, b)


def test_batches_of_several_sizes(general: Callable[[], None]) -> None:
    torch.manual_seed(0)
    q, p, pz = encoder(), decoder(), prior()
    u = {"x": "u", "z": "w"}
    loss = vae() + 2 * (KL(q.replace_var(u), pz.replace_var({"z": "w"})) - E(q.replace_var(u))[log(p.replace_var(u))]).sum()
    values = [{"x": data(a)["x"], "u": data(b)["x"]} for a, b in ((5, 3), (3, 5), (4, 4))]
    for each in values:
        assert warm(loss, each)
    quick = [outcome(loss, each, 1) for each in values]
    general()
    for each, found in zip(values, quick, strict=True):
        for a, b in zip(found, outcome(loss, each, 1), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(64,), (3, 4)])
@pytest.mark.parametrize("few", [True, False])
def test_mean_over_samples_first(few: bool, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The average of a Bernoulli's log-density over samples, few numbers or many, against the average of the log-densities."""
    if not few:
        monkeypatch.setattr("probflow.distributions.families.bernoulli._CACHED", 0)
    torch.manual_seed(0)
    q, p = encoder(), decoder()
    loss, values = E(q, shape)[log(p)], {"x": data(5)["x"].double()}
    loss.module().double()
    for _ in range(specialist.RUNS + 1):
        torch.manual_seed(1)
        value, drawn = loss.eval(values, return_dict=True)
        axes = tuple(range(len(shape)))
        densities = p.log_prob({"x": values["x"].expand(*shape, 5, D), "z": drawn["z"]}, sample_dims=len(shape))
        torch.testing.assert_close(value, densities.mean(axes), rtol=1e-12, atol=1e-12)
        with torch.no_grad():
            torch.manual_seed(1)
            torch.testing.assert_close(loss.eval(values), densities.mean(axes), rtol=1e-12, atol=1e-12)


def test_saturated_logits_without_gradient() -> None:
    """log p is exact however large the logits are, on both sides of 0, with a gradient and without."""
    size = torch.tensor([[20.0, -20.0, 60.0, -60.0, 500.0, -500.0]])
    p = pf.Bernoulli("p(x | z)", lambda z: {"logits": size.expand(len(z), 6)})
    for x in (torch.ones(1, 6), torch.zeros(1, 6)):
        exact = F.logsigmoid((size * (2 * x - 1)).double()).sum(1)
        loss = E(prior("p(z)", 1), [2])[log(p)]
        for values in ({"x": x}, {"x": x}):
            with torch.no_grad():
                torch.testing.assert_close(loss.eval(values).double(), exact, rtol=1e-6, atol=0.0)
            torch.testing.assert_close(loss.eval(values).double(), exact, rtol=1e-6, atol=0.0)
