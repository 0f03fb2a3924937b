"""The epoch loop: training, validation, history, progress, checkpoints."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from probflow._typing import Inputs, Names
from probflow.errors import MissingVariable, ModelError
from probflow.inference import value_and_terms
from probflow.inference.term_rows import term_rows
from probflow.losses import Loss
from probflow.models import checkpoint as checkpoints
from probflow.models.averages import Averages
from probflow.models.optimizers import learning_rate
from probflow.models.progress import Progress, progress_of
from probflow.printing import kind_text

if TYPE_CHECKING:
    from probflow.models.model import Model

DataLike: TypeAlias = Iterable[Mapping[str, Tensor]] | Mapping[str, Tensor]
Callback: TypeAlias = "Callable[[Model, int, dict[str, float]], bool | None]"

RESERVED = ("loss", "test_loss", "seconds", "lr")


def fit(
    model: Model,
    data: DataLike,
    epochs: int,
    validation: DataLike | None,
    callbacks: Sequence[Callback],
    checkpoint: str | PathLike[str] | None,
    resume: bool,
    progress: bool,
) -> dict[str, list[float]]:
    """See `Model.fit`."""
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
        given = f"a {type(epochs).__name__}" if isinstance(epochs, Tensor) else repr(epochs)
        raise ModelError(f"fit: epochs must be a non-negative integer, got {given}.")
    callbacks = _checked_callbacks(callbacks)
    batches = _batches(data, "data", epochs)
    held_out = None if validation is None else _batches(validation, "validation", epochs)
    generators = {**generators_of(batches, "data"), **generators_of(held_out, "validation")}
    path = _checked_path(checkpoint, resume)
    if path is not None:
        checkpoints.state_of(model, generators)  # what cannot be saved is an error now, not after an hour
        path.parent.mkdir(parents=True, exist_ok=True)
        if resume and path.exists():
            _restore(model, path, generators)
    last = epochs if resume else model.epoch + epochs
    with progress_of(progress, _length(batches), model.epoch, last) as shown:
        while model.epoch < last:
            epoch = model.epoch + 1
            shown.start(epoch)
            logs = _epoch(model, batches, held_out, epoch, shown)
            _record(model, logs)
            model.epoch = epoch
            stop, written = False, dict(logs)
            for callback in callbacks:
                with shown.aside():
                    stop = callback(model, epoch, written) is True or stop
                _add(model, logs, written)
            if path is not None:  # after the callbacks: what they draw is part of the random state
                checkpoints.save(model, path, generators)
            if stop:
                break
    return model.history


def _epoch(
    model: Model, batches: Iterable[Inputs], held_out: Iterable[Inputs] | None, epoch: int, shown: Progress
) -> dict[str, float]:
    """One pass over the data, one over the validation data, one step of the scheduler; gives the epoch's numbers."""
    start, rate = time.perf_counter(), learning_rate(model.optimizer)
    logs = _pass(model, model.loss, batches, epoch, train=True, shown=shown)
    if held_out is not None:
        with model.evaluating():
            tested = _pass(model, model.test_loss, held_out, epoch, train=False, shown=shown)
        logs |= {f"test_{name}": number for name, number in tested.items()}
    shown.end({n: v for n, v in logs.items() if not n.startswith("test_") or n == "test_loss"})
    if isinstance(model.scheduler, ReduceLROnPlateau):
        model.scheduler.step(logs.get("test_loss", logs["loss"]))
    elif model.scheduler is not None:
        model.scheduler.step()
    return {**logs, "lr": rate, "seconds": time.perf_counter() - start}


def _pass(model: Model, loss: Loss, batches: Iterable[Inputs], epoch: int, train: bool, shown: Progress) -> dict[str, float]:
    """The averages of a loss and its terms over all batches."""
    device = _device(model)
    kind, where = ("loss", f"epoch {epoch}") if train else ("test_loss", f"epoch {epoch}, validation")
    immediate = device is not None and device.type == "cpu"
    averages = Averages(loss, where, immediate, model.term_names.get(kind, ()))
    names = loss.input_var
    first, rows = True, None

    for values in batches:
        batch = _moved(_checked_batch(values, train), device)
        if first and not train:
            _check_validation(names, batch)
        if first:
            rows, first = term_rows(loss, batch), False
        if rows is None:
            averages.start(_size(batch, names))
        else:
            averages.start_several(rows.sizes(batch), rows.signs)

        def evaluate(batch: Inputs = batch) -> Tensor:
            value, terms = value_and_terms(loss, batch)
            averages.add(value, terms)
            return value

        if train:
            if model.compiled:
                averages.add(*model.train_with_terms(batch))
            else:
                model.step(evaluate)
            shown.step(averages.result)
        else:
            evaluate()
    result = averages.result()
    if not result:
        raise ModelError(f"fit: {'data' if train else 'validation'} yielded no batch in epoch {epoch}.")
    model.term_names[kind] = list(averages.names)
    return {f"{name} (term)" if name in RESERVED and place else name: n for place, (name, n) in enumerate(result.items())}


def _check_validation(needed: Names, batch: Inputs) -> None:
    lacking = [name for name in needed if name not in batch]
    if lacking:
        raise MissingVariable(
            f"fit: validation has no {', '.join(map(repr, lacking))}.\n"
            f"  the test loss needs: {', '.join(needed)}\n"
            f"  a batch has:         {', '.join(batch)}\n"
            "Put it into validation, or validate another loss: Model(loss, test_loss=...)."
        )


