"""Losses are equations: a small algebra of log-densities, expectations and divergences."""

from __future__ import annotations

from probflow.losses.arithmetic import Max, Min
from probflow.losses.bounds import IWAE, Renyi
from probflow.losses.change_of_variables import LogDet, NoiseLogProb
from probflow.losses.defaults import with_estimator
from probflow.losses.estimators import (
    STL,
    VIMCO,
    DReG,
    Enumerate,
    GumbelSoftmax,
    Pathwise,
    PerVariable,
    Rebar,
    Score,
    StraightThrough,
)
from probflow.losses.node import Loss
from probflow.losses.probability import (
    ELBO,
    KL,
    CrossEntropy,
    E,
    Entropy,
    Expectation,
    KullbackLeibler,
    LogProb,
    Prob,
    exp,
    log,
)
from probflow.losses.scalars import Function, Parameter, Trainable

__all__ = [
    "ELBO",
    "IWAE",
    "KL",
    "STL",
    "VIMCO",
    "CrossEntropy",
    "DReG",
    "E",
    "Enumerate",
    "GumbelSoftmax",
    "LogDet",
    "NoiseLogProb",
    "Pathwise",
    "PerVariable",
    "Rebar",
    "Renyi",
    "Score",
    "StraightThrough",
    "Entropy",
    "Expectation",
    "Function",
    "KullbackLeibler",
    "LogProb",
    "Loss",
    "Max",
    "Min",
    "Parameter",
    "Prob",
    "Trainable",
    "exp",
    "log",
    "with_estimator",
]
