"""Files: what is written goes to a mirror of the file system in a scratch folder, and is read back from there. Nothing else is touched."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vaelint.observe.held.notes import MAKES, HeldBack, shown

Absent = Callable[[str, str, Callable[..., Any], Callable[[str], None], str], bool]
"""Makes what stands in for a path that is not there: the path, where to make it, what opens files and makes folders, and what the script
does: "read" a file, "list" a folder, or "ask" whether the path is there. Whether it did."""

_WRITING = set("wax+")
_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FREE = ("/dev/", "/proc/")


class Mirror:
    """The scratch folder. `gone` are files of the script's world that it removed. With `below`, of all paths only those below these."""

    def __init__(self, scratch: str, held: HeldBack, below: Sequence[str] | None = None) -> None:
        self.scratch, self.held = os.path.abspath(scratch), held
        self._root = os.path.join(self.scratch, "files")
        self._below = None if below is None else tuple(os.path.join(os.path.abspath(folder), "") for folder in below)
        self._gone: set[str] = set()
        self._pointers: set[str] = set()
        self._real: dict[str, Any] = {n: getattr(os, n) for n in (*_ONE, *_TWO, *_LOOKS, "open", "chdir")}
        self._open = builtins.open
        self.absent: Absent | None = None  # makes what is read and is not there

    # --- paths ---------------------------------------------------------------------------------------------------------

    def _path(self, path: Any) -> str | None:
        """The absolute path; None for descriptors, for devices, and for what is in the scratch folder already or not below."""
        if isinstance(path, int) or path is None:
            return None
        try:
            text = os.path.abspath(os.fsdecode(path))
        except (TypeError, ValueError):
            return None
        if text.startswith(self._root + os.sep):  # of a script that works in a folder which it made itself
            text = text[len(self._root) :]
        free = text.startswith((self.scratch + os.sep, *_FREE)) or text == self.scratch
        return None if free or (self._below is not None and not text.startswith(self._below)) else text

    def _twin(self, path: str) -> str:
        return self._root + path

    def _exists(self, path: str) -> bool:
        with contextlib.suppress(OSError):
            self._real["lstat"](path)
            return True
        return False

    def _there(self, path: str) -> bool:
        """Whether the script sees something at a path."""
        return self._exists(self._twin(path)) or (path not in self._gone and self._exists(path))

    def reading(self, path: Any) -> Any:
        """Where a path is read: in the mirror, if it was written there. Raises FileNotFoundError for what the script removed."""
        own = self._path(path)
        if own is None:
            return path
        if self._exists(self._twin(own)):
            return self._twin(own)
        if own in self._gone:
            raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))
        return own if os.path.abspath(os.fsdecode(path)).startswith(self._root + os.sep) else path

    def _made(self, path: Any, does: str = "read") -> None:
        """What is read and is not there is made in the mirror, where it is known what it is."""
        own = self._path(path)
        if self.absent is not None and own is not None and own not in self._gone and (not self._there(own) or self._is_pointer(own, does)):
            self.absent(own, self._twin(own), self._open, self._folders, does)

    def _is_pointer(self, path: str, does: str) -> bool:
        """Whether Git LFS has left a pointer in the place of a file."""
        if does != "read" or path in self._pointers:
            return False
        with contextlib.suppress(OSError), self._open(path, "rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                self._pointers.add(path)
                return True
        return False

    def writing(self, path: Any, *, keeps: bool = False, what: str = "write") -> Any:
        """Where a path is written: in the mirror; with `keeps` it begins with what is there. Raises what the system would.

        A file of an observed script may be written into a folder that is not there, as of logs that are not kept: that is said.
        """
        own = self._path(path)
        if own is None:
            return path
        twin, folder = self._twin(own), os.path.dirname(own)
        lacks = not self._there(folder)
        if lacks and (self.absent is None or what != "write"):
            raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))
        end = f", into the folder {shown(folder)}, which is not there: Python would raise FileNotFoundError" if lacks else ""
        self.held.note(f"{what} {shown(path)}{end}")
        self._folders(os.path.dirname(twin))
        if keeps and not self._exists(twin) and own not in self._gone and self._exists(own):
            self._copy(own, twin)
        self._gone.discard(own)
        return twin

    def _folders(self, path: str) -> None:
        if not self._exists(path):
            self._folders(os.path.dirname(path))
            self._real["mkdir"](path)

    def _copy(self, source: str, target: str) -> None:
        with self._open(source, "rb") as old, self._open(target, "wb") as new:
            while part := old.read(1 << 20):
                new.write(part)

    # --- what the script calls -------------------------------------------------------------------------------------------

    def open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """`open` of the script."""
        writes = bool(_WRITING & set(mode))
        if writes and "x" in mode and (own := self._path(file)) is not None and self._there(own):
            raise FileExistsError(17, "File exists", os.fsdecode(file))
        if not writes:
            self._made(file)
        place = self.writing(file, keeps="w" not in mode) if writes else self.reading(file)
        return self._open(place, mode, *args, **kwargs)

    def os_open(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        """`os.open` of the script."""
        if kwargs.get("dir_fd") is not None:
            return int(self._real["open"](path, flags, *args, **kwargs))
        place = self.writing(path, keeps=not flags & os.O_TRUNC) if flags & _FLAGS else self.reading(path)
        return int(self._real["open"](place, flags, *args, **kwargs))

    def mkdir(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """`os.mkdir`, and so `os.makedirs` and `Path.mkdir`."""
        own = self._path(path)
        if own is not None and self._there(own):
            raise FileExistsError(17, "File exists", os.fsdecode(path))
        self._real["mkdir"](self.writing(path, what=MAKES), *args, **kwargs)

    def chdir(self, path: Any) -> None:
        """`os.chdir`: a folder that the script made is in the mirror, and what lies beside it is still found from there."""
        own = self._path(path)
        there = own is not None and own not in self._gone and self._exists(own)
        self._real["chdir"](own if there else self.reading(path))

    def remove(self, name: str) -> Callable[..., None]:
        """`os.remove`, `os.unlink`, `os.rmdir`."""

        def removed(path: Any, *args: Any, **kwargs: Any) -> None:
            own = self._path(path) if kwargs.get("dir_fd") is None else None
            if own is None:
                self._real[name](path, *args, **kwargs)
                return
            if not self._there(own):
                raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))
            if self._exists(self._twin(own)):
                self._real[name](self._twin(own))
            self.held.note(f"remove {shown(path)}")
            self._gone.add(own)

        return removed

    def changed(self, name: str) -> Callable[..., None]:
        """`os.chmod` and its like: of what the script wrote; else nothing is done."""

        def change(path: Any, *args: Any, **kwargs: Any) -> None:
            own = self._path(path)
            if own is None or self._exists(self._twin(own)):
                self._real[name](path if own is None else self._twin(own), *args, **kwargs)
            else:
                self.held.note(f"{name} {shown(path)}")

        return change

    def moved(self, name: str) -> Callable[..., None]:
        """`os.rename`, `os.replace`, `os.link`, `os.symlink`."""

        def move(source: Any, target: Any, *args: Any, **kwargs: Any) -> None:
            old, new = self._path(source), self._path(target)
            if old is None and new is None:
                self._real[name](source, target, *args, **kwargs)
                return
            to = self.writing(target, what=f"{name} {shown(source)} to")
            if name == "symlink":
                self._real[name](source, to, *args, **kwargs)
                return
            at = self.reading(source)
            if old is not None and at == source:  # the original stays where it is
                shutil.copytree(at, to) if os.path.isdir(at) else self._copy(os.fsdecode(at), os.fsdecode(to))
            else:
                self._real[name](at, to)
            if old is not None and name in ("rename", "replace"):
                self._gone.add(old)

        return move

    def looked(self, name: str) -> Callable[..., Any]:
        """`os.stat` and its like: what the script wrote is there, what it removed is not."""

        def look(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("dir_fd") is not None:
                return self._real[name](path, *args, **kwargs)
            if name in _DOES:
                self._made(path, _DOES[name])
            own = self._path(path)
            if name == "scandir" and own is not None and own not in self._gone and self._exists(own):
                return self._real[name](path, *args, **kwargs)  # what lies there already; what was written beside it is not listed
            place = self.reading(path)
            if name == "listdir" and place is not path and self._exists(str(self._path(path))):
                both = {*self._real[name](place), *self._real[name](path)}
                return sorted(n for n in both if self._there(os.path.join(str(self._path(path)), n)))
            return self._real[name](place, *args, **kwargs)

        return look

    def rmtree(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """`shutil.rmtree`."""
        own = self._path(path)
        if own is None:
            _RMTREE(path, *args, **kwargs)
            return
        self.held.note(f"remove {shown(path)}")
        if self._exists(self._twin(own)):
            _RMTREE(self._twin(own), ignore_errors=True)
        self._gone.add(own)


_POINTER = b"version https://git-lfs.github.com/spec/"
_ONE = ("mkdir", "remove", "unlink", "rmdir", "chmod", "utime", "truncate")
_TWO = ("rename", "replace", "link", "symlink")
_DOES = {"listdir": "list", "scandir": "list", "stat": "ask"}
_LOOKS = ("stat", "lstat", "listdir", "scandir", "access")
_RMTREE = shutil.rmtree


@contextlib.contextmanager
def files_held_back(mirror: Mirror) -> Iterator[None]:
    """Within the block Python's ways to files lead to the mirror."""
    instead: list[tuple[Any, str, Any]] = [
        (builtins, "open", mirror.open), (io, "open", mirror.open), (os, "open", mirror.os_open), (os, "mkdir", mirror.mkdir),
        (os, "chdir", mirror.chdir),
        (shutil, "rmtree", mirror.rmtree),
        *((os, n, mirror.remove(n)) for n in ("remove", "unlink", "rmdir")),
        *((os, n, mirror.changed(n)) for n in ("chmod", "utime", "truncate")),
        *((os, n, mirror.moved(n)) for n in _TWO),
        *((os, n, mirror.looked(n)) for n in _LOOKS),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for owner, name, new in instead:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, new)
        yield
