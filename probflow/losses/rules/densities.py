"""Rules about single densities: flows, marginals of finite variables, Bayes' rule."""

from __future__ import annotations

from probflow.distributions import Distribution, Marginal, Posterior
from probflow.distributions.joint import part
from probflow.losses.arithmetic import Elementwise, Sum
from probflow.losses.change_of_variables import LogDet, NoiseLogProb, drawn_inverse, is_flow
from probflow.losses.node import Loss, intern
from probflow.losses.probability import Expectation, LogProb, Prob
from probflow.losses.rules.rule import rule


@rule(
    "change of variables",
    r"\log p(x) = \log p_z\left(f^{-1}(x)\right) + \log\left|\det \frac{\partial f^{-1}(x)}{\partial x}\right|",
    "the density of a flow whose inverse is a function",
    source="Prince, Understanding Deep Learning, eq. 16.1",
)
def change_of_variables(node: Loss) -> Loss | None:
    """The density of a flow."""
    if isinstance(node, LogProb) and is_flow(node.p) and not drawn_inverse(node.p):
        return intern(Sum, (1, 1), (NoiseLogProb(node.p), LogDet(node.p)))
    return None


@rule(
    "variational lower bound",
    r"\log p(x) \ge \mathbb{E}_{q(z \mid x)}\left[\log p_z(z) + V(x, z)\right]",
    "the flow's inverse draws z from q(z|x), as dequantisation does",
    relation=">=",
    source="Nielsen et al., arXiv:2007.02731, section 2",
)
def variational_bound(node: Loss) -> Loss | None:
    """By one draw of z; V, the likelihood contribution, stands where the log-determinant does."""
    if isinstance(node, LogProb) and drawn_inverse(node.p):
        return intern(Sum, (1, 1), (NoiseLogProb(node.p), LogDet(node.p)))
    return None


@rule("marginal of a finite variable", r"\log p(x) = \log \sum_z p(z)\,p(x \mid z)", "z is finite, and x depends on it")
def finite_marginal(node: Loss) -> Loss | None:
    """As the logarithm of an expectation under p(z), which is summed exactly."""
    if not isinstance(node, LogProb) or len(node.p.factors) != 1 or not isinstance(node.p.factors[0], Marginal):
        return None
    marginal = node.p.factors[0]
    hidden = [f for f in marginal.joint.factors if set(f.var) & set(marginal.gone)]
    rest = [f for f in marginal.joint.factors if f not in hidden]
    if not rest or not all(f.finite and set(f.var) <= set(marginal.gone) for f in hidden):
        return None
    if any(set(f.cond_var) & set(marginal.var) for f in hidden):
        return None  # p(z|x) p(x): z is below x, and p(x) is a factor already
    return Elementwise("log", Expectation(part(tuple(hidden)), Prob(part(tuple(rest)))))


@rule("Bayes' rule", r"\log p(x) = \log p(x, z) - \log p(z \mid x)", "z was integrated out of a joint p(x, z)")
def bayes(node: Loss) -> Loss | None:
    """A marginal by its joint and its posterior; the posterior is exact where z is finite."""
    if not isinstance(node, LogProb) or len(node.p.factors) != 1 or not isinstance(node.p.factors[0], Marginal):
        return None
    marginal = node.p.factors[0]
    return intern(Sum, (1, -1), (LogProb(marginal.joint), LogProb(posterior_of(marginal))))


def posterior_of(marginal: Marginal) -> Distribution:
    """p(z | x): exact where z is finite, else a symbol that cannot be evaluated."""
    from probflow.distributions.posterior import TruePosterior

    known = all(f.finite for f in marginal.joint.factors if set(f.var) & set(marginal.gone))
    return Posterior(marginal.joint, marginal.gone) if known else TruePosterior(marginal.joint, marginal.gone)
