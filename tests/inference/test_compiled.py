"""loss.compile(): the value of eager evaluation from one graph, with the same errors at its boundary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from inference.compiled_registry import BAD, LOSSES, D, Net, Y, Z, batch, cvae, decoder, prior, vae
from torch import Tensor, nn
from torch import distributions as td
from torch.testing import assert_close

import probflow as pf
from probflow import KL, E, Function, Loss, errors, log


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield


def assert_same(loss: Loss, compiled: Callable[..., Tensor], values: dict[str, Any]) -> None:
    weights = list(loss.parameters())
    torch.manual_seed(1)
    eager = loss.eval(values)
    torch.manual_seed(1)
    value = compiled(values)
    assert value.shape == eager.shape
    assert_close(value, eager)
    wanted = torch.autograd.grad(eager.sum(), weights, allow_unused=True)
    for ours, theirs in zip(torch.autograd.grad(value.sum(), weights, allow_unused=True), wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert_close(ours, theirs)


@pytest.mark.parametrize("name", LOSSES)
def test_the_value_and_the_gradient_are_those_of_eager_evaluation(name: str) -> None:
    loss = LOSSES[name]()
    compiled = loss.compile(backend="eager")
    for size in (8, 5):
        assert_same(loss, compiled, batch(size))


@pytest.mark.parametrize("name", LOSSES)
def test_the_terms_are_those_of_eager_evaluation(name: str) -> None:
    loss, values = LOSSES[name](), batch(8)
    compiled = loss.compile(backend="eager")
    torch.manual_seed(1)
    wanted = loss.terms(values)
    torch.manual_seed(1)
    found = compiled.terms(values)
    assert list(found) == list(wanted)
    weights = list(loss.parameters())
    for shown, term in found.items():
        assert_close(term, wanted[shown])
        assert term.requires_grad == wanted[shown].requires_grad
        if term.requires_grad:
            ours, theirs = (
                torch.autograd.grad(t.sum(), weights, materialize_grads=True, retain_graph=True) for t in (term, wanted[shown])
            )
            assert_close(ours, theirs)


def test_eval_is_a_call() -> None:
    compiled, values = vae().compile(backend="eager"), batch(8)
    torch.manual_seed(1)
    wanted = compiled(values)
    torch.manual_seed(1)
    assert torch.equal(compiled.eval(values), wanted)
    with pytest.raises(errors.ArgumentError, match=r"compiled\.loss\.eval\(values, return_dict=True\)"):
        compiled.eval(values, return_dict=True)
    compiled = LOSSES["no data"]().compile(backend="eager")
    assert compiled.eval() == compiled() and list(compiled.terms()) == list(compiled.loss.terms())


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_the_same_with_the_gradient_compiled(name: str) -> None:
    loss = LOSSES[name]()
    assert_same(loss, loss.compile(backend="aot_eager"), batch(8))


@pytest.mark.slow
# not with Bernoulli draws: inductor makes them of other random numbers than torch.bernoulli
@pytest.mark.parametrize("name", ["VAE", "flow prior"])
def test_the_same_from_inductor(name: str) -> None:
    loss = LOSSES[name]()
    compiled = loss.compile()
    for size in (8, 5):
        assert_same(loss, compiled, batch(size))


def graphs_of(loss: Loss) -> tuple[Callable[..., Tensor], list[int]]:
    """The loss under a backend that counts its graphs."""
    made: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        made.append(1)
        return graph.forward

    return loss.compile(backend=backend), made


def test_one_graph_serves_every_batch_size_and_every_number() -> None:
    compiled, made = graphs_of(cvae())
    for size in (8, 5, 3, 16, 7):
        compiled(batch(size))
    assert len(made) == 1


def test_losses_do_not_share_their_number_of_graphs() -> None:
    for _ in range(10):  # the compiler gives up after 8 graphs of one code object
        compiled, made = graphs_of(LOSSES["no data"]())
        compiled({})
        assert len(made) == 1


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize("first", [True, False], ids=["at the first call", "later"])
@pytest.mark.parametrize("name", BAD)
def test_the_errors_are_those_of_eager_evaluation(name: str, first: bool) -> None:
    make, spoil = BAD[name]
    loss, values = make(), batch(8)
    compiled = loss.compile(backend="eager")
    if not first:
        compiled(values)
    spoil(values)
    with pytest.raises(errors.ProbflowError) as expected:
        loss.eval(values)
    with pytest.raises(type(expected.value)) as found:
        compiled(values)
    assert str(found.value) == str(expected.value)


def test_parameters_that_turned_nan_are_named() -> None:
    loss = vae()
    compiled = loss.compile(backend="eager")
    compiled(batch(8))
    with torch.no_grad():
        next(loss.parameters()).fill_(float("nan"))
    with pytest.raises(errors.ParameterError, match="loc must be real numbers"):
        compiled(batch(8))


def test_not_a_dict() -> None:
    with pytest.raises(errors.ValuesError, match="needs a dict"):
        vae().compile(backend="eager")(torch.zeros(3))  # type: ignore[arg-type]


def test_an_unknown_option() -> None:
    with pytest.raises(errors.ArgumentError, match="no option 'backed'"):
        vae().compile(backed="eager")


def test_without_a_compiler() -> None:
    import torch._inductor.config as config

    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(errors.MissingDependency, match=r"C\+\+ compiler"),
    ):
        vae().compile()(batch(4))


# ---------------------------------------------------------------------- the rest


def test_class_indices_become_one_hot_before_the_graph() -> None:
    loss = -log(pf.Categorical("p(y | x)", Net(D, logits=Y))).mean()
    compiled = loss.compile(backend="eager")
    values = {"x": torch.rand(4, D), "y": torch.arange(4)}
    assert_same(loss, compiled, values)
    with pytest.raises(errors.SupportError, match="class indices 0 to 3"):
        compiled({**values, "y": torch.arange(4) + 1})


def test_too_many_states() -> None:
    """Only the network knows that there are 2^10 states."""
    q = pf.Bernoulli("q(y | x)", Net(D, logits=10))
    loss = E(q)[Function(lambda y: y.sum(1), ["y"], "s")].mean()
    assert_same(loss, loss.compile(backend="eager"), batch(8))


@pytest.mark.parametrize("checks", [True, False])
def test_the_checks_of_torch_distributions_stay_as_they_were(checks: bool) -> None:
    before = td.Distribution._validate_args
    td.Distribution.set_default_validate_args(checks)
    try:
        compiled = vae().compile(backend="eager")
        assert td.Distribution._validate_args is checks
        compiled(batch(4))
        assert td.Distribution._validate_args is checks
    finally:
        td.Distribution.set_default_validate_args(before)


def test_planning_leaves_random_numbers_and_statistics_alone() -> None:
    norm = nn.BatchNorm1d(D)
    q = pf.Normal("q(z | x)", nn.Sequential(norm, Net(D, loc=Z, scale=Z)))
    compiled = (KL(q, prior()) - E(q)[log(decoder())]).mean().compile(backend="eager")
    compiled(batch(8))
    assert int(norm.get_buffer("num_batches_tracked")) == 1


def test_samples_as_values() -> None:
    loss = log(decoder()).mean()
    compiled = loss.compile(backend="eager")
    x = batch(4)["x"]
    z = torch.randn(3, 4, Z)
    values = pf.distributions.Samples({"x": x, "z": z}, {"z": 1})
    assert_close(compiled(values), loss.eval(values))
    assert_close(compiled({"x": x, "z": z[0]}), loss.eval({"x": x, "z": z[0]}))


def test_evaluation_mode() -> None:
    q = pf.Normal("q(z | x)", nn.Sequential(nn.Dropout(0.5), Net(D, loc=Z, scale=Z)))
    loss = KL(q, prior()).mean()
    compiled = loss.compile(backend="eager")
    compiled(batch(8))
    q.eval()
    assert_same(loss, compiled, batch(8))


@pytest.mark.slow
def test_small_kernels_are_not_shared_among_threads() -> None:
    from torch._inductor import config
    from torch._inductor.utils import run_and_get_code

    loss, values = (-log(pf.Normal("p(x)", loc=0.0, scale=1.0, features_shape=64))).mean(), {"x": torch.randn(64, 64)}
    threads, usual = torch.get_num_threads(), config.cpp.min_chunk_size
    torch.set_num_threads(2)
    try:
        for options, shared in ({}, False), ({"cpp.min_chunk_size": 512}, True):
            torch._dynamo.reset()
            with config.patch({"force_disable_caches": True}):  # what a cache gives has no code to show
                value, code = run_and_get_code(loss.compile(options=options), values)
            assert_close(value, loss.eval(values))
            assert ("#pragma omp parallel" in "".join(code)) is shared
    finally:
        torch.set_num_threads(threads)
    assert config.cpp.min_chunk_size == usual


@pytest.mark.slow
def test_a_bias_is_added_by_the_kernel_that_follows() -> None:
    from torch._inductor import config
    from torch._inductor.utils import run_and_get_code

    torch.manual_seed(0)
    loss = log(pf.Normal("p(y | x)", pf.nn.MLP(3, [8], {"loc": 2}, activation=nn.Tanh), scale=1.0)).mean()
    values = {"x": torch.randn(5, 3), "y": torch.randn(5, 2)}
    fused = []
    calls_in_python = {"cpp_wrapper": False}  # to be counted
    for options in calls_in_python, {**calls_in_python, "post_grad_custom_post_pass": None}:
        torch._dynamo.reset()
        with config.patch({"force_disable_caches": True}):
            value, code = run_and_get_code(loss.compile(options=options), values)
        assert_close(value, loss.eval(values))
        fused.append("".join(code).count("extern_kernels.addmm("))
    assert fused[0] < fused[1] == 2


@pytest.mark.slow
def test_a_bias_is_added_once_where_many_samples_read_the_layer() -> None:
    from torch._inductor import config
    from torch._inductor.utils import run_and_get_code

    torch.manual_seed(0)
    q = pf.Normal("q(z | x)", nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)), scale=1.0)
    p = pf.Normal("p(x | z)", lambda z: {"loc": z[..., :1].expand(*z.shape[:-1], 3)}, scale=1.0)
    values, found = {"x": torch.randn(5, 3)}, []
    for shape in (), (4,):
        torch._dynamo.reset()
        loss = pf.E(q, sample_shape=shape)[log(p)].mean()
        with config.patch({"force_disable_caches": True}), torch.no_grad():
            torch.manual_seed(1)
            value, code = run_and_get_code(loss.compile(options={"cpp_wrapper": False}), values)
            torch.manual_seed(1)
            assert_close(value, loss.eval(values))
        found.append("".join(code).count("extern_kernels.addmm("))
    assert found == [0, 1]


# ---------------------------------------------------------------------- what may change between calls


class Scaled(nn.Module):
    """A network with everything that a user may change between two calls."""

    power = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(D, D), nn.Dropout(0.0))
        self.powers = [1.0]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scale = 1.0 if self.training else 3.0
        return {"loc": self.net(x) * self.power * self.powers[0], "scale": torch.full_like(x, scale)}


class Tempered(pf.Normal):
    """A distribution with settings of its own."""

    def __init__(self) -> None:
        super().__init__("r(w | x)")
        self.temperature, self._bounds = 1.0, [1.0]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loc": self.temperature * x, "scale": torch.full_like(x, self._bounds[0])}


SETTING = {"slope": 1.0}
SLOPE = 1.0


def settings() -> tuple[Loss, dict[str, Callable[[], object]]]:
    """A loss, and the changes that its value must follow: in networks, and in what the user's own functions hold."""
    net, held, own, tempered = Scaled(), {"slope": 1.0}, 1.0, Tempered()
    p = pf.Normal("p(x)", loc=1.0, scale=1.0, features_shape=D)

    def slope(x: Tensor) -> Tensor:
        return (held["slope"] * SETTING["slope"] * SLOPE * own * x).sum(1)

    def local() -> None:
        nonlocal own
        own = 2.0

    def other_global() -> None:
        globals()["SLOPE"] = 2.0

    loss = (Function(slope, ["x"], "f") - log(p) - log(pf.Normal("q(y | x)", net)) - log(tempered)).mean()
    return loss, {
        "a number of a distribution": lambda: setattr(tempered, "temperature", 2.0),
        "a list of a distribution": lambda: tempered._bounds.__setitem__(0, 2.0),
        "a constant": lambda: p.get_buffer("loc").fill_(2.0),
        "another constant": lambda: p.register_buffer("scale", torch.full((D,), 2.0)),
        "a class attribute": lambda: setattr(net, "power", 2.0),
        "a list": lambda: net.powers.__setitem__(0, 2.0),
        "a layer": lambda: net.net.__setitem__(1, nn.Tanh()),
        "another weight": lambda: setattr(net.net[0], "weight", nn.Parameter(torch.ones(D, D))),
        "eval": net.eval,
        "a dict in a closure": lambda: held.update(slope=2.0),
        "a closure": local,
        "a global dict": lambda: SETTING.update(slope=2.0),
        "a global": other_global,
    }


