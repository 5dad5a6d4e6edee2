"""One look at the file system, as a text: what `os.path.exists`, `os.stat`, `os.listdir` and their like see at a path.

The process of a target writes down what its code saw (witness.py); a later run looks again (facts.py). The functions are taken from
`os` before anything replaces them there.
"""

from __future__ import annotations

import os
import stat

from vaelint.cache.digest import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_STAT, _LSTAT, _READLINK, _SCANDIR, _ACCESS = os.stat, os.lstat, os.readlink, os.scandir, os.access
_OWN = "__pycache__"  # Python's own, made by the first import
_INSTALLED = (".dist-info", ".egg-info", ".egg-link", ".pth")


def look(kind: str, path: str) -> str:
    """What a look of this kind sees now: "yes" or "" for a question, otherwise a text, which for an error is its name."""
    try:
        return _allowed(kind, path) if kind.startswith("access") else _KINDS[kind](path)
    except (OSError, ValueError) as error:
        return "" if kind in _QUESTIONS else named(error)


def named(error: OSError | ValueError) -> str:
    """What code may tell of an error: its type and number."""
    return f"{type(error).__name__} {getattr(error, 'errno', None)}"


def lexists(path: str) -> bool:
    """Whether there is anything, a broken link too."""
    return bool(look("lexists", path))


def target_of(link: str) -> str:
    """Where a link points; "" for what is not a link."""
    try:
        return _READLINK(link)
    except OSError:
        return ""


def names(folder: str) -> list[tuple[str, str]]:
    """The names in a folder, in order, each with what it is: "f" or "d", with "l" before it for a link. Raises OSError."""
    with _SCANDIR(folder) as entries:
        return sorted((e.name, _what(e)) for e in entries if e.name != _OWN)


def _what(entry: os.DirEntry[str]) -> str:
    try:
        return "l" * entry.is_symlink() + ("d" if entry.is_dir() else "f" if entry.is_file() else "o")
    except OSError:
        return "o"


def _type(mode: int) -> str:
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "other"


def _all_of(state: os.stat_result) -> str:
    told = (state.st_mode, state.st_ino, state.st_dev, state.st_nlink, state.st_uid, state.st_gid, state.st_size)
    return " ".join(map(str, (*told, state.st_mtime_ns, state.st_ctime_ns)))  # st_atime_ns is of who reads it


def _digest(found: Iterable[tuple[str, str]]) -> str:
    text = "\0".join(f"{name}/{what}" for name, what in found)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _modules(folder: str) -> str:
    """Python files, notebooks and folders, as the engine looks for them."""
    found = ((n, w) for n, w in names(folder) if not n.startswith(".") and (n.endswith((".py", ".ipynb")) or w.endswith("d")))
    return _digest(found)


_QUESTIONS = ("exists", "lexists", "isfile", "isdir", "islink")
_KINDS: dict[str, Callable[[str], str]] = {
    "exists": lambda path: "yes" if _STAT(path) else "",
    "lexists": lambda path: "yes" if _LSTAT(path) else "",
    "isfile": lambda path: "yes" if stat.S_ISREG(_STAT(path).st_mode) else "",
    "isdir": lambda path: "yes" if stat.S_ISDIR(_STAT(path).st_mode) else "",
    "islink": lambda path: "yes" if stat.S_ISLNK(_LSTAT(path).st_mode) else "",
    "size": lambda path: str(_STAT(path).st_size),
    "type": lambda path: _type(_STAT(path).st_mode),
    "link": _READLINK,
    "stat": lambda path: _all_of(_STAT(path)),
    "lstat": lambda path: _all_of(_LSTAT(path)),
    "names": lambda path: _digest(names(path)),
    "modules": _modules,
    "installed": lambda path: _digest((n, w) for n, w in names(path) if n.endswith(_INSTALLED)),
    "host": lambda path: os.uname().nodename,
}


def _allowed(kind: str, path: str) -> str:
    return "yes" if _ACCESS(path, int(kind.removeprefix("access"))) else ""
