"""Serves command lines: a process that has imported everything, and forks for each. Started by commandline.py; not under the types."""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import vaelint.__main__
import vaelint.cli.app
import vaelint.pipeline.check
import vaelint.process.front
import vaelint.process.warm
import vaelint.process.worker
from vaelint.rule_packages import load_rules


class Forked(subprocess.Popen[bytes]):
    """What the front starts as its worker: a fork that does what the new Python would do after its imports."""

    def _execute_child(self, args: Any, *how: Any) -> None:
        inherited, variables, output = how[3], how[5], how[12]
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            with Path(os.devnull).open("rb") as nothing:
                os.dup2(nothing.fileno(), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            _close_all_but(inherited)
            _take(variables)
            _at_rest()
            number = args.index("-c") + 3
            vaelint.process.worker.main(int(args[number]), *args[number + 1 :])
            os._exit(0)
        os.close(output)
        self._child_created = True


def _close_all_but(kept: Any) -> None:
    """As on a call of exec."""
    last = 2
    for fd in sorted(kept):
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, 1024)


def _take(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _at_rest() -> None:
    """Signals as a new process has them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def serve(sock: socket.socket) -> NoReturn:
    """Takes command lines until nobody is left to give them."""
    while True:
        data, streams, _, _ = socket.recv_fds(sock, 1 << 16, 3)
        if not data:
            os._exit(0)
        while not data.endswith(b"\n"):
            data += sock.recv(1 << 16)
        asked = json.loads(data)
        pid = os.fork()
        if pid == 0:
            sock.close()
            _run(asked, streams)
        for fd in streams:
            os.close(fd)
        sock.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        sock.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _run(asked: dict[str, Any], streams: list[int]) -> NoReturn:
    """One command line, to the end of its process."""
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    _take(asked["variables"])
    os.chdir(asked["folder"])
    _at_rest()
    sys.argv = ["vaelint", *asked["words"]]
    code: Any = 0
    try:
        vaelint.__main__.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    vars(vaelint.process.front)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": Forked})
    load_rules()
    vaelint.process.warm.warm_up()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
