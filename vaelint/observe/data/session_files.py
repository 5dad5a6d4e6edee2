"""Files that are not there, for the script of a session: made up aside of what is recorded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from vaelint.observe.aside import aside
from vaelint.observe.data.absent_files import AbsentFiles
from vaelint.observe.data.unknown.blanks import Blanks
from vaelint.observe.data.wanted import is_caught, is_wanted
from vaelint.observe.held.files import Absent
from vaelint.observe.session import Session


def absent_files(session: Session, *, other: bool = False, blanks: Blanks | None = None) -> Absent:
    """What makes them. What it made is said with the script's line; what was guessed is noted in the session.

    `other`: with other sizes, where nothing tells them. `blanks`: files of which nothing but their use is known.
    """
    needed = partial(_cannot_do_without, session)
    if blanks is not None:
        blanks.wishes.code = lambda: _sources(session)
    maker = AbsentFiles(session.say_here, session.where, lambda: _sources(session), other=other, needed=needed, blanks=blanks)
    asking = False
    session.guessed, session.invented, session.public = maker.guessed, maker.invented, maker.public

    def absent(path: str, twin: str, open_file: Callable[..., Any], make_folder: Callable[[str], None], does: str) -> bool:
        nonlocal asking
        if asking:
            return False  # what looks at the code asks for files too
        asking = True
        try:
            if does == "ask" and not _asked_by_the_script(session, sys._getframe(1)):
                return False
            with aside(session):
                made = maker(path, twin, open_file, make_folder, listed=does == "list" or (does == "ask" and not Path(path).suffix))
            looks = does != "read" and not made and not (does == "list" and _library_looks(session, sys._getframe(1)))
            if looks and (line := session.where()) and path not in map(os.path.abspath, sys.path):
                (session.unfound if does == "list" else session.asked).append((path, line))
            if does == "read" and not made and os.path.lexists(path):  # it was asked for as a pointer is no data
                session.pointers.append((path, session.where()))
            return made
        finally:
            asking = False

    return absent


_PATHS = frozenset({"genericpath", "posixpath", "ntpath", "pathlib", "os", "contextlib"})  # of the standard library
_READERS = frozenset({
    *_PATHS, "pandas", "numpy", "io", "codecs", "csv", "pickle", "torch", "json", "joblib", "scipy", "gzip", "bz2", "lzma", "h5py",
    "linecache",
    "fileinput",
    "glob",
    "fnmatch",
    "shutil",
    "natsort",
})  # fmt: skip
_LISTERS = frozenset({*_READERS, "torchvision", "PIL"})
_OURS = str(Path(__file__).parents[2])


def _library_looks(session: Session, frame: FrameType | None) -> bool:
    """Whether a library looks into a folder for its own sake, as for fonts."""
    while frame is not None and not session.spans.is_user(frame.f_code.co_filename):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package not in _LISTERS and not frame.f_code.co_filename.startswith(_OURS):
            return True
        frame = frame.f_back
    return False


def _asked_by_the_script(session: Session, frame: FrameType | None) -> bool:
    """Whether it is the script itself that asks if a path is there, and cannot do without."""
    while frame is not None and (frame.f_globals.get("__name__") in _PATHS or frame.f_code.co_filename.startswith(_OURS)):
        frame = frame.f_back
    if frame is None or not session.spans.is_user(frame.f_code.co_filename):
        return False
    return is_wanted(session.spans.user_frames(frame, limit=3))


def _cannot_do_without(session: Session) -> bool:
    """Whether it is the script that reads, itself or by what reads tables, and nothing around it catches that the file is not there."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not session.spans.is_user(frame.f_code.co_filename):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package not in _READERS and not frame.f_code.co_filename.startswith(_OURS):
            return False
        frame = frame.f_back
    return frame is not None and not is_caught(session.spans.user_frames(frame, limit=3))


def _sources(session: Session) -> str:
    """The text of the script's files: those that are running, then those that it imported."""
    running = [f.f_code.co_filename for f in session.spans.user_frames(sys._getframe(1), limit=16)]
    main = Path(getattr(sys.modules.get("__main__"), "__file__", None) or ".").absolute()
    homes = (f"{Path.cwd()}{os.sep}", f"{main.parent}{os.sep}")
    loaded = [file for m in list(sys.modules.values()) if isinstance(file := getattr(m, "__file__", None), str)]
    imported = [file for file in loaded if str(Path(file).absolute()).startswith(homes)]
    files = dict.fromkeys([*running, *(file for file in imported if session.spans.is_user(file))])
    return "\n".join(Path(file).read_text(encoding="utf-8", errors="replace") for file in files if Path(file).is_file())
