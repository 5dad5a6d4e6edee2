"""The folder that takes what a watched script writes: made by its process, removed by whoever started that. Imports no torch."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def scratch_of(pid: int) -> Path:
    """The scratch folder of a process."""
    return Path(tempfile.gettempdir()) / f"vaelint-run-{pid}"


def remove_scratch(pid: int) -> None:
    """Removes it, if it is there."""
    shutil.rmtree(scratch_of(pid), ignore_errors=True)
