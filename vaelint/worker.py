"""The process that runs user code: `main(FD, ...)` serves requests that come over the socket FD.

The server imports torch once and never runs user code itself. Each target gets a fork of it: a process and process group
of its own, so that it may crash, hang, exit or patch torch and the next target starts clean, without importing torch again.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vaelint import protocol
from vaelint.errors import UsageError
from vaelint.paths import our_file, package_of, user_file

if TYPE_CHECKING:
    from vaelint.result import Request, TargetResult

Pipeline = Callable[["Request", Callable[[dict[str, Any]], None]], "TargetResult"]

PIPELINE = "vaelint.check:check_target"
# What torch imports at its first fake tensor anyway (sympy, above all): here it is shared by all targets, and half the time.
_NEEDED = "torch.fx.experimental.symbolic_shapes"


def main(fd: int, dump_fd: int, pipeline: str = PIPELINE) -> None:
    """Serves until the front hangs up, then ends the process.

    Args:
        fd: our end of the socket to the front.
        dump_fd: an open file that takes Python stacks when user code crashes or is stopped.
        pipeline: "module:function" of `(Request, emit) -> TargetResult`.
    """
    sock = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    gc.disable()  # importing torch makes a million objects and no garbage
    run = _load(pipeline, sock)
    if run is None:
        return
    gc.freeze()  # nor is there any to look for in a fork, where looking would copy every page
    gc.enable()
    sock.sendall(protocol.encode(protocol.Ready()))
    reader, rest = _child_watch(), b""
    while True:
        while b"\n" not in rest:
            data = sock.recv(1 << 16)
            if not data:
                os._exit(0)  # taking torch down in good order takes longer than checking a small model
            rest += data
        line, rest = rest.split(b"\n", 1)
        _serve(json.loads(line), sock, dump_fd, run, reader)


def _load(pipeline: str, sock: socket.socket) -> Pipeline | None:
    """Imports the pipeline (and with it torch); tells the front where that is not possible."""
    module, _, name = pipeline.partition(":")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to initialize NumPy", UserWarning)  # torch says so, not the user's code
            found: Pipeline = getattr(importlib.import_module(module), name)
        if pipeline == PIPELINE:
            importlib.import_module(_NEEDED)
            importlib.import_module("vaelint.load").load_rules()
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


def _child_watch() -> int:
    """A descriptor that becomes readable when a child ends."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _serve(request: dict[str, Any], sock: socket.socket, dump_fd: int, run: Pipeline, reader: int) -> None:
    """One target in a process of its own; reports how that process ended."""
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads. The only ones here are BLAS's idle ones, which survive it.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _child(request, sock, dump_fd, run)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # both sides do it: whoever comes first
    sock.sendall(protocol.encode(protocol.Started(pid)))
    while True:
        ready = select.select([sock.fileno(), reader], [], [])[0]
        if reader in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 512)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
        elif not sock.recv(1, socket.MSG_PEEK):  # the front is gone: so is whoever wanted to know
            _kill(pid)
            os._exit(0)
        else:
            # A further request waits. Nothing to do before this one ends; don't spin.
            select.select([reader], [], [])
    _kill(pid)  # what user code forked and left behind
    sock.sendall(protocol.encode(protocol.Exited(os.waitstatus_to_exitcode(status))))


def _kill(group: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)


def _child(data: dict[str, Any], sock: socket.socket, dump_fd: int, run: Pipeline) -> NoReturn:
    """Runs the pipeline on one target and ends the process, whatever user code does."""
    from vaelint.result import Request

    request = Request.from_json(data)
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _die_first()
    faulthandler.enable(file=dump_fd, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=dump_fd, all_threads=False)
    me, leave = os.getpid(), os._exit

    def tell(message: protocol.Message) -> None:
        if os.getpid() == me:  # user code may fork, and its child must not speak for us
            sock.sendall(protocol.encode(message))

    def emit(message: dict[str, Any]) -> None:
        known = protocol.decode(json.dumps(message, default=str).encode())
        if known is None:
            raise ValueError(f"the front knows no such message: {str(message)[:80]}")
        tell(known)

    def exit_with_stack(status: int) -> NoReturn:
        if os.getpid() == me:
            faulthandler.dump_traceback(dump_fd, all_threads=False)
        leave(status)

    sys.argv = [request.target.rpartition(":")[0]]  # a module that parses its command line sees an empty one
    os._exit = exit_with_stack  # so that the front can say which line ended the process
    try:
        tell(protocol.Final(run(request, emit).to_json()))
    except BaseException as e:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of user code as well
        try:
            tell(_escaped(e, package_of(request.target)))
        except OSError:
            leave(protocol.UNHEARD)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # user code may have closed or replaced it
            stream.flush()
    leave(0)  # no atexit handlers, no waiting for user threads


def _die_first() -> None:
    """Asks the kernel to end this process, not another, when memory runs out, and when the server dies."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _escaped(error: BaseException, package: str) -> protocol.Escaped:
    """Names the innermost frame that is ours or the user's. Torch and the standard library raise on someone's behalf."""
    frames = [(f.f_code.co_filename, n) for f, n in traceback.walk_tb(error.__traceback__)]
    theirs = [f for f in frames if user_file(f[0], package)]
    mine = [f for f in frames if our_file(f[0])]
    if isinstance(error, UsageError):
        return protocol.Escaped(error.message, False, "", 0, error.help or "vaelint check --help shows the options")
    if isinstance(error, SystemExit):
        text, ours = f"sys.exit({error.code!r})" if error.code is not None else "sys.exit()", False
    else:
        text = traceback.format_exception_only(error)[-1].strip()
        ours = not theirs or (bool(mine) and frames.index(mine[-1]) > frames.index(theirs[-1]))
    file, line = next(iter((mine if ours else theirs)[-1:] or frames[-1:]), ("", 0))
    return protocol.Escaped(text, ours, file, line)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
