"""log E_q[exp f] over several finite variables: exact, and without a joint table of what factorises."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import probflow as pf
from probflow import E, exp, log

B = 4


def chain(n: int) -> tuple[pf.Distribution, list[pf.Function]]:
    """q(k0) q(k1|k0) ... and one term per neighbouring pair."""
    torch.manual_seed(0)
    q: pf.Distribution = pf.Categorical("q(k0 | x)", pf.nn.MLP([2], [4], {"logits": 3}))
    terms = [pf.Function(lambda k: (k * torch.tensor([0.3, -1.0, 0.5])).sum(1), ["k0"], "f0")]
    for i in range(1, n):
        table, pair = pf.nn.MLP([3], [4], {"logits": 3}), torch.randn(3, 3)
        q = q * pf.Categorical(f"q(k{i} | k{i - 1})", table)
        terms.append(
            pf.Function(lambda a, b, pair=pair: torch.einsum("bi,ij,bj->b", a, pair, b), [f"k{i - 1}", f"k{i}"], f"f{i}")
        )
    return q, terms


def total(terms: list[pf.Function]) -> pf.losses.Loss:
    result: pf.losses.Loss = terms[0]
    for place, term in enumerate(terms[1:]):
        result = result - 0.5 * term if place % 2 else result + term
    return result


def by_hand(q: pf.Distribution, body: pf.losses.Loss, x: Tensor) -> Tensor:
    """The sum over all joint states, one by one."""
    rows = []
    for states in itertools.product(torch.eye(3), repeat=len(q.var)):
        values = {n: state.expand(B, 3) for n, state in zip(q.var, states, strict=True)}
        rows.append(q.log_prob({**values, "x": x}) + body.eval({n: values[n] for n in body.input_var}))
    return torch.stack(rows).logsumexp(0)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_value_and_the_gradient_are_those_of_the_joint_sum(n: int) -> None:
    q, terms = chain(n)
    body, x = total(terms), torch.randn(B, 2)
    weights = list(q.parameters())
    value, expected = log(E(q)[exp(body)]).eval({"x": x}), by_hand(q, body, x)
    assert_close(value, expected)
    ours, theirs = (torch.autograd.grad(v.sum(), weights) for v in (value, expected))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b)


def test_no_table_of_all_variables() -> None:
    q, terms = chain(9)
    plan = log(E(q, estimator="enumerate")[exp(total(terms))]).plan({"x": torch.randn(B, 2)})
    shapes = [data["shape"] for _, data in plan.graph.nodes(data=True) if data["kind"] in ("sum", "combine", "function")]
    sizes = [math.prod(map(int, re.findall(r"\d+", shape))) for shape in shapes]
    assert len(sizes) >= 9 and max(sizes) <= 3 * 3 * B, "a table holds two neighbours, not 3^9 states"


def test_a_variable_that_no_term_has_sums_to_one() -> None:
    q, terms = chain(2)
    lonely = q * pf.Categorical("q(w)", logits=torch.randn(3))
    x = torch.randn(B, 2)
    assert_close(log(E(lonely)[exp(total(terms))]).eval({"x": x}), log(E(q)[exp(total(terms))]).eval({"x": x}))


def test_states_that_cannot_be() -> None:
    a = pf.Categorical("q(a)", probs=torch.tensor([0.0, 1.0]))
    b = pf.Categorical("q(b)", probs=torch.tensor([0.25, 0.75]))
    f = pf.Function(lambda a: a[:, 1], ["a"], "f")
    g = pf.Function(lambda b: b[:, 0], ["b"], "g")
    expected = 1 + torch.log(0.25 * torch.tensor(1.0).exp() + 0.75)
    assert log(E(a * b)[exp(f + g)]).eval().item() == pytest.approx(expected.item())


def test_the_written_function_gives_the_same() -> None:
    q, terms = chain(3)
    loss, x = log(E(q)[exp(total(terms))]).mean(), torch.randn(B, 2)
    plan = loss.plan({"x": x})
    namespace: dict[str, object] = {}
    exec(plan.to_python(), namespace)
    assert_close(namespace["loss"]({"x": x}, **plan.networks), loss.eval({"x": x}))  # type: ignore[operator]
