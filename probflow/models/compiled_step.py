"""One step of training as one graph: the loss, its gradient, clipping and the optimizer's update, under ``torch.compile``.

The first step of each kind runs eagerly: it finds whatever is wrong with the first batch, and makes the optimizer's state.  Later
ones run the graph.  In it a loss that is not finite leaves weights and state as they were, so that the error that follows finds
the model before the step.  What cannot be one graph (another optimizer, a network that the compiler cannot differentiate), or is
slower as one (convolutions on a CPU), runs as a compiled loss with the optimizer as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from probflow._typing import Inputs
from probflow.errors import ArgumentError
from probflow.inference.boundary import Boundary, boundary
from probflow.inference.compiled import (
    CompiledLoss,
    called_from_cpp,
    checked_options,
    require_compiler,
    unvalidated,
)
from probflow.inference.dry_run import _unchanged
from probflow.inference.evaluate import program_for, value_and_terms
from probflow.losses.free import modules
from probflow.models.step_graph import StepGraph
from probflow.models.updates import UPDATES

if TYPE_CHECKING:
    from probflow.models.model import Model

CAPTURES = ("step", "loss")
"""What ``capture`` may ask for: a graph of the whole step, or of the loss."""

MOST_GRAPHS = 8
"""After so many kinds of steps (frozen weights, options of the optimizer) the next ones are not worth a graph."""


class CompiledStep:
    """Steps of training of `model`, compiled with `options`."""

    def __init__(self, model: Model, options: Mapping[str, Any]) -> None:
        capture = options.get("capture")
        if capture not in (None, *CAPTURES):
            raise ArgumentError(
                f"Model(compile=...): capture must be one of {', '.join(map(repr, CAPTURES))}, got {capture!r}."
            )
        compiler = {name: value for name, value in options.items() if name != "capture"}
        self.model, self.options = model, checked_options(compiler, "Model(compile=...)")
        on_cpu = all(weight.is_cpu for group in model.optimizer.param_groups for weight in group["params"])
        require_compiler(self.options, "Model(compile=True)", on_cpu)
        self._loss = CompiledLoss(model.loss, self.options)
        self._step_options = called_from_cpp(self.options, on_cpu)
        self._edges: dict[Any, Boundary] = {}
        self._graphs: dict[Any, StepGraph | None] = {}
        self._rates: list[Tensor] = []
        self.reason = _obstacle(model) or _preference(model, capture, on_cpu)

    @property
    def whole(self) -> bool:
        """Whether one graph holds the whole step."""
        return self.reason is None

    def __str__(self) -> str:
        name = type(self.model.optimizer).__name__
        if self.reason is None:
            return f"one graph: the loss, its gradient and the update of {name}"
        kind = f"fused {name}" if self.model.optimizer.defaults.get("fused") else name
        return f"a graph of the loss and one of its gradient; {kind} runs by itself: {self.reason}"

    def __call__(self, values: Inputs, with_terms: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """One step: the loss before it and, if asked, its terms, all without graph."""
        self.model._train_mode()
        if self.reason is None:
            key, graph = self._graph(values, with_terms)
            if graph is not None:
                done = self._run(graph, key, values)
                if done is not None:
                    return done
            else:
                return self._by_parts(values, with_terms, compiled=False)
        return self._by_parts(values, with_terms, compiled=True)

    # ------------------------------------------------------------------ in one graph

    def _graph(self, values: Inputs, with_terms: bool) -> tuple[Any, StepGraph | None]:
        """The graph for a step of this kind; None for the first one, which is eager."""
        optimizer = self.model.optimizer
        state = optimizer.state
        kinds: list[Any] = [len(state)]
        for group in optimizer.param_groups:
            kinds.append(tuple([weight.requires_grad for weight in group["params"]]))
            options = [entry for name, entry in group.items() if name not in ("params", "lr", "initial_lr")]
            kinds.append(tuple([tuple(entry) if entry.__class__ is list else entry for entry in options]))
        if not torch.is_grad_enabled() or any(isinstance(v, Tensor) and v.requires_grad for v in values.values()):
            return None, None  # eager evaluation says what is wrong, or gives the data their gradients
        program = program_for(self.model.loss, values, with_terms)
        key = (program, *kinds)
        graph = self._graphs.get(key)
        if graph is None or not graph.fits(optimizer):
            edge = self._edges.get(program)
            if edge is None:  # the eager step follows, and may plan anew
                edge = boundary(self.model.loss, values, with_terms)
                self._edges[edge.program] = edge
            if self.options.get("backend", "inductor") == "inductor" and any(map(_one_double, _tensors(state))):
                self._give_up(f"of the float64 counts of steps of {type(optimizer).__name__}, inductor makes another update")
                return None, None
            clip = self.model.clip_grad_norm, self.model.clip_grad_value
            made = StepGraph.make(edge, optimizer, clip, self._step_options)
            if made is None:
                return None, None
            if graph is None and len(self._graphs) >= MOST_GRAPHS:
                self._give_up(f"its weights or the optimizer's options changed more than {MOST_GRAPHS} times")
                return None, None
            key = (edge.program, *kinds)
            graph = self._graphs[key] = made
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    weight.grad = None  # the graph keeps gradients to itself
        return key, graph

    def _run(self, graph: StepGraph, key: Any, values: Inputs) -> tuple[Tensor, dict[str, Tensor]] | None:
        edge = graph.edge
        inputs = edge.inputs(values, "dynamic" not in self.options)
        try:
            with unvalidated():
                result = graph(inputs, graph.columns, self._current_rates())
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            edge.blame(values)
            self._look_for_gradient(values)
            if graph.ran:
                raise
            self._give_up(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
            return None
        edge.settle(result[-1], values)
        return result[0], dict(zip(edge.names, result[1:-1], strict=True))

    def _look_for_gradient(self, values: Inputs) -> None:
        """The error of eager training where no weight is left that the loss depends on, as after a network was replaced."""
        devices = [value.device for value in values.values() if isinstance(value, Tensor) and value.is_cuda]
        with torch.random.fork_rng(devices), _unchanged(modules(self.model.loss)):
            self.model._require_gradient(self.model.loss.eval(values))

    def _current_rates(self) -> list[Tensor]:
        """The learning rates as tensors, so that a scheduler changes numbers and not the graph."""
        groups = self.model.optimizer.param_groups
        if len(self._rates) != len(groups):
            self._rates = [torch.zeros((), dtype=torch.float64) for _ in groups]
            self._filled: list[Any] = [None] * len(groups)
        for place, group in enumerate(groups):
            rate = group["lr"]
            if isinstance(rate, Tensor):
                self._rates[place] = rate
            elif rate != self._filled[place]:
                self._rates[place].fill_(rate)
                self._filled[place] = rate
        return self._rates

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        self._graphs.clear()
        warnings.warn(f"Model: compiled as {self}.", UserWarning, stacklevel=5)

    # ------------------------------------------------------------------ by parts

    def _by_parts(self, values: Inputs, with_terms: bool, compiled: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, compiled or not, and then the optimizer."""
        terms: dict[str, Tensor] = {}

        def evaluate() -> Tensor:
            if not with_terms:
                return self._loss(values) if compiled else self.model.loss.eval(values)
            value, found = self._loss.value_and_terms(values) if compiled else value_and_terms(self.model.loss, values)
            terms.update(found)
            return value

        return self.model.step(evaluate), terms


