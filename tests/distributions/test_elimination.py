"""Variable elimination: the same number as joint enumeration, at the cost of the sum of the state counts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from probflow.distributions import Bernoulli, Categorical, Deterministic, Normal
from probflow.distributions.elimination import Table, added, eliminate, min_fill_order
from probflow.distributions.enumeration import terms
from probflow.errors import NoDensity, SupportError
from probflow.losses import LogProb


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor made inside."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.numel())
        return result


def categorical(statement, inputs, k, seed=0):
    """p(z | ...), its logits a sum of linear maps of the inputs."""
    torch.manual_seed(seed)
    nets = nn.ModuleList(nn.Linear(width, k) for width in inputs)
    if not inputs:
        return Categorical(statement, logits=nn.Parameter(torch.randn(k)))
    return Categorical(statement, lambda *zs: {"logits": sum(2 * net(z) for net, z in zip(nets, zs, strict=True))})


def emission(statement, inputs, seed=0):
    torch.manual_seed(seed)
    nets = nn.ModuleList(nn.Linear(width, 1) for width in inputs)
    return Normal(
        statement,
        lambda *zs: {"loc": sum(net(z) for net, z in zip(nets, zs, strict=True)), "scale": torch.ones(len(zs[0]), 1)},
    )


def chain(length, k):
    """p(z1) prod p(z_t|z_{t-1}) p(x_t|z_t)."""
    p = categorical("p(z1)", [], k) * emission("p(x1|z1)", [k])
    for t in range(2, length + 1):
        p = p * categorical(f"p(z{t} | z{t - 1})", [k], k, t) * emission(f"p(x{t} | z{t})", [k], t)
    return p, {f"z{t}": k for t in range(1, length + 1)}


def models():
    """Products of every shape: name -> (product, the finite variables with their state counts)."""
    apart = emission("p(x|a)", [3]) * emission("p(y|b)", [4]) * categorical("p(a)", [], 3) * categorical("p(b)", [], 4)
    tree = (
        categorical("p(a)", [], 3) * categorical("p(b|a)", [3], 2) * categorical("p(c|a)", [3], 4) * categorical("p(d|c)", [4], 2)
        * emission("p(x|b)", [2]) * emission("p(y|d)", [2], 1)
    )  # fmt: skip
    loop = (
        categorical("p(a)", [], 3)
        * categorical("p(b|a)", [3], 2)
        * categorical("p(c|a)", [3], 2)
        * emission("p(x|b,c)", [2, 2])
    )
    collider = emission("p(x|a,b)", [3, 4]) * categorical("p(a)", [], 3) * categorical("p(b)", [], 4) * emission("p(y|b)", [4])
    return {
        "apart": (apart, {"a": 3, "b": 4}),
        "chain": chain(4, 3),
        "tree": (tree, {"a": 3, "b": 2, "c": 4, "d": 2}),
        "loop": (loop, {"a": 3, "b": 2, "c": 2}),
        "collider": (collider, {"a": 3, "b": 4}),
    }


def jointly(p, hidden, values, n):
    """log p at every joint state, one call of log_prob each: {states: (n,)}."""
    found = {}
    for states in itertools.product(*(range(k) for k in hidden.values())):
        at = {name: torch.full((n,), s) for name, s in zip(hidden, states, strict=True)}
        at = {name: nn.functional.one_hot(index, hidden[name]).to(torch.float64) for name, index in at.items()}
        found[states] = p.log_prob({**values, **at})
    return found


@pytest.mark.parametrize("name", models())
def test_a_marginal_equals_joint_enumeration(name):
    p, hidden = models()[name]
    values = {n: torch.randn(5, 1) for n in p.var if n not in hidden}
    marginal = p.marginalize_var(*hidden)
    expected = torch.stack(list(jointly(p, hidden, values, 5).values())).logsumexp(0)
    assert_close(marginal.log_prob(values), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", models())
def test_its_gradient_equals_that_of_joint_enumeration(name):
    p, hidden = models()[name]
    values = {n: torch.randn(5, 1, requires_grad=True) for n in p.var if n not in hidden}
    weights = [*p.parameters(), *values.values()]
    expected = torch.autograd.grad(torch.stack(list(jointly(p, hidden, values, 5).values())).logsumexp(0).sum(), weights)
    assert_close(torch.autograd.grad(p.marginalize_var(*hidden).log_prob(values).sum(), weights), expected)


@pytest.mark.parametrize("name", models())
def test_posteriors_equal_joint_enumeration(name):
    p, hidden = models()[name]
    values = {n: torch.randn(5, 1) for n in p.var if n not in hidden}
    table = jointly(p, hidden, values, 5)
    probs = torch.stack(list(table.values())).softmax(0)
    for place, wanted in enumerate(hidden):
        others = [n for n in hidden if n != wanted]
        expected = torch.stack(
            [sum(row for states, row in zip(table, probs, strict=True) if states[place] == k) for k in range(hidden[wanted])], 1
        )
        assert_close(p.marginalize_var(*others).posterior(wanted).mean(values), expected)
    states = list(table)[-1]
    at = {n: torch.full((5,), s) for n, s in zip(hidden, states, strict=True)}
    assert_close(p.posterior(*hidden).log_prob({**values, **at}), probs[-1].log())


@pytest.mark.parametrize("name", ["apart", "chain"])
@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_with_sample_dimensions(name, shape):
    p, hidden = models()[name]
    marginal = p.marginalize_var(*hidden)
    drawn = marginal.sample(batch_n=5, sample_shape=shape)
    result = marginal.log_prob(drawn)
    assert result.shape == (*shape, 5)
    flat = {n: v.reshape(-1, 1) for n, v in drawn.items()}
    assert_close(result.flatten(), marginal.log_prob(flat))
    some = (
        dict(drawn, x1=drawn["x1"].reshape(-1, 5, 1)[0]) if name == "chain" else dict(drawn, x=drawn["x"].reshape(-1, 5, 1)[0])
    )
    dims = {n: 0 if n in ("x", "x1") else len(shape) for n in some}
    full = {n: v.expand(*shape, 5, 1).reshape(-1, 1) for n, v in some.items()}
    assert_close(marginal.log_prob(some, sample_dims=dims).flatten(), marginal.log_prob(full))


def test_one_by_one_is_the_same_as_all_at_once():
    p, hidden = chain(4, 3)
    values = {n: torch.randn(5, 1) for n in p.var if n not in hidden}
    expected = p.marginalize_var(*hidden).log_prob(values)
    for order in (("z1", "z2", "z3", "z4"), ("z4", "z2", "z1", "z3")):
        step = p
        for name in order:
            step = step.marginalize_var(name)
        assert_close(step.log_prob(values), expected)


def test_a_name_given_away_since_is_left_alone():
    p = emission("p(x|a)", [3]) * categorical("p(a)", [], 3)
    q = p.marginalize_var("a") * Normal("p(a|x)", loc="x", scale=1.0)  # another a
    assert q.marginalize_var("a").log_prob({"x": torch.zeros(2, 1)}).shape == (2,)
    with pytest.raises(NoDensity):
        q.marginalize_var("x").log_prob({"a": torch.zeros(2, 1)})


def test_deterministic_variables_between_the_sums():
    p, hidden = chain(3, 3)
    p = p * Deterministic("f(h | z2)", lambda z2: 2 * z2) * emission("p(y|h,z3)", [3, 3], 9)
    values = {n: torch.randn(5, 1) for n in ("x1", "x2", "x3", "y")}
    states = jointly(chain(3, 3)[0], hidden, {n: values[n] for n in ("x1", "x2", "x3")}, 5)
    y = p.factors[-1]
    total = []
    for at, row in states.items():
        z2, z3 = (nn.functional.one_hot(torch.full((5,), s), 3).to(torch.float64) for s in at[1:])
        total.append(row + y.log_prob({"h": 2 * z2, "z3": z3, "y": values["y"]}))
    assert_close(p.marginalize_var("h", *hidden).log_prob(values), torch.stack(total).logsumexp(0))


# ---------------------------------------------------------------------- cost


def test_a_chain_costs_the_sum_of_the_state_counts():
    """40 variables of 6 states: 6^40 joint states, tables of 36."""
    p, hidden = chain(40, 6)
    values = {n: torch.randn(7, 1) for n in p.var if n not in hidden}
    marginal = p.marginalize_var(*hidden)
    with Largest() as largest:
        result = marginal.log_prob(values)
    assert bool(result.isfinite().all())
    assert largest.size <= 6 * 6 * 7  # one transition with its message, for every batch element


def test_it_compiles_to_one_graph():
    """networkx finds the order while tracing; the graph holds the answer."""
    p, hidden = chain(3, 3)
    values = {n: torch.randn(5, 1) for n in p.var if n not in hidden}
    loss = -LogProb(p.marginalize_var(*hidden)).mean()
    compiled = torch.compile(loss.module(), fullgraph=True, backend="eager")
    assert_close(compiled(values), loss.eval(values))


def test_what_factorises_is_not_enumerated_jointly():
    parts = [emission(f"p(x{i}|z{i})", [5], i) * categorical(f"p(z{i})", [], 5, i) for i in range(12)]
    p = math.prod(parts[1:], start=parts[0])
    values = {f"x{i}": torch.randn(7, 1) for i in range(12)}
    marginal = p.marginalize_var(*(f"z{i}" for i in range(12)))
    with Largest() as largest:
        result = marginal.log_prob(values)
    assert largest.size <= 5 * 7
    one_by_one = sum(part.marginalize_var(f"z{i}").log_prob({f"x{i}": values[f"x{i}"]}) for i, part in enumerate(parts))
    assert_close(result, one_by_one)


def test_smoothing_a_chain_costs_the_sum_too():
    p, hidden = chain(40, 6)
    values = {n: torch.randn(7, 1) for n in p.var if n not in hidden}
    posterior = p.marginalize_var(*(n for n in hidden if n != "z20")).posterior("z20")
    with Largest() as largest:
        mean = posterior.mean(values)
    assert largest.size <= 6 * 6 * 7
    assert_close(mean.sum(1), torch.ones(7))


def test_a_hidden_markov_model_equals_its_forward_recursion():
    p, hidden = chain(30, 4)
    values = {n: torch.randn(5, 1) for n in p.var if n not in hidden}
    eye = torch.eye(4)
    by_name = {f.var[0]: f for f in p.factors}
    alpha = by_name["z1"].log_prob({"z1": eye}).expand(5, 4)
    for t in range(1, 31):
        if t > 1:
            step = by_name[f"z{t}"]
            table = torch.stack([step.log_prob({f"z{t}": eye, f"z{t - 1}": row.expand(4, 4)}) for row in eye])  # (from, to)
            alpha = (alpha[:, :, None] + table).logsumexp(1)
        x = by_name[f"x{t}"]
        alpha = alpha + torch.stack([x.log_prob({f"x{t}": values[f"x{t}"], f"z{t}": row.expand(5, 4)}) for row in eye], 1)
    assert_close(p.marginalize_var(*hidden).log_prob(values), alpha.logsumexp(1))


def test_too_large_a_table_is_an_error_and_names_a_bound():
    p = math.prod([categorical(f"p(z{i})", [], 32, i) for i in range(5)][1:], start=categorical("p(z0)", [], 32))
    p = p * emission("p(x | z0, z1, z2, z3, z4)", [32] * 5)
    with pytest.raises(NoDensity, match=r"more than 1048576 joint states in one table.\nUse a bound instead: ELBO"):
        p.marginalize_var("z0", "z1", "z2", "z3", "z4").log_prob({"x": torch.zeros(2, 1)})


# ---------------------------------------------------------------------- posteriors of many variables


def factorised(monkeypatch):
    """Posteriors as products of conditionals, however few states there are."""
    monkeypatch.setattr("probflow.distributions.posterior.FEW_JOINTLY", 0)


@pytest.mark.parametrize("name", models())
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_a_posterior_as_a_product_of_conditionals(name, shape, monkeypatch):
    p, hidden = models()[name]
    posterior = p.posterior(*hidden)
    values = {n: torch.randn(5, 1) for n in p.var if n not in hidden}
    drawn = posterior.sample(values, sample_shape=shape)
    expected, entropy = posterior.log_prob(drawn), posterior.entropy(values)
    factorised(monkeypatch)
    again = posterior.sample(values, sample_shape=shape)
    assert {n: v.shape for n, v in again.items()} == {n: v.shape for n, v in drawn.items()}
    assert_close(posterior.log_prob(drawn), expected)
    assert expected.shape == (*shape, 5)
    assert_close(posterior.entropy(values), entropy)
    lead = {n: v.expand(2, 5, 1) for n, v in values.items()}  # observations with a sample dimension
    at = {n: v.reshape(-1, *v.shape[-2:])[0] for n, v in drawn.items() if n in hidden}
    dims = {**dict.fromkeys(lead, 1), **dict.fromkeys(at, 0)}
    assert_close(posterior.log_prob({**lead, **at}, sample_dims=dims)[1], posterior.log_prob({**values, **at}))


@pytest.mark.parametrize("name", ["apart", "chain", "loop"])
def test_its_draws_follow_it(name, monkeypatch):
    """The frequency of every joint state, within 5 standard errors, of 20,000 draws."""
    p, hidden = models()[name]
    values = {n: torch.randn(2, 1) for n in p.var if n not in hidden}
    probs = torch.stack(list(jointly(p, hidden, values, 2).values())).softmax(0)
    factorised(monkeypatch)
    n = 20_000
    drawn = p.posterior(*hidden).sample(values, sample_shape=n)
    place = torch.zeros(n, 2, dtype=torch.long)
    for name_, k in hidden.items():
        place = place * k + drawn[name_].argmax(-1)
    found = nn.functional.one_hot(place, len(probs)).to(torch.float64).mean(0).T
    assert bool(((found - probs).abs() <= 5 * (probs * (1 - probs) / n).sqrt() + 5 / n).all())


def test_a_posterior_of_a_long_chain():
    """6^40 states: sampled and evaluated in tables of 36, by Bayes' rule; they are too many to list."""
    p, hidden = chain(40, 6)
    values = {n: torch.randn(7, 1) for n in p.var if n not in hidden}
    posterior = p.posterior(*hidden)
    with Largest() as largest:
        drawn = posterior.sample(values)
        density = posterior.log_prob(drawn)
    assert largest.size <= 6 * 6 * 7
    evidence = p.marginalize_var(*hidden).log_prob(values)
    assert_close(density, p.log_prob(drawn) - evidence)
    wrong = {**drawn, "z3": torch.full((7, 6), 0.5)}
    with pytest.raises(SupportError, match="'z3'|is not one of its 6 states"):
        posterior.log_prob(wrong)
    with pytest.raises(NoDensity, match=r"more than 1048576 joint states.*\n.*marginalize_var\(...\).posterior\('z1'\)"):
        posterior.entropy(values)


