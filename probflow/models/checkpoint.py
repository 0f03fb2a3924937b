"""Checkpoints: everything that a training run needs to go on as if nothing had happened.

A checkpoint holds tensors, numbers, strings and their containers only, so that reading one never runs code.
"""

from __future__ import annotations

import os
import random
import sys
import zipfile
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from probflow.errors import CheckpointError
from probflow.models.weights import labelled_coefficients, labelled_modules, named_parameters
from probflow.printing import shape_text

if TYPE_CHECKING:
    from probflow.models.model import Model

FORMAT = "probflow checkpoint"
VERSION = 1

State = dict[str, Any]
Generators = Mapping[str, Generator]


def save(model: Model, path: str | PathLike[str], generators: Generators | None = None) -> None:
    """Writes the state of `model` to `path`: first to a file beside it, which then takes its place in one step."""
    state = state_of(model, generators or {})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":  # the new name must survive a power cut as well
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load(model: Model, path: str | PathLike[str], generators: Generators | None = None) -> frozenset[str]:
    """Restores `model` from `path`; gives the names of the `generators` that the checkpoint knows."""
    path, generators = Path(path), generators or {}
    saved = _read(path)
    try:
        found = list(_differences(model, saved, generators))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
    if found:
        shown = found[:12] + ([f"... and {len(found) - 12} more"] if len(found) > 12 else [])
        raise CheckpointError(
            f"{path} does not belong to this model; nothing was loaded.\n" + "\n".join(f"  {line}" for line in shown)
        )
    _apply(model, saved, generators)
    return frozenset(saved["generators"])


def state_of(model: Model, generators: Generators) -> State:
    """What a checkpoint of `model` holds; CheckpointError for state that could not be read back safely."""
    parts, scalars = _weights(model)
    state: State = {
        "format": FORMAT,
        "version": VERSION,
        "loss": str(model.loss),
        "weights": {label: dict(module.state_dict()) for label, module in parts.items()},
        "scalars": {label: tensor.detach() for label, tensor in scalars.items()},
        "optimizer": {
            "class": type(model.optimizer).__name__,
            "names": _optimized(model),
            "state": model.optimizer.state_dict(),
        },
        "scheduler": None
        if model.scheduler is None
        else {"class": type(model.scheduler).__name__, "state": model.scheduler.state_dict()},
        "epoch": model.epoch,
        "history": {name: list(numbers) for name, numbers in model.history.items()},
        "terms": {name: list(terms) for name, terms in model.term_names.items()},
        "random": _random_state(),
        "generators": {name: generator.get_state() for name, generator in generators.items()},
    }
    _check_plain(state, "")
    return state


def _weights(model: Model) -> tuple[dict[str, nn.Module], dict[str, Tensor]]:
    losses = (model.loss, model.test_loss)
    return labelled_modules(losses), labelled_coefficients(losses)


def _optimized(model: Model) -> list[list[str]]:
    """The names of the optimizer's weights, group by group: its own state only numbers them."""
    names = named_parameters(*_weights(model))
    return [[names[id(tensor)] for tensor in group["params"]] for group in model.optimizer.param_groups]


def _check_plain(value: object, where: str) -> None:
    if value is None or isinstance(value, (Tensor, str, int, float, bool)):
        return
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_plain(entry, f"{where}.{key}" if where else str(key))
    elif isinstance(value, (list, tuple, set)):
        for entry in value:
            _check_plain(entry, where)
    else:
        raise CheckpointError(
            f"This model cannot be saved: {where} is a {type(value).__name__}.\n"
            "A checkpoint holds tensors, numbers and text only, so that reading one never runs code."
        )


# ---------------------------------------------------------------------- reading


def _read(path: Path) -> State:
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or it is cut off: {error}.") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged} is wrong.")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for what it cannot or will not read
        raise CheckpointError(
            f"{path} is not a checkpoint: it is damaged, or holds something other than tensors, numbers and text.\n"
            "Nothing in it was run."
        ) from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by Model.save.")
    if saved.get("version") != VERSION:
        raise CheckpointError(f"{path} has the format version {saved.get('version')}; this probflow reads version {VERSION}.")
    return saved


def _differences(model: Model, saved: State, generators: Generators) -> Iterator[str]:
    """Every way in which `saved` does not fit `model`, before anything is changed."""
    parts, scalars = _weights(model)
    for label in saved["weights"]:
        if label not in parts:
            yield f"the checkpoint has {label}, the model does not"
    for label, module in parts.items():
        if label not in saved["weights"]:
            yield f"the model has {label}, the checkpoint does not"
        else:
            yield from _tensor_differences(module.state_dict(), saved["weights"][label], f"{label}: ")
    yield from _tensor_differences(scalars, saved["scalars"], "")
    yield from _optimizer_differences(model, saved["optimizer"])
    yield from _scheduler_differences(model, saved["scheduler"])
    if not all(isinstance(name, str) for terms in saved["terms"].values() for name in terms):
        yield "its terms are not names"
    if not isinstance(saved["epoch"], int) or not all(
        isinstance(n, (int, float)) for entries in saved["history"].values() for n in entries
    ):
        yield "its epoch or history is not made of numbers"
    _try_random_state(saved["random"])
    for name, state in saved["generators"].items():
        if name in generators:
            Generator(device=generators[name].device).set_state(state)


