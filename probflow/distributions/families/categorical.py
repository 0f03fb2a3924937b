"""One of K classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributions as td
from torch.nn import functional as F

from probflow._typing import Shape
from probflow.distributions.family import Family, Params
from probflow.distributions.parametric import Parametric
from probflow.domains import logit_vector, one_hot, simplex
from probflow.errors import ShapeError, SupportError
from probflow.printing import shape_text


def class_indices_to_one_hot(value: Tensor, lead: int, event: Shape, label: str) -> Tensor:
    """Integer class indices become one-hot vectors; everything else passes."""
    # told apart by the number of dimensions, not by sizes: as many labels as classes are labels all the same
    indices = value.dim() == lead + len(event) and tuple(value.shape[lead + 1 :]) == event[:-1]
    if value.is_floating_point():
        if indices:
            raise ShapeError(
                f"{label} has shape {shape_text(value.shape)} and dtype {value.dtype}: a Categorical of {event[-1]} classes "
                f"takes one-hot floats (batch, {event[-1]}) or integer class indices (batch,).\n"
                f"Write F.one_hot(labels.long(), {event[-1]}).float(), or labels.long()."
            )
        return value
    if not indices:  # what F.one_hot returns, or a wrong shape
        return value.to(torch.get_default_dtype())
    index = value.long()
    if value.numel() and not (0 <= int(index.min()) and int(index.max()) < event[-1]):
        bad = index[(index < 0) | (index >= event[-1])].flatten()[0].item()
        raise SupportError(
            f"{label} is outside the support of Categorical.\n"
            f"  support:   class indices 0 to {event[-1] - 1}\n  offending: {bad}"
        )
    return F.one_hot(index, event[-1]).to(torch.get_default_dtype())


def _log_prob(p: Params, x: Tensor) -> Tensor:
    table = p["logits"].log_softmax(-1) if "logits" in p else p["probs"]
    index = x.argmax(-1, keepdim=True)
    if index.dim() < table.dim() or index.shape[:-1] != table.shape[:-1]:
        shape = torch.broadcast_shapes(table.shape[:-1], index.shape[:-1])
        table, index = table.expand(*shape, table.shape[-1]), index.expand(*shape, 1)
    # gather, not a product: 0 * log 0 would be NaN; and before the log: so would be the gradient of the other classes
    chosen = table.gather(-1, index).squeeze(-1)
    return chosen if "logits" in p else chosen.log() - p["probs"].sum(-1).log()


def _states(p: Params) -> Tensor:
    like = next(iter(p.values()))
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


class _OneHotCategorical(td.OneHotCategorical):
    """torch's, which validates its inner Categorical whatever it is told: slow, and an error for an empty batch."""

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None) -> None:
        self._categorical = td.Categorical(probs, logits, validate_args=False)
        td.Distribution.__init__(
            self, self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args
        )

    def expand(self, batch_shape: Any, _instance: Any = None) -> _OneHotCategorical:
        inner = self._categorical
        name = "logits" if "logits" in inner.__dict__ else "probs"
        param = getattr(inner, name)
        return _OneHotCategorical(**{name: param.expand((*batch_shape, param.shape[-1]))}, validate_args=False)


class Categorical(
    Parametric,
    family=Family(
        _OneHotCategorical,
        params={"probs": simplex, "logits": logit_vector},
        either=(("probs", "logits"),),
        support=one_hot,
        event_rank=1,
        states=_states,
        log_prob=_log_prob,
        prepare=class_indices_to_one_hot,
    ),
):
    r"""Categorical distribution over K classes, :math:`\log p(y = k) = \log \pi_k`.

    Values are one-hot floats of event shape (K,); integer class indices of shape (batch,) are accepted.
    Parameters: ``probs`` (summing to 1) or ``logits``, each of shape (batch, K).

    >>> p = Categorical("p(y)", probs=torch.tensor([0.2, 0.3, 0.5]))
    >>> p.log_prob({"y": torch.tensor([2])}).exp()
    tensor([0.5000])
    """
