"""The laws of the tree: one object per expression, frozen, no leaks; what may be combined, and what each mistake says."""

from __future__ import annotations

import copy
import gc
import math
import operator
import pickle
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import probflow as pf
from probflow import ELBO, KL, CrossEntropy, E, Entropy, Function, Loss, Max, Min, Parameter, Prob, exp, log
from probflow.errors import LossError
from probflow.losses.node import _NODES

q = pf.Normal("q(z | x)", loc="x", scale=0.5)
p = pf.Normal("p(x | z)", loc="z", scale=1.0)
prior = pf.Normal("p(z)", loc=0.0, scale=1.0)
lp, m = log(p), KL(q, prior)
VALUES = {"x": torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64), "z": torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)}

EXPRESSIONS: dict[str, Callable[[], Loss]] = {
    "log": lambda: log(p),
    "KL": lambda: KL(q, prior),
    "Monte Carlo": lambda: KL(q, prior, sample_shape=[3]),
    "E": lambda: E(q)[log(p) + 2],
    "Entropy": lambda: Entropy(q),
    "CrossEntropy": lambda: CrossEntropy(q, prior),
    "ELBO": lambda: E(q)[log(p) - log(q)],
    "sum": lambda: log(p) + 2 * log(q) - 3.5,
    "nested": lambda: (Max(log(p), 2).exp() / Min(log(q), Parameter("beta"))).clamp(0, 1).detach().mean(),
    "power": lambda: Prob(p) ** 2,
    "minus": lambda: -log(p),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_same_expression_is_the_same_object(name: str) -> None:
    make = EXPRESSIONS[name]
    one, two = make(), make()
    assert one is two
    assert one == two and hash(one) == hash(two) and {one: 1}[two] == 1


def test_different_expressions_are_different_objects() -> None:
    same_name = pf.Normal("p(x | z)", loc="z", scale=1.0)
    assert log(p) is not log(same_name)
    assert lp + m is not m + lp
    assert KL(q, prior) is not KL(q, prior, analytical=False)
    assert E(q)[lp] is not E(q, [1])[lp]
    assert E(q)[lp] is not E(q, estimator="score")[lp]
    assert lp + 1 is not lp + 1.5
    assert 0.0 * lp is not -0.0 * lp


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_frozen(name: str) -> None:
    loss = EXPRESSIONS[name]()
    for attribute in (*type(loss).fields, "anything"):
        with pytest.raises(LossError, match="frozen"):
            setattr(loss, attribute, 1)


def test_no_field_hides_a_method() -> None:
    """`Sum` once had a field called terms, and so no method of that name."""
    for kind in {type(node) for make in EXPRESSIONS.values() for node in pf.losses.node.walk(make())}:
        assert not set(kind.fields) & set(vars(Loss))


class Encoder(pf.Normal):
    def __init__(self) -> None:
        super().__init__(var=["z"], cond_var=["x"], name="q")
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loc": self.linear(x), "scale": self.linear(x).exp()}


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))], ids=["deepcopy", "pickle"])
def test_copies_have_weights_of_their_own(copier: Callable[[Loss], Loss]) -> None:
    w = nn.Parameter(torch.tensor(2.0))
    encoder, wide = Encoder(), pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
    loss = (w * KL(encoder, wide) - E(encoder)[log(encoder)]).mean()
    x = {"x": torch.randn(4, 2)}
    before = loss.eval(x)  # a used loss copies, too
    twin = copier(loss)
    assert str(twin) == str(loss) and twin is not loss
    torch.manual_seed(1)
    expected = loss.eval(x)
    torch.manual_seed(1)
    assert_close(twin.eval(x), expected)
    twin.eval(x).backward()
    assert all(weight.grad is None for weight in loss.parameters())
    assert all(weight.grad is not None for weight in twin.parameters())
    with torch.no_grad():
        next(iter(twin.parameters())).add_(1)
    torch.manual_seed(1)
    assert_close(loss.eval(x), expected)
    assert before.shape == ()
    assert len(list(twin.parameters())) == len(list(loss.parameters())) == 3


