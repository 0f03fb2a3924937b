"""Users hang layers of any name on their subclass: it works, or it is an error at construction."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from probflow.distributions import Bernoulli, Deterministic, MixtureModel, Normal
from probflow.errors import NameCollision

TAKEN = [
    "graph",
    "name",
    "var",
    "cond_var",
    "factors",
    "statement",
    "sample",
    "log_prob",
    "mean",
    "variance",
    "entropy",
    "posterior",
    "given",
    "marginalize_var",
    "replace_var",
    "bind",
    "family",
    "kind",
    "origin",
    "finite",
    "event_ranks",
    "describe",
    "state_count",
    "source_text",
    "parameters",
    "modules",
    "train",
    "eval",
    "to",
    "_statement",
    "_inputs",
    "_constants",
    "_for",
    "call",
]
FREE = ["loc", "scale", "network", "net", "q", "p", "x", "z", "encoder", "prior", "components", "logits", "hidden", "linear"]


def subclass(attribute, layer, family: Any = Normal):
    class Mine(family):
        def __init__(self):
            super().__init__(var=["x"], cond_var=["z"], name="p")
            setattr(self, attribute, layer())

        def forward(self, z):
            return {"loc": getattr(self, attribute)(z), "scale": torch.ones_like(z)}

    return Mine


@pytest.mark.parametrize("attribute", TAKEN)
def test_a_name_of_the_librarys_is_an_error_at_construction(attribute):
    with pytest.raises(NameCollision, match=f"'{attribute}'"):
        subclass(attribute, lambda: nn.Linear(2, 2))()


@pytest.mark.parametrize("attribute", ["graph", "mean", "_statement"])
def test_so_are_parameters_and_tensors(attribute):
    for make in (lambda: nn.Parameter(torch.zeros(2)), lambda: torch.zeros(2)):
        with pytest.raises(NameCollision):
            subclass(attribute, make)()


@pytest.mark.parametrize("attribute", FREE)
def test_any_other_name_works(attribute):
    p = subclass(attribute, lambda: nn.Linear(2, 2))()
    z = torch.randn(4, 2)
    assert_close(p.mean({"z": z}), getattr(p, attribute)(z))
    assert list(p.state_dict()) == [f"{attribute}.weight", f"{attribute}.bias"]
    assert_close(copy.deepcopy(p).mean({"z": z}), p.mean({"z": z}))


@pytest.mark.parametrize("attribute", ["name", "var", "graph"])
def test_plain_attributes_may_not_replace_a_property(attribute):
    p = Normal("p(x)", loc=0.0, scale=1.0)
    with pytest.raises(NameCollision, match=f"'{attribute}'"):
        setattr(p, attribute, "another")


def test_a_constant_and_a_layer_of_one_name():
    class Mine(Normal):
        def __init__(self):
            super().__init__("p(x | z)", scale=1.0)
            self.scale = nn.Linear(2, 2)

        def forward(self, z):
            return {"loc": z}

    with pytest.raises(NameCollision, match="'scale'"):
        Mine()


def test_other_kinds_of_factors_too():
    class Function(Deterministic):
        def __init__(self):
            super().__init__("f(h | x)")
            self.bind = nn.Linear(2, 2)  # type: ignore[method-assign]

        def forward(self, x):
            return x

    with pytest.raises(NameCollision):
        Function()


def test_class_attributes_of_the_users_own_class_are_theirs():
    class Mine(Bernoulli):
        width = 3

        def helper(self, z):
            return z

        def forward(self, z):
            return {"logits": self.helper(z)}

    p = Mine("p(x | z)")
    p.width = 4
    assert p.sample({"z": torch.zeros(2, 4)})["x"].shape == (2, 4)


def test_variable_names_may_be_anything_readable():
    p = Normal(r"p_\theta(x_{t-1} | x_t)", lambda x: {"loc": x, "scale": 1.0}) * Normal("q(x_t)", loc=0.0, scale=1.0)
    assert set(p.sample()) == {"x_{t-1}", "x_t"} and list(p.state_dict()) == ["q(x_t).loc", "q(x_t).scale"]


def test_the_library_names_of_a_mixture_are_guarded():
    parts = [Normal("p(x)", loc=0.0, scale=1.0)] * 2
    from probflow.distributions import Categorical

    mixture = MixtureModel(parts, Categorical("p(z)", probs=torch.tensor([0.5, 0.5])))
    with pytest.raises(NameCollision):
        mixture.distributions = nn.Linear(1, 1)  # type: ignore[assignment, misc]
