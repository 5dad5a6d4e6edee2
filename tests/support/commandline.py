"""The command `vaelint` as a process of its own, without the two seconds that each needs for its imports.

A process that has imported all of vaelint and torch (`warmed.py`) forks for each command line: the same `main`, with arguments, folder,
variables and streams of its own, an exit code, and a worker that is again a process. Where the start itself is what is tested, or
Python's own variables are, the installed script is run.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from vaelint.core.environment import environment

SCRIPT = str(Path(sys.executable).parent / "vaelint")
TIMEOUT = 300.0


def vaelint(
    *words: str, cwd: Path | None = None, env: dict[str, str] | None = None, without: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a command line in a folder, with some variables besides those of this process, and without those that begin with `without`."""
    if any(name.startswith("PYTHON") for name in env or {}):
        return installed(*words, cwd=cwd, env=env)
    variables = {k: v for k, v in os.environ.items() if not k.startswith(without)} | (env or {})
    with Path(os.devnull).open("rb") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        asked: dict[str, object] = {"words": words, "folder": str(cwd or Path.cwd()), "variables": variables}
        code = _warmed().run(asked, [given.fileno(), out.fileno(), said.fileno()])
        texts = []
        for stream in (out, said):
            stream.seek(0)
            texts.append(stream.read().decode().replace("\r\n", "\n"))
    return subprocess.CompletedProcess([SCRIPT, *words], code, *texts)


def installed(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The same by the script that is installed, in a new Python."""
    variables = os.environ | (env or {})
    return subprocess.run(
        [SCRIPT, *words], cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
    )


@cache
def _warmed() -> _Warmed:
    return _Warmed()


class _Warmed:
    """Our end of the process that forks."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", str(Path(__file__).with_name("warmed.py")), str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment(), stdin=subprocess.DEVNULL)
        theirs.close()
        self._sock = ours
        self._answers = ours.makefile()
        atexit.register(self._close)

    def run(self, asked: dict[str, object], streams: list[int]) -> int:
        """The exit code of a command line, negative for a signal. Raises TimeoutExpired."""
        data = json.dumps(asked).encode() + b"\n"
        sent = self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))])
        self._sock.sendall(data[sent:])
        pid = int(self._answers.readline())
        self._sock.settimeout(TIMEOUT)
        try:
            return int(self._answers.readline())
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(str(asked["words"]), TIMEOUT) from None

    def _close(self) -> None:
        self._answers.close()
        self._sock.close()
        self._process.kill()
        self._process.wait()
