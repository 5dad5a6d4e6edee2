"""What a result was made from besides the request: files, listings, variables. Recorded in a target's process.

Python tells of every file it opens through audit events (PEP 578), whoever asks: user code, the import system, torch, the engine.
What it cannot tell of (another process, the network) makes a result that is not kept. Imports no torch.
"""

from __future__ import annotations

import ast
import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from vaelint.core.paths import our_file, regular

_PYTHON = tuple({sysconfig.get_path(k) + os.sep for k in ("stdlib", "platstdlib")})
_SITE = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_SYSTEM = ("/proc/", "/dev/", "/sys/")  # no files: they say something else each time
_OUTSIDE = {
    "subprocess.Popen": "it starts another program",
    "os.system": "it starts another program",
    "os.posix_spawn": "it starts another program",
    "os.exec": "it becomes another program",
    "socket.connect": "it talks over the network",
    "socket.getaddrinfo": "it talks over the network",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Reads:
    """What the result rests on. Paths are absolute.

    Attributes:
        files: read, or looked for in vain; their content matters.
        lacks: files in which nothing but the absence of some words mattered.
        listings: folders whose names were read by the model's code.
        modules: folders in which the engine looked for Python files.
        absent: what an import would find first if it were there.
        variables: of the environment; "*" for all of them.
        outside: why the result rests on what cannot be looked up, "" if it does not.
    """

    files: list[str] = field(default_factory=list)
    lacks: dict[str, list[str]] = field(default_factory=dict)
    listings: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    outside: str = ""


class Witness:
    """Hears of everything that this process reads from now on."""

    def __init__(self, package: str = "") -> None:
        self._package = package
        self._found = Reads()
        self._files: set[str] = set()
        self._written: set[str] = set()
        self._listings: set[str] = set()
        self._modules: set[str] = set()
        self._variables: set[str] = set()
        self._aside = False
        self._loaded = set(sys.modules) | set(sys.stdlib_module_names)
        self._known = (*_SYSTEM, *_folder_of("torch"), *_folder_of("vaelint"), *_folder_of("vaelint_rules"))

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """The audit hook. Never raises: that would stop what it hears of."""
        if event == "open":
            if not self._aside and isinstance(args[0], str | bytes | os.PathLike):
                written = bool(args[2] & _WRITES) if isinstance(args[2], int) else False
                (self._written if written else self._files).add(_absolute(args[0]))
        elif event in ("os.listdir", "os.scandir"):
            who = _who_lists()
            if who:
                (self._modules if who == "engine" else self._listings).add(_absolute(args[0] if args[0] is not None else "."))
        elif event in _OUTSIDE:
            self._found.outside = _OUTSIDE[event]
        elif event == "sqlite3.connect":
            self._files.add(_absolute(args[0]))

    def reads_variable(self, name: str) -> None:
        """A variable of the environment was looked up; "*" for all."""
        self._variables.add(name)

    def search(self, path: Path, words: tuple[bytes, ...]) -> bytes | None:
        """See `holding`."""
        self._aside = True
        try:
            text = regular(path).read_bytes()
        finally:
            self._aside = False
        lacking = next((w for w in words if w not in text), None)
        if lacking is None:
            self._files.add(_absolute(path))
            return text
        self._found.lacks.setdefault(_absolute(path), []).append(lacking.decode())
        return None

    def to_json(self) -> dict[str, Any]:
        """All that was read, as plain JSON values."""
        found, files = self._found, {source_of(f) for f in self._files}
        if any(f in files for f in self._written):
            found.outside = "it writes a file that it reads"
        found.files, found.listings, found.modules = map(self._open, (files, self._listings, self._modules))
        found.lacks = {f: sorted(set(words)) for f, words in found.lacks.items() if f not in files}
        found.variables = sorted(self._variables)
        found.absent = sorted(set(self._absent([f for f in found.files if f.endswith(".py") and not _installed(f)])))
        return asdict(found)

    def _open(self, paths: Iterable[str]) -> list[str]:
        """Those that no version answers for: neither Python's own, nor torch's, nor ours."""
        return sorted(p for p in paths if not p.startswith(self._known) and (_installed(p) or not p.startswith(_PYTHON)))

    def _absent(self, files: list[str]) -> Iterator[str]:
        """Modules that are not there and would be found first: beside the user's files and on the user's part of the path."""
        folders = {p for p in self._open(os.path.abspath(p) + os.sep for p in sys.path) if not _installed(p)}
        folders |= {os.path.dirname(f) for f in files}
        names = {name for f in files for name in _imported(f)} - self._loaded
        for folder in folders:
            for path in (*(os.path.join(folder, n + end) for n in names for end in ("", ".py")), os.path.join(folder, "__init__.py")):
                if not os.path.exists(path):
                    yield path


_witness: Witness | None = None


def watch(package: str = "") -> Witness:
    """Records what this process reads from now on. For a process of its own: it cannot be taken back."""
    global _witness
    _witness = Witness(package)
    sys.addaudithook(_witness.hook)
    os.environ.__class__ = _Environ
    return _witness


def holding(path: Path, *words: bytes) -> bytes | None:
    """The bytes of a file if it holds all the words, else None: an edit that brings none of them in does not change a result.

    Raises OSError.
    """
    if _witness is not None:
        return _witness.search(path, words)
    text = regular(path).read_bytes()
    return text if all(w in text for w in words) else None


class _Environ(type(os.environ)):  # type: ignore[misc]
    """`os.environ` that tells which variables are looked up."""

    def __getitem__(self, key: str) -> str:
        if _witness is not None and isinstance(key, str):
            _witness.reads_variable(key)
        return str(super().__getitem__(key))

    def __iter__(self) -> Iterator[str]:
        if _witness is not None:
            _witness.reads_variable("*")
        return iter(super().__iter__())


def source_of(file: str) -> str:
    """The source file of compiled code: Python opens that alone where it is up to date."""
    folder, name = os.path.split(file)
    if name.endswith(".pyc") and os.path.basename(folder) == "__pycache__":
        return os.path.join(os.path.dirname(folder), name.partition(".")[0] + ".py")
    return file


def _absolute(path: Any) -> str:
    try:
        return os.path.abspath(os.fsdecode(path))
    except (OSError, TypeError, ValueError):  # a descriptor; a working directory that is gone
        return "/dev/unknown"


def _installed(path: str) -> bool:
    return any(s in path for s in _SITE)


def _folder_of(module: str) -> tuple[str, ...]:
    file = getattr(sys.modules.get(module), "__file__", None)
    return (os.path.dirname(os.path.abspath(file)) + os.sep,) if file else ()


def _who_lists() -> str:
    """Who reads a folder: "engine", "model", or "" for the import system, which looks for single names (see `Reads.absent`)."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if "importlib" in file:
            return ""
        if our_file(file):
            return "engine"
        if _installed(file) or not file.startswith((*_PYTHON, "<")):
            return "model"
        frame = frame.f_back
    return "model"


def _imported(file: str) -> Iterator[str]:
    """The top packages that a file's absolute imports name."""
    with contextlib.suppress(OSError, SyntaxError, ValueError), open(file, "rb") as opened:
        for node in ast.walk(ast.parse(opened.read())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]
