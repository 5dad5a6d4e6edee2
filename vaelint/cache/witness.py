"""What the process of a target reads, as it is heard of (watching.py starts it). Imports no torch.

Python tells of every file it opens and every folder it lists through audit events (PEP 578), whoever asks: user code, the import system,
torch, the engine. It does not tell of looks that open nothing; those functions are wrapped (wrapped.py). What neither can tell of
(another process, the network, native code) makes a result that is not kept.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import get_ident
from typing import Any

from vaelint.cache.asker import Stack, installed, of_python, of_system
from vaelint.cache.looks import lexists, look, target_of
from vaelint.cache.reads import Reads
from vaelint.core.paths import regular

_FORKS = "it starts processes, whose reads cannot be seen"
_OUTSIDE = {
    **dict.fromkeys(("subprocess.Popen", "os.system", "os.posix_spawn", "os.startfile", "pty.spawn"), "it starts another program"),
    "os.forkpty": _FORKS,
    **dict.fromkeys(
        ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname"),
        "it talks over the network",
    ),
    "socket.gethostbyaddr": "it talks over the network",
    "os.exec": "it becomes another program",
}
_OF_USERS = {  # what installed packages may do, as their version answers for it
    "ctypes.dlopen": "it calls native code through ctypes",
    "ctypes.dlsym": "it calls native code through ctypes",
    "os.getxattr": "it reads extended attributes of files",
    "os.listxattr": "it reads extended attributes of files",
}
_CHANGES = ("os.remove", "os.rmdir", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_TELLS = os.O_RDWR | os.O_EXCL | os.O_APPEND  # a file opened so shows whether it was there
_ENVIRON = re.compile(r"/proc/(self|thread-self|\d+)(/task/\d+)?/environ\Z")
_HARMLESS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom", "/dev/stdout", "/dev/stderr")


class Apart:
    """A context in which this thread's reads are our own. A class, as it is entered thousands of times."""

    def __init__(self, threads: set[int]) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        self._threads.add(get_ident())

    def __exit__(self, *_: object) -> None:
        self._threads.discard(get_ident())


