"""The trainings of a repository, tried for a few steps each: which of its models they show. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vaelint.core.checked import Checked
from vaelint.core.result import Request
from vaelint.discover.entries import Entry
from vaelint.process.front import Worker
from vaelint.process.progress import Watched

TIMEOUT = 60.0


@dataclass(frozen=True)
class Tried:
    """What became of an entry: the request that observes it and the classes that it trains, or why it could not be observed."""

    entry: Entry
    request: Request | None
    classes: frozenset[str] = frozenset()
    because: str = ""
    type_this: str = ""


def request_of(entry: Entry, folder: Path) -> Request:
    """The request that observes an entry, started in `folder`."""
    own = "" if folder.resolve() == Path.cwd() else folder.as_posix()
    return Request(Path(os.path.relpath(entry.file)).as_posix(), run=entry.words, folder=own)


def observed(found: Sequence[Entry], folder: Path, jobs: int) -> list[Tried]:
    """Each entry, tried in a process of its own. Raises UsageError where the engine cannot be imported."""
    ready = [(e, request_of(e, folder)) for e in found if not e.lacks]
    answers: dict[Entry, Checked] = {}
    if ready:
        asked = [_only_looked_at(r) for _, r in ready]
        with Watched(len(asked)) as eyes, Worker() as worker:
            for (entry, _), answer in zip(ready, worker.run_all(asked, jobs, eyes.on_stage), strict=True):
                answers[entry] = answer
                eyes.on_done(answer)
    return [_tried(e, answers.get(e), folder) for e in found]


def _only_looked_at(request: Request) -> Request:
    return Request(request.target, run=request.run, folder=request.folder, device="none", timeout=TIMEOUT, laws="none")


def _tried(entry: Entry, answer: Checked | None, folder: Path) -> Tried:
    if answer is None:
        lacking = ", ".join(entry.lacks)
        there = "" if folder.resolve() == Path.cwd() else f"cd {folder.as_posix()} && "
        return Tried(entry, None, because=f"it cannot do without {lacking}", type_this=f"{there}vaelint run {entry.command}")
    results = [answer.result, *answer.also]
    if answer.result.status == "failed" or not any(r.anatomy.get("sites") for r in results):
        first = next(iter(answer.result.findings), None)
        because = first.message if first is not None and answer.result.status == "failed" else "what it trains draws no latent"
        return Tried(entry, None, because=because, type_this=first.help if first is not None else "")
    names = {name for r in results for name in r.target.rpartition(":")[2].split("+")}
    return Tried(entry, request_of(entry, folder), frozenset(names))
