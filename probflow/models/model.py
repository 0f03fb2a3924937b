"""A loss with an optimizer: one step of training, one step of testing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from probflow._typing import Inputs
from probflow.distributions import Distribution
from probflow.errors import ModelError
from probflow.inference import value_and_terms
from probflow.inference.compiled import CompiledLoss
from probflow.losses import Loss
from probflow.losses.free import coefficients, is_scalar, modules
from probflow.models import checkpoint as checkpoints
from probflow.models import fit as fitting
from probflow.models import mistakes
from probflow.models.compiled_step import CompiledStep
from probflow.models.optimizers import OptimizerLike, SchedulerLike, make_optimizer, make_scheduler, needs_closure
from probflow.models.selection import choose
from probflow.models.weights import labelled_coefficients, labelled_modules, named_parameters


class Model:
    """Trains the distributions of a loss.

    loss: what is minimised, one number (``.mean()`` or ``.sum()`` over the batch).  test_loss: what `test` and the validation
    of `fit` compute; the loss itself if None.
    distributions: what is trained; None is everything. Leaving out a distribution with weights gives a warning that names it.
    Trainable scalars of the loss are always trained.
    optimizer: a class, called with the weights and `optimizer_params`; an instance, used as it is; or None for
    ``torch.optim.Adam`` with learning rate 1e-3, fused into one kernel where the device has it.
    scheduler: a callable ``optimizer -> scheduler``, such as ``functools.partial(StepLR, step_size=10)``, or an instance; `fit`
    steps it once per epoch.
    clip_grad_norm, clip_grad_value: limits of the gradient's norm and of its entries.
    compile: True puts a whole training step (the loss, its gradient, clipping, the optimizer's update) into one graph of
    ``torch.compile`` where that can be done, and the loss alone where not, or where that is faster (convolutions on a CPU):
    ``model.compiled`` says which, and why. A dict holds options of ``torch.compile``, and ``"capture": "step"`` or ``"loss"``
    to choose between the two. The first step is eager, the second compiles (seconds to minutes); weights are those of eager
    training, to rounding. A whole graph leaves no ``.grad`` behind.

    ``model.history`` has one list of numbers per quantity, with one entry per epoch of `fit`; ``model.epoch`` counts them.

    Errors: `ModelError` for a loss that has a batch dimension or nothing to train, a distribution that is not in the loss, an
    optimizer that does not have the loss's weights.

    >>> from probflow.distributions import Normal
    >>> from probflow.losses import LogProb
    >>> p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
    >>> model = Model((-LogProb(p)).mean(), optimizer=torch.optim.SGD, optimizer_params={"lr": 1.0})
    >>> model.train({"x": torch.ones(5, 2)})
    tensor(2.8379)
    >>> model.test({"x": torch.ones(5, 2)})
    tensor(1.8379)
    """

    def __init__(
        self,
        loss: Loss,
        test_loss: Loss | None = None,
        distributions: Sequence[nn.Module] | None = None,
        optimizer: OptimizerLike | None = None,
        optimizer_params: Mapping[str, Any] | None = None,
        scheduler: SchedulerLike | None = None,
        clip_grad_norm: float | None = None,
        clip_grad_value: float | None = None,
        compile: bool | Mapping[str, Any] = False,
        **unknown: NoReturn,
    ) -> None:
        if unknown:
            raise mistakes.no_argument(unknown)
        self.loss = _checked_loss(loss, "loss")
        self.test_loss = loss if test_loss is None else _checked_loss(test_loss, "test_loss")
        self.clip_grad_norm = _positive(clip_grad_norm, "clip_grad_norm")
        self.clip_grad_value = _positive(clip_grad_value, "clip_grad_value")
        # the warning points at the caller, not at the short form that passes the call on
        self.distributions, weights = choose(loss, distributions, stacklevel=2 if type(self) is Model else 3)
        names = named_parameters(labelled_modules([loss]), labelled_coefficients([loss]))
        self.optimizer = make_optimizer(optimizer, optimizer_params, weights, names)
        self.scheduler = make_scheduler(scheduler, self.optimizer)
        self.epoch = 0
        self.history: dict[str, list[float]] = {}
        self.term_names: dict[str, list[str]] = {}
        self._roots = modules(loss)
        self._test_roots = tuple(dict.fromkeys((*self._roots, *modules(self.test_loss))))
        self._modules = tuple(dict.fromkeys(m for root in self._roots for m in root.modules()))
        self._clips = clip_grad_norm is not None or clip_grad_value is not None
        self._needs_closure = needs_closure(self.optimizer)
        self._compiled = None if compile is False else CompiledStep(self, _compile_options(compile))

    if not TYPE_CHECKING:  # to a type checker every name would be there, a misspelled one too

        def __getattr__(self, name: str) -> NoReturn:
            raise mistakes.no_attribute(self, name)

    # ------------------------------------------------------------------ one step

    def train(self, values: Inputs) -> Tensor:
        """One step of the optimizer on one batch; gives the loss before the step, without its graph.

        `values` has a tensor for each of ``loss.input_var``; other names are ignored. Networks are in training mode.
        """
        if self._compiled is not None:
            return self._compiled(values)[0]
        return self.step(partial(self.loss.eval, values))

    def train_with_terms(self, values: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """As `train`, with every printed term of the loss, from the same evaluation."""
        if self._compiled is not None:
            return self._compiled(values, with_terms=True)
        terms: dict[str, Tensor] = {}

        def evaluate() -> Tensor:
            value, found = value_and_terms(self.loss, values)
            terms.update(found)
            return value

        return self.step(evaluate), terms

    @property
    def compiled(self) -> str:
        """What ``compile=True`` put into graphs, in words; empty without it."""
        return "" if self._compiled is None else str(self._compiled)

    def test(self, values: Inputs) -> Tensor:
        """The test loss of one batch, without gradient, with the networks in evaluation mode; their mode is restored."""
        with self.evaluating():
            return self.test_loss.eval(values)

    def step(self, evaluate: Callable[[], Tensor]) -> Tensor:
        """One step of the optimizer on what `evaluate` computes; for training loops that evaluate the loss themselves."""
        self._train_mode()
        if self._needs_closure:
            return cast(Tensor, self.optimizer.step(cast(Any, partial(self._backward, evaluate)))).detach()
        loss = self._backward(evaluate)
        self.optimizer.step()
        return loss.detach()

    def _train_mode(self) -> None:
        for module in self._modules:
            if not module.training:
                for root in self._roots:
                    root.train()
                break

    def _backward(self, evaluate: Callable[[], Tensor]) -> Tensor:
        torch.clear_autocast_cache()  # torch.autocast keeps the weights it has cast until it ends, also those of before an update
        for group in self.optimizer.param_groups:  # zero_grad(set_to_none=True), without its profiling
            for tensor in group["params"]:
                tensor.grad = None
        loss = evaluate()
        self._require_gradient(loss)
        loss.backward()
        if self._clips:
            self._clip()
        return loss

    def _require_gradient(self, value: Tensor) -> None:
        if not value.requires_grad:
            raise ModelError(_no_gradient(self.loss))

    def _clip(self) -> None:
        weights = [tensor for group in self.optimizer.param_groups for tensor in group["params"]]
        if self.clip_grad_norm is not None:
            clip_grad_norm_(weights, self.clip_grad_norm)
        if self.clip_grad_value is not None:
            clip_grad_value_(weights, self.clip_grad_value)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode and no gradients inside; afterwards every module is in the mode it was in."""
        before = [(module, module.training) for root in self._test_roots for module in root.modules()]
        torch.clear_autocast_cache()  # the last update has changed the weights
        try:
            for root in self._test_roots:
                root.eval()
            with torch.no_grad():
                yield
        finally:
            for module, mode in before:
                module.training = mode

    # ------------------------------------------------------------------ many steps

    def fit(
        self,
        data: fitting.DataLike,
        epochs: int,
        validation: fitting.DataLike | None = None,
        callbacks: Sequence[fitting.Callback] = (),
        checkpoint: str | PathLike[str] | None = None,
        resume: bool = False,
        progress: bool = True,
        **unknown: NoReturn,
    ) -> dict[str, list[float]]:
        """Trains for `epochs` passes over `data`; gives `history`.

        data, validation: anything that can be iterated over again and again and yields dicts name -> tensor (a DataLoader,
        ``probflow.data.Batches``, a list), or one dict of tensors, which is one batch per epoch. Batches are moved to the
        device of the weights.
        callbacks: each is called as ``callback(model, epoch, logs)`` after an epoch (the first is 1); `logs` has this epoch's
        entries of `history`, and numbers written into it, ``logs["bits"] = ...``, become entries; those after it see them. One that
        returns True ends the training.
        checkpoint: a file that is written after every epoch, after the callbacks; a killed run leaves the previous one whole.
        resume: go on from `checkpoint` if it exists; `epochs` then is the total. The weights come out bit-identical to those of
        an uninterrupted run: the random state is part of a checkpoint, and so is that of every ``torch.Generator`` found on the
        data. (numpy or Python generators of your own on the data are not.)

        progress: show it on stderr: a bar in terminals and notebooks; elsewhere, as in a log file, a line per epoch, at most one a
        second.

        ``history`` gets, per epoch: "loss" and each printed term of the loss (averages over the epoch, weighted by batch size;
        of a loss with several batches each term by that of its own, and "loss" is the sum of these),
        "test_loss" and ``"test_..."`` for each of its terms with `validation`, "lr", and "seconds".

        Errors: `ModelError` for data that yield something else than dicts, and for a loss that is not finite, naming the
        epoch, the step and the term; on a CPU the weights are then those before this step.

        >>> from probflow.distributions import Normal
        >>> from probflow.losses import LogProb
        >>> p = Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0)
        >>> model = Model((-LogProb(p)).mean(), optimizer=torch.optim.SGD, optimizer_params={"lr": 0.5})
        >>> history = model.fit({"x": torch.ones(5, 2)}, epochs=3, progress=False)
        >>> [round(loss, 4) for loss in history["loss"]]
        [2.8379, 2.0879, 1.9004]
        """
        if unknown:
            raise mistakes.no_fit_argument(data, unknown)
        return fitting.fit(self, data, epochs, validation, callbacks, checkpoint, resume, progress)

    def to(self, device: torch.device | str | torch.dtype | None = None, dtype: torch.dtype | None = None) -> Model:
        """Moves the weights of the loss, and what the optimizer keeps of them, to a device, a dtype, or both; gives this model.

        `fit` moves its batches to the device by itself; for `train` and `test` move the values: ``{"x": x.to(device)}``. A dtype is
        for the weights alone: the data must have it too, ``{"x": x.double()}``.

        Errors: `ModelError` for a dtype that is not of floating-point numbers.

        >>> from probflow.distributions import Normal
        >>> from probflow.losses import LogProb
        >>> model = Model((-LogProb(Normal("p(x)", loc=nn.Parameter(torch.zeros(2)), scale=1.0))).mean())
        >>> model.to("cpu") is model
        True
        >>> model.to(torch.float64).train({"x": torch.ones(5, 2).double()}).dtype
        torch.float64
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None and not dtype.is_floating_point:
            raise ModelError(f"Model.to: weights are floating-point numbers, such as torch.float64, got {dtype}.")
        for root in self._test_roots:
            root.to(device=device, dtype=dtype)
        for scalar in (*coefficients(self.loss), *coefficients(self.test_loss)):
            scalar.data = scalar.data.to(device=device, dtype=dtype)
        for weight, state in self.optimizer.state.items():
            for name, value in state.items():
                # as in torch's load_state_dict: the counter of steps stays in float32, and on the CPU unless the optimizer is fused
                if isinstance(value, Tensor) and name != "step":
                    state[name] = value.to(weight.device, weight.dtype if value.is_floating_point() else None)
                elif isinstance(value, Tensor) and self.optimizer.defaults.get("fused"):
                    state[name] = value.to(weight.device)
        return self

    def save(self, path: str | PathLike[str]) -> None:
        """Writes weights, optimizer, scheduler, epoch, history and random state to `path`, whole or not at all."""
        checkpoints.save(self, path)

    def load(self, path: str | PathLike[str]) -> None:
        """Restores what `save` wrote, random state included; no code in the file is run.

        Errors: `CheckpointError` for a file that is missing, damaged, or belongs to another model, with the list of
        differences; nothing is changed then.
        """
        checkpoints.load(self, path)

    def __repr__(self) -> str:
        trained = ", ".join(str(p.statement) if isinstance(p, Distribution) else type(p).__name__ for p in self.distributions)
        optimizer = f"{type(self.optimizer).__name__} on {trained or 'scalars'}"
        compiled = f"\n  compiled: {self._compiled}" if self._compiled is not None else ""
        return f"{type(self).__name__} minimises {self.loss}\n  {optimizer}; {self.epoch} epochs so far{compiled}"


def _checked_loss(loss: object, what: str) -> Loss:
    if isinstance(loss, Distribution):
        raise ModelError(
            f"Model: {what} is the distribution {loss.statement}, not a loss. Write ML(p), or Model((-log(p)).mean())."
        )
    if isinstance(loss, Tensor):
        raise ModelError(f"Model: {what} is a value (a tensor), not an expression. Pass the loss itself, without .eval(...).")
    if isinstance(loss, CompiledLoss):
        raise ModelError(f"Model: {what} is compiled already. Pass the loss itself: Model(loss, compile=True).")
    if not isinstance(loss, Loss):
        raise ModelError(f"Model: {what} must be a loss such as (KL(q, p) - E(q)[log(p)]).mean(), got a {type(loss).__name__}.")
    if not is_scalar(loss):
        raise ModelError(
            f"Model: {what} {loss} is one number per batch element; write loss.mean() to minimise its average over the batch."
        )
    return loss


def _positive(value: float | None, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ModelError(f"Model: {what} must be a positive number, got {value!r}.")
    return float(value)


def _compile_options(compile: object) -> Mapping[str, Any]:
    if compile is True:
        return {}
    if isinstance(compile, Mapping):
        return compile
    raise ModelError(
        f'Model: compile must be True, False, or options of torch.compile, such as {{"mode": ...}}, and "capture", got {compile!r}.'
    )


def _no_gradient(loss: Loss) -> str:
    if not torch.is_grad_enabled():
        return f"Model: {loss} cannot be trained inside torch.no_grad() or torch.inference_mode(): gradients are switched off."
    return (
        f"Model: {loss} has no gradient: its value depends on no weight.\n"
        "Is everything in it frozen (requires_grad is False) or behind .detach()?"
    )
