"""Suppression comments as they stand in a file, and the lines that each speaks for. Imports no torch.

On the line of a finding, or where its statement begins or ends (formatters move a trailing comment to a closing bracket):

    # vaelint: ignore[VAE401] reason            # noqa: VAE401

On a line of its own, for the whole file:

    # vaelint: ignore-file[VAE401] reason       # vaelint: noqa: VAE401
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import field

from vaelint.core.finding import Finding
from vaelint.core.paths import regular
from vaelint.late import dataclass
from vaelint.source.notebook import source_of_file

_CODES = r"(?P<codes>[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*)"
_IGNORE = re.compile(r"#\s*vaelint:\s*ignore(?P<file>-file)?\b\s*(?:\[(?P<codes>[^\]]*)\])?\s*(?P<reason>[^#]*)", re.I)
_NOQA = re.compile(rf"#\s*(?P<file>vaelint:\s*)?noqa\s*:\s*{_CODES}(?P<reason>[^#]*)", re.I)


@dataclass
class Comment:
    """One suppression comment."""

    file: str
    line: int
    column: int  # 1-based, in characters, as `end_column`, which is exclusive
    end_column: int
    codes: tuple[str, ...]  # codes or names as written; empty if it names none
    reason: str = ""
    whole_file: bool = False
    misplaced: bool = False  # for the whole file, but behind code
    foreign: bool = False  # `noqa` is shared with other tools: codes that are not ours are theirs
    used: set[str] = field(default_factory=set)

    def covers(self, finding: Finding) -> str | None:
        """The entry that names this finding's rule."""
        return next((c for c in self.codes if c.upper() == finding.code or c.lower() == finding.name), None)


class Commented:
    """The suppression comments and the statements of one file."""

    def __init__(self, file: str, text: str) -> None:
        self.comments = list(_comments(file, text))
        self._statements: list[tuple[int, int]] = []
        self._blocks: list[tuple[int, int]] = []
        if self.comments:  # most files have none: then nothing else is needed
            self._statements, self._blocks = statements(text)

    def lines_for(self, line: int) -> set[int]:
        """The lines where a comment may stand that speaks for a finding at `line`."""
        return lines_for(line, self._statements)

    def block(self, line: int) -> tuple[int, int]:
        """The top-level statement around a line: the unit that is "checked" or not."""
        return next(((a, b) for a, b in self._blocks if a <= line <= b), (line, line))


def statements(text: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """First and last lines of all statements, and of those at the top; empty for broken code."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return [], []
    every = [n for n in ast.walk(tree) if isinstance(n, ast.stmt)]
    return [_lines(n) for n in every], [_lines(n) for n in tree.body]


def _lines(statement: ast.stmt) -> tuple[int, int]:
    """From its first decorator, if it has any."""
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])
    return first, statement.end_lineno or statement.lineno


def lines_for(line: int, spans: list[tuple[int, int]]) -> set[int]:
    """The line, and where its innermost statement begins and, if it holds no block, ends."""
    around = [(a, b) for a, b in spans if a <= line <= b]
    if not around:
        return {line}
    first, last = max(around)  # the innermost starts last
    inner = any(first < a <= last for a, _ in spans)  # it holds a block: its end is another statement's
    return {line, first} | (set() if inner else {last})


def read(file: str) -> str:
    """The text of a source file in its declared encoding. Raises OSError, ValueError or SyntaxError."""
    if file.endswith(".ipynb"):
        return source_of_file(file).decode()
    with tokenize.open(regular(file)) as stream:
        return stream.read()


def _comments(file: str, text: str) -> Iterator[Comment]:
    lowered = text.lower()
    if "vaelint" not in lowered and "noqa" not in lowered:
        return
    for token in _tokens(text):
        line, start = token.start
        behind = bool(token.line[:start].strip())
        for m in sorted((*_IGNORE.finditer(token.string), *_NOQA.finditer(token.string)), key=lambda m: m.start()):
            written = len(m[0].rstrip())
            yield Comment(
                file,
                line,
                start + m.start() + 1,
                start + m.start() + written + 1,
                split(m["codes"] or ""),
                m["reason"].strip(),
                whole_file=bool(m["file"]),
                misplaced=bool(m["file"]) and behind,
                foreign=m.re is _NOQA,
            )


def split(codes: str) -> tuple[str, ...]:
    """The entries of a list that is separated by commas or spaces."""
    return tuple(c for c in re.split(r"[\s,]+", codes) if c)


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    try:
        yield from (t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT)
    except (tokenize.TokenError, SyntaxError):
        return