class Witness:
    """Hears of everything that this process reads from now on."""

    def __init__(self) -> None:
        self._found = Reads()
        self._files: set[str] = set()
        self._written: set[str] = set()
        self._own: set[str] = set()  # what this process has made: it knows what is there
        self._seen: dict[tuple[str, str], str] = {}
        self._searches: set[tuple[str, str]] = set()
        self._variables: set[str] = set()
        self._aside: set[int] = set()  # threads in which we look ourselves
        self._known = (*_folder_of("torch"), *_folder_of("vaelint"), *_folder_of("vaelint_rules"))
        self._stack = Stack((*_folder_of("vaelint"), *_folder_of("vaelint_rules")))
        self._acts: dict[str, Callable[..., None]] = {
            "open": self.opens, "os.listdir": self._lists, "os.scandir": self._lists, "import": self._loads,
            "os.mkdir": self._makes, "os.rename": self._renames, "os.link": self._renames, "sqlite3.connect": self.reads,
            "socket.gethostname": lambda *_: self.looks("host", "/"), "os.fork": self._forks,
            **dict.fromkeys(_CHANGES, self._changes),
            **{event: lambda *_, why=why: self.outside(why) for event, why in _OUTSIDE.items()},
            **{event: lambda *_, why=why: self._done_by_users(why) for event, why in _OF_USERS.items()},
        }  # fmt: skip

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """The audit hook. Never raises: that would stop what it hears of."""
        act = self._acts.get(event)  # looking at a frame is an event as well: nearly all are none of ours
        if act is None or get_ident() in self._aside:
            return
        try:
            with self.apart():
                act(*args)
        except Exception:  # noqa: BLE001 - a path of a kind that we do not know
            self.outside("it names files in a way that is not understood")

    def apart(self) -> Apart:
        """Inside, what this thread reads is not written down."""
        return Apart(self._aside)

    @property
    def is_aside(self) -> bool:
        """Whether this thread's reads are our own."""
        return get_ident() in self._aside

    def passes_over(self, path: Any) -> bool:
        """Whether a look at a path is none to be written down, told at once: most are like that."""
        return (type(path) is str and path.startswith(self._known)) or self._stack.is_of_source()

    def outside(self, why: str) -> None:
        """The result rests on something that cannot be looked up."""
        self._found.outside = self._found.outside or why

    def _forks(self, *_: Any) -> None:
        """A process is started: by the engine only for the same script once more, which reads what the first run of it reads."""
        if self._stack.asker().who != "engine":
            self.outside(_FORKS)

    def reads_variable(self, name: str) -> None:
        """A variable of the environment was looked up; "*" for all."""
        self._variables.add(name)

    def reads(self, path: Any, *_: Any) -> None:
        """A file is read."""
        file = absolute(path)
        if file is None:
            return
        if self._is_own(file):
            self._tell_absence(file)
        elif of_system(file):
            self._reads_system(file)
        else:
            self._files.add(file)

    def looks(self, kind: str, path: str) -> None:
        """Somebody looks at a path, without opening it."""
        if (kind, path) not in self._seen and not self._is_own(path) and not self._answered(path):
            self._seen[kind, path] = look(kind, path)

    def asks(self, given: Any, follow: bool = True) -> None:
        """`os.stat` or `os.lstat` is called: the look that whoever calls it takes."""
        path = absolute(given)
        if path is None or self._answered(path):
            return
        asker = self._stack.asker()
        if asker.who == "import" or (asker.who != "user" and of_system(path)):
            return
        kind = asker.purpose or ("type" if asker.who == "engine" else "stat" if follow else "lstat")
        if kind == "atime":
            self.outside("it reads when files were last read")
        elif kind == "islink" and follow:
            kind = "exists"
        elif kind in ("isfile", "isdir", "size") and not follow:
            kind = "lstat"
        self.looks("stat" if kind == "atime" else kind, path)

    def asker_is_user(self, *, directly: bool = False) -> bool:
        """Whether the function that calls our caller was called by user code; `directly`: with nothing of Python's between."""
        asker = self._stack.asker()
        return asker.who == "user" and (asker.directly or not directly)

    def seeks(self, folder: str, name: str) -> None:
        """The import system looks for a module in a folder, or in an archive."""
        path = os.path.abspath(folder or ".")
        if self._answered(os.path.join(path, "")):
            return
        if look("isfile", path):
            self._files.add(path)
        else:
            self._searches.add((path, name))

    def search(self, path: Path, words: tuple[bytes, ...]) -> bytes | None:
        """What `holding` does: if a word is missing, no more than that matters."""
        with self.apart():
            text = regular(path).read_bytes()
        lacking = next((w for w in words if w not in text), None)
        file = os.path.abspath(path)
        if lacking is None:
            self._files.add(file)
            return text
        self._found.lacks.setdefault(file, []).append(lacking.decode())
        return None

    def to_json(self) -> dict[str, Any]:
        """All that was read, as plain JSON values."""
        found, files = self._found, {source_of(f) for f in self._files}
        if any(f in files for f in self._written):
            self.outside("it writes a file that it reads")
        found.files = sorted(f for f in files if not self._answered(f))
        found.lacks = {f: sorted(set(words)) for f, words in found.lacks.items() if f not in files}
        found.seen = [[kind, path, was] for (kind, path), was in sorted(self._seen.items()) if not self._told_by(files, kind, path, was)]
        found.variables = sorted(self._variables)
        for folder, name in sorted(self._searches):
            found.searches.setdefault(folder, []).append(name)
        return asdict(found)

    def opens(self, path: Any, mode: Any, flags: Any) -> None:
        """A file is opened, to be read or written."""
        if isinstance(path, int):
            return  # it was opened before
        if not isinstance(flags, int) or not flags & _WRITES:
            self.reads(path)
            return
        file = absolute(path)
        if file is None or of_system(file):
            return
        if not self._is_own(file):
            self._written.add(file)
            if not lexists(file):
                self._own.add(file)
                if flags & _TELLS:
                    self._tell_absence(file)

    def _lists(self, path: Any = None, *_: Any) -> None:
        asker = self._stack.asker()
        folder = absolute("." if path is None else path)
        if folder is None:
            self.outside("it lists a folder that is not known by a name")
        elif asker.who != "import" and not (of_system(folder) and asker.who != "user"):
            self.looks("modules" if asker.who == "engine" else "installed" if asker.purpose == "installed" else "names", folder)

    def _loads(self, module: Any, file: Any = None, *_: Any) -> None:
        """Native code is loaded as a module: the only file that is read without an event of its own."""
        if file:
            path = absolute(file)
            if path is None or self._answered(path):
                return
            if installed(path):  # its version answers for it, nearly
                self.looks("size", path)
            else:
                self._files.add(path)
                self.outside("it loads native code, whose reads cannot be seen")

    def _done_by_users(self, why: str) -> None:
        if self._stack.asker().who == "user":
            self.outside(why)

    def _makes(self, path: Any, *_: Any) -> None:
        folder = absolute(path)
        if folder is not None and not self._is_own(folder) and not lexists(folder):
            self._tell_absence(folder)
            self._own.add(folder)

    def _renames(self, source: Any, target: Any, *_: Any) -> None:
        self._changes(source)
        file = absolute(target)
        if file is not None and not self._is_own(file):
            self._tell_absence(file)
            (self._written if lexists(file) else self._own).add(file)

    def _changes(self, path: Any, *_: Any) -> None:
        file = absolute(path)
        if file is not None and not self._is_own(file):
            self._tell_absence(file)
            self._written.add(file)

    def _tell_absence(self, file: str) -> None:
        """Whether it was there before shows; what this process has made itself was not."""
        self._seen.setdefault(("lexists", file), "" if self._is_own(file) else look("lexists", file))

    def _is_own(self, path: str) -> bool:
        return path in self._own or any(path.startswith(own + os.sep) for own in self._own)

    def _answered(self, path: str) -> bool:
        """Whether a version answers for it: Python's, torch's, ours."""
        return path.startswith(self._known) or of_python(path)

    def _reads_system(self, file: str) -> None:
        if _ENVIRON.match(file):
            self.reads_variable("*")
        elif file not in _HARMLESS and self._stack.asker().who == "user":
            self.outside(f"it reads {file}")

    def _told_by(self, files: set[str], kind: str, path: str, was: str) -> bool:
        """Whether the content of the files that were read says as much."""
        return path in files and was in ("yes", "file") and kind in ("exists", "lexists", "isfile", "type")


def source_of(file: str) -> str:
    """The source file of compiled code: Python opens that alone where it is up to date."""
    folder, name = os.path.split(file)
    if name.endswith(".pyc") and os.path.basename(folder) == "__pycache__":
        return os.path.join(os.path.dirname(folder), name.partition(".")[0] + ".py")
    return file


def absolute(path: Any, folder: int | None = None) -> str | None:
    """The path from the root, not resolved; None for what has none. `path` may be a descriptor, and `folder` that of where it starts."""
    if isinstance(path, int):
        return _of_descriptor(path)
    text = os.fsdecode(path)
    if folder is None or os.path.isabs(text):
        return os.path.abspath(text)
    above = _of_descriptor(folder)
    return os.path.normpath(os.path.join(above, text)) if above is not None else None


def _of_descriptor(fd: int) -> str | None:
    found = target_of(f"/proc/self/fd/{fd}")
    return found if found.startswith("/") and not found.endswith(" (deleted)") else None


def _folder_of(module: str) -> tuple[str, ...]:
    file = getattr(sys.modules.get(module), "__file__", None)
    return (os.path.dirname(os.path.abspath(file)) + os.sep,) if file else ()
