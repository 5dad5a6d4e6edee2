"""Styled lines, their width in terminal cells, wrapping, and painting. What all text reports share."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from vaelint.core.visible import visible

Piece = tuple[str, str]  # text and style name
Line = list[Piece]

STYLES = {
    "": "",
    "error": "bold red",
    "warning": "bold yellow",
    "info": "bold cyan",
    "head": "bold",
    "gutter": "blue",
    "primary": "bold red",
    "secondary": "cyan",
    "key": "bold blue",
    "confirmed": "green",
    "refuted": "magenta",
    "help": "bold green",
    "minus": "red",
    "plus": "green",
    "dim": "dim",
    "clean": "bold green",
}

TAB = 4


def cells(text: str) -> int:
    """How many terminal cells a text takes: wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(cell(c) for c in text)


def cell(char: str) -> int:
    """The same for one character."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Me", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def printable(char: str) -> str:
    """A tab as spaces, what could steer the terminal as its escape, all else as it is."""
    return " " * TAB if char == "\t" else visible(char)


def clean(text: str) -> str:
    """Text from user code or data, safe to print on one line."""
    return visible(text.replace("\t", " " * TAB))


def fill(text: str, width: int) -> list[str]:
    """Wraps at spaces to at most `width` cells; a word that is longer is cut. Line breaks in the text are kept."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in clean(paragraph).split(" "):
            if line and cells(line) + 1 + cells(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
            while cells(line) > width:
                cut = _prefix(line, width)
                lines.append(line[:cut])
                line = line[cut:]
        lines.append(line)
    return lines


def _prefix(text: str, width: int) -> int:
    """How many characters fit into `width` cells, at least one."""
    used = 0
    for i, c in enumerate(text):
        used += cell(c)
        if used > width:
            return max(i, 1)
    return len(text)


def pad(text: str, width: int) -> str:
    """`text` and spaces to `width` cells."""
    return text + " " * (width - cells(text))


def hanging(lead: Line, text: str, width: int, style: str = "") -> list[Line]:
    """`lead` and then the text, whose further lines start where the first one does."""
    indent = sum(cells(t) for t, _ in lead)
    first, *rest = fill(text, max(width - indent, 20))
    return [[*lead, (first, style)], *([(" " * indent, ""), (line, style)] for line in rest)]


def table(rows: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
    """Columns side by side; no trailing spaces."""
    widths = [max(cells(r[i]) for r in rows) for i in range(len(rows[0]))] if rows else []
    return [(" " * gap).join(pad(clean(c), w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]


def shapes(rows: Sequence[Sequence[str]]) -> list[str]:
    """Shapes as texts of one width, each size below the one it meets: lined up from the right, as broadcasting does."""
    most = max((len(r) for r in rows), default=0)
    widths = [max((cells(r[len(r) - 1 - i]) for r in rows if len(r) > i), default=0) for i in range(most)]  # from the right
    texts = []
    for row in rows:
        right = [(widths[len(row) - 1 - i] - cells(size), size) for i, size in enumerate(row)]
        inner = ", ".join(" " * gap * (i > 0) + size for i, (gap, size) in enumerate(right))
        texts.append(f"({inner})")
    width = max((cells(t) for t in texts), default=0)
    return [" " * (width - cells(t)) + t for t in texts]


def paint(lines: Iterable[Line], color: bool) -> str:
    """The lines as one text, with ANSI colours if wanted."""
    if not color:
        return "".join("".join(t for t, _ in line).rstrip() + "\n" for line in lines)
    import io

    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, force_jupyter=False, color_system="standard", width=1000, highlight=False, soft_wrap=True
    )
    for line in lines:
        console.print(Text.assemble(*((t, STYLES[s]) for t, s in line)))
    return out.getvalue()
