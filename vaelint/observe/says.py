"""What a user should know of a run: what was done otherwise than the script says, with its line."""

from __future__ import annotations

import sys
from dataclasses import replace

from vaelint.core.assumption import Chosen
from vaelint.trace.spans import SpanFinder


class Says:
    """Collects it."""

    def __init__(self, spans: SpanFinder) -> None:
        self.spans = spans
        self.said: list[str] = []

    def say(self, what: str) -> None:
        """Notes what a user should know, once."""
        if what not in self.said:
            self.said.append(what)

    def say_here(self, what: str) -> None:
        """The same, with the script's line that is running."""
        said = f"{what}{self.where()}"
        if isinstance(what, Chosen) and what.choice is not None:
            here = next(iter(self.spans.stack(sys._getframe(1), limit=1)), None)
            said = Chosen(said, replace(what.choice, where=here))
        self.say(said)

    def where(self) -> str:
        """` (train.py:31)`, the line of the script that is running."""
        stack = self.spans.stack(sys._getframe(1), limit=1)
        return f" ({stack[0].file}:{stack[0].line})" if stack else ""