@pytest.mark.parametrize("name", settings()[1])
def test_what_a_user_changes_between_calls_is_seen(name: str) -> None:
    """The compiler's guards that are left out are those of plans, which never change."""
    loss, changes = settings()
    compiled, values = loss.compile(backend="eager"), {"x": torch.randn(4, D), "y": torch.randn(4, D), "w": torch.randn(4, D)}
    try:
        before = compiled(values)
        assert_close(compiled(values), before)
        changes[name]()
        after = compiled(values)
        assert_close(after, loss.eval(values))
        assert abs(float(after.detach() - before.detach())) > 1e-4
    finally:
        globals()["SLOPE"] = 1.0
        SETTING.update(slope=1.0)


def _by_name(kind: type[pf.Normal] | type[pf.Laplace], loc: float) -> Any:
    return kind("p(x)", loc=loc, scale=1.0, features_shape=D)


def parts() -> tuple[Loss, dict[str, Callable[[], object]]]:
    """A loss, and parts of its distributions that a user may replace."""
    mixture = pf.MixtureModel(
        [_by_name(pf.Normal, m) for m in (-1.0, 1.0)], pf.Categorical("p(k)", probs=torch.tensor([0.4, 0.6]))
    )
    given = pf.Normal("q(y | x)", lambda x: {"loc": x, "scale": torch.ones_like(x)}).given(x=torch.ones(1, D))
    return -log(mixture) - log(given), {
        "a component of another family": lambda: setattr(mixture, "component0", _by_name(pf.Laplace, -1.0)),
        "a component": lambda: setattr(mixture, "component0", _by_name(pf.Normal, -3.0)),
        "the prior": lambda: setattr(mixture, "prior", pf.Categorical("p(k)", logits=torch.tensor([2.0, 0.0]))),
        "what is given": lambda: setattr(given, "factor", pf.Laplace("q(y | x)", loc="x", scale=1.0)),
    }


