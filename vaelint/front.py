"""Hands targets to the worker and keeps what it says, whatever becomes of it. Imports no torch and runs no user code.

`Worker` is the process, `check_targets` the use of it; what an end of the process means is in `fate.py`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from vaelint import protocol
from vaelint.errors import UsageError
from vaelint.fate import Fate, end_of, settle
from vaelint.result import Request, TargetResult

START_LIMIT = 180.0  # seconds for importing torch: slow disks exist
GRACE = 5.0  # seconds a killed process gets to be gone
KEPT = 1 << 15  # characters of user output kept from the beginning, and as many from the end

ENVIRONMENT = {
    "PYTORCH_JIT": "0",  # torch.jit.script hides the user's Python from the recorder
    "TORCHDYNAMO_DISABLE": "1",  # as does torch.compile
    "PYTHONHASHSEED": "0",  # same input, same bytes
    "PYTHONUNBUFFERED": "1",  # what was printed before a crash is worth having
    "MPLBACKEND": "Agg",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS would abort the fork of a process that has loaded frameworks
}

# `-P` and the late path entry keep a `random.py` or `rules/` in the working directory from being imported by us.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from vaelint.worker import main; main(int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])"


@dataclass
class Checked:
    """A target's result, and what its code printed (bounded; never part of a report unless asked for)."""

    result: TargetResult
    output: str = ""
    request: Request = field(default_factory=lambda: Request(""))


class Output:
    """What user code printed: all of it if short, else its beginning and its end."""

    def __init__(self) -> None:
        self._head, self._tail, self._size = b"", b"", 0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        room = KEPT - len(self._head)
        self._head += data[:room] if room > 0 else b""
        self._tail = (self._tail + data[max(room, 0) :])[-KEPT:]

    def text(self) -> str:
        gap = self._size - len(self._head) - len(self._tail)
        middle = f"\n... {gap} bytes not kept ...\n".encode() if gap > 0 else b""
        return (self._head + middle + self._tail).decode(errors="replace")


class Worker:
    """The worker process. Starts at once; torch is imported there while the caller goes on."""

    def __init__(self, pipeline: str | None = None) -> None:
        """`pipeline` is "module:function", for tests; the real one otherwise."""
        if os.name != "posix":
            raise UsageError("vaelint needs fork(): Linux, macOS, or WSL on Windows")
        self._pipeline = pipeline
        self._sock: socket.socket
        self._process: subprocess.Popen[bytes] | None = None
        self._dump: IO[bytes]
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._dump = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        fds = (theirs.fileno(), self._dump.fileno())
        command = [sys.executable, "-P", "-c", _BOOT, str(Path(__file__).parent.parent), *map(str, fds)]
        self._process = subprocess.Popen(
            command + ([self._pipeline] if self._pipeline else []),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            env=os.environ | ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is for us; we pass it on
        )
        theirs.close()
        self._sock, self._lines, self._ready = ours, protocol.Lines(), False

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process and whatever runs in it."""
        if self._process is None:
            return
        self._sock.close()  # the server sees it, ends its child and itself
        if not self._ready:  # still importing torch, with no child to end
            self._process.kill()
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._dump.close()
        self._process = None

    def run(self, request: Request, on_stage: Callable[[str], None] | None = None) -> Checked:
        """Checks one target. Always returns: what went wrong is in the result.

        Raises:
            UsageError: the engine itself cannot be imported, so no target can be checked.
        """
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        self._dump.seek(0)
        self._dump.truncate()
        fate, output = Fate(), Output()
        if not self._ready:
            self._await_ready(output)
        try:
            protocol.send_request(self._sock, request.to_json())
        except OSError:
            fate.code = self._process.wait() if self._process else None
        else:
            self._listen(fate, output, request.timeout, on_stage)
        self._dump.seek(0)
        fate.stack = self._dump.read().decode(errors="replace")
        return Checked(settle(request, fate), output.text(), request)

    def _await_ready(self, output: Output) -> None:
        limit = time.monotonic() + START_LIMIT
        while True:
            for message in self._poll(output, limit - time.monotonic()):
                if isinstance(message, protocol.Ready):
                    self._ready = True
                    return
                if isinstance(message, protocol.Unavailable):
                    raise UsageError(message.message, message.help)
            if time.monotonic() > limit:
                raise UsageError(f"importing torch took more than {START_LIMIT:.0f} s", 'try `python -c "import torch"` by itself')
            if self._process is not None and self._process.poll() is not None:
                said = output.text().strip().rsplit("\n", 1)[-1]
                raise UsageError(
                    f"the process that imports torch ended with {end_of(self._process.returncode)}" + (f": {said}" if said else ""),
                    'try `python -c "import torch"` by itself',
                )

    def _listen(self, fate: Fate, output: Output, timeout: float, on_stage: Callable[[str], None] | None) -> None:
        """Takes messages until the target's process is gone. Ends it at the time limit, after it has written its stack."""
        limit = time.monotonic() + timeout
        while fate.code is None:
            for message in self._poll(output, limit - time.monotonic()):
                fate.take(message)
                if on_stage and isinstance(message, protocol.Stage):
                    on_stage(message.stage)
            if self._process is None or self._process.poll() is not None:  # the server itself was killed
                fate.code = self._process.returncode if self._process else None
                return
            if time.monotonic() > limit and fate.code is None:
                if fate.timed_out is None:
                    fate.timed_out = timeout
                    limit = time.monotonic() + GRACE
                    self._stop(fate.pid)
                else:  # not even SIGKILL ended it: it hangs in a driver. Leave it behind.
                    self._process.kill()
        self._drain(output)

    def _stop(self, group: int | None) -> None:
        """Lets the target's process write its stack, then ends it and what it has started."""
        with contextlib.suppress(OSError):
            if group:
                os.kill(group, signal.SIGUSR1)
                time.sleep(0.05)  # faulthandler writes inside the signal handler
                os.killpg(group, signal.SIGKILL)

    def _poll(self, output: Output, seconds: float) -> Iterator[protocol.Message]:
        """The messages that have come, after at most `seconds`; output is stored on the side."""
        assert self._process is not None and self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            selector.register(self._process.stdout, selectors.EVENT_READ)
            events = selector.select(max(0.0, min(seconds, 1.0)))
        for key, _ in events:
            data = os.read(key.fd, 1 << 16)
            if key.fd != self._sock.fileno():
                output.add(data)
            elif data:
                yield from self._lines.feed(data)
            if not data:
                self._process.wait()  # it hung up

    def _drain(self, output: Output) -> None:
        """What the ended process had still in the pipe."""
        assert self._process is not None and self._process.stdout is not None
        fd = self._process.stdout.fileno()
        os.set_blocking(fd, False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):  # a left-over process may print for ever
                output.add(os.read(fd, 1 << 16))
        os.set_blocking(fd, True)


def check_targets(requests: Iterable[Request], worker: Worker, on_stage: Callable[[Request, str], None] | None = None) -> Iterator[Checked]:
    """Checks targets one after another; none of them can take another one along."""
    for request in requests:
        yield worker.run(request, partial(on_stage, request) if on_stage else None)