def test_a_shallow_copy_is_the_same_object() -> None:
    assert copy.copy(lp) is lp


# ---------------------------------------------------------------------- numbers

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
NUMBERS: dict[str, Any] = {
    "int": 2,
    "float": 1.5,
    "tensor": torch.tensor(1.5),
    "tensor of one element": torch.tensor([1.5]),
    "parameter": nn.Parameter(torch.tensor(1.5)),
    "numpy float64": np.float64(1.5),
    "numpy float32": np.float32(1.5),
    "numpy int": np.int64(2),
    "numpy array": np.array(1.5),
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("op", OPERATORS)
def test_numbers_on_either_side(op: Callable[[Any, Any], Any], number: str) -> None:
    value = NUMBERS[number]
    here = (lp * 0.1).exp()  # positive, so that every power exists
    plain, scalar = here.eval(VALUES), float(value.detach() if isinstance(value, Tensor) else value)
    assert_close(op(here, value).eval(VALUES), op(plain, scalar))
    assert_close(op(value, here).eval(VALUES), op(torch.full_like(plain, scalar), plain))


TORCH: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "add": (torch.add, operator.add),
    "sub": (torch.sub, operator.sub),
    "mul": (torch.mul, operator.mul),
    "div": (torch.div, operator.truediv),
    "pow": (torch.pow, operator.pow),
}


@pytest.mark.parametrize("name", TORCH)
def test_torchs_functions_keep_the_order_of_their_arguments(name: str) -> None:
    function, op = TORCH[name]
    t = torch.tensor(2.0)
    assert function(lp, t) is op(lp, t)
    assert function(t, lp) is op(t, lp)


def test_in_place_on_a_tensor_starts_a_loss() -> None:
    total: Any = torch.tensor(0.5)
    total += lp
    assert str(total) == "0.5 + log p(x|z)"


@pytest.mark.parametrize("op", [operator.mul, operator.add, operator.sub, operator.truediv])
@pytest.mark.parametrize("left", [True, False])
def test_a_trainable_coefficient_stays_trainable(op: Callable[[Any, Any], Any], left: bool) -> None:
    w = nn.Parameter(torch.tensor(1.5))
    loss = (op(w, m) if left else op(m, w)).mean()
    assert [x is w for x in loss.parameters()] == [True]
    loss.eval(VALUES).backward()
    plain, v = m.eval(VALUES), w.detach().clone().requires_grad_()
    (op(v, plain) if left else op(plain, v)).mean().backward()
    assert_close(w.grad, v.grad)
    with torch.no_grad():  # an optimizer step is seen by the next evaluation
        w.add_(1.0)
    assert_close(loss.eval(VALUES), (op(w, plain) if left else op(plain, w)).mean())


def test_parameters_are_unique() -> None:
    w = nn.Parameter(torch.tensor(1.5))
    encoder = Encoder()
    f = Function(nn.Linear(2, 1), ["z"], "f")
    renamed = encoder.replace_var(z="w")
    loss = (
        w * KL(encoder, pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2))
        + w * E(encoder * renamed)[f + f - log(renamed)]
    )
    ids = [id(x) for x in loss.parameters()]
    assert len(ids) == len(set(ids)) == 5  # the encoder's two, the function's two, the coefficient


def test_sum_of_a_list() -> None:
    assert sum([lp, m, lp]) is lp + m + lp
    assert 0 + lp is lp


def test_a_thousand_terms() -> None:
    factors = [pf.Normal("p(x)", loc=float(i), scale=1.0) for i in range(1000)]
    start = time.perf_counter()
    loss: Any = sum(log(factor) for factor in factors)
    shown, formula = str(loss), loss.latex()
    value = loss.eval(VALUES)
    assert time.perf_counter() - start < 20  # seconds where milliseconds would be due mean a square or a cube
    assert shown.count(" + ") == 999 and formula.count(" + ") == 999
    expected = sum(factor.log_prob({"x": VALUES["x"]}) for factor in factors)
    assert_close(value, expected)
    assert len(list(loss.mean().terms(VALUES))) == 1000


