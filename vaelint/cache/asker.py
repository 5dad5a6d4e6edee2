"""Who asks the file system, and for what: read off the stack at the moment of the question.

Python's own modules ask on somebody's behalf; the nearest frame that is not theirs is the one that asks. What `os.stat` is called for
is told by the function of `os.path` or pathlib that calls it: to learn whether a file exists is less than to learn its times.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from types import FrameType

from vaelint.late import dataclass

_HERE = os.path.dirname(__file__) + os.sep
_PYTHON = tuple({sysconfig.get_path(k) + os.sep for k in ("stdlib", "platstdlib")})
_SITE = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_PATHS = tuple(f"{os.sep}{n}" for n in ("genericpath.py", "posixpath.py", "pathlib.py", "glob.py"))
_FROZEN_PATHS = ("<frozen genericpath>", "<frozen posixpath>")
_OF_SOURCE = (f"{os.sep}linecache.py", f"{os.sep}inspect.py")  # they look for the source of what is loaded, and then open it
_PURPOSE = {
    "exists": "exists", "lexists": "lexists", "isfile": "isfile", "is_file": "isfile", "isdir": "isdir", "is_dir": "isdir",
    "islink": "islink", "is_symlink": "islink", "getsize": "size", "realpath": "islink", "_joinrealpath": "islink", "resolve": "islink",
    "getatime": "atime",
}  # fmt: skip


@dataclass(frozen=True)
class Asker:
    """`who`: "import", "engine", "installed" or "user"; `purpose`: a kind of looks.py, or "" for all that there is to see.

    `directly`: whether no function of Python's stands between.
    """

    who: str
    purpose: str
    directly: bool


class Stack:
    """Tells askers. `ours` are the folders of the engine and the rules."""

    def __init__(self, ours: tuple[str, ...]) -> None:
        self._ours = ours
        self._kinds: dict[str, str] = {}  # of code files: the same few ask again and again

    def asker(self) -> Asker:
        """Who asks, of those that are on the stack now."""
        frame: FrameType | None = sys._getframe(1)
        purpose, directly = "", True
        while frame is not None:
            file = frame.f_code.co_filename
            kind = self._kinds.get(file) or self._kinds.setdefault(file, self._kind(file))
            if kind in ("import", "engine", "installed", "user"):
                return Asker(kind, "" if kind == "import" else purpose, directly)
            if kind != "watching":
                directly = False
            if kind == "paths":
                purpose = purpose or _PURPOSE.get(frame.f_code.co_name, "")
            elif kind == "metadata":
                purpose = purpose or "installed"
            frame = frame.f_back
        return Asker("user", purpose, directly)

    def is_of_source(self) -> bool:
        """Whether Python itself asks, to find the source of what is loaded: it does so thousands of times."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            file = frame.f_code.co_filename
            kind = self._kinds.get(file) or self._kinds.setdefault(file, self._kind(file))
            if kind not in ("watching", "paths"):
                return kind == "import"
            frame = frame.f_back
        return False

    def _kind(self, file: str) -> str:
        """Of a code file: one who asks, or "watching" (we), "paths", "metadata" or "python", which ask for somebody."""
        if file.startswith(_HERE):
            return "watching"
        if file.startswith("<frozen importlib") or file.endswith(_OF_SOURCE):
            return "import"
        if file.startswith(self._ours):
            return "engine"
        if installed(file):
            return "installed"
        if not file.startswith((*_PYTHON, "<frozen")):
            return "user"
        if file.endswith(_PATHS) or file in _FROZEN_PATHS or f"{os.sep}pathlib{os.sep}" in file:
            return "paths"
        return "metadata" if f"{os.sep}importlib{os.sep}metadata{os.sep}" in file else "python"


def installed(path: str) -> bool:
    """Whether a file is that of an installed package."""
    return any(s in path for s in _SITE)


def of_python(path: str) -> bool:
    """Whether Python's version answers for a file."""
    return path.startswith(_PYTHON) and not installed(path)


def of_system(path: str) -> bool:
    """Whether a path is not a file, and says something else each time."""
    return path.startswith(("/proc/", "/sys/")) or (path.startswith("/dev/") and not path.startswith("/dev/shm/"))
