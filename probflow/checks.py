"""Domain checks that name the offender, and cost one small reduction.

On the CPU a check is decided at once.  On an accelerator asking for the answer would stop the stream, so inside a
:func:`deferred` block the answers are collected and read together, once, at the end.  Inside ``torch.compile`` there is
nothing to decide: the program checks at its boundary.  Inside ``torch.func.vmap`` nothing is decided at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.autograd import forward_ad

from probflow.errors import SupportError

Accept = Callable[[float], bool]
Complain = Callable[[], Exception | None]


class _Pending(threading.local):
    """The checks of the running evaluation, per thread; None outside a `deferred` block; lenient inside a `lenient` one."""

    items: list[tuple[Tensor, Accept, Complain]] | None = None
    lenient: bool = False
    depth: int = 0


_pending = _Pending()


def require(reduced: Tensor, accept: Accept, complain: Complain) -> None:
    """Raise ``complain()`` unless ``accept`` agrees with the 0-dimensional tensor `reduced`.

    ``complain`` looks again, exactly, and may return None: a sum that overflowed is not a wrong value.
    """
    if reduced.device.type != "cpu" and _pending.items is not None:
        _pending.items.append((reduced, accept, complain))
        return
    if not accept(reduced.item()):
        error = complain()
        if error is not None:
            raise error


def is_lenient() -> bool:
    """Whether elements whose fault would show in the result need not be looked for now."""
    return _pending.lenient


class _Lenient:
    """Inside, NaN and infinite parameters are not searched for: the caller looks at the result, and searches where it is
    not finite."""

    def __enter__(self) -> None:
        _pending.depth += 1
        _pending.lenient = True

    def __exit__(self, *_: object) -> None:
        _pending.depth -= 1
        _pending.lenient = _pending.depth > 0


LENIENT = _Lenient()


@contextmanager
def strict() -> Iterator[None]:
    """Inside, everything is searched for, also where what surrounds it is lenient: it looks at its own result, and what a network
    of it evaluates besides need not show there."""
    before = _pending.depth, _pending.lenient
    _pending.depth, _pending.lenient = 0, False
    try:
        yield
    finally:
        _pending.depth, _pending.lenient = before


@contextmanager
def reworded(words: Callable[[SupportError], SupportError]) -> Iterator[None]:
    """Inside, errors about values outside a support are said in other words, also those that a `deferred` block says at its end."""
    items = _pending.items
    before = 0 if items is None else len(items)
    try:
        yield
    except SupportError as error:
        raise words(error) from error.__cause__
    for place in range(before, 0 if items is None else len(items)):
        reduced, accept, complain = items[place]  # type: ignore[index]
        items[place] = reduced, accept, _with_words(complain, words)  # type: ignore[index]


def _with_words(complain: Complain, words: Callable[[SupportError], SupportError]) -> Complain:
    def say() -> Exception | None:
        error = complain()
        return words(error) if isinstance(error, SupportError) else error

    return say


_AS_IT_IS = nullcontext()


def checked() -> AbstractContextManager[None]:
    """Around what a user asks for by name: looked at as anywhere else, also inside a network that a lenient evaluation calls."""
    return strict() if _pending.lenient else _AS_IT_IS


def compiling() -> bool:
    """Whether this code is being traced by ``torch.compile``, or mapped by ``torch.func.vmap``: there are no numbers to look at."""
    return torch.compiler.is_compiling() or (torch._C._are_functorch_transforms_active() and _mapped())


def _mapped() -> bool:
    """Whether one of the transforms of ``torch.func`` around this code is vmap; under the others numbers can be read."""
    vmap = torch._C._functorch.TransformType.Vmap
    return any(level.key() == vmap for level in torch._C._functorch.get_interpreter_stack() or ())


def forward_mode() -> bool:
    """Whether derivatives are being carried forward, by ``torch.func.jvp`` or a dual level: `requires_grad` says nothing of them."""
    return forward_ad._current_level >= 0


def differentiated(tensor: Tensor) -> bool:
    """Whether a gradient of this tensor may be asked for, in either mode."""
    return (tensor.requires_grad and torch.is_grad_enabled()) or forward_mode()


@contextmanager
def deferred() -> Iterator[None]:
    """Collect the checks of accelerator tensors and decide them with one transfer at the end."""
    outer, _pending.items = _pending.items, []
    try:
        yield
        items = _pending.items
    finally:
        _pending.items = outer
    if items:
        answers = torch.stack([reduced.float() for reduced, _, _ in items]).tolist()
        for answer, (_, accept, complain) in zip(answers, items, strict=True):
            if not accept(answer) and (error := complain()) is not None:
                raise error
