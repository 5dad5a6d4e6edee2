"""Landlock: the kernel itself refuses what code below Python would write, or connect to. Linux 5.13 and later; nothing elsewhere.

See landlock(7). It holds for this process and those it starts, and cannot be lifted again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same on every machine
_PR_SET_NO_NEW_PRIVS, _VERSION, _PATH_BENEATH = 38, 1, 1
_WRITE, _TRUNCATE, _REFER = 1 << 1, 1 << 14, 1 << 13
_MAKE_AND_REMOVE = sum(1 << n for n in range(4, 13))
_CONNECT_TCP = 1 << 1


class _Rules(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def forbid_writes(*allowed: str) -> bool:
    """From now on this process writes below the `allowed` folders only, and opens no TCP connection. Whether the kernel does that."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if version < 1:
        return False
    files = _WRITE | _MAKE_AND_REMOVE | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    rules = _Rules(files, _CONNECT_TCP if version >= 4 else 0)
    size = ctypes.sizeof(rules) if version >= 4 else 8
    fd = libc.syscall(_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if fd < 0:
        return False
    try:
        for folder in (*allowed, "/dev", "/proc"):
            with contextlib.suppress(OSError):
                _allow(libc, fd, folder, files)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.syscall(_RESTRICT, fd, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(fd)


def _allow(libc: ctypes.CDLL, fd: int, folder: str, files: int) -> None:
    opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        beneath = _Beneath(files, opened)
        libc.syscall(_ADD, fd, _PATH_BENEATH, ctypes.byref(beneath), ctypes.c_uint32(0))
    finally:
        os.close(opened)
