"""Standard streams and the working directory as a run finds them: closed, full, removed. Imports no torch."""

from __future__ import annotations

import os
import sys


def made_ready() -> str:
    """Opens the standard streams that are closed, so that no file of ours takes their number. Returns what is wrong beyond that."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):  # what is written to 1 fails, and is told
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        os.getcwd()  # noqa: PTH109 - before anything is imported
    except OSError as error:
        return f"the working directory cannot be read: {error.strerror}"
    return ""


def flushed() -> OSError | None:
    """What keeps standard output from being written. What is left of it is then dropped: nothing more is to be said at the end."""
    try:
        sys.stdout.flush()
    except OSError as error:
        to_nowhere(1)
        return error
    return None


def to_nowhere(number: int) -> None:
    """Lets a stream that takes nothing end in peace: the interpreter writes out what is left when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
