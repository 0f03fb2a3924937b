"""One loss over several batches: variables that meet before a reduction share a size, the others have their own."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from inference.compiled_registry import LOSSES, D, Net, Y, Z, batch, decoder, encoder, prior
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, E, Function, Loss, Parameter, log
from probflow.errors import ShapeError
from probflow.inference.compiled import CompiledLoss
from probflow.inference.evaluate import program_for
from probflow.inference.program import BATCH, Program
from probflow.inference.term_rows import term_rows

U = {"x": "x_u", "y": "y_u", "z": "z_u"}


def classifier() -> pf.Distribution:
    return pf.Categorical("q(y | x)", Net(D, logits=Y))


def m2_terms(relaxed: bool = False) -> tuple[Loss, Loss, Loss]:
    """The labelled bound, the unlabelled one (y summed, or drawn), and the classifier's term; weights are shared."""
    p = decoder("p(x | z, y)", Z + Y) * prior() * pf.Categorical("p(y)", probs=torch.full((Y,), 1 / Y))
    q_z, q_y = encoder("q(z | x, y)", D + Y), classifier()
    shape = [3] if relaxed else ()
    unlabelled = ELBO(p.replace_var(U), (q_z * q_y).replace_var(U), sample_shape=shape)
    return -ELBO(p, q_z), -unlabelled, -log(q_y)


def rows(labelled: int, unlabelled: int) -> dict[str, Any]:
    return {**batch(labelled), "x_u": torch.rand(unlabelled, D).round(), "alpha": 0.3}


def program(loss: Loss, values: dict[str, Any] | None = None) -> Program:
    return program_for(loss, values)


def gradients(value: Tensor, loss: Loss) -> list[Tensor]:
    found = torch.autograd.grad(value, list(loss.parameters()), allow_unused=True)
    return [torch.zeros(()) if g is None else g for g in found]


def by_hand(terms: list[tuple[float, Loss]], values: dict[str, Any], whole: Loss) -> tuple[Tensor, list[Tensor]]:
    """Each loss for itself, one after the other, from one seed."""
    torch.manual_seed(3)
    value = sum((factor * part.eval(values) for factor, part in terms), torch.zeros(()))
    return value, gradients(value, whole)


SIZES = [(4, 9), (9, 4), (5, 5), (1, 6), (6, 1)]


