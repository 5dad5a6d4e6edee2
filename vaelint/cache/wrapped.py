"""The functions of `os` and of the import system that look at the file system without an audit event, wrapped to tell a witness.

The wrappers are objects and not functions, so that a class may hold one as it would hold the built-in. `posix`, which `os` is made of,
gets them too.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import FileFinder, PathFinder
from typing import Any

from vaelint.cache.witness import Witness, absolute


class Wrapped:
    """A function that tells of its arguments before it does what it does."""

    def __init__(self, real: Callable[..., Any], witness: Witness, tell: Callable[..., Any]) -> None:
        self._real, self._witness, self._tell, self._is_stat = real, witness, tell, real.__name__ in ("stat", "lstat")
        self.__name__, self.__doc__, self.__wrapped__ = real.__name__, real.__doc__, real

    def __call__(self, *args: Any, **named: Any) -> Any:
        if not self._witness.is_aside and not (self._is_stat and args and self._witness.passes_over(args[0])):
            try:
                with self._witness.apart():
                    instead = self._tell(*args, **named)
            except Exception:  # noqa: BLE001 - arguments of a kind that we do not know; the function itself says so
                self._witness.outside("it asks about files in a way that is not understood")
            else:
                if instead is not None:
                    return instead(self._real(*args, **named))
        return self._real(*args, **named)

    def __repr__(self) -> str:
        return repr(self._real)


def wrap(witness: Witness) -> None:
    """Replaces the functions, for good."""
    tells = _Tells(witness)
    for name in ("stat", "lstat", "fstat", "access", "readlink", "statvfs", "open", "scandir"):
        _replace(name, witness, getattr(tells, name))
    fork_exec = importlib.import_module("_posixsubprocess")  # multiprocessing starts programs with it, without an event
    fork_exec.fork_exec = Wrapped(fork_exec.fork_exec, witness, lambda *_: witness.outside("it starts another program"))  # type: ignore[attr-defined]
    _wrap_getmodule(witness)
    _wrap_imports(witness)
    _wrap_environment(witness)


def _replace(name: str, witness: Witness, tell: Callable[..., Any]) -> None:
    real = getattr(os, name)
    wrapped = Wrapped(real, witness, tell)
    for module in (os, sys.modules.get("posix")):
        if getattr(module, name, None) is real:
            setattr(module, name, wrapped)
    for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if real in able:
            able.add(wrapped)


def _wrap_getmodule(witness: Witness) -> None:
    """To find the module of some code it looks at the files of all that are loaded, thousands of times, and tells nobody what it saw."""
    real = inspect.getmodule

    def getmodule(*args: Any, **named: Any) -> Any:
        with witness.apart():
            return real(*args, **named)

    inspect.getmodule = getmodule


class _Tells:
    """What each function tells of its arguments."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
        self._witness.asks(self._place(path, dir_fd), follow_symlinks)

    def lstat(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._witness.asks(self._place(path, dir_fd), False)

    def fstat(self, fd: int) -> None:
        path = absolute(fd)  # none for a pipe
        if path is not None and self._witness.asker_is_user(directly=True):
            self._witness.asks(path)

    def access(self, path: Any, mode: int, *, dir_fd: int | None = None, **_: Any) -> None:
        place = absolute(self._place(path, dir_fd))
        if place is not None:
            self._witness.looks(f"access{mode}", place)

    def readlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        place = absolute(self._place(path, dir_fd))
        if place is not None:
            self._witness.looks("link", place)

    def statvfs(self, path: Any) -> None:
        if self._witness.asker_is_user():
            self._witness.outside("it asks how full a disk is")

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if dir_fd is not None and not os.path.isabs(os.fsdecode(path)):
            self._witness.opens(self._place(path, dir_fd), None, flags)

    def scandir(self, path: Any = None) -> Callable[[Any], Any] | None:
        if not self._witness.asker_is_user():
            return None
        return lambda entries: _Entries(entries, self._witness)  # its event tells of the folder

    def _place(self, path: Any, folder: int | None) -> Any:
        """The path; outside of what can be watched if it starts from a folder that has no name."""
        if folder is None or isinstance(path, int):
            return path
        found = absolute(path, folder)
        if found is None:
            raise ValueError("a folder without a name")
        return found


class _Entries:
    """What `os.scandir` returns, with entries that tell when they are asked for more than names and kinds."""

    def __init__(self, real: Any, witness: Witness) -> None:
        self._real, self._witness = real, witness

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return _Entry(next(self._real), self._witness)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()

    def close(self) -> None:
        self._real.close()


class _Entry:
    """One of them."""

    def __init__(self, real: os.DirEntry[Any], witness: Witness) -> None:
        self._real, self._witness = real, witness

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return os.DirEntry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __fspath__(self) -> Any:
        return self._real.path

    def __repr__(self) -> str:
        return repr(self._real)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        self._tell("stat" if follow_symlinks else "lstat")
        return self._real.stat(follow_symlinks=follow_symlinks)

    def inode(self) -> int:
        self._tell("lstat")
        return self._real.inode()

    def _tell(self, kind: str) -> None:
        with self._witness.apart():
            place = absolute(self._real.path) if not isinstance(self._real.path, int) else None
            if place is not None:
                self._witness.looks(kind, place)


def _wrap_imports(witness: Witness) -> None:
    """Each search for a module is told of, found or not: `import`, `find_spec`, and who asks the finders by themselves."""
    of_path, of_folder = PathFinder.find_spec, FileFinder.find_spec

    def on_path(cls: Any, fullname: str, path: Any = None, target: Any = None) -> Any:
        name = fullname.rpartition(".")[2]
        with witness.apart():
            for folder in list(sys.path if path is None else path):
                if isinstance(folder, str):
                    witness.seeks(folder, name)
        return of_path(fullname, path, target)

    def in_folder(self: FileFinder, fullname: str, target: Any = None) -> Any:
        with witness.apart():
            witness.seeks(self.path, fullname.rpartition(".")[2])
        return of_folder(self, fullname, target)

    PathFinder.find_spec = classmethod(on_path)  # type: ignore[assignment,method-assign]
    FileFinder.find_spec = in_folder  # type: ignore[assignment,method-assign]


def _wrap_environment(witness: Witness) -> None:
    """`os.environ`, `os.environb` and `posix.environ` tell which variables are looked up."""

    class Told(type(os.environ)):  # type: ignore[misc]
        """A mapping of variables that tells."""

        def __getitem__(self, key: Any) -> Any:
            if isinstance(key, str | bytes):
                witness.reads_variable(os.fsdecode(key))
            return super().__getitem__(key)

        def __delitem__(self, key: Any) -> None:
            if isinstance(key, str | bytes):
                witness.reads_variable(os.fsdecode(key))
            super().__delitem__(key)

        def __iter__(self) -> Iterator[Any]:
            witness.reads_variable("*")
            return iter(super().__iter__())

        def __len__(self) -> int:
            witness.reads_variable("*")
            return int(super().__len__())

    os.environ.__class__ = Told
    if os.supports_bytes_environ:
        os.environb.__class__ = Told
    posix = sys.modules.get("posix")
    if posix is not None:
        posix.environ = _Raw(posix.environ, witness)  # type: ignore[attr-defined]


class _Raw(dict[Any, Any]):
    """The variables as the process got them; whoever looks there may see any."""

    def __init__(self, real: dict[Any, Any], witness: Witness) -> None:
        super().__init__(real)
        self._witness = witness

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            object.__getattribute__(self, "_witness").reads_variable("*")
        return super().__getattribute__(name)

    def __getitem__(self, key: Any) -> Any:
        self._witness.reads_variable("*")
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._witness.reads_variable("*")
        return super().__contains__(key)

    def __iter__(self) -> Iterator[Any]:
        self._witness.reads_variable("*")
        return super().__iter__()