def _tensor_differences(own: Mapping[str, Any], other: Mapping[str, Any], label: str) -> Iterator[str]:
    for name in other:
        if name not in own:
            yield f"the checkpoint has {label}{name}, the model does not"
    for name, value in own.items():
        if name not in other:
            yield f"the model has {label}{name}, the checkpoint does not"
        elif isinstance(value, Tensor) != isinstance(other[name], Tensor):
            yield f"{label}{name} is a {type(value).__name__} in the model and a {type(other[name]).__name__} in the checkpoint"
        elif isinstance(value, Tensor) and value.shape != other[name].shape:
            shape = shape_text(other[name].shape)
            yield f"{label}{name} has shape {shape_text(value.shape)} in the model and {shape} in the checkpoint"
        elif isinstance(value, Tensor) and value.dtype != other[name].dtype:
            yield f"{label}{name} is {value.dtype} in the model and {other[name].dtype} in the checkpoint"


def _optimizer_differences(model: Model, saved: State) -> Iterator[str]:
    own = type(model.optimizer).__name__
    if saved["class"] != own:
        yield f"the optimizer is {own} in the model and {saved['class']} in the checkpoint"
        return
    mine, other = _optimized(model), saved["names"]
    if [sorted(group) for group in mine] != [sorted(group) for group in other]:
        before, now = {n for group in other for n in group}, {n for group in mine for n in group}
        yield from (f"the optimizer trains {name} in the model only" for name in sorted(now - before))
        yield from (f"the optimizer trains {name} in the checkpoint only" for name in sorted(before - now))
        if before == now:
            yield "the optimizer has other parameter groups"
        return
    state = saved["state"]
    if [len(group["params"]) for group in state["param_groups"]] != [len(group) for group in other] or not isinstance(
        state["state"], dict
    ):
        yield "the optimizer's state is incomplete"


def _scheduler_differences(model: Model, saved: State | None) -> Iterator[str]:
    own = None if model.scheduler is None else type(model.scheduler).__name__
    other = None if saved is None else saved["class"]
    if own != other:
        yield f"the scheduler is {own} in the model and {other} in the checkpoint"
    elif saved is not None and model.scheduler is not None and set(saved["state"]) != set(model.scheduler.state_dict()):
        yield f"the state of the scheduler {own} has other entries"


# ---------------------------------------------------------------------- applying


def _apply(model: Model, saved: State, generators: Generators) -> None:
    parts, scalars = _weights(model)
    for label, module in parts.items():
        module.load_state_dict(saved["weights"][label])
    with torch.no_grad():
        for label, tensor in scalars.items():
            tensor.copy_(saved["scalars"][label])
    model.optimizer.load_state_dict(_renumbered(model, saved["optimizer"]))
    if model.scheduler is not None:
        model.scheduler.load_state_dict(saved["scheduler"]["state"])
    model.epoch = saved["epoch"]
    model.history = {name: list(numbers) for name, numbers in saved["history"].items()}
    model.term_names = {name: list(terms) for name, terms in saved["terms"].items()}
    for name, state in saved["generators"].items():
        if name in generators:
            generators[name].set_state(state)
    _set_random_state(saved["random"])  # last: nothing after it may draw


def _renumbered(model: Model, saved: State) -> State:
    """The optimizer's saved state in this optimizer's order of weights: a loss's terms may stand the other way round now."""
    own = model.optimizer.state_dict()
    groups, state = [], {}
    for mine, theirs, names, other in zip(
        own["param_groups"], saved["state"]["param_groups"], _optimized(model), saved["names"], strict=True
    ):
        number = dict(zip(other, theirs["params"], strict=True))
        groups.append({**mine, **theirs, "params": mine["params"]})
        for index, name in zip(mine["params"], names, strict=True):
            if number[name] in saved["state"]["state"]:
                state[index] = saved["state"]["state"][number[name]]
    rest = {key: value for key, value in saved["state"].items() if key not in ("state", "param_groups")}
    return {**rest, "state": state, "param_groups": groups}


# ---------------------------------------------------------------------- randomness


def _random_state() -> State:
    state: State = {"python": random.getstate(), "torch": torch.get_rng_state(), "cuda": None, "numpy": None}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if "numpy" in sys.modules:
        import numpy

        kind, keys, position, has_gauss, gauss = numpy.random.get_state()
        state["numpy"] = [str(kind), torch.tensor([int(k) for k in keys]), int(position), int(has_gauss), float(gauss)]
    return state


def _try_random_state(state: State) -> None:
    """Raises what `_set_random_state` would, and changes nothing."""
    random.Random().setstate(state["python"])
    Generator().set_state(state["torch"])
    if any(entry.dtype != torch.uint8 or entry.dim() != 1 for entry in state["cuda"] or ()):
        raise ValueError("the random state of a device is not a row of bytes")
    if state["numpy"] is not None:
        numpy_state = _numpy_state(state["numpy"])
        if "numpy" in sys.modules:
            import numpy

            numpy.random.RandomState().set_state(numpy_state)  # type: ignore[arg-type]


def _set_random_state(state: State) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    if state["numpy"] is not None:
        try:
            import numpy
        except ImportError:  # whoever goes on without numpy does not draw from it
            return
        numpy.random.set_state(_numpy_state(state["numpy"]))  # type: ignore[arg-type]


def _numpy_state(state: list[Any]) -> tuple[str, list[int], int, int, float]:
    kind, keys, position, has_gauss, gauss = state
    if not 0 <= position <= len(keys):  # numpy does not look, and would read beyond its array
        raise ValueError("numpy's random state has a position outside its table")
    return str(kind), keys.tolist(), int(position), int(has_gauss), float(gauss)
