"""The trainings that a command starts: `make train`, `bash run.sh`. Imports no torch.

The command runs, and each Python process that it starts ends before its script begins: what the shell makes of variables and loops is
known then, and nothing was trained. The kernel refuses what the command would write or connect to meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaelint.core.errors import UsageError
from vaelint.core.launchers import OTHER_PYTHON, Started, is_script, script_within
from vaelint.discover import shim
from vaelint.discover.entries import commands_in
from vaelint.discover.sources import Sources
from vaelint.observe.held.kernel import forbid_writes

_SECONDS = 60.0
_MOST = 8
_INSTEAD = "name the Python command that it runs: vaelint run -- python train.py ARGS"


def started_by(words: Sequence[str], *, allow_writes: bool = False) -> list[Started]:
    """The scripts that a command runs; of several those that train.

    Raises:
        UsageError: it cannot be run, or starts no Python script.
    """
    words = list(words[1:] if words[0] == "--" else words)
    first = Path(words[0]) if words else Path()
    if (told := script_within(words)) is not None and (first.is_file() or told.words != tuple(words)):
        return [told]
    if first.is_file() and not _is_program(first):
        return [Started(tuple(words))]  # as `python FILE` would take it
    if not words or shutil.which(words[0]) is None or is_script(words[0]):
        raise UsageError(
            f"there is no file {' '.join(words[:1])}",
            "vaelint run SCRIPT [ARGS...], vaelint run -m MODULE [ARGS...], or vaelint run -- COMMAND",
        )
    found, said = _noted(words, allow_writes)
    training = _training(found) or _training(_written(words))
    if not found and not training:
        last = f": {said.splitlines()[-1]}" if said.strip() else ""
        raise UsageError(f"`{shlex.join(words)}` starts no Python script{last}", _INSTEAD)
    return (training or found[-1:])[:_MOST]


def _training(found: Sequence[Started]) -> list[Started]:
    sources = Sources()
    return [s for s in found if (file := _file(s)) is not None and sources.trains(file)]


def _written(words: Sequence[str]) -> list[Started]:
    """What the text says of a command that ended early, for want of what it could not write: that of a shell script, or `make -n`."""
    name = Path(words[0]).name
    if name in ("make", "gmake"):
        text = _run([words[0], "-n", *words[1:]], dict(os.environ), tempfile.gettempdir())
    else:
        file = next((Path(w) for w in words if Path(w).is_file()), None)
        text = file.read_text(errors="replace") if file is not None and _is_program(file) else ""
    return [Started(tuple(found)) for found in commands_in(text)]


def _is_program(file: Path) -> bool:
    """Whether a file is a shell script or another program that is no Python script."""
    with contextlib.suppress(OSError), file.open("rb") as opened:
        head = opened.read(4)
        return file.suffix in (".sh", ".bash", ".zsh") or (head[:2] == b"#!" and not is_script(str(file))) or head == b"\x7fELF"
    return False


def _noted(words: Sequence[str], allow_writes: bool) -> tuple[list[Started], str]:
    """Runs the command; the Python scripts that it would have run, and what it printed. Raises UsageError."""
    with tempfile.TemporaryDirectory(prefix="vaelint-run-", ignore_cleanup_errors=True) as scratch:
        shutil.copy(shim.__file__, Path(scratch) / "sitecustomize.py")
        notes = Path(scratch) / "started"
        if not allow_writes:
            _idle(Path(scratch) / "bin")
        said = _run(words, {**_environment(scratch), shim.PLACE: str(notes), "TMPDIR": scratch}, None if allow_writes else scratch)
        rows = [json.loads(row) for row in notes.read_text().splitlines()] if notes.exists() else []
    return list(dict.fromkeys(s for row in rows if (s := _started(row)) is not None)), said


def _environment(scratch: str) -> dict[str, str]:
    behind = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(Path(scratch) / "bin"), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([scratch, *([behind] if behind else [])])}


def _idle(folder: Path) -> None:
    """Programs that would write or download do nothing, so that a script which stops at the first error goes on to its training."""
    folder.mkdir()
    for name in _WRITES:
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
        (folder / name).chmod(0o700)


def _run(words: Sequence[str], environment: dict[str, str], scratch: str | None) -> str:
    """What the command prints. `scratch`: where alone it may write. Raises UsageError."""

    def held() -> None:
        os.setsid()
        if scratch is not None and not forbid_writes(scratch):
            os._exit(_NOT_HELD)

    process = subprocess.Popen(
        list(words), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=held
    )
    try:
        said, _ = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise UsageError(f"`{shlex.join(words)}` had not started its Python script after {_SECONDS:g} s", _INSTEAD) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left running
        process.wait()
    if process.returncode == _NOT_HELD:
        raise UsageError(f"this system has no Landlock, which would hold back what `{shlex.join(words)}` writes", _INSTEAD)
    return said


_NOT_HELD = 113  # an exit code of no shell


def _started(row: dict[str, Any]) -> Started | None:
    """A noted process, with the variables that differ from ours."""
    folder = Path(row["folder"])
    with contextlib.chdir(folder):
        within = script_within(["python", *row["words"][1:]])
    if within is None:
        return None
    new = {k: v for k, v in row["environment"].items() if k not in _SHELLS and os.environ.get(k) != v}
    own = "" if folder.resolve() == Path.cwd().resolve() else os.path.relpath(folder)
    if Path(row["prefix"]).resolve() != Path(sys.prefix).resolve():
        new.setdefault(OTHER_PYTHON, row["prefix"])
    return Started(within.words, tuple(sorted({**new, **dict(within.environment)}.items())), own)


_WRITES = ("mkdir", "rmdir", "rm", "cp", "mv", "touch", "ln", "chmod", "rsync", "tar", "unzip", "gunzip", "wget", "curl", "git")
_SHELLS = frozenset({"_", "PATH", "SHLVL", "PWD", "OLDPWD", "TMPDIR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKE_TERMOUT", "MAKE_TERMERR"})


def _file(started: Started) -> Path | None:
    """The file of a script, or of a module below the folder that it starts in."""
    folder = Path(started.folder)
    if started.words[0] != "-m":
        return folder / started.words[0] if (folder / started.words[0]).is_file() else None
    base = folder.joinpath(*started.words[1].split("."))
    return next((f for f in (base.with_suffix(".py"), base / "__main__.py") if f.is_file()), None)