# ---------------------------------------------------------------------- forbidden states


def test_forbidden_transitions_keep_values_and_gradients():
    """A state that nothing reaches has a message of -inf: the total and its gradient stay those of the other states."""
    blocked = torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]], dtype=torch.float64)  # nothing goes to state 1
    first = torch.randn(2, 3, requires_grad=True)
    step = torch.randn(2, 2, 3, requires_grad=True)
    tables = [Table((0,), 0, first), Table((1, 0), 0, step + blocked[:, :, None]), Table((1,), 0, torch.zeros(2, 3))]
    total = added(eliminate(tables, [2, 2], [], 100, str)[0]).values
    assert_close(total, (first + step[0]).logsumexp(0))
    found = torch.autograd.grad(total.sum(), [first, step])
    expected = torch.autograd.grad((first + step[0]).logsumexp(0).sum(), [first, step])
    assert_close(found, expected)


def test_nan_is_not_hidden():
    tables = [Table((0,), 0, torch.tensor([[torch.nan], [0.0]])), Table((1, 0), 0, torch.zeros(2, 2, 1))]
    assert bool(added(eliminate(tables, [2, 2], [], 100, str)[0]).values.isnan().all())


# ---------------------------------------------------------------------- the order


def test_the_order_of_a_star_leaves_its_centre_for_last():
    order, largest = min_fill_order([(0, leaf) for leaf in range(1, 9)], [10] * 9)
    assert order[-2:].count(0) == 1 and largest == 100


