"""Tables and texts that a script reads and that are not there: rows with the columns that its code names, and sentences."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vaelint.observe.data.public_files import sentence

if TYPE_CHECKING:
    from vaelint.observe.data.unknown.wishes import Wishes

TABLES = (".csv", ".tsv")
TEXTS = (".txt",)
ROWS = 300
_MORE = 8  # columns beside those that the code names
_KEY = re.compile(r"""(?<=[\w)\]])\[\s*["']([^"'\n]{1,40})["']\s*\]""")
_LIST = re.compile(
    r"""(?:(?:\w*(?:columns?|cols|names|features|labels|drop|exclude\w*)\s*[=(]\s*|[\w)]\[|\.drop\(\s*(?:columns=)?)\[)([^\[\]]*)\]"""
)
_QUOTED = re.compile(r"""["']([^"'\n]{1,40})["']""")
_VOCABULARY = re.compile(r"vocab|dictionary|word_?list", re.IGNORECASE)
_MARK = re.compile(r"""["'](<\w+>|\[[A-Z]+\])["']""")
_COMMENT = re.compile(r"#[^\n]*")
_NO_HEADER = re.compile(r"header\s*=\s*None")
LABEL = re.compile(r"label|class|target|category|outcome|diagnosis|fraud|(?:^|_)is_|^is[A-Z]|^y$", re.IGNORECASE)
_NUMBER = re.compile(r"(?:^|_)ids?$|[a-z]Ids?$|^(?:user|item|movie)(?:id)?$|^ts$|timestamp", re.IGNORECASE)
_DATE = re.compile(r"date|^time$|^day$", re.IGNORECASE)
WORDS = re.compile(r"text|sentence|review|comment|message|title|caption", re.IGNORECASE)


def made_table(code: str, between: str, *, other: bool = False, wishes: Wishes | None = None) -> tuple[str, str]:
    """A table as text, and what it is: the columns that the code names by what they are called, and further ones of numbers from 0 to 1.

    `other`: with another number of columns, for what must hold with both. `wishes`: what an earlier run wanted.
    """
    code = _COMMENT.sub("", code)
    named = list(dict.fromkeys([*named_columns(code), *(wishes.columns if wishes is not None else ())]))
    more, words = (wishes.more, frozenset(wishes.words)) if wishes is not None else (0, frozenset[str]())
    count = _MORE + (more or (4 if other else 0))
    named = named[: len(named) + min(count, 0)]
    columns = [*named, *(f"column {i}" for i in range(1, count + 1))]
    numbers = _numbers(len(columns))
    rows = [
        between.join(sentence(i) if name in words else _cell(name, i, numbers[i][j]) for j, name in enumerate(columns)) for i in range(ROWS)
    ]
    head = [] if _NO_HEADER.search(code) else [between.join(name.replace(between, " ") for name in columns)]
    return "\n".join([*head, *rows]) + "\n", f"{ROWS} rows of {len(columns)} columns"


def named_columns(code: str) -> list[str]:
    """What the code looks up by a name, and its lists of names: columns of its tables are among them."""
    code = _COMMENT.sub("", code)
    named = [*_KEY.findall(code), *(name for names in _LIST.findall(code) for name in _QUOTED.findall(names))]
    return list(dict.fromkeys(named))


def made_text(path: str, code: str) -> tuple[str, str]:
    """Sentences, one a line, and what they are; of a file that is called a vocabulary, their words, with the marks that the code names."""
    lines = [sentence(i) for i in range(ROWS)]
    if not _VOCABULARY.search(Path(path).name):
        return "\n".join(lines) + "\n", f"{ROWS} sentences"
    words = list(dict.fromkeys([*_MARK.findall(_COMMENT.sub("", code)), *(word for line in lines for word in line.split())]))
    return "\n".join(words) + "\n", f"{len(words)} words"


def _numbers(columns: int) -> list[list[float]]:
    """Rows of numbers from 0 to 1 that go together, as those of real tables do."""
    generator = torch.Generator().manual_seed(columns)
    few = torch.randn(ROWS, 3, generator=generator) @ torch.randn(3, columns, generator=generator)
    found: list[list[float]] = torch.sigmoid(few + 0.3 * torch.randn(ROWS, columns, generator=generator)).tolist()
    return found


def _cell(column: str, row: int, value: float) -> str:
    if WORDS.search(column):
        return sentence(row)
    if LABEL.search(column):
        return str(row % 2)
    if _NUMBER.search(column):
        return str(row * 7 % 50 + 1)
    if _DATE.search(column):
        return f"2020-{row % 12 + 1:02d}-{row // 12 % 28 + 1:02d}"
    return f"{value:.4f}"
