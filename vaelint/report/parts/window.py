"""The piece of source that a finding is about: numbered lines, carets under the primary place, dashes under the others."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from itertools import pairwise

from vaelint.core.finding import Label, Span
from vaelint.core.visible import visible_lines
from vaelint.late import dataclass
from vaelint.report.parts.places import place_words, shown_line
from vaelint.report.parts.text import Line, cell, cells, clean, fill, printable
from vaelint.source.notebook import source_of_file

MOST_LINES = 5  # a longer span is shown by its first lines


@dataclass(frozen=True)
class Mark:
    """An underlined place on one line, in cells from the start of the shown text."""

    start: int
    end: int
    text: str
    primary: bool

    @property
    def style(self) -> str:
        return "primary" if self.primary else "secondary"

    @property
    def line(self) -> str:
        return ("^" if self.primary else "-") * max(1, self.end - self.start)


class Sources:
    """Source files by name, each read once. A file that cannot be read has no lines."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def lines(self, file: str) -> list[str]:
        """The lines of a file, without line ends."""
        if file not in self._lines:
            try:
                text = source_of_file(file).decode("utf-8-sig", "replace")
                self._lines[file] = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            except OSError:  # the cells of a notebook are in no file: Python keeps them in `linecache`
                self._lines[file] = [line.rstrip("\n") for line in linecache.getlines(file)]
            except ValueError:  # no name that a file can have
                self._lines[file] = []
        return self._lines[file]

    def line(self, file: str, number: int) -> str | None:
        """One line, 1-based; None where there is none."""
        lines = self.lines(file)
        return lines[number - 1] if 0 < number <= len(lines) else None


def window(span: Span, label: str, labels: Sequence[Label], sources: Sources, width: int) -> tuple[list[Line], int]:
    """The lines of the window, with its `-->` line, and the width of the line-number column.

    Labels in other files follow in windows of their own; places whose source cannot be read are named in words.
    """
    files = list(dict.fromkeys([span.file, *(x.span.file for x in labels)]))
    places = [(span, visible_lines(label), True), *((x.span, visible_lines(x.text), False) for x in labels)]
    numbers = [n for s, _, _ in places for n in (s.line, s.end_line or s.line)]
    gutter = len(str(max(numbers)))
    out: list[Line] = []
    for file in files:
        here = [p for p in places if p[0].file == file]
        arrow = "-->" if file == span.file else ":::"
        first = here[0][0]
        out.append([(" " * (gutter + 1) + arrow + " ", "gutter"), (clean(place_words(file, first.line, first.column)), "")])
        out += _file_window(here, file, sources, gutter, width)
    return out, gutter


def _file_window(places: Sequence[tuple[Span, str, bool]], file: str, sources: Sources, gutter: int, width: int) -> list[Line]:
    shown: dict[int, list[tuple[Span, str, bool]]] = {}
    lost: list[Line] = []
    for span, text, primary in places:
        if sources.line(file, span.line) is None:
            if text:
                lost.append([(" " * (gutter + 2) + "| ", "gutter"), (f"line {shown_line(file, span.line)}: {clean(text)}", "")])
            continue
        last = min(span.end_line or span.line, span.line + MOST_LINES - 1)
        numbers = [n for n in range(span.line, max(last, span.line) + 1) if sources.line(file, n) is not None]
        for number in numbers:
            shown.setdefault(number, []).append((_part(span, number, sources), text if number == numbers[-1] else "", primary))
    if not shown:
        return lost
    bar: Line = [(" " * (gutter + 2) + "|", "gutter")]
    out = [bar]
    before: int | None = None
    for number in _with_context(sorted(shown), sources.lines(file)):
        if before is not None and number > before + 1:
            out.append([("...", "gutter")])
        before = number
        room = width - gutter - 4
        text, marks = _cut(sources.lines(file)[number - 1], shown.get(number, []), room)
        out.append([(f" {shown_line(file, number):>{gutter}} |", "gutter"), (" " + text if text else "", "")])
        out += [[*bar, (" ", ""), *row] for row in _mark_rows(marks, room)]
    return [*out, *lost, bar]


