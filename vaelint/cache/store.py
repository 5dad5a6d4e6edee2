"""Results of earlier runs, kept by the content of all that they were made from. Imports no torch.

Two kinds of entry. What a target's last run read is found by its request and the toolchain; the result is
found by that and the content of all that was read (reads.py). So a result can only answer for the very files that made it, and a
branch that is switched back to finds its own again. Entries are signed (key.py), written whole and then renamed into place; one that
is broken, from whatever crash, or that somebody else wrote, is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from vaelint.cache import early, files
from vaelint.cache import folder as folders
from vaelint.cache.key import key, made_key, signed, verified
from vaelint.cache.toolchain import toolchain
from vaelint.core.checked import Checked
from vaelint.core.environment import environment
from vaelint.core.paths import regular
from vaelint.core.result import Request, TargetResult
from vaelint.source.reads import Reads

_SLACK = 10_000_000  # ns: file times are a clock tick behind


class Cache:
    """The kept results, for one run. Nothing here raises: what cannot be read or written is as if it were not there."""

    def __init__(self, folder: str, say: Callable[[str], None]) -> None:
        """`say` is told, once, when results cannot be kept."""
        self.folder, self._say = folder, say
        self._off = False
        self._secret: bytes | None = None
        if why := folders.refusal(folder):
            self._give_up(f"{folder} {why}")
        else:
            self._ask_key(key)
        self._toolchain = toolchain()
        self._digests: dict[str, tuple[tuple[int, int], str]] = {}
        self._used: dict[str, tuple[int, int]] = {}  # files behind the results, with time of change and size
        self._count = 0  # of results that a next run may find

    def lookup(self, request: Request) -> Checked | None:
        """The result of an earlier run that read the same; None if there is none."""
        if self._off:
            return None
        name = self._name(request)
        told = self._read(self._path(name, "reads"))
        reads = _reads_from(told)
        if reads is None:
            return None
        found = self._read(self._path(self._content(name, reads), "result"))
        try:
            checked = Checked(TargetResult.from_json(found["result"]), str(found["output"]), request, told, kept=True) if found else None
        except (KeyError, TypeError, ValueError):
            return None  # of a form that this version does not know
        if checked is not None:
            self._note_use(reads)
        return checked

    def store(self, checked: Checked, started: int) -> None:
        """Keeps a result, if another run on the same files would come to the same.

        Args:
            checked: as it came from the worker, before suppressions.
            started: `time.time_ns()` before the run; what has changed since may be read half before and half after.
        """
        reads = _reads_from(checked.reads)
        if self._off or reads is None or not _repeatable(checked.result) or reads.outside or self._changed_since(started, reads):
            return
        name = self._name(checked.request)
        self._write(self._path(self._content(name, reads), "result"), {"result": checked.result.to_json(), "output": checked.output})
        self._write(self._path(name, "reads"), checked.reads or {})
        self._note_use(reads)

    def close(self, args: Sequence[str], results: int) -> None:
        """Ends the run of a command line with so many results: notes for the next one what it rested on, and removes what is old."""
        if self._off:
            return
        with contextlib.suppress(OSError):
            if self._count >= results > 0:
                early.note(args, self._used)
            for folder in {self.folder, folders.own()}:
                folders.prune(folder)

    def _name(self, request: Request) -> str:
        said = json.dumps([folders.FORM, self._toolchain, os.getcwd(), request.to_json()], sort_keys=True)
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    def _path(self, name: str, kind: str) -> str:
        return folders.entry(self.folder, name, kind)

    def _content(self, name: str, reads: Reads) -> str:
        """The name of the result that these files, as they are now, make."""
        digest = hashlib.blake2b(name.encode(), digest_size=16)
        for part in self._facts(reads):
            digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()

    def _facts(self, reads: Reads) -> Iterator[str]:
        for file in reads.files:
            yield f"{file}={self._digest(file)}"
        for file, words in reads.lacks.items():
            yield f"{file} has {[w for w in words if w.encode() in _bytes(file)]}"
        for folder in reads.listings:
            yield f"{folder} holds {_names(folder, modules=False)}"
        for folder in reads.modules:
            yield f"{folder} has modules {_names(folder, modules=True)}"
        yield f"there now: {[p for p in reads.absent if os.path.lexists(p)]}"
        variables = environment()
        for name in reads.variables:
            value = repr(sorted(variables.items())) if name == "*" else variables.get(name)
            yield f"${name}={hashlib.blake2b(value.encode('utf-8', 'surrogateescape')).hexdigest() if value is not None else None}"

    def _digest(self, file: str) -> str:
        """Of a file's content; several targets share files."""
        try:
            stat = os.stat(file)
            state = (stat.st_mtime_ns, stat.st_size)
            if file not in self._digests or self._digests[file][0] != state:
                with open(regular(file), "rb") as opened:
                    self._digests[file] = state, hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        except OSError:
            return "absent"
        return self._digests[file][1]

    def _changed_since(self, started: int, reads: Reads) -> bool:
        for file in (*reads.files, *reads.lacks):
            with contextlib.suppress(OSError):
                if os.stat(file).st_mtime_ns >= started - _SLACK:
                    return True
        return False

    def _note_use(self, reads: Reads) -> None:
        self._count += 1
        for file in reads.files:
            if file in self._digests:
                self._used[file] = self._digests[file][0]

    def _read(self, path: str) -> dict[str, Any] | None:
        """An entry; None if there is none, or it is broken, or not ours."""
        if self._secret is None:
            return None
        try:
            found = json.loads(verified(self._secret, os.path.basename(path), files.read(path)))
        except (OSError, ValueError):
            return None
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > folders.KEEP / 30:
                os.utime(path)
        return found if isinstance(found, dict) else None

    def _write(self, path: str, body: dict[str, Any]) -> None:
        if self._secret is None:
            self._ask_key(made_key)
        if self._off or self._secret is None:
            return
        try:
            folders.make(self.folder)
            folders.make_for(path)
            files.write(path, signed(self._secret, os.path.basename(path), json.dumps(body).encode()))
        except OSError as error:
            self._give_up(f"{self.folder} cannot be written ({error.strerror or error})")

    def _ask_key(self, of: Callable[[], bytes | None]) -> None:
        try:
            self._secret = of()
        except OSError as error:
            self._give_up(f"{error.strerror or error}")

    def _give_up(self, why: str) -> None:
        self._off = True
        self._say(f"results are not kept: {why}")


def _repeatable(result: TargetResult) -> bool:
    """Whether another run would come to the same. A failure may be the machine's; a real pass may be cut short for want of memory."""
    if not result.whole:
        return False
    if result.confirm.get("reason") == "--device none":
        return True
    return result.confirm.get("outcome") in ("ran", "raised") and not (result.confirm["outcome"] == "ran" and result.confirm.get("reason"))


def _reads_from(told: dict[str, Any] | None) -> Reads | None:
    known = {f.name for f in fields(Reads)}
    if told is None or set(told) != known:
        return None
    lists = all(isinstance(told[k], list) for k in known - {"lacks", "outside"})
    return Reads(**told) if lists and isinstance(told["lacks"], dict) else None


def _bytes(file: str) -> bytes:
    try:
        return regular(file).read_bytes()
    except OSError:
        return b""


def _names(folder: str, *, modules: bool) -> list[str]:
    """The names in a folder, hidden ones apart; `modules`: Python files and folders only."""
    try:
        with os.scandir(folder) as entries:
            kept = [e for e in entries if not e.name.startswith(".") and e.name != "__pycache__"]
            return sorted(e.name for e in kept if not modules or e.name.endswith(".py") or e.is_dir())
    except OSError:
        return []
