"""What `fit` shows while it runs: one bar that is drawn over and over, or lines where nothing can be drawn over."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from tqdm import TqdmWarning

from probflow.graph.notebook import in_notebook
from probflow.printing import value_text

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # a notebook without ipywidgets: then the bar is text, which is no news
    from tqdm.auto import tqdm

REFRESH = 0.2
"""Seconds between two updates of the numbers on the bar."""
LINE, LONG = 1.0, 60.0
"""Seconds between two lines at least: after an epoch, and within a long one."""

Numbers = Mapping[str, float]


class Progress(Protocol):
    """How far a run is; used as a context manager."""

    def __enter__(self) -> Progress: ...

    def __exit__(self, *error: object) -> None: ...

    def start(self, epoch: int) -> None:
        """An epoch begins."""
        ...

    def step(self, numbers: Callable[[], Numbers]) -> None:
        """A batch is done; `numbers`, the averages so far, are only asked for where they are shown."""
        ...

    def end(self, numbers: Numbers) -> None:
        """An epoch is done, with its numbers."""
        ...

    def aside(self) -> AbstractContextManager[object]:
        """Around what may print something itself."""
        ...


def progress_of(shown: bool, steps: int | None, epoch: int, last: int) -> Progress:
    """Progress from after `epoch` to `last`, with `steps` batches in each where that is known.

    A bar in terminals and notebooks; lines in files and pipes, where each drawing of the bar would stay.
    """
    ahead = max(last - epoch, 0)
    if shown and ahead and not (sys.stderr.isatty() or in_notebook()):
        return Lines(steps, last)
    return Bar(None if steps is None else steps * ahead, last, disable=not shown or not ahead)


class Bar:
    """One bar for the whole run."""

    def __init__(self, total: int | None, last: int, disable: bool) -> None:
        self.bar, self.last = tqdm(total=total, disable=disable, dynamic_ncols=True), last
        self.seen = time.perf_counter()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def start(self, epoch: int) -> None:
        self.bar.set_description_str(f"epoch {epoch}/{self.last}", refresh=False)
        self.seen = time.perf_counter()

    def step(self, numbers: Callable[[], Numbers]) -> None:
        self.bar.update(1)
        if not self.bar.disable and time.perf_counter() - self.seen > REFRESH:
            self.bar.set_postfix_str(_text(numbers()), refresh=False)
            self.seen = time.perf_counter()

    def end(self, numbers: Numbers) -> None:
        self.bar.set_postfix_str(_text(numbers))

    def aside(self) -> AbstractContextManager[object]:
        return self.bar.external_write_mode()  # it stands above the bar


class Lines:
    """A line after an epoch, though not more than one a second, and one a minute within a long epoch."""

    def __init__(self, steps: int | None, last: int) -> None:
        self.steps, self.last = steps, last
        self.epoch = self.batch = 0
        self.began = time.perf_counter()
        self.written = -LONG
        self.waiting = ""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        if self.waiting:
            self._write(self.waiting)

    def start(self, epoch: int) -> None:
        self.epoch, self.batch, self.began = epoch, 0, time.perf_counter()

    def step(self, numbers: Callable[[], Numbers]) -> None:
        self.batch += 1
        now = time.perf_counter()
        if now - max(self.written, self.began) > LONG:
            of = "" if self.steps is None else f"/{self.steps}"
            self._write(f"epoch {self.epoch}/{self.last}, batch {self.batch}{of}: {_text(numbers())}")

    def end(self, numbers: Numbers) -> None:
        now = time.perf_counter()
        line = f"epoch {self.epoch}/{self.last}: {_text(numbers)} ({now - self.began:.1f} s)"
        if now - self.written > LINE:
            self._write(line)
        else:
            self.waiting = line  # written after all if it was the last

    def aside(self) -> AbstractContextManager[object]:
        return nullcontext()

    def _write(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        self.written, self.waiting = time.perf_counter(), ""


def _text(numbers: Numbers) -> str:
    return ", ".join(f"{name}={value_text(number)}" for name, number in numbers.items())
