"""The server that runs user code in forks of itself: `main(FD, ...)` serves what comes over the socket FD.

It imports torch once and never runs user code itself. Each target gets a fork of it: a process and process group of its own
(child.py), so that it may crash, hang, exit or patch torch and the others start clean, without importing torch again. Between the two
stands a keeper (keeper.py), which ends what a target leaves behind.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import warnings

from vaelint.core.errors import UsageError
from vaelint.late import dataclass
from vaelint.process import descendants, protocol
from vaelint.process.child import Pipeline
from vaelint.process.keeper import fork, keep
from vaelint.source.later_modules import mark

PIPELINE = "vaelint.pipeline.check:check_target"


def main(fd: int, pipeline: str = PIPELINE) -> None:
    """Serves until the front hangs up, then ends the process.

    Args:
        fd: our end of the socket to the front.
        pipeline: "module:function" of `(Request, emit) -> TargetResult`.
    """
    sock = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    gc.disable()  # importing torch makes a million objects and no garbage
    run = _load(pipeline, sock)
    if run is None:
        return
    mark()
    gc.freeze()  # nor is there any to look for in a fork, where looking would copy every page
    gc.enable()
    sock.sendall(protocol.encode(protocol.Ready()))
    _Server(sock, run, warm=pipeline == PIPELINE).serve()


def _load(pipeline: str, sock: socket.socket) -> Pipeline | None:
    """Imports the pipeline (and with it torch); tells the front where that is not possible."""
    module, _, name = pipeline.partition(":")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to initialize NumPy", UserWarning)  # torch says so, not the user's code
            found: Pipeline = getattr(importlib.import_module(module), name)
        if pipeline == PIPELINE:
            importlib.import_module("vaelint.rule_packages").load_rules()
    except UsageError as e:
        sock.sendall(protocol.encode(protocol.Unavailable(e.message, e.help)))
        return None
    except ModuleNotFoundError as e:
        missing = (e.name or "").split(".")[0]
        if missing == "vaelint":
            sock.sendall(protocol.encode(protocol.Unavailable(f"vaelint is not whole: {e.name} is missing", "install it again")))
            return None
        help = f"install it in the environment of {sys.executable}, or run the vaelint of the environment that has it"
        sock.sendall(protocol.encode(protocol.Unavailable(f"the package {missing!r} is not installed here", help)))
        return None
    except Exception as e:  # noqa: BLE001 - whatever torch raises at import is the answer
        text = f"importing {module} failed: {type(e).__name__}: {e}"
        sock.sendall(protocol.encode(protocol.Unavailable(text, 'does `python -c "import torch"` work in this environment?')))
        return None
    return found


@dataclass(frozen=True)
class _Target:
    """The process that keeps a target's, and our end of its socket, in case it does not live to say how that ended."""

    pid: int
    sock: socket.socket


class _Server:
    """Forks for each target, and sees to those whose keeper was killed."""

    def __init__(self, sock: socket.socket, run: Pipeline, warm: bool) -> None:
        self._sock, self._run, self._warm = sock, run, warm
        self._targets: list[_Target] = []
        self._hangs_up, self._alive = os.pipe()  # the second end is ours alone
        self._reader, writer = os.pipe()  # becomes readable when a child ends
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        descendants.adopt()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._reader, select.POLLIN)

    def serve(self) -> None:
        """Does what the front asks for. Ends the process when the front hangs up."""
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._reader:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._reader, 512)
                    self._reap()
                else:
                    self._obey()

    def _obey(self) -> None:
        """One byte, one thing to do."""
        what, fds, _, _ = socket.recv_fds(self._sock, 1, 3)
        if not what:
            descendants.end_below()
            os._exit(0)  # taking torch down in good order takes longer than checking a small model
        if what == protocol.WARM and self._warm:
            gc.disable()
            importlib.import_module("vaelint.process.warm").warm_up()
            mark()
            gc.freeze()
            gc.enable()
        elif what == protocol.TARGET:
            self._start(*fds)

    def _start(self, fd: int, printed: int, dump: int) -> None:
        """One target in a process of its own."""
        pid = fork()
        if pid == 0:
            for other in (self._sock, *(t.sock for t in self._targets)):
                other.close()  # what is said on it is none of this target's business
            os.close(self._alive)
            keep(socket.socket(fileno=fd), printed, dump, self._run, self._hangs_up)
        os.close(printed)
        os.close(dump)
        self._targets.append(_Target(pid, socket.socket(fileno=fd)))

    def _reap(self) -> None:
        """Takes note of the keepers that have ended. What one left that was killed has come to this process, and is ended here."""
        for target in list(self._targets):
            done, status = os.waitpid(target.pid, os.WNOHANG)
            if not done:
                continue
            self._targets.remove(target)
            with contextlib.suppress(OSError), target.sock:
                if status:
                    descendants.end_below(self._kept())
                    target.sock.sendall(protocol.encode(protocol.Exited(os.waitstatus_to_exitcode(status))))

    def _kept(self) -> frozenset[int]:
        """The other targets' processes, with all below them."""
        return frozenset(pid for t in self._targets for pid in (t.pid, *descendants.below(t.pid)))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
