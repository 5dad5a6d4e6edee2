"""Between the server and a target's process: waits for its end, ends whatever it has started, and says how it ended.

What user code starts may leave its process group and outlive its parent. Such processes come to this one, whose children then are all
that the target has left, and nobody else's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import time
import warnings
from typing import Any, NoReturn

from vaelint.core.memory import limit_for
from vaelint.process import descendants, protocol
from vaelint.process.child import Pipeline, run_target

STACK = 0.05  # seconds in which a process writes its stack: faulthandler does it inside of the handler of the signal


def fork() -> int:
    """`os.fork()`. Python 3.12 warns of one beside threads; the only ones here are BLAS's idle ones, which survive it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def keep(sock: socket.socket, printed: int, dump: int, run: Pipeline, server: int) -> NoReturn:
    """Runs a target in a process below this one, and ends this process, a fork of the server, with it.

    Args:
        sock, printed, dump, run: as `run_target` takes them.
        server: a descriptor that hangs up when the server ends.
    """
    from vaelint.core.result import Request

    descendants.adopt()
    asked = _received(sock)
    request = Request.from_json(asked["request"])
    limit = limit_for(request.max_memory)
    reader, writer = os.pipe()  # becomes readable when a child ends
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    pid = fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (reader, writer, server):
            os.close(fd)
        run_target(request, sock, printed, dump, limit, _named(asked["pipeline"]) if asked["pipeline"] else run)
    os.close(printed)
    os.close(dump)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # both sides do it: whoever comes first
    code = _until_it_ends(pid, reader, (sock.fileno(), server), descendants.Watch(pid, limit), sock)
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    descendants.end_below()
    with contextlib.suppress(OSError):
        if code is not None:
            sock.sendall(protocol.encode(protocol.Exited(code)))
    os._exit(0)


def _named(pipeline: str) -> Pipeline:
    """What "module:function" names."""
    module, _, name = pipeline.partition(":")
    found: Pipeline = getattr(importlib.import_module(module), name)
    return found


def _received(sock: socket.socket) -> dict[str, Any]:
    """The request: one line."""
    data = b""
    while not data.endswith(b"\n"):
        more = sock.recv(1 << 16)
        if not more:
            os._exit(0)  # the front is gone: so is whoever wanted to know
        data += more
    request: dict[str, Any] = json.loads(data)
    return request


def _until_it_ends(pid: int, reader: int, listeners: tuple[int, ...], memory: descendants.Watch, sock: socket.socket) -> int | None:
    """How the process ended; None once nobody is there any more who wants to know."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    for fd in listeners:
        poll.register(fd, 0)  # for nothing but its hanging up
    while True:
        ready = [fd for fd, _ in poll.poll(memory.wait)]
        if set(ready) & set(listeners):
            return None
        with contextlib.suppress(BlockingIOError):
            os.read(reader, 512)
        if (code := _ended(pid)) is not None:
            return code
        if memory.exceeded():
            with contextlib.suppress(OSError):
                sock.sendall(protocol.encode(protocol.Exceeded(memory.limit)))
                os.kill(pid, signal.SIGUSR1)
                time.sleep(STACK)
                os.kill(pid, signal.SIGKILL)


def _ended(pid: int) -> int | None:
    """How the target's process ended, if it has; what else has ended is taken note of."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (done := os.waitpid(-1, os.WNOHANG))[0]:
            if done[0] == pid:
                code = os.waitstatus_to_exitcode(done[1])
    return code
