"""The two terms of a flow's log-density, as expressions of their own."""

from __future__ import annotations

from probflow.distributions import Distribution, Flow
from probflow.errors import LossError
from probflow.losses.node import Loss, intern


class NoiseLogProb(Loss):
    r""":math:`\log p_z(f^{-1}(x))`: the log-density of a flow's base at the noise of x, in nats, shape (batch,).

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Flow(pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2), pf.transforms.Affine(2), "p(x)")
    >>> print(pf.NoiseLogProb(p))
    log p_z(f^-1(x))
    >>> pf.NoiseLogProb(p).eval({"x": torch.zeros(1, 2)}).detach()
    tensor([-1.8379])
    """

    __slots__ = ("p",)
    fields = ("p",)
    p: Distribution

    def __new__(cls, p: Distribution) -> NoiseLogProb:
        return intern(cls, _flow(p, "NoiseLogProb"))


class LogDet(Loss):
    r""":math:`\log|\det \partial f^{-1}(x) / \partial x|` of a flow, in nats, shape (batch,).

    >>> import torch
    >>> import probflow as pf
    >>> p = pf.Flow(pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2), pf.transforms.Affine(2), "p(x)")
    >>> print(pf.LogDet(p))
    log|det df^-1(x)/dx|
    >>> x = {"x": torch.randn(3, 2)}
    >>> bool((pf.NoiseLogProb(p) + pf.LogDet(p) - pf.log(p)).eval(x).abs().max() < 1e-5)
    True
    """

    __slots__ = ("p",)
    fields = ("p",)
    p: Distribution

    def __new__(cls, p: Distribution) -> LogDet:
        return intern(cls, _flow(p, "LogDet"))


def _flow(p: Distribution, who: str) -> Distribution:
    if not is_flow(p):
        shown = p.statement if isinstance(p, Distribution) else f"a {type(p).__name__}"
        raise LossError(f"{who} takes a flow, got {shown}.")
    return p


def is_flow(p: object) -> bool:
    """Whether p is one flow, under its own or other variable names."""
    return isinstance(p, Distribution) and len(p.factors) == 1 and isinstance(p.factors[0].origin, Flow)


def drawn_inverse(p: Distribution) -> bool:
    """Whether p is a flow whose inverse is drawn, as with dequantisation: the two terms are then a lower bound of log p."""
    origin = p.factors[0].origin if is_flow(p) else None
    return isinstance(origin, Flow) and origin.transform.is_bound


def flow_symbols(p: Distribution) -> tuple[str, str]:
    """How base and argument are written: ``p_z`` and ``x; y``."""
    flow = p.factors[0].origin
    base = flow.base.statement if isinstance(flow, Flow) else flow.statement
    return f"{base.name}_{base.var[0]}", "; ".join([p.var[0], *([", ".join(p.cond_var)] if p.cond_var else [])])