def test_a_thousand_factors() -> None:
    loss: Any = math.prod([Parameter("a")] * 1000, start=Parameter("a"))
    assert_close(loss.eval({"a": 1.001}), torch.tensor(1.001**1001))


# ---------------------------------------------------------------------- free variables

FREE: dict[str, tuple[Loss, tuple[str, ...]]] = {
    "log": (log(p), ("x", "z")),
    "prob": (Prob(p), ("x", "z")),
    "joint": (log(p * prior), ("x", "z")),
    "KL": (KL(q, prior), ("x",)),
    "KL of two conditions": (KL(q, pf.Normal("p(z | y)", loc="y", scale=1.0)), ("x", "y")),
    "entropy": (Entropy(q), ("x",)),
    "cross entropy": (CrossEntropy(q, pf.Normal("p(z | y)", loc="y", scale=1.0)), ("x", "y")),
    "E": (E(q)[log(p)], ("x",)),
    "E binds only inside": (E(q)[log(p)] + log(prior), ("x", "z")),
    "a chain": (E(q * pf.Normal("q(w | z)", loc="z", scale=1.0))[log(pf.Normal("p(w | u)", loc="u", scale=1.0))], ("x", "u")),
    "E of a constant": (E(prior)[2], ()),
    "parameter": (Parameter("beta") * KL(q, prior), ("beta", "x")),
    "a parameter is never drawn": (E(prior)[Parameter("z") * log(prior)], ("z",)),
    "function": (Function(lambda a, b: a, ["a", "b"], "f"), ("a", "b")),
    "function, bound": (E(q)[Function(lambda a, z: a, ["a", "z"], "f")], ("x", "a")),
    "given": (log(p.given(z=torch.zeros(3))), ("x",)),
    "number": (pf.losses.node.as_loss(2), ()),
}


@pytest.mark.parametrize("name", FREE)
def test_input_var(name: str) -> None:
    loss, names = FREE[name]
    assert loss.input_var == names


# ---------------------------------------------------------------------- mistakes

MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "truth": (lambda: bool(lp), "truth value"),
    "and": (lambda: lp and m, "Min"),
    "iteration": (lambda: list(lp), "not a sequence"),
    "unpacking": (lambda: (lambda a, b: a)(*lp), "not a sequence"),
    "float": (lambda: float(lp), "loss.eval"),
    "torch.exp": (lambda: torch.exp(lp), "loss's own methods"),  # type: ignore[arg-type]
    "torch.mean": (lambda: torch.mean(lp), "loss's own methods"),  # type: ignore[call-overload]
    "torch.stack": (lambda: torch.stack([lp, lp]), "loss's own methods"),  # type: ignore[list-item]
    "torch.add with alpha": (lambda: torch.add(lp, torch.tensor(1.0), alpha=2), "torch.add"),  # type: ignore[call-overload]
    "plus a distribution": (lambda: lp + p, "is a distribution, not a loss"),
    "a distribution plus": (lambda: p + lp, "is a distribution, not a loss"),
    "a distribution times": (lambda: p * lp, "is a distribution, not a loss"),
    "a tensor of several elements": (lambda: torch.ones(3) * lp, r"shape \(3,\)"),
    "an array": (lambda: np.ones(3) * lp, "ndarray"),  # type: ignore[operator]
    "a string": (lambda: lp * "a", "str"),  # type: ignore[operator]
    "None": (lambda: lp + None, "NoneType"),  # type: ignore[operator]
    "True": (lambda: lp * True, "bool"),
    "by zero": (lambda: lp / 0, "divided by zero"),
    "KL of different variables": (lambda: KL(q, p), "same variables"),
    "KL of a loss": (lambda: KL(lp, prior), "It is a loss already"),  # type: ignore[arg-type]
    "KL of a tensor": (lambda: KL(q, torch.zeros(1)), "takes a distribution, got a Tensor"),  # type: ignore[arg-type]
    "cross entropy of different variables": (lambda: CrossEntropy(q, p), "same variables"),
    "ELBO swapped": (lambda: ELBO(q, p * prior), "swapped"),
    "ELBO of a foreign variable": (lambda: ELBO(p * prior, pf.Normal("q(w | x)", loc="x", scale=1.0)), "w of q"),
    "E of a distribution": (lambda: E(q)[p], "write log"),  # type: ignore[index]
    "E of two losses": (lambda: E(q)[lp, m], "tuple"),  # type: ignore[index]
    "E over a loss": (lambda: E(lp), "takes a distribution"),  # type: ignore[arg-type]
    "unknown estimator": (lambda: E(q, estimator="reinforce")[lp], "enumerate, pathwise, score"),
    "no samples": (lambda: E(q, [0])[lp], "positive integers"),
    "samples as a string": (lambda: E(q, "3")[lp], "integer or a list"),  # type: ignore[arg-type]
    "log of a tensor": (lambda: log(torch.ones(2)), "torch.log"),  # type: ignore[call-overload]
    "exp of a distribution": (lambda: exp(p), "exp takes a loss"),  # type: ignore[arg-type]
    "Min of one": (lambda: Min(lp), "two losses or more"),
    "clamp without limits": (lambda: lp.clamp(), "min or max"),
    "clamp upside down": (lambda: lp.clamp(2, 1), "larger"),
    "a parameter without a name": (lambda: Parameter(0.5), "takes a name"),  # type: ignore[arg-type]
    "a function that is none": (lambda: Function(torch.ones(2), ["x"]), "callable"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    make, message = MISTAKES[name]
    with pytest.raises(pf.errors.ProbflowError, match=message) as caught:
        make()
    assert len(str(caught.value)) > 20


# ---------------------------------------------------------------------- memory


def test_a_loss_and_its_networks_are_freed() -> None:
    gc.collect()
    nodes = len(_NODES)

    def use() -> list[weakref.ref[Any]]:
        encoder, wide, w = Encoder(), pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2), nn.Parameter(torch.tensor(2.0))
        y = pf.Bernoulli("q(y | x)", lambda x: {"logits": x[:, 0]})
        f = Function(nn.Linear(2, 1).requires_grad_(), ["z"], "f")
        g = Function(lambda z, y: z.sum(1) * y, ["z", "y"], "g")
        loss = (
            w * KL(encoder, wide)
            - E(encoder, [2])[log(wide)]
            + E(y * encoder)[g] ** 2
            + E(y, estimator="score")[Entropy(encoder)]
        ).mean()
        x = {"x": torch.randn(4, 2)}
        loss.eval(x).backward()
        loss.terms(x), str(loss.plan()), loss.eval(x, return_dict=True), loss.latex()
        loss.module()(x)
        del f
        return [weakref.ref(it) for it in (loss, loss._plans, encoder, encoder.linear.weight, w)]

    alive = use()
    gc.collect()
    assert [it() for it in alive] == [None] * 5
    assert len(_NODES) == nodes


def test_a_trainable_coefficient_is_a_leaf() -> None:
    weight = torch.nn.Parameter(torch.tensor(2.0))
    kl = pf.KL(pf.Normal("q(z)", loc=1.0, scale=1.0), pf.Normal("p(z)", loc=0.0, scale=1.0))
    with pytest.raises(pf.errors.LossError, match="leaf"):
        _ = (2 * weight) * kl
    loss = (pf.Trainable(weight) ** 2 * kl).mean()
    loss.eval().backward()
    assert weight.grad is not None and torch.isclose(weight.grad, torch.tensor(2 * 2.0 * 0.5))
