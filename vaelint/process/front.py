"""Hands targets to the worker and keeps what it says, whatever becomes of it. Imports no torch and runs no user code.

`Worker` is the server process; one target on its way is a `Flight` (flight.py); what an end of it means is in `fate.py`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from vaelint.core.checked import Checked
from vaelint.core.environment import environment
from vaelint.core.errors import Stopped, UsageError
from vaelint.core.result import Request
from vaelint.process import protocol
from vaelint.process.fate import end_of
from vaelint.process.flight import Flight, Output

START_LIMIT = 180.0  # seconds for importing torch: slow disks exist

# `-P` and the late path entry keep a `random.py` or `rules/` in the working directory from being imported by us.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from vaelint.process.worker import main; main(int(sys.argv[2]), *sys.argv[3:])"


class Worker:
    """The worker process. Starts at once; torch is imported there while the caller goes on."""

    def __init__(self, pipeline: str | None = None) -> None:
        """`pipeline` is "module:function", for tests; the real one otherwise."""
        if os.name != "posix":
            raise UsageError("vaelint needs fork(): Linux, macOS, or WSL on Windows")
        self._pipeline = pipeline
        self._sock: socket.socket
        self._process: subprocess.Popen[bytes] | None = None
        self._stop: socket.socket
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-c", _BOOT, str(Path(__file__).parents[2]), str(theirs.fileno())]
        self._process = subprocess.Popen(
            command + ([self._pipeline] if self._pipeline else []),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            env=environment(),
            start_new_session=True,  # Ctrl-C is for us; we pass it on
        )
        theirs.close()
        self._sock, self._ready, self._warm, self._output = ours, False, False, Output()
        self._asked = 0
        self._stop, self._stopper = socket.socketpair()
        self._stop.setblocking(False)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process and whatever runs in it."""
        if self._process is None:
            return
        self._sock.close()  # the server sees it, ends its children and itself
        if not self._ready:  # still importing torch, with no child to end
            self._process.kill()
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._stop.close()
        self._stopper.close()
        self._process = None

    def warm(self) -> None:
        """Lets the server set up what each target needs, for those that are to come."""
        self._await_ready()
        self._ask(protocol.WARM)
        self._warm = True

    def interrupt(self) -> None:
        """From another thread: what runs is ended, and whoever waits for it gets `Stopped`; so does the next one, if nothing runs."""
        with contextlib.suppress(OSError):  # it is being started again
            self._stopper.send(b"s")

    def go_on(self) -> None:
        """Forgets an interruption that came when nothing ran."""
        with contextlib.suppress(BlockingIOError):
            self._stop.recv(64)

    def run(self, request: Request, on_stage: Callable[[str], None] | None = None) -> Checked:
        """Checks one target. Always returns: what went wrong is in the result.

        Raises:
            UsageError: the engine itself cannot be imported, so no target can be checked.
        """
        return next(self.run_all([request], 1, (lambda _, stage: on_stage(stage)) if on_stage else None))

    def run_all(
        self,
        requests: Iterable[Request],
        jobs: int = 1,
        on_stage: Callable[[Request, str], None] | None = None,
        on_done: Callable[[Checked], None] | None = None,
        pipeline: str = "",
    ) -> Iterator[Checked]:
        """Checks targets, at most `jobs` at a time, each in a process of its own; none can take another one along.

        Yields in the order of the requests; `on_done` is told at once. `pipeline` is "module:function" of what is done with these,
        where that is not the worker's own. Raises as `run` does, and Stopped where it is interrupted.
        """
        waiting = deque(enumerate(requests))
        flying: dict[int, Flight] = {}
        done: dict[int, Checked] = {}
        following = 0
        self._asked += len(waiting)
        if self._asked > 2 * jobs and not self._warm:  # below that, each setting itself up is sooner done
            self.warm()
        try:
            while waiting or flying:
                while waiting and len(flying) < jobs:
                    number, request = waiting.popleft()
                    flying[number] = self._launch(request, on_stage, pipeline)
                self._wait(flying.values())
                for number in [n for n, f in flying.items() if f.over]:
                    flight = flying.pop(number)
                    done[number] = flight.checked(self._end() if flight.lost else None)
                    flight.close()
                    if on_done is not None:
                        on_done(done[number])
                while following in done:
                    yield done.pop(following)
                    following += 1
        finally:
            for flight in flying.values():
                flight.close()

    def _launch(self, request: Request, on_stage: Callable[[Request, str], None] | None, pipeline: str) -> Flight:
        """A process for one target, by a server that is started again if it was killed."""
        for _ in range(3):
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._start()
            self._await_ready()
            try:
                return Flight(request, self._sock, partial(on_stage, request) if on_stage else None, pipeline)
            except OSError:  # it died between one target and the next
                if self._process is not None:
                    self._process.kill()
                    self._process.wait()
        raise UsageError(
            "the process that runs the models ends at once, each time it is started", 'try `python -c "import torch"` by itself'
        )

    def _end(self) -> int | None:
        """How the server ended, which has hung up."""
        if self._process is None:
            return None
        try:
            return self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _ask(self, what: bytes) -> None:
        try:
            self._sock.sendall(what)
        except OSError:
            return  # it is gone; `_launch` sees to that

    def _await_ready(self) -> None:
        limit, lines = time.monotonic() + START_LIMIT, protocol.Lines()
        while not self._ready:
            for data in self._poll(limit - time.monotonic()):
                for message in lines.feed(data):
                    self._ready = self._ready or isinstance(message, protocol.Ready)
                    if isinstance(message, protocol.Unavailable):
                        raise UsageError(message.message, message.help)
            if self._ready:
                return
            if time.monotonic() > limit:
                raise UsageError(f"importing torch took more than {START_LIMIT:.0f} s", 'try `python -c "import torch"` by itself')
            if self._process is not None and self._process.poll() is not None:
                said = self._output.text().strip().rsplit("\n", 1)[-1]
                raise UsageError(
                    f"the process that imports torch ended with {end_of(self._process.returncode)}" + (f": {said}" if said else ""),
                    'try `python -c "import torch"` by itself',
                )

    def _poll(self, seconds: float) -> Iterator[bytes]:
        """What the server said, after at most `seconds`; what it printed is kept on the side."""
        assert self._process is not None and self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            selector.register(self._process.stdout, selectors.EVENT_READ)
            events = selector.select(max(0.0, min(seconds, 1.0)))
        for key, _ in events:
            data = os.read(key.fd, 1 << 16)
            if key.fd != self._sock.fileno():
                self._output.add(data)
            elif data:
                yield data
            if not data:
                self._process.wait()  # it hung up

    def _wait(self, flights: Iterable[Flight]) -> None:
        """Until one of them says something, or its time is up, at most a second."""
        of = {fd: flight for flight in flights for fd in flight.filenos()}
        with selectors.DefaultSelector() as selector:
            for fd in of:
                selector.register(fd, selectors.EVENT_READ)
            selector.register(self._stop, selectors.EVENT_READ)
            events = selector.select(max(0.0, min([1.0, *(flight.seconds_left() for flight in of.values())])))
        if any(key.fileobj is self._stop for key, _ in events):
            self.go_on()
            raise Stopped
        for key, _ in events:
            of[key.fd].hear(key.fd)
        for flight in flights:
            flight.enforce()
