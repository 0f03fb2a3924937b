"""Optimizers and schedulers as a Model takes them: a class, an instance, or nothing for the default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from probflow.errors import ModelError
from probflow.printing import did_you_mean

OptimizerLike: TypeAlias = Optimizer | Callable[..., Optimizer]
SchedulerLike: TypeAlias = LRScheduler | Callable[[Optimizer], LRScheduler]


def make_optimizer(
    optimizer: OptimizerLike | None, options: Mapping[str, Any] | None, parameters: Sequence[Tensor], names: Mapping[int, str]
) -> Optimizer:
    """The optimizer of `parameters`; `names` tells them apart in errors.

    None is Adam with learning rate 1e-3, fused into one kernel where the device has it; a class (or any callable) is called
    with the parameters and `options`; an instance is used as it is.
    """
    if isinstance(optimizer, Optimizer):
        if options:
            raise ModelError(
                f"Model: optimizer is {type(optimizer).__name__}(...), already made: "
                f"optimizer_params={dict(options)} would change nothing.\n"
                f"Pass the class, optimizer={type(optimizer).__name__}, or leave optimizer_params out."
            )
        _check_instance(optimizer, parameters, names)
        return optimizer
    if options is not None and not isinstance(options, Mapping):
        raise ModelError(f'Model: optimizer_params must be a dict, such as {{"lr": 1e-3}}, got a {type(options).__name__}.')
    if optimizer is None:
        return _default(parameters, dict(options or {}))
    if not callable(optimizer):
        raise ModelError(
            f"Model: optimizer must be a class such as torch.optim.Adam, an optimizer, or None, got {_described(optimizer)}."
        )
    made = _call(optimizer, list(parameters), dict(options or {}))
    if not isinstance(made, Optimizer):
        raise ModelError(f"Model: optimizer(parameters) gave a {type(made).__name__}, not a torch.optim.Optimizer.")
    _check_instance(made, parameters, names)
    return made


def make_scheduler(scheduler: SchedulerLike | None, optimizer: Optimizer) -> LRScheduler | None:
    """The scheduler of `optimizer`: a class or callable is called with it, an instance must belong to it."""
    if scheduler is None:
        return None
    if isinstance(scheduler, LRScheduler):
        if scheduler.optimizer is not optimizer:
            raise ModelError(
                f"Model: the scheduler {type(scheduler).__name__}(...) belongs to another optimizer than this model's.\n"
                f"Pass optimizer= the one it was made with, or scheduler=functools.partial({type(scheduler).__name__}, ...)."
            )
        return scheduler
    if not callable(scheduler):
        raise ModelError(
            f"Model: scheduler must be a scheduler, or a callable optimizer -> scheduler, got {_described(scheduler)}."
        )
    name = getattr(scheduler, "__name__", type(scheduler).__name__)
    try:
        made = scheduler(optimizer)
    except TypeError as error:
        raise ModelError(
            f"Model: scheduler(optimizer) failed: {error}.\n"
            f"Give it its other arguments with functools.partial({name}, ...), or a lambda."
        ) from error
    if not isinstance(made, LRScheduler):
        raise ModelError(
            f"Model: scheduler(optimizer) gave a {type(made).__name__}, not a torch.optim.lr_scheduler.LRScheduler."
        )
    return made


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether ``step`` must be given the function that computes the loss (LBFGS)."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _default(parameters: Sequence[Tensor], options: dict[str, Any]) -> Optimizer:
    options = {"lr": 1e-3, **options}
    if "fused" not in options:
        try:
            return Adam(list(parameters), **options, fused=True)
        except (RuntimeError, TypeError, ValueError):  # a device, a dtype or another option that it does not go with
            pass
    return _call(Adam, list(parameters), options)


def _call(optimizer: Callable[..., Any], parameters: list[Tensor], options: dict[str, Any]) -> Any:
    name = getattr(optimizer, "__name__", type(optimizer).__name__)
    try:
        return optimizer(parameters, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        try:
            known = list(inspect.signature(optimizer).parameters)[1:]
        except (TypeError, ValueError):
            known = []
        strange = [option for option in options if known and option not in known]
        guess = did_you_mean(strange[0], known) if strange else ""
        listed = f"\n  its parameters: {', '.join(known)}" if strange else ""
        raise ModelError(f"Model: the optimizer {name} refused its parameters: {error}.{guess}{listed}") from error


def _check_instance(optimizer: Optimizer, parameters: Sequence[Tensor], names: Mapping[int, str]) -> None:
    """An optimizer must have every trained weight of the loss, and nothing that is not in the loss."""
    has = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    missing = [names[id(tensor)] for tensor in parameters if tensor.requires_grad and id(tensor) not in has]
    if missing:
        raise ModelError(
            f"Model: the optimizer {type(optimizer).__name__}(...) lacks weights that the loss trains:\n"
            f"{_listed(missing)}\nGive it loss.parameters(), or name what it trains: distributions=[...]."
        )
    foreign = [tensor for group in optimizer.param_groups for tensor in group["params"] if id(tensor) not in names]
    if foreign:
        shapes = [f"a tensor of shape {tuple(tensor.shape)}" for tensor in foreign]
        raise ModelError(
            f"Model: the optimizer {type(optimizer).__name__}(...) has weights that are not in the loss:\n{_listed(shapes)}\n"
            "Was it made before the networks were replaced or copied? Give it loss.parameters()."
        )
    known = {id(tensor) for tensor in parameters}
    extra = [names[i] for i in has if i not in known]
    if extra:
        raise ModelError(
            f"Model: the optimizer {type(optimizer).__name__}(...) has weights that distributions=[...] leaves out:\n"
            f"{_listed(sorted(extra))}\nName their distributions too, or leave distributions= out."
        )


def _listed(entries: Sequence[str], most: int = 8) -> str:
    lines = [f"  {entry}" for entry in entries[:most]]
    return "\n".join([*lines, f"  ... and {len(entries) - most} more"] if len(entries) > most else lines)


def _described(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


def learning_rate(optimizer: Optimizer) -> float:
    """That of the first parameter group."""
    rate = optimizer.param_groups[0].get("lr", float("nan"))
    return float(rate.item() if isinstance(rate, torch.Tensor) else rate)
