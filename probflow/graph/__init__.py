"""Statements such as ``"q(z | x)"`` and the graph that a product of them forms. No tensors here."""

from __future__ import annotations

from .factor_graph import FactorGraph
from .statement import Statement, make_statement, names, parse

__all__ = ["FactorGraph", "Statement", "make_statement", "names", "parse"]
