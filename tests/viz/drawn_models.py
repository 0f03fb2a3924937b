"""Models and losses of many shapes, for the tests of what is drawn of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch

import probflow as pf
from probflow import KL, E, log, viz
from probflow.graph import parse
from probflow.graph.layout import Layout, layout
from probflow.graph.picture import Picture
from probflow.losses import Loss


def normal(statement: str) -> pf.Normal:
    """A Normal with two features and a network, whatever it is conditioned on."""
    conditions = len(parse(statement).cond_var)
    if not conditions:
        return pf.Normal(statement, loc=0.0, scale=1.0, features_shape=2)
    network = pf.nn.MLP([2] * conditions, [3], {"loc": 2, "scale": 2}, output={"scale": torch.exp})
    return pf.Normal(statement, network)


def categorical(statement: str) -> pf.Categorical:
    return pf.Categorical(statement, probs=torch.full((3,), 1 / 3))


def product(*statements: str) -> pf.Distribution:
    """Normals with these statements, multiplied."""
    result: pf.Distribution = normal(statements[0])
    for statement in statements[1:]:
        result = result * normal(statement)
    return result


def cvae() -> tuple[Loss, ...]:
    q = normal("q(z|x,y)")
    return ((KL(q, normal("p(z)")) - E(q)[log(normal("p(x|z,y)"))]).mean(),)


def m2() -> tuple[Loss, ...]:
    """Two bounds with shared networks: x, y, z are labelled, x_u, y_u, z_u are not."""
    p, p_y, p_z = normal("p(x|y,z)"), categorical("p(y)"), normal("p(z)")
    q_y, q_z = pf.Categorical("q(y|x)", pf.nn.MLP(2, [3], {"logits": 3})), normal("q(z|x,y)")
    to = {"x": "x_u", "y": "y_u", "z": "z_u"}
    u_p, u_p_y, u_p_z, u_q_y, u_q_z = (d.replace_var({n: to[n] for n in d.var + d.cond_var}) for d in (p, p_y, p_z, q_y, q_z))
    labelled = -E(q_z)[log(p) + log(p_y) + log(p_z) - log(q_z)]
    unlabelled = E(u_q_y)[-E(u_q_z)[log(u_p) + log(u_p_y) + log(u_p_z) - log(u_q_z)]]
    return (labelled.mean() + unlabelled.mean() - log(q_y).mean(),)


def mixture() -> pf.MixtureModel:
    components = [pf.Normal("p(x)", loc=float(place), scale=1.0, features_shape=1) for place in range(3)]
    return pf.MixtureModel(components, categorical("p(c)"))


Drawn = tuple[tuple[pf.Distribution | Loss, ...], Mapping[str, object]]

MODELS: dict[str, Callable[[], Drawn]] = {
    "alone": lambda: ((normal("p(x)"),), {}),
    "VAE": lambda: ((-pf.ELBO(product("p(x|z)", "p(z)"), normal("q(z|x)")).mean(),), {"plates": {"N": ["x", "z"]}}),
    "CVAE": lambda: (cvae(), {}),
    "CVAE, a plate without y": lambda: (cvae(), {"plates": {"N": ["x", "z"]}}),
    "inference only": lambda: ((normal("q(z|x)"),), {}),
    "hierarchy, bottom-up": lambda: (
        (-pf.ELBO(product("p(x|z1)", "p(z1|z2)", "p(z2)"), product("q(z1|x)", "q(z2|z1)")).mean(),),
        {},
    ),
    "hierarchy with skips": lambda: (
        (product("p(x|z1,z2,z3)", "p(z1|z2)", "p(z2|z3)", "p(z3)"), product("q(z3|x)", "q(z2|z3,x)", "q(z1|z2,x)")),
        {"observed": "x"},
    ),
    "M2": lambda: (m2(), {}),
    "M2, plates": lambda: (m2(), {"plates": {"N_l": ["x", "y", "z"], "N_u": ["x_u", "y_u", "z_u"]}}),
    "flow": lambda: ((pf.flows.RealNVP("p(x)", features=2, layers=2),), {}),
    "flow prior": lambda: (
        (-pf.ELBO(normal("p(x|z)") * pf.flows.RealNVP("p(z)", features=2, layers=2), normal("q(z|x)")).mean(),),
        {},
    ),
    "flow posterior": lambda: (
        (-pf.ELBO(product("p(x|z)", "p(z)"), pf.flows.IAF("q(z|x)", features=2, context=2)).mean(),),
        {},
    ),
    "deterministic": lambda: (
        (normal("p(x|h)") * pf.Deterministic("p(h|z)", lambda z: z) * normal("p(z)"),),
        {"observed": ["x"]},
    ),
    "mixture": lambda: ((-log(mixture()).mean(),), {"plates": {"N": ["x", "c"]}}),
    "marginal": lambda: (((normal("p(x|y,z)") * categorical("p(y)") * normal("p(z)")).marginalize_var("y"),), {}),
    "data": lambda: ((E(pf.Data("p_{data}(x)", torch.zeros(4, 2)))[log(normal("p(x)"))],), {}),
    "observed": lambda: ((product("p(x|z,y)", "p(z)").given(x=torch.zeros(1, 2), y=torch.zeros(1, 2)),), {}),
    "LDA": lambda: (
        (product("p(w|z,beta)", "p(z|theta)", "p(theta|alpha)", "p(beta|eta)"),),
        {"observed": "w", "plates": {"N": ["w", "z"], "M": ["w", "z", "theta"], "K": ["beta"]}},
    ),
    "two plates that cross": lambda: (
        (product("p(r|u,v)", "p(u)", "p(v)"),),
        {"observed": "r", "plates": {"N": ["u", "r"], "M": ["v", "r"]}},
    ),
    "plates in plates": lambda: (
        (product("p(x|z,theta)", "p(z|theta)", "p(theta)"), normal("q(z|x)")),
        {"plates": {"N": ["x"], "M": ["x", "z"], "K": ["x", "z", "theta"]}},
    ),
    "hidden Markov": lambda: (
        (product("p(x_0)", *(s for t in range(1, 5) for s in (f"p(x_{t}|x_{t - 1})", f"p(y_{t}|x_{t})"))),),
        {"observed": [f"y_{t}" for t in range(1, 5)]},
    ),
    "five modalities": lambda: (
        (product(*(f"p(x{k}|z)" for k in range(5)), "p(z)"), normal("q(z|x0,x1,x2,x3,x4)")),
        {"observed": [f"x{k}" for k in range(5)], "plates": {"N": ["z", "x0", "x1", "x2", "x3", "x4"]}},
    ),
    "auxiliary": lambda: (
        (product("p(a|z,y,x)", "p(x|y,z)", "p(y)", "p(z)"), product("q(a|x)", "q(y|a,x)", "q(z|a,y,x)")),
        {"observed": "x"},
    ),
    "both directions": lambda: ((normal("p(x|y)"), normal("p(y|x)")), {}),
    "long names": lambda: ((product("p(reconstruction|image,label)", "p(image|style)", "p(style)"),), {}),
    "LaTeX": lambda: ((product(r"p(x'|z^{(1)},\lambda)", r"p(z^{(1)}|mu_0)"), normal(r"q_\phi(z^{(1)}|x')")), {}),
    "Japanese": lambda: ((product("p(画像|潜在)", "p(潜在)"),), {}),
}


@cache
def made(name: str) -> Drawn:
    return MODELS[name]()


@cache
def drawn(name: str) -> tuple[Picture, Layout]:
    """What is drawn of a model, and where."""
    models, options = made(name)
    picture = viz.picture(*models, **options)  # type: ignore[arg-type]
    return picture, layout(picture)


def roles(picture: Picture) -> dict[str, str]:
    return {node.key: node.role for node in picture.nodes}
