"""log q at a draw of its own, with q's weights held fixed: what sticking the landing and DReG put in the place of log q."""

from __future__ import annotations

from torch import Tensor

from probflow.distributions.base import Factor
from probflow.distributions.bound import Bound
from probflow.inference.axes import Slot, align_bound, missing_depths, union
from probflow.inference.estimators.stl import check_fixed, fixed, parameters_suffice, with_fixed_weights
from probflow.inference.planner import Env, Planner


def fixed_log_prob(planner: Planner, factor: Factor, env: Env) -> Slot:
    """The log-density of `factor` as a function of the values of its variables alone."""
    bound = planner.bind(factor, env)
    values = tuple(planner.read(name, env) for name in factor.var)
    axes = union(bound.axes, *(slot.axes for slot in values))
    lined = tuple(planner.aligned(slot, axes) for slot in values)
    leads = tuple(len(slot.axes) for slot in lined)
    depths = missing_depths(bound.axes, axes)

    def density(dist: Bound, *tensors: Tensor) -> Tensor:
        return align_bound(dist, depths).log_prob(tensors, leads, False)

    if parameters_suffice(factor, bool(bound.draws)):
        args: tuple[Slot, ...] = (bound, *lined)

        def run(dist: Bound, *tensors: Tensor) -> Tensor:
            return density(fixed(dist), *tensors)
    else:
        check_fixed(factor)
        inputs = tuple(planner.read(name, env) for name in factor.cond_var)
        own = union(*(slot.axes for slot in inputs))
        inputs = tuple(planner.aligned(slot, own) for slot in inputs)
        bind, count = factor.binder(tuple(len(slot.axes) for slot in inputs)), len(inputs)
        args = (*inputs, *lined)
        run = with_fixed_weights(factor, lambda *tensors: density(bind(*tensors[:count]), *tensors[count:]))
    return planner.op(
        "log_prob", ("fixed", id(factor.origin), factor.var), args, run, axes,
        text=f"log {planner.labels.text(factor)}", note="its parameters held fixed", about=(factor,),
    )  # fmt: skip
