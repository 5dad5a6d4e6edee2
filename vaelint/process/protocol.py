"""What front and worker say to each other: one JSON object a line, over sockets of their own.

Two kinds of socket. The server's says once whether there is an engine, and then takes one byte for each thing that is wanted of
it. Each target has one more, made by the front and handed to the server with `TARGET`: its process reads the request there and
says there all that becomes of it. Standard output belongs to user code, so nothing of ours goes there. Imports no torch.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from vaelint.late import dataclass

TARGET = b"+"  # comes with three descriptors: the target's socket, where its output goes, and a file for Python's stack
WARM = b"w"  # many targets will come: import and set up now what each of them would for itself
LONGEST_LINE = 1 << 28  # bytes; what a large model comes to is a few million
UNHEARD = 97  # exit code of a target's process that could not send its result


@dataclass(frozen=True)
class Ready:
    """Torch and the engine are imported; requests may come."""


@dataclass(frozen=True)
class Unavailable:
    """The engine could not be imported: there will be no results at all."""

    message: str
    help: str = ""


@dataclass(frozen=True)
class Started:
    """A process of its own runs the target; its group has the same number."""

    pid: int


@dataclass(frozen=True)
class Stage:
    """What the pipeline does now: "load", "trace", "rules", "confirm"."""

    stage: str


@dataclass(frozen=True)
class Static:
    """The findings before the real pass, as TargetResult JSON: what is kept if the rest goes wrong."""

    result: dict[str, Any]


@dataclass(frozen=True)
class Proposals:
    """Edits that may repair findings, as Proposal JSON by the fingerprint of the finding, best first."""

    proposals: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class RestsOn:
    """What the result was made from besides the request: `Reads` of reads.py as JSON. Comes before `Final`."""

    reads: dict[str, Any]


@dataclass(frozen=True)
class Final:
    """The last word on a target, as TargetResult JSON."""

    result: dict[str, Any]


@dataclass(frozen=True)
class Also:
    """The last word on a further model of a run that trains several, as TargetResult JSON. Comes before `Final`."""

    result: dict[str, Any]


@dataclass(frozen=True)
class Escaped:
    """An exception left the pipeline. `ours` says whose fault it is: the engine's, or user code's (`sys.exit`).

    With a `help`, `error` is already an answer to the user, found too late to be wrong usage of the command line.
    """

    error: str
    ours: bool
    file: str
    line: int
    help: str = ""


@dataclass(frozen=True)
class Exceeded:
    """The target's processes have taken more than `limit` bytes of memory together, and are ended for it."""

    limit: int


@dataclass(frozen=True)
class Exited:
    """The target's process is gone. `code` is negative for a signal, as in `subprocess`."""

    code: int


Message = Ready | Unavailable | Started | Stage | Static | Proposals | RestsOn | Also | Final | Escaped | Exceeded | Exited

_KINDS: dict[str, type[Message]] = {
    "ready": Ready, "unavailable": Unavailable, "started": Started, "stage": Stage, "static": Static, "proposals": Proposals,
    "rests_on": RestsOn, "also": Also, "final": Final, "escaped": Escaped, "exceeded": Exceeded, "exited": Exited,
}  # fmt: skip
_NAMES = {t: name for name, t in _KINDS.items()}


def encode(message: Message) -> bytes:
    """One line. It starts with a newline as well: the writer before may have died in the middle of its own line."""
    return b"\n" + json.dumps({"kind": _NAMES[type(message)], **asdict(message)}, default=str).encode() + b"\n"


def decode(line: bytes) -> Message | None:
    """The inverse of `encode`; None for an empty or broken line."""
    try:
        data = json.loads(line)
        return _KINDS[data["kind"]](**{k: v for k, v in data.items() if k != "kind"})
    except (ValueError, KeyError, TypeError):
        return None


class Lines:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of the line that is not at its end yet
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes. Broken lines are dropped: their writer's end is reported separately.

        So are lines without an end: user code may have found the socket.
        """
        first, *more = data.split(b"\n")
        self._take(first)
        for part in more:
            whole = b"".join(self._parts)
            self._parts, self._size = [], 0
            self._take(part)
            if message := decode(whole):
                yield message

    def _take(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= LONGEST_LINE:
            self._parts.append(part)
        else:
            self._parts = [b"-"]  # so that the rest of the line is no message


def send_request(sock: socket.socket, request: dict[str, Any], pipeline: str = "") -> None:
    """Front to worker: one request, and "module:function" of what is to be done with it, where that is not the server's own."""
    sock.sendall(json.dumps({"request": request, "pipeline": pipeline}).encode() + b"\n")