@pytest.mark.parametrize("name", parts()[1])
def test_parts_of_a_distribution_that_are_replaced_are_seen(name: str) -> None:
    loss, changes = parts()
    compiled, values = loss.compile(backend="eager"), {"x": torch.randn(4, D), "y": torch.randn(4, D)}
    before = compiled(values)
    changes[name]()
    after = compiled(values)
    assert_close(after, loss.eval(values))
    assert not torch.allclose(after, before)


CODE = """
slopes = [1.0]
class Slope(torch.nn.Module):
    def forward(self, x): return x
class Steep(Slope):
    def forward(self, x): return 2 * x
layer = Slope()
def f(x): return sum(slopes) * layer(x).sum(1)
"""


@pytest.mark.parametrize("change", ["slopes.append(1.0)", "layer = Steep()"])
def test_globals_of_code_in_no_module_are_seen(change: str) -> None:
    names: dict[str, Any] = {"torch": torch}
    exec(CODE, names)
    loss = Function(names["f"], ["x"], "f").mean()
    compiled, values = loss.compile(backend="eager"), {"x": torch.randn(4, D)}
    before = compiled(values)
    exec(change, names)
    assert_close(compiled(values), 2 * before)


class Acting(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loc": self.act(x), "scale": torch.ones_like(x)}


def times(number: float) -> Callable[[Tensor], Tensor]:
    def act(x: Tensor) -> Tensor:
        return number * x

    act.__module__ = "probflow.nn"  # as one of this package's would be
    return act


def test_a_function_of_this_package_in_a_network_is_seen() -> None:
    net = Acting(times(1.0))
    loss = -log(pf.Normal("q(y | x)", net)).mean()
    compiled, values = loss.compile(backend="eager"), {"x": torch.randn(4, D), "y": torch.randn(4, D)}
    before = compiled(values)
    net.act = times(3.0)
    after = compiled(values)
    assert_close(after, loss.eval(values))
    assert not torch.allclose(after, before)