def _obstacle(model: Model) -> str | None:
    """Why a step of this model cannot be one graph; None where it can."""
    import torch._dynamo.config as config

    optimizer = model.optimizer
    name = type(optimizer).__name__
    if not hasattr(config, "trace_autograd_ops"):
        return f"torch {torch.__version__} cannot compile a backward pass with its loss; 2.13 can"
    if type(optimizer) not in UPDATES:
        return f"of optimizers, only {', '.join(known.__name__ for known in UPDATES)} have an update in the graph"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return f"{name} has hooks on its steps"
    if any(group.get("differentiable") for group in optimizer.param_groups):
        return f"{name} is differentiable itself"
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if any(weight._backward_hooks or weight.is_complex() for weight in weights):
        return "weights have hooks on their gradients, or are complex"
    if any(map(_one_double, weights)):
        return "of a weight that is one float64, inductor leaves gradients out of the update"
    return None


def _one_double(tensor: Tensor) -> bool:
    """Whether this is one float64 number on the CPU, which inductor's updates are wrong of."""
    return tensor.is_cpu and not tensor.dim() and tensor.dtype == torch.float64


def _tensors(state: Mapping[Any, Mapping[str, Any]]) -> list[Tensor]:
    return [value for entries in state.values() for value in entries.values() if isinstance(value, Tensor)]


def _preference(model: Model, capture: str | None, on_cpu: bool) -> str | None:
    """Why the loss alone is to be compiled where the whole step could be; None for the whole step.

    A graph of the step saves the time between kernels, most of that of a small step.  With convolutions the time is in the kernels:
    a step of Glow (3x32x32, two CPU threads) took 0.86 of the time of eager PyTorch as one graph, 0.69 by parts.
    """
    if capture is not None:
        return None if capture == "step" else 'capture="loss" asks for it'
    layers = (layer for part in modules(model.loss) for layer in part.modules())
    if on_cpu and any(isinstance(layer, _ConvNd) for layer in layers):
        return 'with convolutions that is faster on a CPU (capture="step" asks for one graph)'
    return None
