"""Holds back what a watched script would do to the world outside."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vaelint.core.scratch import remove_scratch, scratch_of
from vaelint.observe.held.downloads import downloads_held_back
from vaelint.observe.held.files import Absent, Mirror, files_held_back
from vaelint.observe.held.kernel import forbid_writes
from vaelint.observe.held.notes import HeldBack
from vaelint.observe.held.outside import libraries_held_back, reach_held_back
from vaelint.trace.spans import SpanFinder


@contextlib.contextmanager
def held_back(spans: SpanFinder, *, kernel: bool = False, absent: Absent | None = None) -> Iterator[HeldBack]:
    """Within the block writes go to a scratch folder, which is removed; programs and connections are refused.

    Args:
        kernel: let the kernel refuse what passes by Python. That stays in force for as long as the process lives, so the scratch
            folder is left, for whoever started the process to remove: `scratch_of` its number.
        absent: makes what is read and is not there.
    """
    held = HeldBack(spans)
    with contextlib.ExitStack() as stack:
        if kernel:
            scratch = str(scratch_of(os.getpid()))
            remove_scratch(os.getpid())  # of a process that had the same number
            Path(scratch).mkdir(mode=0o700)
        else:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="vaelint-run-", ignore_cleanup_errors=True))
        mirror = Mirror(scratch, held)
        mirror.absent = absent
        stack.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
        (Path(scratch) / "tmp").mkdir()
        tempfile.tempdir = str(Path(scratch) / "tmp")
        if kernel:
            forbid_writes(scratch)
        stack.enter_context(files_held_back(mirror))
        stack.enter_context(reach_held_back(held, mirror))
        stack.enter_context(downloads_held_back(held))
        yield held


@contextlib.contextmanager
def writes_held_back(file: str | None) -> Iterator[HeldBack]:
    """Within the block what is written below the working directory goes to the scratch folder of this process, which is removed.

    For a module that is imported to be checked, `file`: below its folder nothing is written either. Programs that it starts, connections
    and files elsewhere (a compiler's cache) are its own affair, as they are of any module that is imported.
    """
    below = [str(Path.cwd()), *([str(Path(file).absolute().parent)] if file is not None else [])]
    held, scratch = HeldBack(SpanFinder(*reversed(below))), scratch_of(os.getpid())
    remove_scratch(os.getpid())  # of a process that had the same number
    scratch.mkdir(mode=0o700)
    mirror = Mirror(str(scratch), held, below)
    try:
        with files_held_back(mirror), libraries_held_back(mirror):
            yield held
    finally:
        remove_scratch(os.getpid())
