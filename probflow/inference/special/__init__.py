"""A program for values like those of the last runs: the same formulas, without asking again what those runs have shown.

A training loop meets the same shapes in every step.  The specialised program is straight-line Python that calls networks and
formulas directly, behind guards: the shapes and types of the values, and of what the networks return.  What depends on numbers
(is the scale positive, are the data 0 or 1) is looked at in every run as before.  Where a guard fails, the general program goes
on from there with all that was computed: nothing is computed twice, no random number is lost, and errors have its words.

On the CPU only, where a check is decided at once; those on an accelerator are collected and decided together at the end.
"""

from probflow.inference.special.specialist import Specialist
from probflow.inference.special.writer import Specialised

__all__ = ["Specialised", "Specialist"]
