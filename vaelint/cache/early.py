"""Whether torch will be needed at all: guessed in a few milliseconds, before nearly anything else is imported.

Importing torch is most of a check, so the worker is started first of all. Where the last run of the same command line rested on
files that have not been touched since, the kept results will most likely do, and starting it would only be in their way. A note
of that run says which files. It decides nothing else: what a run does is said by its command line alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence

from vaelint.cache import folder
from vaelint.cache.key import key, made_key, signed, verified
from vaelint.cache.safe_files import read, write


def untouched(args: Sequence[str]) -> bool:
    """Whether all files behind the last run of this command line have the times and sizes of then."""
    try:
        path, secret = _note_for(args), key()
        if secret is None or folder.refusal(folder.own()):
            return False
        files = json.loads(verified(secret, os.path.basename(path), read(path)))
        return bool(files) and all(_state(file) == state for file, state in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def note(args: Sequence[str], files: Mapping[str, tuple[int, int]]) -> None:
    """Writes down what a run of this command line rested on. Raises OSError."""
    path = _note_for(args)
    folder.make(folder.own())
    write(path, signed(made_key(), os.path.basename(path), json.dumps(files).encode()))


def _note_for(args: Sequence[str]) -> str:
    """The file for a command line. Variables of ours are part of it: options may be given by them. Raises OSError."""
    variables = sorted((k, v) for k, v in os.environ.items() if k.startswith("VAELINT_"))
    said = json.dumps([sys.prefix, os.getcwd(), variables, *args])
    name = "last-" + hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return os.path.join(folder.own(), name)


def _state(path: str) -> list[int]:
    try:
        stat = os.stat(path)
    except OSError:
        return []
    return [stat.st_mtime_ns, stat.st_size]
