"""Ctrl-C, at any moment: exit code 130 and no traceback. So it is, within a command, with the signal by which `timeout`, a CI or a
batch system ends a process (SIGTERM): exit code 143.

While modules are imported, an exception would be caught by whoever imports in a `try`, or come out of it as a traceback: the process
leaves at once, as there is nothing to put in order. Inside of a command it is a KeyboardInterrupt, once, so that files, the terminal and
the worker are left as they should be; the second Ctrl-C does not wait for that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_heard: int | None = None  # the signal


def leave_at_once() -> None:
    """From here on Ctrl-C ends the process where it is. A process that was started to ignore it (nohup) goes on doing so."""
    _handle(_leave, (signal.default_int_handler,))


def ignore() -> None:
    """From here on Ctrl-C does nothing: all is done, and only Python itself is being taken down."""
    _handle(signal.SIG_IGN, _OURS)


@contextmanager
def as_exception() -> Iterator[None]:
    """Inside, both raise KeyboardInterrupt, once."""
    ours = signal.getsignal(signal.SIGINT) in _OURS and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    try:
        _handle(_raise, _OURS)
        if ours:
            signal.signal(signal.SIGTERM, _raise)
        yield
    finally:
        _handle(_leave, _OURS)
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def heard() -> int | None:
    """The exit code where there was one, else None: Python drops an exception that is raised while an object is deleted."""
    return None if _heard is None else _code(_heard)


def _code(number: int) -> int:
    return EXIT_TERMINATED if number == signal.SIGTERM else EXIT_INTERRUPTED


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(_code(number))


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    global _heard
    _heard = number
    signal.signal(number, _leave)
    raise KeyboardInterrupt


def _handle(how: Callable[[int, FrameType | None], NoReturn] | signal.Handlers, known: tuple[object, ...]) -> None:
    """Sets the handler where one of those that are known is in force."""
    if signal.getsignal(signal.SIGINT) in known:
        signal.signal(signal.SIGINT, how)


_OURS = (_leave, _raise)  # where `leave_at_once` was not called, Ctrl-C is somebody else's: a test's, a notebook's
