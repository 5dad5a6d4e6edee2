"""Texts that people read are plain English: phrases that read as translated have a better one, which is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / f for f in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "fixtures/README.md", "action.yml")] + sorted(
    (ROOT / "docs").glob("*.md")
)
CODE = [f for folder in ("rules", "vaelint") for f in sorted((ROOT / folder).rglob("*.py"))]

RETIRED = {
    r"\b(?:is|are|was|were|be) told\b(?! apart)": "is given, gets, knows",
    r"\bunless told otherwise\b": "by default",
    r"\blies?\b": "is, is in, is outside",
    r"(?<!-)\bstands?\b(?! for\b| in for\b| out\b)": "is, is on, is in",
    r"(?<!there )(?<!There )\b(?:is|are) no (?!longer\b|more\b|finer\b|better\b)": "is not a",
    r"\bof (?:ours|yours|theirs)\b(?! as\b)": "our own, vaelint's, your own",
    r"\bis not one$": "say what it is not: is not a valid log-density",
    r"\bnothing but\b": "only",
    r"\bhangs? on\b": "depends on",
    r"\bwithheld\b": "not reported",
    r"\bfor want of\b": "not enough, out of, guessed",
    r"\bnobody\b": "say who: you, the code, nothing",
    r"\bwhoever\b": "anyone who, if you",
    r"\banew\b": "again",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bspeaks? (?:of|for)\b": "is about, involves, uses",
    r"\bborn\b(?!-)": "created",
    r"\bin (?:the )?place of\b": "instead of",
    r"\bis meant\b(?! (?:to|as|by|for)\b)": "is intended",
    r"\bhas all\b(?! of\b)": "takes everything, contains",
    r"\btakes? down what\b|\bdoes not rot\b": "records; stays accurate",
    r"\bwhat (?:is|are) (?:there|found|new|known|measured|needed|selected|ignored)\b": "name the thing",
    r"\bwhat (?:is|are) (?:drawn|decoded|trained|missing|masked|looked up)\b": "name the thing",
    r"\bno memory has addresses\b": "too large: N numbers do not fit in memory",
    r"\bcalls it so\b": "taken from the call at PLACE",
    r"\bfrom a tensor at hand\b": "from an existing tensor",
    r"\btaken for\b": "used as, treated as",
}
"""By retired phrase what to write in its place."""


def texts_of(source: str, page: bool) -> Iterator[tuple[int, str]]:
    """The texts of a module that may reach a reader, with their lines: no documentation strings but the page of a rule."""
    tree = ast.parse(source)
    silent = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)} - ({id(tree.body[0].value)} if page else set())  # type: ignore[attr-defined]
    joined = {id(part): text for text in ast.walk(tree) if isinstance(text, ast.JoinedStr) for part in text.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "X" for p in node.values)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent | joined.keys() and " " in node.value
        ):
            yield node.lineno, node.value


def prose(text: str) -> str:
    """A page without its examples: fenced blocks, indented lines, code in a line."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`]*`", "`x`", re.sub(r"^    .*$", "", text, flags=re.M))


def retired_in(text: str) -> list[str]:
    """The retired phrases in a text, each with a better one."""
    line = " ".join(text.split())
    return [f"{found[0]!r}: write {better}" for phrase, better in RETIRED.items() for found in re.finditer(phrase, line, re.I)]


@pytest.mark.parametrize("folder", ["rules", "vaelint"])
def test_messages_are_plain(folder: str) -> None:
    found = {
        f"{file.relative_to(ROOT)}:{line}": phrases
        for file in CODE
        if file.is_relative_to(ROOT / folder)
        for line, text in texts_of(file.read_text(), folder == "rules")
        if (phrases := retired_in(prose(text)))
    }
    assert found == {}


def test_guides_are_plain() -> None:
    assert {file.name: phrases for file in GUIDES if (phrases := retired_in(prose(file.read_text())))} == {}


def test_a_retired_phrase_is_seen() -> None:
    source = '"""A page: the file lies there."""\nx = f"{1} is no loss"\ny = "a key"\n\n'
    source += 'def f():\n    """It is told."""\n    return "what is drawn"\n'
    assert sorted((line, *retired_in(text)) for line, text in texts_of(source, page=True)) == [
        (1, "'lies': write is, is in, is outside"),
        (2, "'is no ': write is not a"),
        (3,),
        (7, "'what is drawn': write name the thing"),
    ]
    assert len(list(texts_of(source, page=False))) == 3
    assert retired_in(prose("see `lies`:\n\n    it stands\n\n```\nit is told\n```\nand there is no loss, which cannot be told apart")) == []
