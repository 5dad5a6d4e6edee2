"""The key that kept results are signed with (HMAC, RFC 2104): only what this user's vaelint wrote is believed.

It is a file of the user's own folder that nobody else may read, or, for machines that share results, the variable VAELINT_CACHE_KEY.
"""

from __future__ import annotations

import os
import stat

from vaelint.cache import folder, safe_files
from vaelint.cache.tracked import tracked

VARIABLE = "VAELINT_CACHE_KEY"
_LEAST = 16  # characters of the variable
_START, _SIZE = b"vaelint key 1 ", 64


def key() -> bytes | None:
    """The user's key; None if there is none yet. Raises OSError for one that others may know."""
    if told := os.environ.get(VARIABLE):
        if len(told) < _LEAST:
            raise OSError(0, f"{VARIABLE} has fewer than {_LEAST} characters")
        from hashlib import sha256

        return sha256(b"vaelint\0" + os.fsencode(told)).digest()
    path = _path()
    try:
        state = os.lstat(path)
    except OSError:
        return None
    if state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o077:
        raise OSError(0, f"others may read or write the key {path}; remove it, and a new one is made")
    if tracked(path):
        raise OSError(0, f"the key {path} is under version control; remove it there, and a new one is made")
    start, number = (text := safe_files.read(path))[: len(_START)], text[len(_START) : -1]
    if start != _START or len(number) != _SIZE or number.strip(b"0123456789abcdef") or not text.endswith(b"\n"):
        raise OSError(0, f"{path} is not a key of vaelint; remove it, and a new one is made")
    return bytes.fromhex(number.decode())


def made_key() -> bytes:
    """The user's key, made if there is none. Raises OSError."""
    if (found := key()) is not None:
        return found
    from contextlib import suppress

    folder.make(folder.own())
    new = f"{_path()}.{os.getpid()}"
    safe_files.write(new, b"vaelint key 1 " + os.urandom(32).hex().encode() + b"\n")
    with suppress(FileExistsError):
        os.link(new, _path())  # unlike a renaming, it leaves the key that another run has made meanwhile
    os.unlink(new)
    found = key()
    if found is None:
        raise OSError(0, f"the key {_path()} cannot be made")
    return found


def signed(secret: bytes, name: str, body: bytes) -> bytes:
    """The body behind a line that only the key's owner can write, for this name only."""
    return _mac(secret, name, body) + b"\n" + body


def verified(secret: bytes, name: str, data: bytes) -> bytes:
    """The body of `signed`. Raises ValueError for anything else."""
    from hmac import compare_digest

    mac, _, body = data.partition(b"\n")
    if not compare_digest(mac, _mac(secret, name, body)):
        raise ValueError(f"{name} was not written with this key")
    return body


def _mac(secret: bytes, name: str, body: bytes) -> bytes:
    from hmac import digest

    return digest(secret, name.encode() + b"\n" + body, "sha256").hex().encode()


def _path() -> str:
    return os.path.join(folder.own(), folder.KEY)
