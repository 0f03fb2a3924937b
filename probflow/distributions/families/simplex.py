"""Probability vectors: Dirichlet."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributions as td

from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric
from probflow.domains import open_simplex, positive_vector


def _log_prob(p: Params, x: Tensor) -> Tensor:
    a = p["concentration"]
    return ((a - 1) * x.log()).sum(-1) + torch.lgamma(a.sum(-1)) - torch.lgamma(a).sum(-1)


class Dirichlet(
    Parametric,
    family=Family(
        td.Dirichlet, params={"concentration": positive_vector}, support=open_simplex, event_rank=1, log_prob=_log_prob
    ),
):
    r"""Dirichlet distribution of probability vectors of K elements, with ``concentration`` :math:`\alpha` (batch, K).

    .. math:: \log p(x) = \sum_k (\alpha_k - 1) \log x_k + \log\Gamma\Big(\sum_k \alpha_k\Big) - \sum_k \log\Gamma(\alpha_k)

    The density is with respect to the first K - 1 elements.

    >>> p = Dirichlet("p(w)", concentration=torch.ones(3))                    # uniform on the triangle, of area 1/2
    >>> p.log_prob({"w": torch.tensor([[0.2, 0.3, 0.5]])}).exp()
    tensor([2.])
    """
