"""A loss prints as it was typed: names, order, parentheses; and different distributions never read the same."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import probflow as pf
from probflow import ELBO, KL, CrossEntropy, E, Entropy, Function, Loss, Max, Min, Parameter, Prob, exp, log

q = pf.Normal("q(z | x)", loc="x", scale=0.5)
p = pf.Normal("p(x | z)", loc="z", scale=1.0)
prior = pf.Normal("p(z)", loc=0.0, scale=1.0)
beta = Parameter("beta")
f, g = Function(lambda z: z, ["z"], "f"), Function(lambda z, x: z * x, ["z", "x"], "g")


def test_the_forms_of_the_design() -> None:
    assert str(log(p)) == "log p(x|z)"
    assert str(KL(q, prior)) == "KL[q(z|x) || p(z)]"
    assert str(Entropy(q)) == "H[q(z|x)]"
    assert str(E(q)[log(p)]) == "E_q(z|x)[log p(x|z)]"
    assert str(log(p).mean()) == "mean(log p(x|z))"
    assert str((KL(q, prior) - E(q)[log(p)]).mean()) == "mean(KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)])"


FORMS: dict[str, Loss] = {
    "p(x|z)": Prob(p),
    "log(p(x|z))": log(Prob(p)),
    "H[q(z|x), p(z)]": CrossEntropy(q, prior),
    "beta * KL[q(z|x) || p(z)]": beta * KL(q, prior),
    "f(z)": f,
    "g(z, x)": g,
    "E_q(z|x)[log p(x,z) - log q(z|x)]": ELBO(p * prior, q),
    "exp(f(z))": exp(f),
    "abs(f(z))": f.abs(),
    "detach(f(z))": f.detach(),
    "sum(f(z))": f.sum(),
    "clamp(f(z), min=0.5)": f.clamp(min=0.5),
    "clamp(f(z), max=2)": f.clamp(max=2),
    "clamp(f(z), min=-1, max=2)": f.clamp(-1, 2),
    "min(f(z), 2)": Min(f, 2),
    "max(f(z), g(z, x), 0)": Max(f, g, 0),
}


@pytest.mark.parametrize("shown", FORMS)
def test_every_node(shown: str) -> None:
    assert str(FORMS[shown]) == repr(FORMS[shown]) == shown


def test_the_authors_order() -> None:
    assert str(KL(q, prior) + f) == "KL[q(z|x) || p(z)] + f(z)"
    assert str(f + KL(q, prior)) == "f(z) + KL[q(z|x) || p(z)]"
    assert str(2 * f - g * 3 + 1) == "2 * f(z) - g(z, x) * 3 + 1"
    assert str(log(prior * p)) == "log p(z,x)"
    assert str(log(p * prior)) == "log p(x,z)"


# every spelling is read back by Python: the same text, and the same object
SPELLINGS = [
    "a + b - c",
    "a - (b - c)",
    "a - (b + c)",
    "a + (b + c)",
    "(a + b) * c",
    "a * (b + c)",
    "a * (b * c)",
    "a * b / c",
    "a / b / c",
    "a / (b / c)",
    "a / (b * c)",
    "(a + b) / (c - a)",
    "a * (b / c)",
    "a ** 2",
    "(a + b) ** 2",
    "(a * b) ** c",
    "2 ** (a + b)",
    "(a ** b) ** c",
    "a ** (b ** c)",
    "-(a + b)",
    "a - (-b)",
    "a + (-b) * c",
    "a * (-b)",
    "-a * b",
    "(-a) ** 2",
    "-a + b",
    "a * (-2) + b",
    "a - (-2)",
    "a ** (-2)",
    "0.1 * a + 1e-07 * b - 1234567.5 * c",
    "0.1234567891 * a",
    "3 * a / 4",
    "a.exp() * b.log() - c.abs()",
    "(a + b).exp()",
    "Min(a, b + c) * Max(a, 2)",
    "-(-a)",
    "-(a ** 2)",
    "a / b * c",
]
NAMES = {"a": f, "b": beta, "c": Parameter("c")}


def read_back(shown: str) -> Any:
    """The printed text as Python: functions and names of the printed form, and ``**`` as it is."""
    scope = {
        "f": lambda z: f, "z": None, "beta": beta, "c": Parameter("c"), "exp": exp, "log": log, "abs": abs,
        "min": Min, "max": Max,
    }  # fmt: skip
    return eval(shown, {}, scope)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_is_printed_is_what_was_typed(spelling: str) -> None:
    made = eval(spelling, {"Min": Min, "Max": Max}, NAMES)
    again = read_back(str(made))
    assert str(again) == str(made)
    assert again is made


@pytest.mark.parametrize("spelling", ["-(a * b)", "-(a / b)", "-(a * b * c)"])
def test_a_minus_in_front_of_a_product_belongs_to_either(spelling: str) -> None:
    made = eval(spelling, {}, NAMES)
    again = read_back(str(made))  # (-a) b, which is -(a b): the same number, another tree
    values = {"z": torch.tensor([1.5]), "beta": 0.7, "c": 3.0}
    assert again.eval(values) == made.eval(values)


def test_numbers_are_not_rounded_into_other_numbers() -> None:
    assert str(0.1 * f) == "0.1 * f(z)"
    assert str(1234567.0 * f) == "1234567 * f(z)"
    assert str((1 / 3) * f) == f"{1 / 3!r} * f(z)"
    assert str(f.clamp(min=0.123456789)) == "clamp(f(z), min=0.123456789)"


def test_a_trainable_coefficient_is_not_a_number() -> None:
    w, v = nn.Parameter(torch.tensor(-0.5)), nn.Parameter(torch.tensor(-0.5))
    assert "0.5" not in str(w * f)  # it will be another number after the next step
    assert str(w * f - v) != str(w * f - w)


# ---------------------------------------------------------------------- identity is the object, not the label


def test_two_networks_of_one_name() -> None:
    one, two = pf.Normal("p(x|z)", loc="z", scale=1.0), pf.Normal("p(x|z)", loc="z", scale=2.0)
    assert str(log(one) - log(two)) == "log p#1(x|z) - log p#2(x|z)"
    assert str(log(two) - log(one)) == "log p#1(x|z) - log p#2(x|z)"  # numbered as they appear
    assert str(log(one) - log(one)) == "log p(x|z) - log p(x|z)"
    assert str(log(one * prior) - log(two)) == "log p#1(x|z) p(z) - log p#2(x|z)"


def test_two_factorisations_of_one_name() -> None:
    one = pf.Normal("p(x|z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
    two = pf.Normal("p(x)", loc=0.0, scale=1.0) * pf.Normal("p(z|x)", loc="x", scale=1.0)
    assert str(log(one) - log(two)) == "log p(x|z) p(z) - log p(x) p(z|x)"


def test_a_renamed_copy_has_the_same_network() -> None:
    other = prior.replace_var(z="w")
    assert str(log(prior) + log(other)) == "log p(z) + log p(w)"


# ---------------------------------------------------------------------- whole models


class Net(nn.Module):
    def forward(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loc": inputs[0], "scale": torch.ones_like(inputs[0])}


def normal(statement: str) -> pf.Distribution:
    return pf.Normal(statement, Net())


def models() -> dict[str, tuple[Loss, str]]:
    encoder, decoder = normal("q(z|x)"), normal("p(x|z)")
    vae = (KL(encoder, prior) - E(encoder)[log(decoder)]).mean()
    c_encoder, c_decoder = normal("q(z|x,y)"), normal("p(x|z,y)")
    p_prior = pf.Normal(loc=0.0, scale=1.0, var=["z"], name="p_{prior}")
    cvae = (KL(c_encoder, p_prior) - E(c_encoder)[log(c_decoder)]).mean()
    q1, q2 = normal("q(z1|x)"), normal("q(z2|z1)")
    generative = normal("p(x|z1)") * normal("p(z1|z2)") * pf.Normal("p(z2)", loc=0.0, scale=1.0)
    hierarchical = -ELBO(generative, q1 * q2).mean()
    class_prior = pf.Categorical("p(y)", probs=torch.full((10,), 0.1))
    classifier = pf.Categorical("q(y|x)", lambda x: {"logits": x})
    labelled = E(c_encoder)[log(c_decoder) + log(class_prior) + log(prior) - log(c_encoder)]
    unlabelled = E(classifier)[labelled] + Entropy(classifier)
    return {
        "VAE": (vae, "mean(KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)])"),
        "CVAE": (cvae, "mean(KL[q(z|x,y) || p_{prior}(z)] - E_q(z|x,y)[log p(x|z,y)])"),
        "hierarchical": (hierarchical, "-mean(E_q(z1,z2|x)[log p(x,z1,z2) - log q(z1,z2|x)])"),
        "M2, labelled": (labelled, "E_q(z|x,y)[log p(x|z,y) + log p(y) + log p(z) - log q(z|x,y)]"),
        "M2, unlabelled": (
            unlabelled,
            "E_q(y|x)[E_q(z|x,y)[log p(x|z,y) + log p(y) + log p(z) - log q(z|x,y)]] + H[q(y|x)]",
        ),
    }


@pytest.mark.parametrize("name", models())
def test_models_print_as_in_their_papers(name: str) -> None:
    loss, shown = models()[name]
    assert str(loss) == shown


SCRIPT = """
import torch, probflow as pf
from probflow import E, KL, log
q1 = pf.Normal("q(a | x)", loc="x", scale=0.5); q2 = pf.Bernoulli("q(b | a)", lambda a: {"logits": a})
p = pf.Normal("p(x | a, b)", lambda a, b: {"loc": a + b, "scale": torch.ones_like(a)})
r = pf.Normal("p(x | a, b)", lambda a, b: {"loc": a - b, "scale": torch.ones_like(a)})
prior = pf.Normal("p(a)", loc=0.0, scale=1.0) * pf.Bernoulli("p(b)", probs=0.3)
loss = (E(q1 * q2)[log(p * prior) - log(r) - log(q1 * q2)]).mean()
torch.manual_seed(0)
x = {"x": torch.ones(3)}
print(loss, loss.latex(), loss.plan(), loss.input_var, loss.eval(x), loss.terms(x), sep="\\n")
"""


def test_nothing_depends_on_the_hash_seed() -> None:
    outputs = []
    for seed in ("0", "1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )
        assert done.returncode == 0, done.stderr
        outputs.append(re.sub(r"0x[0-9a-f]+", "", done.stdout))
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[0]


def test_parentheses_of_sums_stay_as_typed() -> None:
    c = Parameter("c")
    assert str(f + (beta + c)) == "f(z) + (beta + c)"
    assert str(f - (beta - c)) == "f(z) - (beta - c)"
    assert str((f + beta) - c) == "f(z) + beta - c"
