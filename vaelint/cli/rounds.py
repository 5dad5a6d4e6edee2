"""`vaelint check --watch`: a round whenever something changes that the last one rested on. Polls, as file systems differ."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vaelint.cache.asker import of_system
from vaelint.cache.reads import Reads
from vaelint.cli.terminal import counted, say
from vaelint.config import file as config
from vaelint.core.checked import Checked
from vaelint.core.errors import UsageError

_EVERY = 0.3  # seconds between two looks
_SETTLED = 0.1  # seconds without a further change: editors and git write in several steps

State = dict[str, tuple[int, int] | None]


def watch(once: Callable[[], Sequence[Checked]]) -> None:
    """Runs `once` again and again, until Ctrl-C. What is wrong with the configuration is said, and may be mended while this runs."""
    hurried = False
    while True:
        if sys.stdout.isatty():
            print("\x1b[2J\x1b[H", end="")
        began = time.time_ns()
        try:
            files = _files(once())
        except UsageError as error:
            say(error.message, error.help)
            files = _around(Path.cwd())
        files |= {str(Path.cwd() / name) for name in ("pyproject.toml", "vaelint.toml")}
        if (told := _configuration()) is not None:
            files.add(told)
        before = _state(files)
        hurried = not hurried and any(_saved_since(began, file, before[file]) for file in files)
        if hurried:  # it may have been read before it was saved; once only: a model may write what it reads
            _settle(files)
            continue
        say(f"watching {counted(len(files), 'file')}; Ctrl-C ends it")
        while (now := _state(files)) == before:
            time.sleep(_EVERY)
        while now != (now := _settle(files)):
            continue


def _saved_since(began: int, file: str, state: tuple[int, int] | None) -> bool:
    """Whether a file changed after a moment; folders change by what is written beside."""
    return state is not None and state[0] >= began and not Path(file).is_dir()


def _settle(files: Iterable[str]) -> State:
    time.sleep(_SETTLED)
    return _state(files)


def _configuration() -> str | None:
    try:
        file = config.load().file
    except UsageError:
        return None
    return str(file) if file else None


def _files(results: Sequence[Checked]) -> set[str]:
    """What the results rest on; for one that says nothing of it, the Python files around its target."""
    found: set[str] = set()
    for checked in results:
        reads = Reads.from_json(checked.reads)
        if reads is None:
            found |= _around(Path(checked.request.target.partition("(")[0].rpartition(":")[0]).absolute().parent)
        else:
            found |= {path for path in reads.paths() if not of_system(path)}
    return found


def _around(folder: Path) -> set[str]:
    return {str(folder), *map(str, folder.glob("*.py"))}


def _state(files: Iterable[str]) -> State:
    return {file: _stat(file) for file in files}


def _stat(file: str) -> tuple[int, int] | None:
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
