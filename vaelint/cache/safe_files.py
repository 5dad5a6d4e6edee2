"""Reading and writing a file of ours where somebody else may have put a link, a pipe or a device in its place."""

from __future__ import annotations

import errno
import os
import stat

LIMIT = 256 << 20  # bytes of an entry; none comes near


def read(path: str) -> bytes:
    """The bytes of a regular file. Raises OSError for anything else, links among it, without waiting for a pipe or reading a device."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode) or state.st_size > LIMIT:
            raise OSError(errno.EINVAL, "not a regular file", path)
        return file.read(LIMIT)


def write(path: str, data: bytes) -> None:
    """Puts a file in its place, whole or not at all, readable for its owner only. Raises OSError."""
    from contextlib import suppress

    new = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    with suppress(FileNotFoundError):
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise
