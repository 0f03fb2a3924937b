"""given: fixed conditions leave a distribution, observed variables leave a likelihood."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.distributions import Categorical, Distribution, Factor, MixtureModel, Normal
from probflow.errors import ArgumentError, NoSampler, ShapeError, UnknownVariable, ValuesError
from probflow.losses import log


class Decoder(Normal):
    def __init__(self):
        super().__init__("p(x | z, y)")
        self.a, self.b = nn.Linear(2, 2), nn.Linear(3, 2)

    def forward(self, z, y):
        return {"loc": self.a(z) + self.b(y), "scale": torch.ones(len(z), 2)}


def prior():
    return Normal("p(z)", loc=torch.zeros(2), scale=1.0)


def test_a_fixed_condition():
    p, y = Decoder(), torch.randn(4, 3)
    fixed = p.given(y=y)
    assert str(fixed.statement) == "p(x|z,y=y*)"
    values = {"x": torch.randn(4, 2), "z": torch.randn(4, 2)}
    assert_close(fixed.log_prob(values), p.log_prob({**values, "y": y}))
    assert_close(fixed.mean({"z": values["z"]}), p.mean({"z": values["z"], "y": y}))
    assert isinstance(fixed, Factor) and fixed.kind is Normal.family


def test_one_fixed_row_serves_every_batch():
    p, y = Decoder(), torch.randn(1, 3)
    values = {"x": torch.randn(4, 2), "z": torch.randn(4, 2)}
    assert_close(p.given(y=y).log_prob(values), p.log_prob({**values, "y": y.expand(4, 3)}))
    assert p.given(y=y).sample({"z": values["z"]}, sample_shape=5)["x"].shape == (5, 4, 2)


def test_fixed_rows_say_the_batch_size():
    p = Decoder().given(y=torch.randn(4, 3)) * prior()
    drawn = p.sample()
    assert drawn["x"].shape == drawn["z"].shape == (4, 2)
    assert p.sample(sample_shape=[3])["z"].shape == (3, 4, 2)
    assert p.log_prob(drawn).shape == (4,)
    with pytest.raises(ShapeError, match="4 rows.*batch 5"):
        p.log_prob({"x": torch.randn(5, 2), "z": torch.randn(5, 2)})
    with pytest.raises(ShapeError, match="batch_n=7"):
        p.sample(batch_n=7)


def test_an_observed_variable_leaves_a_likelihood():
    p, x = Decoder(), torch.randn(4, 2)
    observed = (p * prior()).given(x=x)
    assert observed.var == ("z",) and observed.cond_var == ("y",)
    z, y = torch.randn(4, 2), torch.randn(4, 3)
    assert_close(observed.log_prob({"z": z, "y": y}), (p * prior()).log_prob({"x": x, "z": z, "y": y}))
    with pytest.raises(NoSampler, match="observed"):
        observed.sample({"y": y})
    conditioned = p.given(x=x)
    assert isinstance(conditioned, Factor) and not conditioned.normalised and conditioned.kind is not Normal.family


def test_an_observed_row_serves_samples():
    observed = (Decoder() * prior()).given(x=torch.zeros(1, 2))
    z = torch.randn(5, 3, 2)
    y = torch.randn(3, 3)
    result = observed.log_prob({"z": z, "y": y}, sample_dims={"z": 1})
    assert_close(result, torch.stack([observed.log_prob({"z": one, "y": y}) for one in z]))


def test_the_fixed_values_move_and_stay_out_of_the_state():
    p = Decoder()
    fixed = p.given(y=torch.randn(4, 3)).to(torch.float32)
    assert all(not key.startswith("_fixed") for key in fixed.state_dict()) and len(fixed.state_dict()) == 4
    assert {t.dtype for t in fixed.buffers()} == {torch.float32}
    z = torch.randn(4, 2).float()
    assert_close(copy.deepcopy(fixed).mean({"z": z}), fixed.mean({"z": z}))


def test_given_of_given_and_of_a_renamed_copy():
    p, y, z = Decoder(), torch.randn(4, 3), torch.randn(4, 2)
    assert_close(p.given(y=y).given(z=z).mean(), p.mean({"z": z, "y": y}))
    assert_close(p.replace_var(y="w").given(w=y).mean({"z": z}), p.mean({"z": z, "y": y}))
    assert_close(p.given(y=y).replace_var(z="w").mean({"w": z}), p.mean({"z": z, "y": y}))
    assert p.given(y=y).replace_var(z="w").sample({"w": z})["x"].shape == (4, 2)


def test_a_given_mixture_still_has_its_posterior():
    parts = [Normal("p(x | y)", loc="y", scale=s) for s in (1.0, 2.0)]
    mixture = MixtureModel(parts, Categorical("p(z)", probs=torch.tensor([0.3, 0.7])))
    x, y = torch.randn(4, 2), torch.randn(4, 2)
    expected = mixture.posterior("z").mean({"x": x, "y": y})
    assert_close(mixture.given(y=y).posterior("z").mean({"x": x}), expected)


def test_a_marginal_of_a_given_product_knows_its_batch():
    k = Categorical("p(k)", probs=torch.tensor([0.5, 0.5]))
    p = Normal("p(x | k, y)", lambda k, y: {"loc": k + y, "scale": 1 + y.abs()}) * k
    marginal = p.given(y=torch.randn(3, 2)).marginalize_var("k")
    drawn = marginal.sample()
    assert drawn["x"].shape == (3, 2) and marginal.log_prob(drawn).shape == (3,)
    assert p.given(y=torch.randn(3, 2)).posterior("k").mean({"x": torch.randn(3, 2)}).shape == (3, 2)


def test_mistakes():
    p = Decoder()
    with pytest.raises(UnknownVariable, match="'w'"):
        p.given(w=torch.zeros(1, 2))
    with pytest.raises(ArgumentError, match="x, z, y"):
        p.given()
    with pytest.raises(ValuesError, match="torch tensor"):
        p.given(y=3.0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"value\[None\]"):
        p.given(y=torch.tensor(3.0))
    with pytest.raises(ShapeError, match="z: 2, y: 3"):
        p.given(z=torch.zeros(2, 2), y=torch.zeros(3, 3))


PRINTED = {  # what is given: text and LaTeX of what is left of p(x | z, y)
    ("y",): ("p(x|z,y=y*)", r"p(x \mid z, y = y^{*})"),
    ("z",): ("p(x|y,z=z*)", r"p(x \mid y, z = z^{*})"),
    ("z", "y"): ("p(x|z=z*,y=y*)", r"p(x \mid z = z^{*}, y = y^{*})"),
    ("x",): ("p(x=x*|z,y)", r"p(x = x^{*} \mid z, y)"),
    ("x", "y"): ("p(x=x*|z,y=y*)", r"p(x = x^{*} \mid z, y = y^{*})"),
    ("x", "z", "y"): ("p(x=x*|z=z*,y=y*)", r"p(x = x^{*} \mid z = z^{*}, y = y^{*})"),
}


@pytest.mark.parametrize("names", PRINTED, ids=",".join)
def test_printed_with_what_is_given(names):
    values = {"x": torch.zeros(1, 2), "z": torch.zeros(1, 2), "y": torch.zeros(1, 3)}
    fixed = Decoder().given({n: values[n] for n in names})
    text, latex = PRINTED[names]
    assert str(fixed.statement) == text and str(fixed).startswith(f"{text}: Decoder")
    assert fixed._repr_latex_() == f"${latex}$"
    assert str(log(fixed)) == f"log {text}" and log(fixed).latex() == rf"\log {latex}"
    assert fixed.var == tuple(n for n in ("x",) if n not in names)
    step_by_step: Distribution = Decoder()
    for n in names:
        step_by_step = step_by_step.given({n: values[n]})
    assert sorted(str(step_by_step.statement)) == sorted(text)
    assert log(fixed).mean().eval({n: v for n, v in values.items() if n not in names}).isfinite()


def test_products_print_what_is_given_to_their_factors():
    p, x, y = Decoder() * prior(), torch.zeros(1, 2), torch.zeros(1, 3)
    assert str(p.given(x=x).statement) == "p(z,x=x*|y)"
    assert str(p.given(x=x).graph).splitlines()[0] == "p(z,x=x*|y) = p(x=x*|z,y) p(z)"
    assert str(p.given(x=x, y=y).statement) == "p(z,x=x*|y=y*)"
    assert str(p.given(x=x, z=x).statement) == "p(x=x*,z=z*|y)"
    assert str(p.given(y=y).marginalize_var("z").statement) == "p(x|y=y*)"
    assert str(p.given(y=y).replace_var(x="w").statement) == "p(w,z|y=y*)"
    assert str(log(p.given(y=y)) - log(p)) == "log p(x,z|y=y*) - log p(x,z|y)"
    chain = Normal("p(b | a)", loc="a", scale=1.0) * Normal("p(a)", loc=torch.zeros(2), scale=1.0)
    assert str(chain.given(a=x).statement) == "p(b,a=a*)", "a is observed, not a condition of the whole"


def test_a_primed_name_is_typeset():
    fixed = Normal("p(x | z')", lambda z: {"loc": z, "scale": torch.ones_like(z)}).given({"z'": torch.zeros(1, 2)})
    assert fixed.statement.latex() == "p(x \\mid z' = {z'}^{*})"


def test_the_posterior_of_what_is_given():
    k = Categorical("p(k)", probs=torch.tensor([0.5, 0.5]))
    p = Normal("p(x | k, y)", lambda k, y: {"loc": k + y, "scale": torch.ones_like(y)}) * k
    assert str(p.given(y=torch.zeros(1, 2)).posterior("k").statement) == "p(k|x,y=y*)"
