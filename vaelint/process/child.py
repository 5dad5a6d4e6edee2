"""One target's process, forked off the server: user code runs here and nowhere else."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import gc
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vaelint.cache.watching import watch
from vaelint.core.errors import UsageError
from vaelint.core.memory import LARGER, SMALLER, asked_for, bound_data, ran_out, readable
from vaelint.core.messages import all_cut, cut
from vaelint.core.paths import our_file, package_of, user_file
from vaelint.process import protocol

if TYPE_CHECKING:
    from vaelint.cache.witness import Witness
    from vaelint.core.result import Request, TargetResult

_HASTE = 200_000
"""Objects that the static part may make before garbage is looked for: it keeps nearly all of them, and looking costs a tenth."""

_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
"""How many files may be open, before user code says something else."""

Pipeline = Callable[["Request", Callable[[dict[str, Any]], None]], "TargetResult"]


def run_target(request: Request, sock: socket.socket, printed: int, dump: int, limit: int, run: Pipeline) -> NoReturn:
    """Runs the pipeline on a target, and ends the process, whatever user code does.

    Args:
        sock: where all messages go.
        limit: bytes of memory that it may take, 0 for no limit.
        printed: an open descriptor for what user code prints.
        dump: an open file that takes Python stacks when user code crashes or is stopped.
    """
    _settle(printed, dump)
    if limit:
        bound_data(limit)
    me, leave = os.getpid(), os._exit

    def tell(message: protocol.Message) -> None:
        if os.getpid() == me:  # user code may fork, and its child must not speak for us
            sock.sendall(protocol.encode(message))

    def emit(message: dict[str, Any]) -> None:
        if message.get("stage") == "confirm":
            gc.set_threshold(*usual)  # real tensors: memory counts
        known = protocol.decode(json.dumps(message if message.get("kind") == "proposals" else all_cut(message), default=str).encode())
        if known is None:
            raise ValueError(f"the front knows no such message: {str(message)[:80]}")
        tell(known)

    def exit_with_stack(status: int) -> NoReturn:
        if os.getpid() == me:
            faulthandler.dump_traceback(dump, all_threads=False)
        leave(status)

    if request.overlay:
        from vaelint.source import overlay

        overlay.install(dict(request.overlay))
    sys.argv = [request.target.rpartition(":")[0]]  # a module that parses its command line sees an empty one
    usual = gc.get_threshold()
    gc.set_threshold(_HASTE)
    os._exit = exit_with_stack  # so that the front can say which line ended the process
    heard = _told(request, tell, limit, lambda: run(request, emit))
    for stream in (sys.stdout, sys.stderr) if heard else ():
        with contextlib.suppress(Exception):  # user code may have closed or replaced it
            stream.flush()
    leave(0 if heard else protocol.UNHEARD)  # no atexit handlers, no waiting for user threads


def _told(request: Request, tell: Callable[[protocol.Message], None], limit: int, run: Callable[[], TargetResult]) -> bool:
    """Runs, and tells the result or what user code raised; False where nobody listens any more."""
    try:
        tell(protocol.Started(os.getpid()))
        seen = watch()
        result = all_cut(_with_limit(run(), limit).to_json())
        if request.run:
            _name_native_readers(seen)
        tell(protocol.RestsOn(seen.to_json()))
        tell(protocol.Final(result))
    except BaseException as e:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of user code as well
        try:
            tell(_escaped(e, package_of(request.target), limit))
        except OSError:
            return False
    return True


_NATIVE = ("h5py", "cv2", "lmdb", "tables", "netCDF4", "datasets", "torchaudio", "soundfile", "SimpleITK", "rasterio", "decord")
"""Packages that open files in native code, of which Python tells nothing."""


def _name_native_readers(seen: Witness) -> None:
    """A script that has such a package may have read its data by it."""
    for name in _NATIVE:
        if name in sys.modules:
            seen.outside(f"{name} reads files in native code")


def _settle(printed: int, dump: int) -> None:
    """A process group, an output and a place for stacks of its own."""
    os.setpgid(0, 0)
    _die_first()
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.close(printed)
    faulthandler.enable(file=dump, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=dump, all_threads=False)


def _with_limit(result: TargetResult, limit: int) -> TargetResult:
    """The result, with the limit named where the step of a model did not fit into it."""
    for number, found in enumerate(result.findings):
        if limit and any(word in found.message + found.label for word in ("MemoryError", "DefaultCPUAllocator")):
            note = f"its processes may take {readable(limit)} of memory together"
            result.findings[number] = replace(found, help=LARGER, notes=(*found.notes, note))
    return result


def _die_first() -> None:
    """Asks the kernel to end this process, not another, when memory runs out, and when the server dies."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _escaped(error: BaseException, package: str, limit: int) -> protocol.Escaped:
    """Names the innermost frame that is ours or the user's. Torch and the standard library raise on someone's behalf."""
    frames = [(f.f_code.co_filename, n) for f, n in traceback.walk_tb(error.__traceback__)]
    theirs = [f for f in frames if user_file(f[0], package)]
    mine = [f for f in frames if our_file(f[0])]
    if isinstance(error, UsageError):
        return protocol.Escaped(error.message, False, "", 0, error.help or "vaelint check --help shows the options")
    if isinstance(error, SystemExit):
        text, ours = f"sys.exit({error.code!r})" if error.code is not None else "sys.exit()", False
    else:
        text = cut(traceback.format_exception_only(error)[-1].strip())
        if ran_out(error):  # at the sizes that were asked for: nobody's fault
            what, help = ("the code needs more memory", LARGER) if theirs else ("too large: the measurement needs more memory", SMALLER)
            there, asked = f" than the {readable(limit)} that it may take" if limit else " than there is", asked_for(error)
            return protocol.Escaped(f"{what}{there}{asked}", False, *(theirs[-1:] or [("", 0)])[0], help)
        ours = not theirs or (bool(mine) and frames.index(mine[-1]) > frames.index(theirs[-1]))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if isinstance(error, OSError) and error.errno == errno.EMFILE and files < _FILES:
        text, ours = f"{text}, after it had limited itself to {files} open files", False
    if sys.modules.get(protocol.__name__) is not protocol:
        text, ours = f"{text}, after it had thrown out what runs it (sys.modules)", False
    file, line = next(iter((mine if ours else theirs)[-1:] or frames[-1:]), ("", 0))
    return protocol.Escaped(text, ours, file, line)
