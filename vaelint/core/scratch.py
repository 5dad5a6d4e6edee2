"""The folder that takes what a watched script writes: made by its process, removed by whoever started that. Imports no torch."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

_owner: list[int] = []  # the process of which this one is a copy


def within(owner: int) -> None:
    """The scratch folder of this process is removed with that of another one, of which it is a copy."""
    _owner[:] = [owner]


def scratch_of(pid: int) -> Path:
    """The scratch folder of a process."""
    name = f"{_owner[0]}+{pid}" if _owner else str(pid)
    return Path(tempfile.gettempdir()) / f"vaelint-run-{name}"


def remove_scratch(pid: int) -> None:
    """Removes it, if it is there. It looks at nothing else: where a check runs, the result would rest on what it looked at."""
    shutil.rmtree(scratch_of(pid), ignore_errors=True)


def remove_all_scratch(pid: int) -> None:
    """Removes it, with those of the copies of that process. For whoever started the process."""
    own = scratch_of(pid)
    for folder in (own, *own.parent.glob(f"{own.name}+*")):
        shutil.rmtree(folder, ignore_errors=True)
