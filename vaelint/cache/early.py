"""Whether torch will be needed at all: guessed in a millisecond, before anything else is imported.

Importing torch is most of a check, so the worker is started first of all. Where the last run of the same command line rested on
files that have not been touched since, the kept results will most likely do, and starting it would only be in their way. A wrong
guess costs time, never a result. What such a line says is remembered as well: reading it anew takes as long as all the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vaelint.cache.files import read, write

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_UNDERSTANDING = [os.path.join(_HERE, *p) for p in (("cli", "options.py"), ("cli", "check_words.py"), ("cli", "checking.py"))]
"""Our files that decide what a command line says."""

NAME = ".vaelint_cache"
VARIABLE = "VAELINT_CACHE_DIR"


def recalled(args: Sequence[str]) -> dict[str, Any] | None:
    """What the last run of this command line was understood to say, if all files behind it have the times and sizes of then.

    Empty where it was not written down; None where anything has been touched.
    """
    for folder in _folders():
        try:
            told = json.loads(read(note_for(folder, args)))
            if told["files"] and all(_state(path) == state for path, state in told["files"].items()):
                return dict(told["words"])
            return None
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            continue
    return None


def note(folder: str, args: Sequence[str], files: Mapping[str, tuple[int, int]], words: Mapping[str, Any]) -> None:
    """Writes down what a run of this command line rested on, and what it was understood to say. Raises OSError."""
    path = note_for(folder, args)
    ours = {p: _state(p) for p in _UNDERSTANDING}
    write(path, json.dumps({"files": {**files, **ours}, "words": words}).encode())


def note_for(folder: str, args: Sequence[str]) -> str:
    """The file for a command line in this folder. Variables of ours are part of it: options may be given by them."""
    variables = sorted((k, v) for k, v in os.environ.items() if k.startswith("VAELINT_"))
    said = json.dumps([sys.prefix, os.getcwd(), variables, *args])
    return os.path.join(folder, "last-" + hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest())


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
