"""Where the front itself looks while it answers a command line: configuration, baselines, sources that are quoted, marks of a repository.

Watched from the start of a check, so that no place is forgotten where a new option brings one. Python's own files, installed packages and
vaelint count by other means (saying.py).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from vaelint.cache.asker import installed, of_python, of_system

_ENGINE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PLACES: dict[str, dict[str, None]] = {"state": {}, "names": {}}
_watched: list[int] = []


def watch() -> None:
    """From here on, for good: the functions of `os` that look are replaced, and every `open` is heard of."""
    _watched.append(time.time_ns())
    for name, kind in (("stat", "state"), ("lstat", "state"), ("readlink", "state"), ("access", "state")):
        _replace(name, kind)
    sys.addaudithook(_hear)


def places() -> list[tuple[str, str]]:
    """Kinds (said.py) and absolute paths of all places until now."""
    return [(kind, path) for kind, paths in _PLACES.items() for path in list(paths)]


def since() -> int | None:
    """Since when, as `time.time_ns()`; None where nobody watches."""
    return _watched[0] if _watched else None


def _replace(name: str, kind: str) -> None:
    real: Callable[..., Any] = getattr(os, name)

    def look(*args: Any, **named: Any) -> Any:
        if args:
            _add(kind, args[0])
        return real(*args, **named)

    look.__name__ = name
    setattr(os, name, look)
    for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if real in able:
            able.add(look)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        _add("state", args[0])
    elif event in ("os.listdir", "os.scandir"):
        _add("names", "." if args[0] is None else args[0])


def _add(kind: str, place: Any) -> None:
    if isinstance(place, int):
        return
    try:
        path = os.path.abspath(os.fsdecode(place))
    except (TypeError, OSError):
        return  # no path; the function itself says so
    if not (path.startswith(_ENGINE) or of_system(path) or of_python(path) or installed(path)):
        _PLACES[kind][path] = None