def _with_context(numbers: Sequence[int], lines: Sequence[str]) -> list[int]:
    """Fills gaps of one line, and gives a lonely line its neighbours."""
    wanted = set(numbers)
    if numbers[-1] - numbers[0] < 2:
        wanted |= {n for n in (numbers[0] - 1, numbers[-1] + 1) if 0 < n <= len(lines) and lines[n - 1].strip()}
    wanted |= {n + 1 for n in numbers if n + 2 in wanted}
    return sorted(wanted)


def _part(span: Span, number: int, sources: Sources) -> Span:
    """What of a span lies on one line; indentation and trailing blanks left out."""
    line = sources.line(span.file, number) or ""
    first = span.column if number == span.line else len(line) - len(line.lstrip()) + 1
    ends_here = (span.end_line or span.line) == number and span.end_column is not None
    last = span.end_column if ends_here and span.end_column else len(line.rstrip()) + 1
    return Span(span.file, number, first, number, max(last, first))


def _cut(line: str, places: Sequence[tuple[Span, str, bool]], room: int) -> tuple[str, list[Mark]]:
    """The line as shown in `room` cells, and the marks on it."""
    texts = [printable(c) for c in line]
    starts = [0]
    for c, t in zip(line, texts, strict=True):
        starts.append(starts[-1] + (cells(t) if len(t) != 1 else cell(c) if t == c else 1))

    def at(column: int) -> int:
        return starts[max(0, min(column - 1, len(line)))]

    marks = [Mark(at(s.column), max(at(s.end_column or s.column), at(s.column) + 1), text, primary) for s, text, primary in places]
    text = "".join(texts)
    if starts[-1] <= room:
        return text, marks
    # Too long: shift it so that the first mark is seen, and say with dots that something is missing.
    lead = min((m.start for m in marks), default=0)
    end = max((m.end for m in marks), default=0)
    skip = 0 if end <= room - 4 else max(0, min(lead - 8, starts[-1] - room))
    first = next(i for i, s in enumerate(starts) if s >= skip)
    offset = starts[first] - (3 if first else 0)
    last = max(i for i, s in enumerate(starts) if s - offset <= room - 3)
    whole = last == len(line)
    text = ("..." if first else "") + "".join(texts[first:last]) + ("" if whole else "...")
    low, high = 3 if first else 0, starts[last] - offset
    return text, [Mark(min(max(m.start - offset, low), high), max(min(m.end - offset, high), low + 1), m.text, m.primary) for m in marks]


def _mark_rows(marks: Sequence[Mark], room: int) -> list[Line]:
    """The rows below a source line. Marks side by side share the first row; texts that find no place there hang below."""
    if not marks:
        return []
    ordered = sorted(marks, key=lambda m: (m.start, m.end))
    if any(a.end >= b.start for a, b in pairwise(ordered)):
        ordered = sorted(marks, key=lambda m: not m.primary)
        return [row for m in ordered for row in _mark_rows([m], room)]
    row: Line = []
    used = 0
    for m in ordered:
        row += [(" " * (m.start - used), ""), (m.line, m.style)]
        used = max(m.end, m.start + 1)
    hang = list(ordered)
    if ordered[-1].text and used + 1 + cells(ordered[-1].text) <= room and "\n" not in ordered[-1].text:
        row.append((" " + ordered[-1].text, ordered[-1].style))
        hang.pop()
    rows = [row]
    while hang:
        m = hang.pop()
        if not m.text:
            continue
        left = [h for h in hang if h.text]
        start = m.start if room - m.start >= min(cells(m.text), 30) else max(0, room - max(30, cells(m.text)))
        for line in fill(m.text, room - start):
            rows.append([*_bars([h for h in left if h.start < start], start), (line, m.style)])
    return rows


def _bars(marks: Sequence[Mark], until: int) -> Line:
    """Lines that lead from a mark down to its text, which stands further below."""
    line: Line = []
    used = 0
    for m in marks:
        line += [(" " * (m.start - used), ""), ("|", m.style)]
        used = m.start + 1
    return [*line, (" " * (until - used), "")]
