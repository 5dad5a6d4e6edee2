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
from collections.abc import Callable, Sequence
from typing import Any

from vaelint.cache import early, safe_files
from vaelint.cache import folder as folders
from vaelint.cache.freshness import Facts
from vaelint.cache.key import VARIABLE as KEY_VARIABLE
from vaelint.cache.key import key, made_key, signed, verified
from vaelint.cache.looks import look
from vaelint.cache.reads import Reads
from vaelint.cache.toolchain import toolchain
from vaelint.core.checked import Checked
from vaelint.core.environment import environment
from vaelint.core.result import Request, TargetResult

_KEPT = "kept: not run again, as nothing that it read has changed (--no-cache runs it)"
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
            self._make(folder)
            self._ask_key(key)
        self._toolchain = toolchain()
        self._facts = Facts(environment())
        self._used: dict[str, tuple[int, int]] = {}  # files behind the results, with time of change and size
        self.behind: list[Reads] = []  # one for each result that a next run may find
        self.entries: list[str] = []  # where these lie

    def lookup(self, request: Request) -> Checked | None:
        """The result of an earlier run that read the same; None if there is none."""
        if self._off:
            return None
        name = self._name(request)
        told = self._read(self._path(name, "reads"))
        reads = Reads.from_json(told)
        if reads is None:
            return None
        where = self._path(self._content(name, reads), "result")
        found = self._read(where)
        try:
            checked = _checked(found, request, told) if found else None
        except (KeyError, TypeError, ValueError):
            return None  # of a form that this version does not know
        if checked is not None:
            self._note_use(reads, where)
        return checked

    def store(self, checked: Checked, started: int) -> None:
        """Keeps a result, if another run on the same files would come to the same.

        Args:
            checked: as it came from the worker, before suppressions.
            started: `time.time_ns()` before the run; what has changed since may be read half before and half after.
        """
        reads = Reads.from_json(checked.reads)
        if (
            self._off
            or reads is None
            or not all(map(_repeatable, (checked.result, *checked.also)))
            or reads.outside
            or self._changed_since(started, reads)
        ):
            return
        if any(look(kind, path) != seen for kind, path, seen in reads.seen):
            return  # the code has changed what it looks at
        self._facts.look_anew()
        name = self._name(checked.request)
        also = [result.to_json() for result in checked.also]
        body = {"result": checked.result.to_json(), "output": checked.output, "also": also}
        where = self._path(self._content(name, reads), "result")
        self._write(where, body)
        self._write(self._path(name, "reads"), checked.reads or {})
        self._note_use(reads, where)

    def close(self, args: Sequence[str], results: int) -> None:
        """Ends the run of a command line with so many results: notes for the next one what it rested on, and removes what is old."""
        if self._off:
            return
        with contextlib.suppress(OSError):
            if len(self.behind) >= results > 0:
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
        for part in self._facts.of(reads):
            digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()

    def _changed_since(self, started: int, reads: Reads) -> bool:
        for file in (*reads.files, *reads.lacks):
            with contextlib.suppress(OSError):
                if os.stat(file).st_mtime_ns >= started - _SLACK:
                    return True
        return False

    def _note_use(self, reads: Reads, entry: str) -> None:
        self.behind.append(reads)
        self.entries.append(entry)
        for file in reads.files:
            if (state := self._facts.state(file)) is not None:
                self._used[file] = state

    def _read(self, path: str) -> dict[str, Any] | None:
        """An entry; None if there is none, or it is broken, or not ours."""
        if self._secret is None:
            return None
        try:
            found = json.loads(verified(self._secret, os.path.basename(path), safe_files.read(path)))
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
            folders.make_for(path)
            safe_files.write(path, signed(self._secret, os.path.basename(path), json.dumps(body).encode()))
        except OSError as error:
            self._cannot_write(error)

    def _make(self, folder: str) -> None:
        """Before anything runs: what lists the folder above sees it the first time as well."""
        try:
            folders.make(folder)
        except OSError as error:
            self._cannot_write(error)

    def _ask_key(self, of: Callable[[], bytes | None]) -> None:
        try:
            self._secret = of()
        except OSError as error:
            no_key = f"no key can be made in {folders.own()} ({error.strerror}); {KEY_VARIABLE} may hold one"
            self._give_up(no_key if error.errno else error.strerror or str(error))

    def _cannot_write(self, error: OSError) -> None:
        self._give_up(f"{self.folder} cannot be written ({error.strerror or error})")

    def _give_up(self, why: str) -> None:
        if not self._off:
            self._say(f"results are not kept: {why}")
        self._off = True


def _checked(found: dict[str, Any], request: Request, reads: dict[str, Any] | None) -> Checked:
    """A kept result. Raises KeyError, TypeError or ValueError for one of another form."""
    first, *also = (TargetResult.from_json(result) for result in (found["result"], *found["also"]))
    if request.run:
        for result in (first, *also):
            result.notes.insert(1, _KEPT)
    return Checked(first, str(found["output"]), request, reads, kept=True, also=also)


def _repeatable(result: TargetResult) -> bool:
    """Whether another run would come to the same. A failure may be the machine's; a real pass may be cut short for want of memory."""
    if not result.whole:
        return False
    if result.confirm.get("reason") in ("--device none", "the recorded iteration cannot be run again"):
        return True
    return result.confirm.get("outcome") in ("ran", "raised") and not (result.confirm["outcome"] == "ran" and result.confirm.get("reason"))
