"""What the world says now of all that a result was read from: the same facts, the same result."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping

from vaelint.cache.looks import look, named, names
from vaelint.cache.reads import Reads
from vaelint.core.paths import regular


class Facts:
    """Looked up once a run each: several targets share files and folders."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """`variables` are those that user code sees."""
        self._variables = variables
        self._digests: dict[str, tuple[tuple[int, int], str]] = {}
        self._folders: dict[str, dict[str, list[str]]] = {}
        self._real: dict[str, str] = {}

    def of(self, reads: Reads) -> Iterator[str]:
        """All of them, in an order of their own."""
        for file in reads.files:
            yield f"{file}={self._digest(file)}, in {self._resolved(os.path.dirname(file))}"
        for file, words in reads.lacks.items():
            yield f"{file} has {[w for w in words if w.encode() in _bytes(file)]}"
        for kind, path, _ in reads.seen:
            yield f"{kind} {path}: {look(kind, path)}"
        for folder, sought in reads.searches.items():
            offered = self._offered(folder)
            yield f"{self._resolved(folder)} offers {[offered.get(name) for name in sought]}"
        for name in reads.variables:
            value = repr(sorted(self._variables.items())) if name == "*" else self._variables.get(name)
            yield f"${name}={hashlib.blake2b(value.encode('utf-8', 'surrogateescape')).hexdigest() if value is not None else None}"

    def look_anew(self) -> None:
        """After something ran: folders may hold other files."""
        self._folders.clear()
        self._real.clear()

    def state(self, file: str) -> tuple[int, int] | None:
        """Time of change and size of a file that was looked up."""
        return self._digests[file][0] if file in self._digests else None

    def _digest(self, file: str) -> str:
        """Of a file's content."""
        try:
            stat = os.stat(file)
            state = (stat.st_mtime_ns, stat.st_size)
            if file not in self._digests or self._digests[file][0] != state:
                with open(regular(file), "rb") as opened:
                    self._digests[file] = state, hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        except OSError as error:
            return named(error)
        return self._digests[file][1]

    def _resolved(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder]

    def _offered(self, folder: str) -> dict[str, list[str]]:
        """What the import system would find in a folder, by module: packages, sources, extensions, compiled files."""
        if folder not in self._folders:
            offered: dict[str, list[str]] = {}
            try:
                for name, what in names(folder):
                    module = name.partition(".")[0]
                    offered.setdefault(module, []).append(name + what)
            except OSError:
                pass
            self._folders[folder] = offered
        return self._folders[folder]


def _bytes(file: str) -> bytes:
    try:
        return regular(file).read_bytes()
    except OSError:
        return b""
