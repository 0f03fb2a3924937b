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


def no_attribute(model: object, name: str) -> UnknownAttribute:
    """A name that a model does not have."""
    meant = (
        f"\nWrite {_ATTRIBUTES[name]}."
        if name in _ATTRIBUTES
        else did_you_mean(name, [n for n in dir(type(model)) if n[0] != "_"])
    )
    return UnknownAttribute(f"{type(model).__name__} has no attribute {name!r}.{meant}")
