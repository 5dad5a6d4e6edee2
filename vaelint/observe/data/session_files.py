"""Files that are not there, for the script of a session: made up aside of what is recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vaelint.observe.data.absent_files import AbsentFiles
from vaelint.observe.held.files import Absent
from vaelint.observe.session import Session, aside


def absent_files(session: Session) -> Absent:
    """What makes them. What it made is said with the script's line; what was guessed is noted in the session."""
    maker = AbsentFiles(lambda what: session.say(f"{what}{session.where()}"), session.where, lambda: _sources(session))
    session.guessed = maker.guessed

    def absent(path: str, twin: str, open_file: Callable[..., Any], make_folder: Callable[[str], None], listed: bool) -> bool:
        with aside(session):
            return maker(path, twin, open_file, make_folder, listed)

    return absent


def _sources(session: Session) -> str:
    """The text of the script's files that are running."""
    files = dict.fromkeys(f.f_code.co_filename for f in session.spans.user_frames(sys._getframe(1), limit=16))
    return "\n".join(Path(file).read_text(encoding="utf-8", errors="replace") for file in files if Path(file).is_file())
