"""A script that cannot do with made-up data is started again, with what its error asks for.

Each attempt runs in a copy of the process that was made before anything of the user's had run: nothing of an earlier one, its modules,
models and files, is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaelint.core import scratch
from vaelint.core.errors import TargetError
from vaelint.core.result import Request, TargetResult
from vaelint.core.setup import fail
from vaelint.late import dataclass
from vaelint.observe.data.unknown.wishes import Wishes

Emit = Callable[[dict[str, Any]], None]
Run = Callable[[Request, Emit, Wishes], list[TargetResult]]

_MOST = 8
_SHARE = 0.85  # of the time that a target has: what was found before is kept
_LEAST = 3.0  # seconds in which another attempt may come to something


@dataclass(frozen=True)
class Answer:
    """What came of an attempt: the results, one that failed where there are none; what is known now; the edits that were proposed."""

    results: list[TargetResult]
    wishes: Wishes
    learned: bool
    proposals: list[dict[str, Any]]
    files: list[str]  # that it read, or looked for in vain


Ask = Callable[[Request, Wishes, float], Answer | None]
"""An attempt, within so many seconds; None where it does not come to an end."""


def started_again(
    first: TargetResult, request: Request, wishes: Wishes, ask: Ask, emit: Emit, started: float
) -> tuple[list[TargetResult], Wishes]:
    """The results of the first attempt that is observed; those of the one that came furthest where none is. With what is known then.

    Args:
        first: what the run came to that the wishes were learned from.
        wishes: what is known after it.
    """
    best = [first]
    for _ in range(_MOST - 1):
        left = _SHARE * request.timeout - (time.perf_counter() - started)
        if left < _LEAST:
            break
        emit({"kind": "stage", "stage": "run"})
        answer = ask(replace(request, timeout=left), wishes, left)
        if answer is None:  # what an earlier one stopped at is not in its way: time is
            best = [_too_late(request)]
            break
        for file in answer.files:
            _look_at(file)
        best, wishes = answer.results, answer.wishes
        if best[0].status != "failed":
            for proposals in answer.proposals:
                emit(proposals)
            break
        if not answer.learned:
            break
    return best, wishes


def _too_late(request: Request) -> TargetResult:
    """What is said of an attempt that did not come to its end in the time for all of them."""
    late, words = TargetResult(request.target), " ".join(request.run)
    few = f" --rows {request.rows}" if request.rows else ""
    text = f"no training iteration had ended when the script's share of {round(request.timeout)} s was over"
    longer = f"give it more time: vaelint run --timeout {2 * round(request.timeout)}{few} {words}"
    fail(late, TargetError("VAE006", text, longer if few else f"{longer}, or smaller batches: vaelint run --rows 4 {words}"))
    return late


@contextlib.contextmanager
def clean_copy(run: Run) -> Iterator[Ask]:
    """A copy of this process that waits, and makes attempts in copies of its own; what these print is dropped."""
    asked, ask = os.pipe()
    told, tell = os.pipe()
    me = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(ask)
        os.close(told)
        _serve(asked, tell, run, me)
    os.close(asked)
    os.close(tell)

    def attempt(request: Request, wishes: Wishes, seconds: float) -> Answer | None:
        _write(ask, {"request": request.to_json(), "wishes": wishes.to_json()})
        if not select.select([told], [], [], max(0.0, seconds))[0]:
            return None
        said = _read(told)
        return _answer(said) if said is not None else None

    try:
        yield attempt
    finally:
        os.close(ask)
        os.close(told)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # the script may have waited for all its children
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _serve(asked: int, tell: int, run: Run, owner: int) -> None:
    """Ends the process."""
    try:
        scratch.make_room(owner)
        while (said := _read(asked)) is not None:
            pid = os.fork()
            if pid == 0:
                scratch.within(owner)
                _attempt(said, tell, run)
            os.waitpid(pid, 0)
    finally:
        os._exit(0)


def _attempt(said: dict[str, Any], tell: int, run: Run) -> None:
    """Ends the process."""
    answer: dict[str, Any] | None = None
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        request, proposals = Request.from_json(said["request"]), list[dict[str, Any]]()
        wishes = Wishes.from_json(said["wishes"], other=request.other_sizes)
        try:
            results = run(request, lambda m: proposals.append(m) if m.get("kind") == "proposals" else None, wishes)
        except TargetError as error:
            results = [TargetResult(request.target)]
            fail(results[0], error)
        here = f"{Path.cwd()}{os.sep}"
        files = [f for m in list(sys.modules.values()) if isinstance(f := getattr(m, "__file__", None), str) and f.startswith(here)]
        answer = {
            "results": [r.to_json() for r in results], "wishes": wishes.to_json(), "learned": wishes.learned, "proposals": proposals,
            "files": [*files, *wishes.used],
        }  # fmt: skip
    finally:
        _write(tell, answer)
        os._exit(0)


def _look_at(file: str) -> None:
    """A copy has read a file, or looked for it: so that this process is known to rest on it as well, it is opened here."""
    with contextlib.suppress(OSError), open(file, "rb"):  # noqa: PTH123 - an event of its own
        pass


def _answer(said: dict[str, Any]) -> Answer:
    results = [TargetResult.from_json(r) for r in said["results"]]
    return Answer(results, Wishes.from_json(said["wishes"]), said["learned"], said["proposals"], said["files"])


def _write(to: int, what: Any) -> None:
    data = json.dumps(what, default=str).encode()
    data = struct.pack(">Q", len(data)) + data
    while data:
        data = data[os.write(to, data) :]


def _read(at: int) -> Any:
    """What was written; None at the end."""
    head = _exactly(at, 8)
    return json.loads(_exactly(at, struct.unpack(">Q", head)[0])) if len(head) == 8 else None


def _exactly(at: int, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := os.read(at, count - len(data))):
        data += part
    return data
