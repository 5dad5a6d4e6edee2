"""Whether torch will be needed at all: guessed in a millisecond, before anything else is imported.

Importing torch is most of a check, so the worker is started first of all. Where the last run of the same command line rested on
files that have not been touched since, the kept results will most likely do, and starting it would only be in their way. A wrong
guess costs time, never a result.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence

NAME = ".vaelint_cache"
VARIABLE = "VAELINT_CACHE_DIR"


def untouched(args: Sequence[str]) -> bool:
    """Whether the files behind the last run of this command line have the times and sizes of then."""
    for folder in _folders():
        try:
            with open(note_for(folder, args), encoding="utf-8") as file:
                told = json.load(file)
            return bool(told) and all(_state(path) == state for path, state in told.items())
        except (OSError, ValueError, AttributeError):
            continue
    return False


def note(folder: str, args: Sequence[str], files: Mapping[str, tuple[int, int]]) -> None:
    """Writes down what a run of this command line rested on. Raises OSError."""
    path = note_for(folder, args)
    with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
        json.dump(files, file)
    os.replace(f"{path}.{os.getpid()}", path)


def note_for(folder: str, args: Sequence[str]) -> str:
    """The file for a command line in this folder."""
    said = json.dumps([sys.prefix, os.getcwd(), *args])
    return os.path.join(folder, "last-" + hashlib.blake2b(said.encode(), digest_size=16).hexdigest())


def _folders() -> list[str]:
    told = os.environ.get(VARIABLE)
    if told:
        return [told]
    try:
        here = os.getcwd()
    except OSError:
        return []
    found = []
    while True:
        found.append(os.path.join(here, NAME))
        if os.path.dirname(here) == here:
            return found
        here = os.path.dirname(here)


def _state(path: str) -> list[int]:
    try:
        stat = os.stat(path)
    except OSError:
        return []
    return [stat.st_mtime_ns, stat.st_size]
