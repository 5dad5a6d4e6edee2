"""The folder that takes what a watched script writes: made by its process, removed by whoever started that. Imports no torch."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

_owner: list[int] = []  # the process of which this one is a copy


def within(owner: int) -> None:
    """The scratch folder of this process is removed with that of another one, of which it is a copy."""
    _owner[:] = [owner]


def make_room(owner: int) -> None:
    """Makes the folder that holds the scratch folders of the copies of a process. Raises OSError where somebody else has made it."""
    shutil.rmtree(_copies(owner), ignore_errors=True)  # of a process that had the same number
    _copies(owner).mkdir(mode=0o700)


def scratch_of(pid: int) -> Path:
    """The scratch folder of a process."""
    return _copies(_owner[0]) / str(pid) if _owner else Path(tempfile.gettempdir()) / f"vaelint-run-{pid}"


def _copies(owner: int) -> Path:
    """What holds the scratch folders of the copies of a process."""
    return Path(tempfile.gettempdir()) / f"vaelint-run-{owner}-copies"


def remove_scratch(pid: int, *, copies: bool = False) -> None:
    """Removes it, if it is there; once the process has ended, with those of its copies.

    It looks at nothing else: what a check looks at its result rests on, and in the folder for temporary files anything may change.
    """
    for folder in (scratch_of(pid), *([_copies(pid)] if copies else [])):
        shutil.rmtree(folder, ignore_errors=True)
