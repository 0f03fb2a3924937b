"""Every error that probflow raises on purpose, in one tree::

    try:
        loss.eval(batch)
    except pf.errors.ProbflowError as error:
        print(error)            # speaks in the user's notation: which formula, which variable, what to write

Each class also derives from the built-in exception a Python programmer would expect (``ValueError``, ``TypeError``, ...).
"""

from __future__ import annotations


class ProbflowError(Exception):
    """Root of the tree."""


class StatementError(ProbflowError, ValueError):
    """A probability statement such as ``"q(z | x"`` cannot be read; the message shows the place with a caret."""


class GraphError(ProbflowError, ValueError):
    """Factors do not form a distribution."""


class DuplicateVariable(GraphError):
    """Two factors (or one statement, twice) define the same variable."""


class CycleError(GraphError):
    """Variables depend on each other in a circle."""


class NameCollision(ProbflowError, AttributeError):
    """A subclass hangs a layer under a name that the library uses itself."""


class UnknownAttribute(ProbflowError, AttributeError):
    """A name that an object does not have; the message says what to write instead."""


class ArgumentError(ProbflowError, TypeError):
    """A constructor or method was called with arguments that make no sense together."""


class ParameterError(ProbflowError, ValueError):
    """A distribution's parameter is outside its domain (a negative scale, NaN, ...), missing, or unknown."""


class NetworkError(ProbflowError, RuntimeError):
    """A network given to a distribution failed, or returned something that is not its parameters."""

    dtypes: tuple[str, object, object] | None = None
    """Where it is what made it fail: an input, the dtype that it has, and that of the weights."""


class ValuesError(ProbflowError, ValueError):
    """The values given for the variables cannot be used."""


class MissingVariable(ValuesError):
    """A free variable has no value."""


class UnknownVariable(ValuesError):
    """A value is given for a name that occurs nowhere."""


class ShapeError(ValuesError):
    """Batch or event shapes do not fit."""


class SupportError(ValuesError):
    """A value lies where the distribution has no density."""


class NoDensity(ProbflowError, TypeError):
    """The distribution has no density that can be computed exactly."""


class NoSampler(ProbflowError, TypeError):
    """The distribution can be evaluated but not sampled."""


class NoInverse(ProbflowError, TypeError):
    """A transform that cannot be computed in the direction asked for."""


class NoClosedForm(ProbflowError, TypeError):
    """A mean, variance, entropy or divergence that has no closed form here."""


class LossError(ProbflowError, TypeError):
    """A loss expression that has no meaning."""


class ModelError(ProbflowError, ValueError):
    """A Model that cannot train what it was given."""


class CheckpointError(ProbflowError, RuntimeError):
    """A checkpoint that is missing, damaged, or belongs to another model."""


class DataError(ProbflowError, ValueError):
    """A data file or folder that is missing or damaged."""


class MissingDependency(ProbflowError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class BrokenLaw(ProbflowError, AssertionError):
    """An object of the user's breaks a law of its kind; the message names the law and the numbers that disagree."""
