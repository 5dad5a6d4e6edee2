"""What a person at a terminal sees while targets are checked; on the error stream, so that no report is touched by it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from vaelint.core.checked import Checked
from vaelint.core.result import Request

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Watched:
    """A context in which `on_stage` and `on_done` draw: one line for one target, a bar for several, nothing where nobody watches."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._bar: Progress | None = None
        self._task: TaskID
        self._seen = False

    def __enter__(self) -> Watched:
        if self._count > 1 and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("importing torch ...", total=self._count)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._seen:
            self._line("")

    def on_stage(self, request: Request, stage: str) -> None:
        """A target goes on."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"{request.target}: {stage}")
        elif sys.stderr.isatty():
            self._seen = True
            self._line(f"{request.target}: {stage} ...")

    def on_done(self, checked: Checked) -> None:
        """A target has its result."""
        if self._bar is not None:
            self._bar.advance(self._task)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within the block nothing is drawn: something else is printed."""
        if self._bar is not None:
            self._bar.stop()
        elif self._seen:
            self._line("")
        yield
        if self._bar is not None:
            self._bar.start()

    def _line(self, text: str) -> None:
        sys.stderr.write("\r\x1b[K" + text)
        sys.stderr.flush()
