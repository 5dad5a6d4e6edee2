"""What the error of a script says of tables and texts that were made up for it: columns, pieces of lines, words or numbers."""

from __future__ import annotations

import linecache
import re
import traceback

from vaelint.observe.data.unknown.failing import line_of
from vaelint.observe.data.unknown.wishes import Text, Wishes

_COLUMN = re.compile(
    r"\['?(?P<list>[^\]]*)'?\] (?:not in index|not found in axis)|None of \[Index\(\[(?P<none>[^\]]*)\]"
    r"|columns expected but not found: \[(?P<use>[^\]]*)\]"
)


def counts_in(text: str) -> tuple[int, int]:
    """How many values were expected, and how many there were; 0 where that is not said."""
    need = re.search(r"expected (?:at least )?(\d+)", text)
    got = re.search(r"got (\d+)", text)
    return int(need[1]) if need else 2, int(got[1]) if got else 0


def columns_wanted(error: BaseException, text: str, wishes: Wishes) -> bool:
    """Columns of a table that are asked for."""
    if not wishes.tables:
        return False
    names: list[str] = []
    if (found := _COLUMN.search(text)) is not None:
        said = next(g for g in found.groups() if g is not None)
        names = re.findall(r"'([^']+)'", said if "'" in said else f"'{said}'")
    elif isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        names = [error.args[0]]
    elif isinstance(error, AttributeError) and (named := re.search(r"'(?:DataFrame|Series)' object has no attribute '(\w+)'", text)):
        names = [named[1]]
    new = [n for n in names if n not in wishes.columns]
    wishes.columns += new
    return bool(new)


def words_wanted(error: BaseException, text: str, wishes: Wishes) -> bool:
    """Columns of words where numbers are wanted, or the other way round."""
    if wishes.tables and re.search(
        r"\.str accessor|'(?:float|numpy\.float64|int)' object has no attribute '(?:split|strip|lower|replace|encode)'", text
    ):
        line = line_of(error)
        names = re.findall(r"""["'](\w[^"']*)["']""", line) or re.findall(r"\.(\w+)\.str", line)
        new = [n for n in names if n in wishes.columns or (True and n not in wishes.words)]
        wishes.words += new
        return bool(new)
    return False


def lines_wanted(error: BaseException, text: str, wishes: Wishes) -> bool:
    """Lines of a text, of so many pieces, words or numbers."""
    path = wishes.last_text
    if not path:
        return False
    known = wishes.texts.setdefault(path, Text())
    line = line_of(error)
    apart = re.search(r"""split\(\s*(?:sep=)?["']([^"']+)["']""", line)
    if re.search(r"could not convert string to (?:float|complex)|invalid literal for int", text):
        known.numbers, known.words = True, known.words if not known.numbers else known.words + 1
        return known.words < 3
    if "not enough values to unpack" in text or "too many values to unpack" in text:
        known.pieces = counts_in(text)[0]
        known.between = apart[1].encode().decode("unicode_escape") if apart else known.between
        return True
    if isinstance(error, IndexError) and "list index out of range" in text:
        known.pieces = max([int(n) + 1 for n in re.findall(r"\[(\d+)\]", line)] or [known.pieces + 1])
        apart = apart or _split_around(error)
        known.between = apart[1].encode().decode("unicode_escape") if apart else known.between
        return True
    return False


def _split_around(error: BaseException) -> re.Match[str] | None:
    """The `split("\\t")` in the lines before the one that failed."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    lines = [linecache.getline(at.filename, n) for n in range((at.lineno or 1), max((at.lineno or 1) - 8, 0), -1)]
    return next((m for one in lines if (m := re.search(r"""split\(\s*(?:sep=)?["']([^"']+)["']""", one))), None)
