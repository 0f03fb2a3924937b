"""probflow: write a generative model as probability statements and its loss as an equation.

>>> import torch
>>> import probflow as pf
>>> from probflow import E, KL, log
>>> q = pf.Normal("q(z | x)", loc="x", scale=0.5)
>>> p = pf.Normal("p(x | z)", loc="z", scale=1.0)
>>> prior = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
>>> loss = (KL(q, prior) - E(q)[log(p)]).mean()
>>> print(loss)
mean(KL[q(z|x) || p(z)] - E_q(z|x)[log p(x|z)])
>>> loss.eval({"x": torch.zeros(4, 2)}).shape
torch.Size([])
"""

from __future__ import annotations

# Type checkers read no computed __all__: to them a name is public by "as", or by "import *".
from typing import TYPE_CHECKING

from probflow import data as data
from probflow import distributions as distributions
from probflow import errors as errors
from probflow import flows as flows
from probflow import graph as graph
from probflow import inference as inference
from probflow import losses as losses
from probflow import models as models
from probflow import nn as nn
from probflow import testing as testing
from probflow import transforms as transforms
from probflow import viz as viz
from probflow.distributions import *  # noqa: F403
from probflow.inference import derive as derive
from probflow.inference import gradient_report as gradient_report
from probflow.inference import importance as importance
from probflow.losses import *  # noqa: F403
from probflow.models import *  # noqa: F403
from probflow.printing import did_you_mean

__version__ = "0.1.0"


_ELSEWHERE = {
    "kldivergence": "pf.KL(q, p)",
    "kl_divergence": "pf.KL(q, p)",
    "analyticalkullbackleibler": "pf.KL(q, p), in closed form where it has one",
    "nll": "-pf.log(p)",
    "negativeloglikelihood": "-pf.log(p)",
    "stochasticreconstructionloss": "-pf.E(q)[pf.log(p)]",
    "iteratorloss": "pf.E(q, sample_shape=[K])[f]",
    "gaussian": 'pf.Normal("p(x | z)", ...)',
    "sample": 'pf.Normal("p(z)", ...).sample(batch_n=...)',
    "param": "torch.nn.Parameter(...), as a parameter of a distribution or a coefficient of a loss",
    "marginalize": 'p.marginalize_var("z")',
}
"""Names of other libraries, in lower case."""

if not TYPE_CHECKING:  # to them a module with __getattr__ has every name, a misspelled one too

    def __getattr__(name: str) -> object:
        """Names that are not here: where they are, what is meant, or the closest one."""
        for part in (flows, nn, transforms, viz, data, graph, losses, distributions, models, inference):
            if not name.startswith("_") and name in part.__all__:
                raise AttributeError(f"module 'probflow' has no attribute {name!r}: write {part.__name__}.{name}.")
        if name.lower() in _ELSEWHERE:
            raise AttributeError(f"module 'probflow' has no attribute {name!r}: write {_ELSEWHERE[name.lower()]}.")
        raise AttributeError(f"module 'probflow' has no attribute {name!r}.{did_you_mean(name, __all__)}")

    __all__ = [
        *distributions.__all__,
        *losses.__all__,
        *models.__all__,
        "data",
        "derive",
        "distributions",
        "errors",
        "flows",
        "gradient_report",
        "graph",
        "importance",
        "inference",
        "losses",
        "models",
        "nn",
        "testing",
        "transforms",
        "viz",
    ]
