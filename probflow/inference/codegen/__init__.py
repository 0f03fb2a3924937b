"""``plan.to_python()``: a program as the plain PyTorch function that a reader would have written.

writer     lines, names, imports: the function as a whole
rules      how each kind of step is written; arithmetic has those that compute with tensors alone
sources    where a distribution's parameters come from: networks, constants, variables
forms      a family with its parameters: its density and its draw; compound has flows, mixtures and the rest
families   the table: formulas by family
values     expressions, with the sizes of their sample dimensions
"""

from __future__ import annotations

from probflow.inference.codegen.writer import written_program

__all__ = ["written_program"]
