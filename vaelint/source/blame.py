"""Which expression of the user's code an exception or a call comes from. Imports no torch."""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Callable
from types import CodeType, TracebackType

from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.core.paths import relative


def span_at(code: CodeType, instruction: int, line: int) -> Span:
    """The span of the instruction at byte offset `instruction` of `code`; `line` is the fallback."""
    positions = next(itertools.islice(code.co_positions(), instruction // 2, None), (line, None, None, None)) if instruction >= 0 else ()
    start, end, column, end_column = positions if len(positions) == 4 else (line, None, None, None)
    start = start or line
    file = code.co_filename
    return Span(
        relative(file),
        start,
        _characters(file, start, column) or 1,
        end,
        _characters(file, end or start, end_column),
    )


def _characters(file: str, line: int, column: int | None) -> int | None:
    """A 0-based column in UTF-8 bytes as a 1-based column in characters."""
    if column is None:
        return None
    return len(linecache.getline(file, line).encode()[:column].decode(errors="replace")) + 1


def span_of(traceback: TracebackType | None, is_user: Callable[[str], bool]) -> Span | None:
    """The innermost place of a traceback that lies in a user's file, None if there is none."""
    found: Span | None = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if is_user(code.co_filename):
            found = span_at(code, traceback.tb_lasti, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def one_line(error: BaseException) -> str:
    """`TypeError: ...` with the first line of the message, as a headline shows it."""
    first = next(iter(message_of(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
