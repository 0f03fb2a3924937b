"""Factors whose rule is a network: a user's subclass with `forward`, or a module or function passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probflow._typing import Names
from probflow.distributions.base import Factor
from probflow.distributions.signature import keywords_for
from probflow.errors import ArgumentError
from probflow.graph import Statement


class Networked(Factor):
    """Calls its network with the conditioning variables by name where the names match, else in statement order."""

    network: Callable[..., Any]

    def __init__(self, statement: Statement, network: Callable[..., Any] | None, inputs: Names) -> None:
        super().__init__(statement)
        label = f"{type(self).__name__} {statement}"
        own = type(self).forward is not Factor.forward
        self._source = "forward" if own else ("network" if network is not None else "")
        self._inputs = inputs
        self._keywords: Names | None = None
        if network is not None:
            if own:
                raise ArgumentError(f"{label} has a forward of its own; it takes no network besides.")
            if not callable(network):
                raise ArgumentError(f"{label}: the network must be a module or a function, got a {type(network).__name__}.")
            if isinstance(network, type):
                raise ArgumentError(
                    f"{label}: the network is the class {network.__name__}; pass an instance, {network.__name__}(...)."
                )
            if isinstance(network, nn.Module):
                nn.Module.__setattr__(self, "network", network)
            else:
                object.__setattr__(self, "network", network)
        if self._source:
            self._keywords = keywords_for(self if network is None else network, inputs, label)

    def call(self, inputs: Sequence[Tensor]) -> Any:
        """The network's output; its failure as an error in the user's notation."""
        return self.caller()(*inputs)

    def caller(self) -> Callable[..., Any]:
        """The network as a function of its inputs in statement order, looked up anew at each call."""
        modules, attributes, keywords = self._modules, self.__dict__, self._keywords
        own = self if self._source == "forward" else None

        def run(*inputs: Tensor) -> Any:
            network: Any = own
            if network is None:
                network = modules["network"] if "network" in modules else attributes["network"]  # a module, or any function
            try:
                if keywords is None:
                    return network(*inputs)
                return network(**dict(zip(keywords, inputs, strict=True)))
            except Exception as error:
                if torch.compiler.is_compiling():
                    raise
                from probflow.distributions.diagnose import network_error

                by_order = network if keywords is None else None
                raise network_error(self, self._inputs, list(inputs), error, by_order) from error

        return run

    def source_text(self) -> str:
        """Where its numbers come from, for printing."""
        if self._source == "network":
            network = self.network
            return type(network).__name__ if isinstance(network, nn.Module) else getattr(network, "__name__", "function")
        return ""
