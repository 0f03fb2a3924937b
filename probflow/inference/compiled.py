"""A loss under ``torch.compile``: the plan as one graph, with every check of its data."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch import distributions as td

from probflow._typing import Inputs
from probflow.distributions.values import check_mapping
from probflow.errors import ArgumentError, MissingDependency
from probflow.inference.boundary import Boundary, boundary
from probflow.inference.evaluate import program_for
from probflow.inference.guards import can_change
from probflow.inference.program import Program
from probflow.inference.unfused import unfused_bias
from probflow.losses import Loss, evaluation


class unvalidated:
    """torch.distributions without argument checks, which no graph can hold; afterwards as the user had it.

    ``torch.compile`` itself turns them off for the whole process and leaves them off.
    """

    def __enter__(self) -> None:
        self._before = td.Distribution._validate_args
        td.Distribution._validate_args = False

    def __exit__(self, *_: object) -> None:
        td.Distribution._validate_args = self._before


def compiled_function(function: Callable[..., Any], options: Mapping[str, Any], known: str = "") -> Callable[..., Any]:
    """``torch.compile(function)`` in one graph, with a code object of its own: the compiler counts its graphs per code.

    The argument called `known` is one whose tensors the caller looks at itself.
    """
    f = cast(types.FunctionType, function)
    own = types.FunctionType(f.__code__.replace(), f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    # a copy: torch.compile takes guard_filter_fn out of the dict that it is given
    chosen = (
        {**options, "options": {"guard_filter_fn": partial(can_change, known=known), **(options.get("options") or {})}}
        if "mode" not in options
        else options
    )
    with unvalidated():
        return torch.compile(own, **chosen)


LEAST_CHUNK = 8192
"""The fewest elements worth a CPU thread: a quarter of what eager kernels take, for fused ones do more with each.  By inductor's own
512, a small network's kernels are shared out for less time than the threads take to meet again, and that is a multiple of it where
other programs want the same cores."""
_CHUNK = "cpp.min_chunk_size"
_LAST_PASS = "post_grad_custom_post_pass"


def checked_options(options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Options of ``torch.compile``, with the random numbers of eager mode and threads for large kernels unless others are asked for."""
    known = ("backend", "mode", "options", "dynamic", "fullgraph")
    for name in options:
        if name not in known:
            raise ArgumentError(f"{what} has no option {name!r}; its options are those of torch.compile: {', '.join(known)}.")
    made = {"fullgraph": True, **options}
    if made.get("backend", "inductor") == "inductor":
        if made.get("mode") is not None and made.get("options") is not None:
            raise ArgumentError(f"{what}: torch.compile takes either mode or options, not both.")
        chosen = torch._inductor.list_mode_options(made.pop("mode")) if made.get("mode") not in (None, "default") else {}
        made.pop("mode", None)
        own = {"fallback_random": True, "size_asserts": False, _CHUNK: LEAST_CHUNK, _LAST_PASS: unfused_bias()}
        made["options"] = {**own, **chosen, **(made.get("options") or {})}
    return made


def called_from_cpp(options: Mapping[str, Any], on_cpu: bool) -> Mapping[str, Any]:
    """On a CPU the calls of the kernels in C++ too, unless asked otherwise: of a small model's step Python's take a third."""
    if not on_cpu or options.get("backend", "inductor") != "inductor":
        return options
    return {**options, "options": {"cpp_wrapper": True, **options["options"]}}


def require_compiler(options: Mapping[str, Any], what: str, on_cpu: bool) -> None:
    """MissingDependency where inductor finds no C++ compiler."""
    if options.get("backend", "inductor") != "inductor" or not on_cpu:
        return
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise MissingDependency(
            f"{what} needs a C++ compiler (g++ or clang++), which is not found on this machine.\n"
            'Install one (such as the package "g++"), name it in the environment variable CXX, or leave compilation out: '
            "the numbers are the same."
        ) from error


class CompiledLoss:
    """A loss as one compiled graph: ``compiled(values)`` is ``loss.eval(values)``, faster after the first call.

    >>> import torch
    >>> import probflow as pf
    >>> compiled = pf.log(pf.Normal("p(x)", loc=0.0, scale=1.0)).mean().compile(backend="eager")
    >>> type(compiled).__name__, compiled({"x": torch.zeros(3)})
    ('CompiledLoss', tensor(-0.9189))
    >>> compiled.terms({"x": torch.zeros(3)})
    {'log p(x)': tensor(-0.9189)}
    """

    def __init__(self, loss: Loss, options: Mapping[str, Any]) -> None:
        self.loss, self.options = loss, checked_options(options, "loss.compile")
        self._mark = "dynamic" not in self.options
        self._made: dict[Program, tuple[Boundary, Callable[..., Any]]] = {}

    def __call__(self, values: Inputs | None = None) -> Tensor:
        """The value of the loss."""
        return self._run({} if values is None else values, False)[0][0]

    def eval(self, values: Inputs | None = None, return_dict: bool = False) -> Tensor:
        """As ``loss.eval``: the same as calling it.  The graph does not give its samples."""
        if return_dict:
            raise ArgumentError(
                "A compiled loss does not give its samples.\nWrite compiled.loss.eval(values, return_dict=True)."
            )
        return self(values)

    def terms(self, values: Inputs | None = None) -> dict[str, Tensor]:
        """As ``loss.terms``: every printed term with its value, all from one evaluation."""
        (_, *rest), edge = self._run({} if values is None else values, True)
        return dict(zip(edge.names, rest, strict=True))

    def value_and_terms(self, values: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The value with its gradient, and every printed term detached, from one evaluation."""
        (value, *rest), edge = self._run(values, True)
        return value, {name: term.detach() for name, term in zip(edge.names, rest, strict=True)}

    def _run(self, values: Inputs, with_terms: bool) -> tuple[tuple[Tensor, ...], Boundary]:
        if values.__class__ is not dict and not isinstance(values, Mapping):
            check_mapping(values, str(self.loss), self.loss.input_var)
        made = self._made.get(program_for(self.loss, values, with_terms))
        edge, run = self._make(values, with_terms) if made is None else made
        inputs = edge.inputs(values, self._mark)
        try:
            if td.Distribution._validate_args:
                with unvalidated():
                    result = run(inputs)
            else:
                result = run(inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            failed(edge, values, error)
        edge.settle(result[-1], values)
        return result[:-1], edge

    def _make(self, values: Inputs, with_terms: bool) -> tuple[Boundary, Callable[..., Any]]:
        edge = boundary(self.loss, values, with_terms)
        on_cpu = _on_cpu(values, self.loss)
        require_compiler(self.options, "loss.compile", on_cpu)
        run = compiled_function(lambda inputs: edge.trace(inputs), called_from_cpp(self.options, on_cpu))
        self._made[edge.program] = edge, run
        return edge, run

    def __repr__(self) -> str:
        return f"{self.loss}, compiled"


def failed(edge: Boundary, values: Inputs, error: RuntimeError) -> NoReturn:
    """The error that eager evaluation gives for these values, else the compiler's own."""
    edge.blame(values)
    raise error


def _on_cpu(values: Inputs, loss: Loss) -> bool:
    tensors = [v for v in values.values() if isinstance(v, Tensor) and v.dim()] or list(loss.parameters())[:1]
    return all(tensor.is_cpu for tensor in tensors)


@evaluation.compiled.register
def compiled(loss: Loss, options: Mapping[str, Any]) -> CompiledLoss:
    """`loss` as a compiled function of its values."""
    return CompiledLoss(loss, options)
