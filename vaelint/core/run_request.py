"""The request that observes a command. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vaelint.core.errors import UsageError
from vaelint.core.result import Request


def observed_request(words: Sequence[str], *, steps: int = 5, data: str = "auto", allow_writes: bool = False) -> Request:
    """The request for a command. Raises UsageError for a script that is not there."""
    if words[0] == "-m":
        target = f"{words[1].replace('.', os.sep)}.py"
        target = target if Path(target).is_file() else words[1]
    elif not Path(words[0]).is_file():
        raise UsageError(f"there is no file {words[0]}", "vaelint run SCRIPT [ARGS...], or vaelint run -m MODULE [ARGS...]")
    else:
        target = words[0]
    return Request(target, run=tuple(words), steps=steps, data=data, allow_writes=allow_writes)
