"""LaTeX of a loss: every node, and accepted by a real parser."""

from __future__ import annotations

import pytest
import torch
from losses.test_text import FORMS, SPELLINGS, models
from torch import nn

import probflow as pf
from probflow import KL, CrossEntropy, E, Entropy, Function, Loss, Max, Min, Parameter, exp, log

q = pf.Normal("q(z | x)", loc="x", scale=0.5)
p = pf.Normal("p(x | z)", loc="z", scale=1.0)
prior = pf.Normal("p(z)", loc=0.0, scale=1.0)
f = Function(lambda z: z, ["z"], "f")

GOLDEN: dict[str, Loss] = {
    r"\log p(x \mid z)": log(p),
    r"D_{\mathrm{KL}}\left[q(z \mid x) \,\|\, p(z)\right]": KL(q, prior),
    r"\mathbb{E}_{q(z \mid x)}\left[\log p(x \mid z)\right]": E(q)[log(p)],
    r"\mathrm{H}\left[q(z \mid x)\right]": Entropy(q),
    r"\mathrm{H}\left[q(z \mid x), p(z)\right]": CrossEntropy(q, prior),
    r"\beta \, D_{\mathrm{KL}}\left[q(z \mid x) \,\|\, p(z)\right]": Parameter("beta") * KL(q, prior),
    r"\frac{f(z)}{2}": f / 2,
    r"c \cdot 3 \, f(z)": Parameter("c") * 3 * f,
    r"\left(\log p(x \mid z)\right)^{2}": log(p) ** 2,
    r"\left(\exp\left(f(z)\right)\right)^{2}": exp(f) ** 2,
    r"\left|f(z)\right|": f.abs(),
    r"f(z) - \left(f(z) - 1\right)": f - (f - 1),
    r"f(z) \cdot \left(-2\right)": f * -2,
    r"\operatorname{mean}\left(f(z)\right)": f.mean(),
    r"\min\left(f(z), 2\right)": Min(f, 2),
    r"\operatorname{sg}\left[f(z)\right]": f.detach(),
    r"\operatorname{clamp}_{[0, \infty]}\left(f(z)\right)": f.clamp(min=0),
}


@pytest.mark.parametrize("shown", GOLDEN)
def test_every_node(shown: str) -> None:
    assert GOLDEN[shown].latex() == shown
    assert GOLDEN[shown]._repr_latex_() == f"${shown}$"


def test_two_networks_of_one_name() -> None:
    other = pf.Normal("p(x | z)", loc="z", scale=2.0)
    assert (log(p) - log(other)).latex() == r"\log p^{(1)}(x \mid z) - \log p^{(2)}(x \mid z)"


def test_two_factorisations_of_one_name() -> None:
    other = pf.Normal("p(x)", loc=0.0, scale=1.0) * pf.Normal("p(z | x)", loc="x", scale=1.0)
    assert (log(p * prior) - log(other)).latex() == r"\log p(x \mid z)\,p(z) - \log p(x)\,p(z \mid x)"


def all_expressions() -> list[Loss]:
    names = {"a": f, "b": Parameter("beta"), "c": Parameter("c"), "Min": Min, "Max": Max}
    typed = [eval(spelling, names) for spelling in SPELLINGS]
    w = nn.Parameter(torch.tensor(-0.5))
    return [*GOLDEN.values(), *FORMS.values(), *typed, *(loss for loss, _ in models().values()), f - w, 1e-7 * f, 1e30 * f]


def test_mathtext_reads_it() -> None:
    mathtext = pytest.importorskip("matplotlib.mathtext")
    parser = mathtext.MathTextParser("path")
    for loss in all_expressions():
        parser.parse(loss._repr_latex_())  # raises where a brace or a command is wrong
