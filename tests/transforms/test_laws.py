"""The laws that every transform obeys, over the whole registry: at its start and at large random parameters, in float64."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transforms.registry import CASES, Case

from probflow.testing import transform_laws as laws
from probflow.transforms import Compose, Inverse, Transform

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
WHEN = ("at the start", "at large random parameters")
whenever = pytest.mark.parametrize("when", WHEN)


@pytest.fixture(autouse=True)
def _double() -> object:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def built(case: Case, when: str = WHEN[1]) -> Transform:
    transform = case.make()
    transform.eval()
    if when == WHEN[1]:
        with torch.no_grad():
            for parameter in transform.parameters():
                parameter.add_(case.spread * torch.randn_like(parameter))
    return transform


def image(case: Case, transform: Transform, n: int = 5) -> tuple[Tensor, Tensor | None]:
    """Values of x: those of some z where the transform can go forward, else (density only) standard normal ones."""
    z, c = case.z(n), case.c(n)
    if transform.forward_cost == "absent":
        return z, c
    with torch.no_grad():
        return transform.forward(z, c), c


def subject(case: Case, when: str = WHEN[1]) -> laws.Subject:
    """The transform as `probflow.testing` holds it to the laws."""
    tolerance = case.tolerance if when == WHEN[1] else max(1e-8, min(case.tolerance, 1e-6))
    return laws.Subject(built(case, when), case.z(), case.c(), tolerance, case.exempt)


def look(case: Case, law: Callable[[laws.Subject], laws.Outcome], when: str = WHEN[1]) -> None:
    outcome = law(subject(case, when))
    if not outcome.checked:
        pytest.skip(outcome.note)


@every
@whenever
def test_shapes(case: Case, when: str) -> None:
    look(case, laws.shapes, when)


@every
@whenever
def test_inverse_undoes_forward(case: Case, when: str) -> None:
    look(case, laws.round_trip, when)


@every
@whenever
def test_logdet_is_that_of_the_jacobian(case: Case, when: str) -> None:
    look(case, laws.log_determinant, when)


@every
def test_starts_as_the_identity_where_it_promises(case: Case) -> None:
    if not case.identity:
        pytest.skip("promises nothing")
    transform = built(case, WHEN[0])
    z, c = case.z(), case.c()
    for direction in ("forward", "inverse"):
        if getattr(transform, f"{direction}_cost") == "absent":
            continue
        value, logdet = getattr(transform, f"{direction}_and_logdet")(z, c)
        assert_close(value, z, rtol=1e-9, atol=1e-9)
        assert_close(logdet, torch.zeros(5), rtol=0, atol=1e-9)


@every
def test_gradients_reach_every_parameter_and_the_context(case: Case) -> None:
    look(case, laws.gradients)


@every
@pytest.mark.parametrize("factor", [10.0, 100.0, 1e4])
def test_far_inputs_stay_finite(case: Case, factor: float) -> None:
    transform = built(case)
    if case.stiff and factor > 100:
        pytest.skip("overflows by nature; the registry entry says so")
    z, c = case.z() * factor, case.c()
    z = torch.where(transform.domain.holds(z), z, case.z()) if transform.domain.rank == 0 else z
    if transform.forward_cost != "absent":
        x, logdet = transform.forward_and_logdet(z, c)
        assert not bool(x.isnan().any()) and not bool(logdet.isnan().any())
        if not case.stiff:
            assert bool(x.isfinite().all()) and bool(logdet.isfinite().all())
    if transform.inverse_cost != "absent" and transform.forward_shape(case.shape) == case.shape:
        value = case.z() * factor
        z, logdet = transform.inverse_and_logdet(value, c)
        assert bool(z.isfinite().all()), "outside the codomain a finite value stands in"
        assert not bool(logdet.isnan().any()) and not bool((logdet == math.inf).any())


@every
def test_a_row_changes_no_other(case: Case) -> None:
    """Neither NaN, nor an infinity, nor another value."""
    look(case, laws.rows)


@every
@pytest.mark.parametrize("n", [0, 1])
def test_empty_batch_and_batch_of_one(case: Case, n: int) -> None:
    transform = built(case)
    transform.train()
    if transform.forward_cost != "absent":
        x, logdet = transform.forward_and_logdet(case.z(n), case.c(n))
        assert x.shape == (n, *transform.forward_shape(case.shape)) and logdet.shape == (n,)
        assert not bool(x.isnan().any())
    else:
        x = case.z(n)
    if transform.inverse_cost != "absent":
        z, logdet = transform.inverse_and_logdet(x, case.c(n))
        assert z.shape == (n, *case.shape) and logdet.shape == (n,)
        assert not bool(z.isnan().any()) and not bool(logdet.isnan().any())


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_goes_through(case: Case, dtype: torch.dtype) -> None:
    transform = built(case, WHEN[0]).to(dtype)
    z, c = case.z().to(dtype), case.c()
    c = None if c is None else c.to(dtype)
    for direction in ("forward", "inverse"):
        if getattr(transform, f"{direction}_cost") == "absent":
            continue
        if direction == "inverse":
            z = image(case, built(case, WHEN[0]))[0].to(dtype)
        value, logdet = getattr(transform, f"{direction}_and_logdet")(z, c)
        assert value.dtype == dtype and logdet.dtype == dtype


@every
def test_autocast_is_for_the_networks(case: Case) -> None:
    """Under automatic casts to bfloat16 values and log-determinants stay float32, and one-pass inverses stay inverses."""
    transform = case.make().eval()
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.add_(0.2 * case.spread * torch.randn_like(parameter))
    transform.float()
    z, c = case.z(16).float(), case.c(16)
    c = None if c is None else c.float()
    start, back = ("forward", "inverse") if transform.forward_cost != "absent" else ("inverse", "forward")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x, logdet = getattr(transform, f"{start}_and_logdet")(z, c)
        assert x.dtype == logdet.dtype == torch.float32
        if {transform.forward_cost, transform.inverse_cost} != {"one pass"}:
            return
        again, opposite = getattr(transform, f"{back}_and_logdet")(x, c)
    assert again.dtype == opposite.dtype == torch.float32
    if not (transform.stochastic_forward or transform.stochastic_inverse):
        assert_close(again, z, rtol=1e-3, atol=1e-3)
        assert_close(opposite, -logdet, rtol=1e-3, atol=1e-3)


@every
def test_no_constant_stays_on_the_cpu(case: Case) -> None:
    """On the meta device every tensor must follow: a constant of the CPU raises."""
    look(case, laws.device)


@every
def test_saves_loads_and_copies(case: Case) -> None:
    transform = built(case)
    direction = "forward" if transform.forward_cost != "absent" else "inverse"
    z, c = case.z(), case.c()

    def value(which: Transform) -> Tensor:
        torch.manual_seed(3)
        return getattr(which, direction)(z, c)

    expected = value(transform)
    assert_close(value(copy.deepcopy(transform)), expected)
    if type(transform).__module__.startswith("probflow"):
        for whole in (transform, transform.inv):  # a pickle keeps the domains as well
            again = pickle.loads(pickle.dumps(whole))
            assert (again.domain, again.codomain) == (whole.domain, whole.codomain)
    buffer = io.BytesIO()
    torch.save(transform.state_dict(), buffer)
    buffer.seek(0)
    torch.manual_seed(1)
    fresh = case.make().eval()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert_close(value(fresh), expected)


@every
def test_training_and_evaluation_agree(case: Case) -> None:
    if not case.train_is_eval:
        pytest.skip("uses the batch while training, by nature")
    transform = built(case)
    for direction in ("forward", "inverse"):
        if getattr(transform, f"{direction}_cost") == "absent":
            continue
        value, c = (case.z(), case.c()) if direction == "forward" else image(case, transform)
        getattr(transform.train(), direction)(value, c)  # what initialises from the first batch has done so now
        torch.manual_seed(3)
        expected = getattr(transform.eval(), direction)(value, c)
        torch.manual_seed(3)
        assert_close(getattr(transform.train(), direction)(value, c), expected)
        transform.eval()


@every
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_traces_without_a_graph_break(case: Case, direction: str) -> None:
    transform = built(case)
    if getattr(transform, f"{direction}_cost") != "one pass" or not case.compiles:
        pytest.skip("not one pass; or the registry entry says why not")
    value, c = (case.z(), case.c()) if direction == "forward" else image(case, transform)
    run = getattr(transform, f"{direction}_and_logdet")
    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="eager")
    torch.manual_seed(3)
    expected = run(value, c)
    torch.manual_seed(3)
    got = compiled(value, c)
    assert_close(got[0], expected[0])
    assert_close(got[1], expected[1])


@every
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_memory_by_inversion_gives_the_same_gradients(case: Case, direction: str) -> None:
    transform = built(case)
    if (
        {transform.forward_cost, transform.inverse_cost} != {"one pass"}
        or transform.stochastic_forward
        or transform.stochastic_inverse
        or not case.train_is_eval
    ):
        pytest.skip("not one pass both ways")
    value, c = (case.z(), case.c()) if direction == "forward" else image(case, transform)
    found = []
    for memory in ("store", "invert"):
        chain = Compose([transform], memory=memory)
        leaf = value.detach().clone().requires_grad_()
        context = None if c is None else c.detach().clone().requires_grad_()
        torch.manual_seed(5)
        out, logdet = getattr(chain, f"{direction}_and_logdet")(leaf, context)
        weight, own = torch.randn_like(out), torch.randn_like(logdet)
        inputs = [leaf, *([] if context is None else [context]), *chain.parameters()]
        grads = torch.autograd.grad((out * weight).sum() + (logdet * own).sum(), inputs, allow_unused=True)
        found.append([out, logdet, *(torch.zeros(()) if g is None else g for g in grads)])
    for a, b in zip(*found, strict=True):
        assert_close(a, b, rtol=1e-6, atol=1e-6)


@every
def test_turned_around_it_is_its_inverse(case: Case) -> None:
    transform = built(case)
    turned = transform.inv
    assert turned.inv is transform or transform.inv is turned or isinstance(transform, Inverse)
    assert (turned.forward_cost, turned.inverse_cost) == (transform.inverse_cost, transform.forward_cost)
    if transform.forward_cost != "absent" and not transform.stochastic_forward:
        z, c = case.z(), case.c()
        x, logdet = transform.forward_and_logdet(z, c)
        again, again_logdet = turned.inverse_and_logdet(z, c)
        assert torch.equal(x, again) and torch.equal(logdet, again_logdet)