@pytest.mark.parametrize("reduced", ["mean", "sum"])
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_m2_is_its_three_losses(sizes: tuple[int, int], drawn: bool, reduced: str) -> None:
    torch.manual_seed(0)
    a, b, c = (getattr(term, reduced)() for term in m2_terms(drawn))
    loss, values = a + b + Parameter("alpha") * c, rows(*sizes)
    torch.manual_seed(3)
    value = loss.eval(values)
    wanted, slopes = by_hand([(1.0, a), (1.0, b), (0.3, c)], values, loss)
    assert_close(value, wanted)
    for ours, theirs in zip(gradients(value, loss), slopes, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("sizes", SIZES)
def test_every_term_is_reduced_over_its_own_batch(sizes: tuple[int, int]) -> None:
    a, b = log(prior("p(x)", 2)), log(prior("p(y)", 2))
    q, p = pf.Normal("q(w)", loc=1.0, scale=1.0, features_shape=2), prior("p(w)", 2)
    constant = KL(q, p)  # one number for all rows of every batch: 1
    loss = (a + constant).sum() - (b + 2 * constant + Parameter("beta")).sum()
    values: dict[str, Tensor | float] = {"x": torch.randn(sizes[0], 2), "y": torch.randn(sizes[1], 2), "beta": 10.0}
    found = loss.terms(values)
    wanted: list[Tensor | int] = [a.eval(values).sum(), sizes[0], b.eval(values).sum(), 2 * sizes[1], 10 * sizes[1]]
    assert_close(torch.stack(list(found.values())), torch.tensor([float(w) for w in wanted]))
    signs = torch.tensor([1.0, 1, -1, -1, -1])
    assert_close(loss.eval(values), (signs * torch.stack(list(found.values()))).sum())


def test_a_constant_divergence_in_two_batches_joins_nothing() -> None:
    q, p = (pf.Normal("q(w)", loc=nn.Parameter(torch.ones(2)), scale=1.0), prior("p(w)", 2))
    shared, a, b = KL(q, p), log(prior("p(x)", 2)), log(prior("p(y)", 2))
    loss = (a + shared).sum() + (b + shared).sum()
    value = loss.eval({"x": torch.zeros(3, 2), "y": torch.zeros(5, 2)})
    assert_close(value, (8 * a.eval({"x": torch.zeros(1, 2)})).squeeze() + 8.0)
    (slope,) = gradients(value, loss)
    assert_close(slope, torch.full((2,), 8.0))


def test_a_number_of_one_batch_in_the_terms_of_another() -> None:
    f, g = log(prior("p(x)", 2)), log(prior("p(y)", 2))
    values = {"x": torch.randn(4, 2), "y": torch.randn(7, 2)}
    number, each = f.eval(values).mean(), g.eval(values)
    assert_close((f.mean() + g).mean().eval(values), number + each.mean())
    assert_close((f.mean() + g).sum().eval(values), 7 * number + each.sum())
    assert_close((f.mean() * g).eval(values), number * each)
    assert_close((f.mean() * g.mean()).eval(values), number * each.mean())
    assert_close((f.exp().mean() / g.exp().mean()).log().eval(values), (f.eval(values).exp().mean() / each.exp().mean()).log())


def test_a_loss_with_rows_has_those_of_its_batch() -> None:
    f, g = log(prior("p(x)", 2)), log(prior("p(y)", 2))
    constant = KL(pf.Normal("q(w)", loc=1.0, scale=1.0, features_shape=2), prior("p(w)", 2))
    loss = f.mean() + g + constant
    values = {"x": torch.randn(4, 2), "y": torch.randn(7, 2)}
    assert loss.eval(values).shape == (7,)
    assert {name: tuple(t.shape) for name, t in loss.terms(values).items()} == {
        "log p(x)": (),
        "log p(y)": (7,),
        "KL[q(w) || p(w)]": (7,),
    }


def test_products_of_two_expectations_draw_each_its_own_rows() -> None:
    q, p = encoder(), decoder()
    second = {"x": "x_u", "z": "z_u"}
    a, b = E(q)[log(p)].mean(), E(q.replace_var(second))[log(p.replace_var(second))].mean()
    values = {"x": torch.rand(3, D).round(), "x_u": torch.rand(8, D).round()}
    torch.manual_seed(1)
    value, drawn = (a * b).eval(values, return_dict=True)
    torch.manual_seed(1)
    assert_close(value, a.eval(values) * b.eval(values))
    assert drawn["z"].shape == (3, Z) and drawn["z_u"].shape == (8, Z)


def test_prior_samples_belong_where_they_are_used() -> None:
    """A critic of real rows and of generated ones, in two batches: the draw has the size of what it meets."""
    critic = nn.Linear(D, 1)
    net = nn.Linear(Z, D)
    fake = Function(lambda z, c: critic(net(z) + c).squeeze(1), ["z", "c"], "fake")
    real = Function(lambda x: critic(x).squeeze(1), ["x"], "real")
    loss = real.mean() - E(prior())[fake].mean()
    values = {"x": torch.randn(4, D), "c": torch.randn(11, D)}
    value, drawn = loss.eval(values, return_dict=True)
    assert drawn["z"].shape == (11, Z)
    generated = critic(net(drawn["z"]) + values["c"]).mean()
    assert_close(value, critic(values["x"]).mean() - generated)


def test_draws_that_meet_nothing_have_the_first_batch() -> None:
    a, b = log(prior("p(x)", 2)), log(prior("p(y)", 2))
    free = E(pf.Normal("q(w)", loc=nn.Parameter(torch.zeros(2)), scale=1.0))[Function(lambda w: w.sum(1), ["w"], "s")]
    values = {"x": torch.randn(4, 2), "y": torch.randn(7, 2)}
    _, drawn = (a.mean() + free.mean() + b.mean()).eval(values, return_dict=True)
    assert drawn["w"].shape == (4, 2)


def test_a_draw_that_two_batches_share_makes_them_one() -> None:
    p, p_u = decoder(), decoder("p(x_u | z)")
    q = prior()
    shared = E(q)[log(p)].mean() + E(q)[log(p_u)].mean()
    values = {"x": torch.rand(3, D).round(), "x_u": torch.rand(8, D).round()}
    with pytest.raises(ShapeError, match=r"\nThey meet in log p\(x_u\|z\)\.$"):
        shared.eval(values)
    own = E(q)[log(p)].mean() + E(q.replace_var(z="z_u"))[log(p_u.replace_var(z="z_u"))].mean()
    assert own.eval(values).shape == ()


def test_values_given_at_construction_have_a_batch_of_their_own() -> None:
    p = decoder("p(x | z, y)", Z + Y)
    given = p.given(y=batch(5)["y"])
    a, b = E(prior())[log(given)].mean(), log(prior("p(w)", 2)).mean()
    values = {"x": torch.rand(5, D).round(), "w": torch.randn(9, 2)}
    torch.manual_seed(1)
    value = (b + a).eval(values)
    torch.manual_seed(1)
    assert_close(value, b.eval(values) + a.eval(values))
    with pytest.raises(ShapeError, match=r"(?s)is given 5 rows, but the other values have batch 6.*: w; x, p\(x\|z,y=y\*\)"):
        (b + a).eval({**values, "x": torch.rand(6, D).round()})


def test_only_given_values_in_a_batch() -> None:
    observed = pf.Normal("p(x | z)", loc="z", scale=1.0).given(x=torch.randn(5, 2))
    a = E(prior("p(z)", 2))[log(observed)].mean()
    loss = log(prior("p(w)", 2)).mean() + a
    values = {"w": torch.randn(9, 2)}
    value, drawn = loss.eval(values, return_dict=True)
    assert drawn["z"].shape == (5, 2) and value.shape == ()
    assert_close(loss.compile(backend="eager")(values).shape, value.shape)
    assert [(g.names, dict(g.fixed)) for g in program(loss).groups] == [(("w",), {}), ((), {"p(x=x*|z)": 5})]


def test_compiled_with_nothing_but_given_values() -> None:
    torch._dynamo.reset()
    observed = pf.Normal("p(x | z)", loc="z", scale=1.0).given(x=torch.randn(5, 2))
    loss = E(prior("p(z)", 2))[log(observed)].mean()
    torch.manual_seed(1)
    wanted = loss.eval({})
    torch.manual_seed(1)
    assert_close(loss.compile(backend="eager")({}), wanted)


def test_a_number_per_row_belongs_to_the_rows_that_it_weighs() -> None:
    a, b, weight = log(prior("p(x)", 2)), log(prior("p(y)", 2)), Parameter("weight")
    loss = a.mean() + (weight * b).mean()
    values = {"x": torch.randn(4, 2), "y": torch.randn(7, 2), "weight": torch.rand(7)}
    assert_close(loss.eval(values), a.eval(values).mean() + (values["weight"] * b.eval(values)).mean())
    with pytest.raises(ShapeError, match=r"'weight' has shape \(4,\), .* \(7,\)"):
        loss.eval({**values, "weight": torch.rand(4)})


def test_samples_from_outside_in_one_of_the_batches() -> None:
    q, p = encoder(), decoder()
    z = q.sample({"x": torch.rand(6, D).round()}, sample_shape=[5])
    loss = log(prior("p(w)", 2)).mean() + log(p).mean()
    both = pf.distributions.Samples({**z, "w": torch.randn(3, 2)}, z.sample_dims)
    value = loss.eval(both)
    assert_close(value, log(prior("p(w)", 2)).eval(both).mean() + log(p).eval(both).mean(-1))


# ---------------------------------------------------------------------- readings


def test_the_plan_says_which_variables_share_a_batch() -> None:
    a, b, c = m2_terms()
    loss = a.mean() + b.mean() + Parameter("alpha") * c.mean()
    first = str(loss.plan()).splitlines()[1]
    assert " ".join(first.split()) == "1 read x, y; x_u; alpha 2 batches, each of its own size"
    shown = str(loss.plan(rows(3, 8))).splitlines()[1]
    assert "x (3, 6), y (3, 4); x_u (8, 6); alpha ()" in shown


def test_only_the_variables_of_one_batch_are_named() -> None:
    a, b, c = m2_terms()
    loss = a.mean() + b.mean() + Parameter("alpha") * c.mean()
    values = rows(3, 8)
    with pytest.raises(ShapeError) as caught:
        loss.eval({**values, "y": values["y"][:2]})
    assert str(caught.value).splitlines()[1:] == [
        "  x: (3, 6)",
        "  y: (2, 4)",
        "Dimension 0 of every variable is the batch; a single data point is x[None].",
        "They meet in q(z|x,y).",
        "Variables that meet before .mean() or .sum() have one batch size: x, y; x_u",
    ]


def test_sizes_that_differ_further_down() -> None:
    f, g = log(prior("p(x)", 2)), log(prior("p(y)", 2))
    values = {"x": torch.zeros(4, 2), "y": torch.zeros(7, 2), "w": torch.zeros(4, 2)}
    with pytest.raises(ShapeError, match=r"They meet in -\(log p\(x\) \+ log p\(y\)\)\.$"):
        ((f + g).mean() + (f - log(prior("p(w)", 2))).mean()).eval(values)


def test_sizes_that_differ_through_a_number_per_row_or_given_values() -> None:
    values = {"x": torch.zeros(4, 2), "y": torch.zeros(7, 2), "w": torch.rand(4)}
    f, g, w = log(prior("p(x)", 2)), log(prior("p(y)", 2)), Parameter("w")
    with pytest.raises(ShapeError, match=r"They meet in w \* log p\(y\)\.$"):
        ((w * f).mean() + (w * g).mean()).eval(values)
    q, q_y = (pf.Normal(f"q(z | {name})", loc=name, scale=1.0) for name in ("x", "y"))
    p = pf.Normal("p(z | c)", loc="c", scale=1.0).given(c=torch.zeros(4, 2))
    with pytest.raises(ShapeError, match=r"They meet in KL\[q\(z\|y\) \|\| p\(z\|c=c\*\)\]\.$"):
        (KL(q, p).mean() + KL(q_y, p).mean()).eval(values)


def test_terms_that_meet_before_the_mean_must_fit() -> None:
    a, b, _ = m2_terms()
    with pytest.raises(ShapeError) as caught:
        (a + b).mean().eval(rows(3, 8))
    assert str(caught.value).splitlines()[1:] == [
        "  x: (3, 6)",
        "  y: (3, 4)",
        "  x_u: (8, 6)",
        "Dimension 0 of every variable is the batch; a single data point is x[None].",
    ]


@pytest.mark.parametrize("example", [False, True])
@pytest.mark.parametrize("reduced", ["mean", "sum"])
@pytest.mark.parametrize("drawn", [False, True])
def test_as_python(drawn: bool, reduced: str, example: bool) -> None:
    torch.manual_seed(0)
    a, b, c = (getattr(term, reduced)() for term in m2_terms(drawn))
    free = E(prior("p(z_u)"))[log(decoder("p(x_u | z_u)"))]  # a draw that has only its batch from x_u
    loss, values = a + b + Parameter("alpha") * c + getattr(free, reduced)(), rows(4, 9)
    plan = loss.plan(values) if example else loss.plan()
    space: dict[str, Any] = {}
    exec(plan.to_python(), space)
    torch.manual_seed(2)
    wanted = loss.eval(values)
    torch.manual_seed(2)
    assert_close(space["loss"](values, **plan.networks), wanted)


def test_python_names_the_sizes() -> None:
    q = pf.Laplace("q(w)", loc=0.0, scale=1.0, features_shape=2)
    a, b = log(prior("p(x)", 2)).mean(), E(q)[log(pf.Normal("p(y | w)", loc="w", scale=1.0))].sum()
    text = (a + b).plan().to_python()
    assert "batch_y = y.shape[0]" in text and "    batch = x.shape[0]" not in text


def test_compiled_once_for_all_sizes() -> None:
    torch._dynamo.reset()
    a, b, c = m2_terms()
    loss = a.mean() + b.mean() + Parameter("alpha") * c.mean()
    compiled = loss.compile(backend="eager")
    assert isinstance(compiled, CompiledLoss)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for sizes in ((4, 9), (5, 7), (8, 8), (9, 3)):
        values = rows(*sizes)
        torch.manual_seed(1)
        wanted = loss.eval(values)
        torch.manual_seed(1)
        value, terms = compiled.value_and_terms(values)
        assert_close(value, wanted)
        for ours, theirs in zip(gradients(value, loss), gradients(wanted, loss), strict=True):
            assert_close(ours, theirs)
        assert len(terms) == len(loss.terms(values))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
    values = rows(4, 9)
    with pytest.raises(ShapeError, match="x, y; x_u"):
        compiled({**values, "y": values["y"][:2]})


@pytest.mark.slow
def test_compiled_by_inductor() -> None:
    torch._dynamo.reset()
    a, b, c = m2_terms()
    loss = a.mean() + b.mean() + Parameter("alpha") * c.mean()
    compiled = loss.compile()
    for sizes in ((4, 9), (5, 7)):
        values = rows(*sizes)
        torch.manual_seed(1)
        wanted = loss.eval(values)
        torch.manual_seed(1)
        assert_close(compiled(values), wanted)


def test_as_a_module_copied_and_compiled() -> None:
    torch._dynamo.reset()
    a, b, c = m2_terms()
    loss = a.mean() + b.mean() + Parameter("alpha") * c.mean()
    values = {**rows(4, 9), "alpha": torch.tensor(0.3)}
    torch.manual_seed(1)
    wanted = loss.eval(values)
    module = loss.module()
    for made in (
        module,
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.compile(module, backend="eager", fullgraph=True),
    ):
        torch.manual_seed(1)
        assert_close(made(values), wanted)


# ---------------------------------------------------------------------- one batch


@pytest.mark.parametrize("name", LOSSES)
def test_one_batch_is_as_it_was(name: str) -> None:
    loss = LOSSES[name]()
    made = program(loss, batch(5))
    (group,) = made.groups
    assert group.slot == BATCH and group.reads == made.reads and not made.batch_of
    assert all(slot == BATCH or slot in made_by(made) for step in made.steps for slot in step.args)
    assert term_rows(loss, batch(5)) is None
    assert "batches" not in str(made) and "batch_" not in made.to_python()


def made_by(made: Program) -> set[int]:
    return {step.out for step in made.steps} | {read.slot for read in made.reads}


def test_two_batches_of_one_size_take_the_steps_of_one() -> None:
    """Forced to meet, by a term of both that is 0, the same loss draws the same and has the same value."""
    a, b, c = m2_terms()
    nothing = Function(lambda x, x_u: 0.0 * (x.sum(1) + x_u.sum(1)), ["x", "x_u"], "nothing")
    apart = a.mean() + b.mean() + c.mean()
    together = apart + nothing.mean()
    assert len(program(apart).groups) == 2 and len(program(together).groups) == 1
    values = rows(6, 6)
    torch.manual_seed(1)
    one = together.eval(values)
    torch.manual_seed(1)
    assert torch.equal(apart.eval(values), one)
    ours, theirs = program(apart).steps, program(together).steps
    assert [(s.kind, s.text, s.note) for s in ours[:-1]] == [(s.kind, s.text, s.note) for s in theirs[: len(ours) - 1]]