def test_the_order_of_a_grid_is_narrow():
    """4 x 4 cells: treewidth 4, so tables of at most 2^5 entries, where all the states are 2^16."""
    cells = list(itertools.product(range(4), range(4)))
    edges = [(4 * i + j, 4 * a + b) for i, j in cells for a, b in ((i + 1, j), (i, j + 1)) if a < 4 and b < 4]
    order, largest = min_fill_order(edges, [2] * 16)
    assert sorted(order) == list(range(16)) and largest == 2**5


def test_each_term_has_the_axes_it_depends_on():
    p, hidden = chain(3, 2)
    values = {f"x{t}": torch.randn(4, 1) for t in (1, 2, 3)}
    tables, finite = terms(p, tuple(hidden), values, dict.fromkeys(values, 0), True)
    assert [each.names for each in finite] == [("z1",), ("z2",), ("z3",)]
    assert sorted(each.axes for each in tables) == [(0,), (0,), (1,), (1, 0), (2,), (2, 1)]
    left, buckets = eliminate(tables, [2, 2, 2], [0, 2], 100, str)
    assert added(left).axes == (2, 0) and added(left).values.shape == (2, 2, 4)
    assert [(axis, table.axes) for axis, table in buckets] == [(1, (2, 1, 0))]


def test_a_vector_of_bits_is_one_variable():
    p = emission("p(x|b)", [3]) * Bernoulli("p(b)", probs=torch.tensor([0.2, 0.5, 0.7]))
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    x = torch.randn(4, 1)
    expected = torch.stack([p.log_prob({"x": x, "b": b.expand(4, 3)}) for b in bits]).logsumexp(0)
    assert_close(p.marginalize_var("b").log_prob({"x": x}), expected)
