"""One target on its way: its process, what it says and prints, and its end, whatever that is. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable

from vaelint.core.checked import Checked
from vaelint.core.result import Request
from vaelint.core.scratch import remove_scratch
from vaelint.process import protocol
from vaelint.process.fate import Fate, settle

GRACE = 5.0  # seconds a killed process gets to be gone
KEPT = 1 << 15  # characters of user output kept from the beginning, and as many from the end


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


class Flight:
    """One target's process, seen from the front. It is over when `over` says so; then `checked` has the result."""

    def __init__(self, request: Request, server: socket.socket, on_stage: Callable[[str], None] | None = None, pipeline: str = "") -> None:
        """Asks the server for a process of its own. Raises OSError if the server is gone."""
        self.request, self.over, self.lost, self._on_stage = request, False, False, on_stage
        self._fate, self._output, self._lines = Fate(), Output(), protocol.Lines()
        self._dump = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the target's process
        self._sock, theirs = socket.socketpair()
        self._pipe, printed = os.pipe()
        self._mute = False  # it has closed its output
        self._limit = time.monotonic() + request.timeout
        try:
            socket.send_fds(server, [protocol.TARGET], [theirs.fileno(), printed, self._dump.fileno()])
            protocol.send_request(self._sock, request.to_json(), pipeline)
        except OSError:
            self.close()
            raise
        finally:
            theirs.close()
            os.close(printed)
        os.set_blocking(self._pipe, False)

    def filenos(self) -> tuple[int, ...]:
        """What to wait for: its messages, its output."""
        return (self._sock.fileno(),) if self._mute else (self._sock.fileno(), self._pipe)

    def hear(self, fd: int) -> None:
        """Takes what has come on one of `filenos`."""
        if fd == self._pipe:
            self._drain(1)
            return
        try:
            data = self._sock.recv(1 << 16)
        except OSError:
            data = b""
        for message in self._lines.feed(data):
            self._fate.take(message)
            if self._on_stage and isinstance(message, protocol.Stage):
                self._on_stage(message.stage)
        self.lost = not data  # the server is gone
        self.over = self.lost or self._fate.code is not None

    def seconds_left(self) -> float:
        """Until `enforce` has something to do."""
        return self._limit - time.monotonic()

    def enforce(self) -> None:
        """Ends the process at the time limit, after it has written its stack."""
        if self.over or self.seconds_left() > 0:
            return
        if self._fate.timed_out is None:
            self._fate.timed_out = self.request.timeout
            self._limit = time.monotonic() + GRACE
            self._stop()
        else:  # not even SIGKILL ended it: it hangs in a driver. Leave it behind.
            self.over = True

    def checked(self, server_code: int | None = None) -> Checked:
        """The result. `server_code` is how the server ended, if it did."""
        if self._fate.code is None:
            self._fate.code = server_code
        self._drain(64)  # a left-over process may print for ever
        self._dump.seek(0)
        self._fate.stack = self._dump.read(1 << 20).decode(errors="replace")  # it is a file that user code can find, too
        fate = self._fate
        if fate.pid:
            remove_scratch(fate.pid, copies=True)
        return Checked(settle(self.request, fate), self._output.text(), self.request, fate.reads, also=fate.also, proposals=fate.proposals)

    def close(self) -> None:
        """Hangs up; the server then ends the process if it still runs."""
        self._sock.close()
        os.close(self._pipe)
        self._dump.close()

    def _stop(self) -> None:
        """Lets the process write its stack, then ends it and what it has started."""
        with contextlib.suppress(OSError):
            if self._fate.pid:
                os.kill(self._fate.pid, signal.SIGUSR1)
                time.sleep(0.05)  # faulthandler writes inside the signal handler
                os.killpg(self._fate.pid, signal.SIGKILL)

    def _drain(self, most: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(most):
                data = os.read(self._pipe, 1 << 16)
                self._mute = not data
                if self._mute:
                    break
                self._output.add(data)
