"""What the last run of a command line printed, said again at once where nothing has changed that it rested on.

A check that kept results answer spends nearly all of its time on importing what reads options and writes reports. Where every file
behind the whole command, its configuration too, is the very one of then, by device, number, size and both its times, the text
is the same text. Anything else, however small, and the command runs as ever. What is written down, and when, is in saying.py.

So this module imports nothing that takes time.
"""

import os
import stat
import sys

from vaelint.cache import folder
from vaelint.cache.digest import blake2b
from vaelint.cache.key import key
from vaelint.cache.safe_files import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LEFT_OUT = ("_", "OLDPWD", "SHLVL")
LEFT_OUT_BEGINNING = "GIT_"
"""Variables that change from run to run: a shell's own, and those of git in a hook. Where a target looks at one, nothing is said again."""
AGE = 86400.0  # seconds; after that one run goes the long way, which marks the results behind it as used
_SOURCES = (".py", ".json")


def said_again(args: "Sequence[str]") -> int | None:
    """Prints what the last run of this command line printed, and returns its exit code; None if that is not known to be the answer."""
    try:
        path, secret = place(args), key()
        if secret is None or folder.refusal(folder.own()):
            return None
        code, text = _answer(opened(secret, os.path.basename(path), read(path)), path)
    except (OSError, ValueError):
        return None
    return int(code) if _written(text.encode("utf-8", "surrogateescape")) else None


def _answer(body: bytes, path: str) -> tuple[str, str]:
    """Exit code and text. Raises OSError or ValueError where they are not known to be right."""
    code, around, text, *facts = body.decode("utf-8", "surrogateescape").split("\0")
    if around != surroundings() or not 0 <= _now() - os.stat(path).st_mtime < AGE:
        raise ValueError("another world")
    for kind, place, state in zip(facts[::3], facts[1::3], facts[2::3], strict=True):
        if state != fact(kind, place):
            raise ValueError(f"{place} is another")
    return code, text


def place(args: "Sequence[str]") -> str:
    """The file for a command line. Raises OSError."""
    told = "\0".join((sys.prefix, os.getcwd(), *args)).encode("utf-8", "surrogateescape")
    return os.path.join(folder.own(), f"said-{blake2b(told, digest_size=16).hexdigest()}")


def surroundings() -> str:
    """The same text in the same interpreter, machine, terminal and environment."""
    told = [sys.version, sys.executable, sys.base_prefix, *sys.path, str(sys.flags), str(os.geteuid()), *os.uname()]
    for number in (0, 1, 2):
        told.append(str(os.isatty(number)))
    if os.isatty(1) or os.isatty(2):
        told.append(str(os.get_terminal_size(1 if os.isatty(1) else 2)))
    told += (f"{name}={value}" for name, value in sorted(os.environ.items()) if counts(name))
    return _digest(told)


def counts(variable: str) -> bool:
    """Whether a variable is one of the surroundings."""
    return variable not in LEFT_OUT and not variable.startswith(LEFT_OUT_BEGINNING)


def fact(kind: str, path: str) -> str:
    """What is at a path: its state; for "times" of a folder its own; for "real" where it leads; for "sources" all Python below it;
    for "devices" those of torch.

    Any other kind is one of looks.py.
    """
    if kind == "state":
        return _state(path)
    if kind == "times":
        return _times(path)
    if kind == "devices":
        return " ".join(sorted(n for n in os.listdir(path) if n.startswith("nvidia")))
    if kind == "real":
        return os.path.realpath(path)
    if kind == "sources":
        return _digest(_below(path))
    from vaelint.cache.looks import look

    return look(kind, path)


def _state(path: str) -> str:
    try:
        found = os.lstat(path)
        if not stat.S_ISLNK(found.st_mode):
            return _of(found)
        link = os.readlink(path)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__} {getattr(error, 'errno', None)}"
    try:
        return f"{link} to {_of(os.stat(path))}"
    except OSError as error:
        return f"{link} {error.errno}"


def _times(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError as error:
        return str(error.errno)
    return f"{found.st_mode} {found.st_dev} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"


def _of(found: os.stat_result) -> str:
    """Of a folder, whose times change with each file in it, that it is one."""
    if stat.S_ISDIR(found.st_mode):
        return f"folder {found.st_mode} {found.st_dev} {found.st_ino}"
    return f"{found.st_mode} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _below(folder: str) -> "Iterator[str]":
    """The states of all sources, in an order of their own."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.name.endswith(_SOURCES):
                    yield entry.path + _of(entry.stat())
                elif entry.name != "__pycache__" and entry.is_dir():
                    waiting.append(entry.path)


def closed(secret: bytes, name: str, body: bytes) -> bytes:
    """The body behind what only the key's owner can write, for this name only."""
    return _mac(secret, name, body) + body


def opened(secret: bytes, name: str, data: bytes) -> bytes:
    """The body of `closed`. Raises ValueError for anything else."""
    from _operator import _compare_digest  # what `hmac` takes it from, which would import OpenSSL

    if not _compare_digest(data[:32], _mac(secret, name, data[32:])):
        raise ValueError(f"{name} was not written with this key")
    return data[32:]


def _mac(secret: bytes, name: str, body: bytes) -> bytes:
    """Keyed BLAKE2b (RFC 7693), under a name of our own for what it is used for."""
    return blake2b(name.encode() + b"\n" + body, digest_size=32, key=secret, person=b"vaelint said 1").digest()


def _digest(parts: "Iterator[str] | Sequence[str]") -> str:
    return blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _now() -> float:
    from time import time

    return time()


def _written(text: bytes) -> bool:
    """Whether all of it went out; what keeps it from that is told by whoever goes the long way."""
    try:
        while text:
            text = text[os.write(1, text) :]
    except OSError:
        return False
    return True
