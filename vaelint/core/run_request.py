"""The request that observes a command. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaelint.core.errors import UsageError
from vaelint.core.launchers import script_within
from vaelint.core.result import Request


def observed_request(
    words: Sequence[str],
    *,
    steps: int = 5,
    rows: int = 0,
    data: str = "auto",
    allow_writes: bool = False,
    environment: Sequence[tuple[str, str]] = (),
    folder: str = "",
) -> Request:
    """The request for a command, which may begin with what launches it. Raises UsageError for a script that is not there.

    Args:
        environment: variables that it gets besides.
        folder: where it starts.
    """
    home = Path(folder)
    if words[0] == "-m":
        target = (home / words[1].replace(".", os.sep)).with_suffix(".py")
        shown = target.as_posix() if target.is_file() else words[1]
    elif not (home / words[0]).is_file():
        if (within := script_within(words)) is not None and within.words != tuple(words):
            both = (*environment, *within.environment)
            return observed_request(
                within.words, steps=steps, rows=rows, data=data, allow_writes=allow_writes, environment=both, folder=folder
            )  # fmt: skip
        raise UsageError(f"there is no file {words[0]}", "vaelint run SCRIPT [ARGS...], or vaelint run -m MODULE [ARGS...]")
    else:
        shown = (home / words[0]).as_posix() if folder else words[0]
    how: dict[str, Any] = {"steps": steps, "rows": rows, "data": data, "allow_writes": allow_writes}
    return Request(shown, run=tuple(words), environment=tuple(environment), folder=folder, **how)
