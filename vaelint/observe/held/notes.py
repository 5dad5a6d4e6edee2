"""What was held back, and where in the script."""

from __future__ import annotations

import sys
from pathlib import Path

from vaelint.trace.spans import SpanFinder

_MOST = 12
MAKES = "make the folder"


class HeldBackError(PermissionError):
    """What a script may not do while it is watched, and what it could not go on without."""


class HeldBack:
    """Collects what was held back. Each thing is said once for each place."""

    def __init__(self, spans: SpanFinder) -> None:
        self._spans = spans
        self._seen: dict[tuple[str, str], int] = {}

    def note(self, what: str) -> None:
        """Notes it, for the script's line that is running."""
        self._seen[(what, self.place())] = self._seen.get((what, self.place()), 0) + 1

    def refuse(self, what: str) -> HeldBackError:
        """The error that a script gets for what cannot be done in another place."""
        self.note(what)
        return HeldBackError(f"{what} is held back while the script is watched; --allow-writes lets it through")

    def place(self) -> str:
        """`train.py:31`, of the innermost line of the script that is running; empty where none is."""
        stack = self._spans.stack(sys._getframe(1), limit=1)
        return f"{stack[0].file}:{stack[0].line}" if stack else ""

    @property
    def said(self) -> list[str]:
        """A line for each: `held back: write results/sample.png (train.py:31)`; of folders within each other, the innermost."""
        made = [what for what, _ in self._seen if what.startswith(MAKES)]
        kept = [(what, place) for what, place in self._seen if what not in made or not any(m.startswith(f"{what}/") for m in made)]
        rows = [f"held back: {what}" + (f" ({place})" if place else "") for what, place in kept]
        return rows if len(rows) <= _MOST else [*rows[:_MOST], f"held back: {len(rows) - _MOST} more of the kind"]


def shown(path: object) -> str:
    """A path as a person writes it: relative to the working directory where it is below it."""
    text = path.decode(errors="replace") if isinstance(path, bytes) else str(path)
    try:
        return Path(text).absolute().relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return text
