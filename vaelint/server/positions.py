"""Places of the engine (lines and columns from 1 on, in characters) as places of the protocol (from 0 on, in units of an encoding)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import lru_cache

from lsprotocol import types
from pygls.workspace import PositionCodec

from vaelint.core.finding import Span
from vaelint.late import dataclass


def lines_of(text: str) -> list[str]:
    """The lines of a text as editors count them, which the engine does as well: form feeds and the like end none."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@dataclass(frozen=True)
class Places:
    """The places in one text."""

    lines: Sequence[str]
    codec: PositionCodec

    def position(self, line: int, column: int) -> types.Position:
        """A place; one that is outside of the text is at its nearest end."""
        row = min(max(line - 1, 0), max(len(self.lines) - 1, 0))
        text = self.lines[row] if self.lines else ""
        return types.Position(row, self.codec.client_num_units(text[: max(column - 1, 0)]))

    def range(self, span: Span) -> types.Range:
        """A span; without an end, to the end of its line."""
        row = min(max(span.line - 1, 0), max(len(self.lines) - 1, 0))
        end_line = span.end_line or span.line
        text = self.lines[row] if self.lines else ""
        end = self.position(end_line, span.end_column or len(text) + 1)
        start = self.position(span.line, span.column)
        if end == start:  # an insertion; or a line that is empty
            end = self.position(end_line, (span.end_column or span.column) + 1) if span.end_column is None else end
        return types.Range(start, end)

    def place(self, position: types.Position) -> tuple[int, int]:
        """Line and column of a position."""
        text = self.lines[position.line] if position.line < len(self.lines) else ""
        column = next((i for i in range(len(text) + 1) if self.codec.client_num_units(text[:i]) >= position.character), len(text))
        return position.line + 1, column + 1


@lru_cache(16)
def moved(before: tuple[str, ...], now: tuple[str, ...]) -> dict[int, int]:
    """Where lines of a text that was checked are now, from 1 on; lines that were edited are nowhere."""
    blocks = difflib.SequenceMatcher(None, before, now, autojunk=False).get_matching_blocks()
    return {b.a + i + 1: b.b + i + 1 for b in blocks for i in range(b.size)}
