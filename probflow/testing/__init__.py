"""The laws that the library holds its own objects to, for yours: each check raises an error that names the broken law, with numbers.

>>> import torch
>>> from probflow.transforms import Affine
>>> print(check_transform(Affine(2))["round trip"].checked)
True

They need no test runner; in one, a call is a test (:class:`~probflow.errors.BrokenLaw` is an ``AssertionError``)::

    def test_my_transform():
        pf.testing.check_transform(MyTransform(3))
"""

from __future__ import annotations

from probflow.testing.distributions import check_distribution
from probflow.testing.estimators import check_unbiased
from probflow.testing.report import Outcome, Report
from probflow.testing.transforms import check_transform

__all__ = ["Outcome", "Report", "check_distribution", "check_transform", "check_unbiased"]