def _record(model: Model, logs: Mapping[str, float]) -> None:
    """One number per epoch in every list; NaN where an epoch has none (no validation, say)."""
    for name in {**model.history, **logs}:
        numbers = model.history.setdefault(name, [])
        numbers.extend([math.nan] * (model.epoch - len(numbers)))
        numbers.append(logs.get(name, math.nan))


def _add(model: Model, logs: Mapping[str, float], written: dict[str, float]) -> None:
    """What a callback wrote into the numbers of its epoch, in the history."""
    for name, value in written.items():
        if name in logs and logs[name] is value:
            continue
        try:
            if not isinstance(name, str) or isinstance(value, str):
                raise TypeError
            written[name] = number = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise ModelError(
                f"fit: a callback wrote logs[{name!r}] = {kind_text(value)}; the history has one number per epoch and name.\n"
                "Keep other things elsewhere, in a list of your own for example."
            ) from None
        model.history.setdefault(name, [math.nan] * model.epoch)[-1] = number


# ---------------------------------------------------------------------- what is given to fit


def _batches(data: object, what: str, epochs: int) -> Iterable[Inputs]:
    """`data` as something that can be iterated over once per epoch."""
    if isinstance(data, Mapping):
        return (data,)
    if isinstance(data, Tensor):
        raise ModelError(f'fit: {what} is a tensor; name it: {{"x": tensor}}, or Batches({{"x": tensor}}, batch_size=128).')
    if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise ModelError(f"fit: {what} must yield dicts name -> tensor, got a {type(data).__name__}.")
    if iter(data) is data and epochs > 1:
        raise ModelError(
            f"fit: {what} is an iterator, used up after one epoch.\n"
            "Pass what it was made from: a DataLoader, Batches, or a list."
        )
    return data  # type: ignore[return-value]


def _length(batches: Iterable[Inputs]) -> int | None:
    """The number of batches, where it is known."""
    try:
        return len(batches) if isinstance(batches, Sized) else None
    except TypeError:  # a DataLoader of a stream has a __len__ that raises
        return None


def _checked_batch(values: object, train: bool) -> Inputs:
    if isinstance(values, Mapping):
        return values
    what = "data" if train else "validation"
    raise ModelError(
        f'fit: {what} must yield dicts name -> tensor, such as {{"x": x, "y": y}}, but yielded a {type(values).__name__}.\n'
        'For tensors in memory: probflow.data.Batches({"x": x, "y": y}, batch_size=128).\n'
        "For a DataLoader: let the dataset's items be dicts, or name them in collate_fn:\n"
        '  lambda rows: dict(zip(("x", "y"), torch.utils.data.default_collate(rows)))'
    )


def _checked_callbacks(callbacks: object) -> Sequence[Callback]:
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise ModelError("fit: callbacks must be a list of functions: callbacks=[callback].")
    found = list(callbacks)
    for entry in found:
        if not callable(entry):
            raise ModelError(
                f"fit: a callback is called as callback(model, epoch, logs); a {type(entry).__name__} cannot be called."
            )
    return found


def _checked_path(checkpoint: object, resume: bool) -> Path | None:
    if checkpoint is None:
        if resume:
            raise ModelError('fit: resume=True needs the file to go on from: checkpoint="run.pt".')
        return None
    if not isinstance(checkpoint, (str, PathLike)):
        raise ModelError(f"fit: checkpoint must be the path of a file, got {checkpoint!r}.")
    path = Path(checkpoint)
    if path.is_dir():
        raise ModelError(
            f"fit: checkpoint={str(path)!r} is a folder; name a file in it, such as {str(path / 'checkpoint.pt')!r}."
        )
    return path


def _restore(model: Model, path: Path, generators: checkpoints.Generators) -> None:
    known = checkpoints.load(model, path, generators)
    if known != set(generators):
        changed = ", ".join(sorted(known ^ set(generators)))
        warnings.warn(
            f"fit: {path} was written with other random generators on the data ({changed}).\n"
            "The batches after resuming are not those of an uninterrupted run.",
            UserWarning,
            stacklevel=4,
        )


def generators_of(data: object, label: str, depth: int = 4) -> dict[str, torch.Generator]:
    """Every ``torch.Generator`` on `data` and on the objects that it is made of, by the path to it."""
    found: dict[str, torch.Generator] = {}
    seen: set[int] = set()

    def look(value: object, path: str, left: int) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, torch.Generator):
            found[path] = value
        elif isinstance(value, tuple):
            for place, entry in enumerate(value):
                look(entry, f"{path}[{place}]", left)
        elif left and not isinstance(value, (Tensor, nn.Module, type)) and not callable(value):
            for name, entry in getattr(value, "__dict__", {}).items():
                look(entry, f"{path}.{name}", left - 1)

    look(data, label, depth)
    return found


def _device(model: Model) -> torch.device | None:
    """Where the weights are, if they are all in one place."""
    places = {tensor.device for group in model.optimizer.param_groups for tensor in group["params"]}
    return places.pop() if len(places) == 1 else None


def _moved(values: Inputs, device: torch.device | None) -> Inputs:
    if device is None or all(not isinstance(v, Tensor) or v.device == device for v in values.values()):
        return values
    moved: dict[str, Any] = {n: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for n, v in values.items()}
    return moved


def _size(values: Inputs, names: Iterable[str]) -> int:
    """The batch size: that of the first variable of the loss that has a batch dimension."""
    for name in names:
        value = values.get(name)
        if isinstance(value, Tensor) and value.dim():
            return value.shape[0]
    return 1
