"""What newcomers try on a model, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping

from probflow.distributions.mistakes import unknown_keywords
from probflow.errors import ArgumentError, UnknownAttribute
from probflow.printing import did_you_mean

_ARGUMENTS = (
    "loss", "test_loss", "distributions", "optimizer", "optimizer_params", "scheduler", "clip_grad_norm", "clip_grad_value",
    "compile",
)  # fmt: skip
_OPTIMIZER = ("lr", "learning_rate", "weight_decay", "betas", "momentum", "eps", "amsgrad")
_ATTRIBUTES = {
    "parameters": "model.loss.parameters()",
    "state_dict": "model.save(path), which keeps the optimizer's state too",
    "load_state_dict": "model.load(path)",
    "eval": "model.test(values), which switches the networks to evaluation mode and back",
    "forward": "model.loss.eval(values)",
    "sample": "p.sample(...) of a distribution: the model trains the same object",
    "predict": "p.sample(...) or p.mean(...) of a distribution: the model trains the same object",
    "cuda": 'model.to("cuda")',
    "cpu": 'model.to("cpu")',
    "zero_grad": "model.train(values): one whole step",
    "backward": "model.train(values): one whole step",
}


def no_argument(unknown: Mapping[str, object]) -> ArgumentError:
    """A keyword that Model does not have."""
    options = {("lr" if n == "learning_rate" else n): value for n, value in unknown.items() if n in _OPTIMIZER}
    hint = f"Options of the optimizer go in a dict: optimizer_params={options!r}."
    return unknown_keywords("Model", unknown, _ARGUMENTS, dict.fromkeys(_OPTIMIZER, hint))


_FIT = ("data", "epochs", "validation", "callbacks", "checkpoint", "resume", "progress")
_FIT_HINTS = {
    **dict.fromkeys(("validation_data", "val_data", "valid", "test"), "Held-out data are called validation=..."),
    **dict.fromkeys(("verbose", "progress_bar", "quiet"), "The bar is called progress=True or False."),
    **dict.fromkeys(("n_epochs", "num_epochs", "max_epochs"), "It is called epochs=..."),
    **dict.fromkeys(("optimizer", "scheduler", "clip_grad_norm", "distributions", "compile"), "That is an argument of Model(loss, ...)."),
    **dict.fromkeys(_OPTIMIZER, 'Options of the optimizer are given to the model: Model(loss, optimizer_params={"lr": 1e-3}).'),
}  # fmt: skip


def no_fit_argument(data: object, unknown: Mapping[str, object]) -> ArgumentError:
    """A keyword that fit does not have; mini-batches are a matter of the data."""
    batches = {n: value for n, value in unknown.items() if n in ("batch_size", "shuffle", "drop_last")}
    names = ", ".join(f"{n!r}: ..." for n in data) if isinstance(data, Mapping) else "'x': x"
    options = ", ".join(f"{n}={value!r}" for n, value in ({"batch_size": 128} | batches).items())
    line = f"The data say how they are divided: fit(pf.data.Batches({{{names}}}, {options}), ...), or a DataLoader of dicts."
    return unknown_keywords("fit", unknown, _FIT, {**_FIT_HINTS, **dict.fromkeys(batches, line)})


def no_attribute(model: object, name: str) -> UnknownAttribute:
    """A name that a model does not have."""
    meant = (
        f"\nWrite {_ATTRIBUTES[name]}."
        if name in _ATTRIBUTES
        else did_you_mean(name, [n for n in dir(type(model)) if n[0] != "_"])
    )
    return UnknownAttribute(f"{type(model).__name__} has no attribute {name!r}.{meant}")
