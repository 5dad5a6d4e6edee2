"""Signatures that annotations made too long for a line: one argument a line. Imports no torch."""

from __future__ import annotations

import tokenize
from collections.abc import Iterator

_NARROW = 88


def wrapped(before: str, after: str) -> str:
    """`after` with each new one-line signature that is longer than the longest line of `before` (and than 88) put on several."""
    limit = max([_NARROW, *(len(line) for line in before.split("\n"))])
    known = set(before.split("\n"))
    return "\n".join(part for line in after.split("\n") for part in (_wrap(line) if len(line) > limit and line not in known else [line]))


def _wrap(line: str) -> list[str]:
    """The lines of a signature, the line itself where it is none or holds a body or a comment besides."""
    start = line[: len(line) - len(line.lstrip())]
    ending = "\r" if line.endswith("\r") else ""
    cuts = list(_cuts(line.rstrip()))
    if not line.lstrip().startswith(("def ", "async def ")) or len(cuts) < 2:
        return [line]
    opening, *commas, closing = cuts
    pieces = [line[a + 1 : b].strip() for a, b in zip([opening, *commas], [*commas, closing], strict=True)]
    inner = [f"{start}    {piece}," for piece in pieces if piece]
    return [x + ending for x in [line[: opening + 1], *inner, start + line[closing:].rstrip()]]


def _cuts(line: str) -> Iterator[int]:
    """The columns of the first parenthesis, the commas in it, and the one that closes it."""
    depth = 0
    lines = iter([line.lstrip() + " pass\n"])
    shift = len(line) - len(line.lstrip())
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type != tokenize.OP:
            continue
        depth -= token.string in ")]}"
        if (token.string == "(" and depth == 0) or (token.string == "," and depth == 1) or (token.string == ")" and depth == 0):
            yield token.start[1] + shift
            if token.string == ")":
                return
        depth += token.string in "([{"
