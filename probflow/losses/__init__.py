"""Losses are equations: a small algebra of log-densities, expectations and divergences."""

from __future__ import annotations

from probflow.losses.arithmetic import Max, Min
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
    "KL",
    "CrossEntropy",
    "E",
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
]
