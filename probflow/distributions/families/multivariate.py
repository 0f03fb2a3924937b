"""Real vectors: MultivariateNormal, LowRankMultivariateNormal."""

from __future__ import annotations

from torch import Tensor
from torch import distributions as td

from probflow.distributions.family import Family
from probflow.distributions.parametric import Parametric
from probflow.domains import lower_cholesky, positive_definite, positive_vector, real_matrix, real_vector


class _MultivariateNormal(td.MultivariateNormal):
    """torch's, which divides by the number of values."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) if value.numel() else (value - self.loc).sum(-1)


class _LowRankMultivariateNormal(td.LowRankMultivariateNormal):
    """torch's, which divides by the number of values."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) if value.numel() else (value - self.loc).sum(-1)


class MultivariateNormal(
    Parametric,
    family=Family(
        _MultivariateNormal,
        params={
            "loc": real_vector,
            "covariance_matrix": positive_definite,
            "precision_matrix": positive_definite,
            "scale_tril": lower_cholesky,
        },
        either=(("covariance_matrix", "precision_matrix", "scale_tril"),),
        support=real_vector,
        event_rank=1,
    ),
):
    r"""Normal distribution of a vector of D elements, :math:`\mathcal N(x; \mu, \Sigma)`.

    .. math:: \log p(x) = -\tfrac12 (x-\mu)^\top \Sigma^{-1} (x-\mu) - \tfrac12 \log\det\Sigma - \tfrac D2 \log 2\pi

    Parameters: ``loc`` :math:`\mu` (batch, D), and one of ``scale_tril`` :math:`L`, :math:`\Sigma = LL^\top`
    (batch, D, D; fastest), ``covariance_matrix`` :math:`\Sigma`, ``precision_matrix`` :math:`\Sigma^{-1}`.

    >>> import torch
    >>> p = MultivariateNormal("p(z)", loc=torch.zeros(2), covariance_matrix=torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    >>> p.log_prob({"z": torch.zeros(1, 2)})
    tensor([-2.3872])
    """


class LowRankMultivariateNormal(
    Parametric,
    family=Family(
        _LowRankMultivariateNormal,
        params={"loc": real_vector, "cov_factor": real_matrix, "cov_diag": positive_vector},
        support=real_vector,
        event_rank=1,
    ),
):
    r"""Normal distribution of a vector with covariance :math:`\Sigma = W W^\top + \mathrm{diag}(d)`.

    Parameters: ``loc`` (batch, D), ``cov_factor`` :math:`W` (batch, D, rank), ``cov_diag`` :math:`d > 0` (batch, D).
    Factor analysis; the cost is linear in D (matrix determinant lemma and Woodbury identity).

    >>> import torch
    >>> p = LowRankMultivariateNormal("p(x)", loc=torch.zeros(2), cov_factor=torch.ones(2, 1), cov_diag=torch.ones(2))
    >>> p.log_prob({"x": torch.zeros(1, 2)})
    tensor([-2.3872])
    """
