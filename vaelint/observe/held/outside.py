"""Networks, other programs, and libraries that write without Python's `open`."""

from __future__ import annotations

import contextlib
import multiprocessing.process
import os
import socket
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

import torch

from vaelint.observe.held.files import Mirror
from vaelint.observe.held.notes import HeldBack
from vaelint.trace.when_imported import when_imported

LOGGERS = {
    "WANDB_MODE": "disabled",
    "COMET_MODE": "disabled",
    "NEPTUNE_MODE": "debug",
    "CLEARML_OFFLINE_MODE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
"""What turns logging services and downloads off."""

_STDLIB = sysconfig.get_path("stdlib") + os.sep
_OWN = ("platform.py", "uuid.py", f"ctypes{os.sep}util.py", "sysconfig.py")


def _library_asks(frame: FrameType | None) -> bool:
    """Whether Python's own library starts a program for itself, to learn what machine it is on."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_STDLIB) and file.endswith(_OWN):
            return True
        if not file.startswith(_STDLIB) or "site-packages" in file:
            return False
        frame = frame.f_back
    return False


@contextlib.contextmanager
def libraries_held_back(mirror: Mirror) -> Iterator[None]:
    """Within the block what torch, SQLite and HDF5 write goes to the mirror, and HDF5 reads there."""
    save, connect = torch.save, sqlite3.connect

    def saved(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        place = mirror.writing(f, what="save") if isinstance(f, str | os.PathLike) else f
        save(obj, place, *args, **kwargs)

    def database(file: Any, *args: Any, **kwargs: Any) -> Any:
        place = file if file == ":memory:" or str(file).startswith("file:") else mirror.writing(file, keeps=True)
        return connect(place, *args, **kwargs)

    def hdf5(module: ModuleType) -> None:
        if "File" not in module.__dict__:
            return  # what is lent in the place of an h5py that is not installed
        kind: Any = module.__dict__["File"]
        opened = kind.__init__

        def init(self: Any, name: Any, mode: str = "r", *args: Any, **kwargs: Any) -> None:
            place = mirror.reading(name) if mode == "r" else mirror.writing(name, keeps=mode in ("a", "r+"))
            opened(self, place, mode, *args, **kwargs)

        kind.__init__ = init
        stack.callback(setattr, kind, "__init__", opened)

    for owner, name, new in ((torch, "save", saved), (sqlite3, "connect", database)):
        setattr(owner, name, new)
    with contextlib.ExitStack() as stack:
        stack.enter_context(when_imported("h5py", hdf5))
        try:
            yield
        finally:
            torch.save, sqlite3.connect = save, connect


@contextlib.contextmanager
def reach_held_back(held: HeldBack, mirror: Mirror) -> Iterator[None]:
    """Within the block no connection is made, no program started, and libraries write to the mirror."""
    popen = subprocess.Popen.__init__

    def started(self: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
        if _library_asks(sys._getframe(1)):
            popen(self, args, *rest, **kwargs)
            return
        words = args if isinstance(args, str | bytes) else " ".join(map(str, args))
        raise held.refuse(f"start {str(words)[:60]!r}")

    def system(command: Any) -> int:
        held.note(f"start {str(command)[:60]!r}")
        return 0

    def connected(self: socket.socket, address: Any) -> Any:
        if self.family == getattr(socket, "AF_UNIX", None):
            return _CONNECT(self, address)
        raise held.refuse(f"connect to {_address(address)}")

    def resolved(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname()):
            return _RESOLVE(host, port, *args, **kwargs)
        raise held.refuse(f"connect to {_address((host, port))}")

    def forked(self: Any) -> None:
        raise held.refuse(f"start the process {self.name}")

    instead: list[tuple[Any, str, Any]] = [
        (subprocess.Popen, "__init__", started), (os, "system", system), (socket.socket, "connect", connected),
        (socket.socket, "connect_ex", connected), (socket, "getaddrinfo", resolved),
        (multiprocessing.process.BaseProcess, "start", forked),
    ]  # fmt: skip
    with libraries_held_back(mirror), contextlib.ExitStack() as stack:
        for owner, name, new in instead:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, new)
        for name, value in LOGGERS.items():
            before = os.environ.get(name)
            os.environ[name] = value
            stack.callback(_put_back, name, before)
        yield


def _put_back(name: str, value: str | None) -> None:
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


def _address(address: Any) -> str:
    return ":".join(map(str, address[:2])) if isinstance(address, tuple) else str(address)


_CONNECT, _RESOLVE = socket.socket.connect, socket.getaddrinfo
