"""Writes suppression comments into source files: `vaelint check --add-ignore="reason"`. Imports no torch.

A file is changed only if the same program is left (its syntax tree is compared), and then at once and whole. Encoding,
line ends and mode stay as they are.
"""

from __future__ import annotations

import ast
import io
import os
import re
import shutil
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaelint.policy.comments import Commented, lines_for, statements

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")


def add(file: Path, wanted: Mapping[int, Sequence[str]], reason: str) -> set[tuple[int, str]]:
    """Writes the comments that silence codes at lines.

    Returns:
        Those (line, code) that have no place: the line and its statement's ends lie in a string, or before a backslash.

    Raises:
        OSError, ValueError, SyntaxError: the file cannot be read, understood, or written.
    """
    data = file.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    old = data.decode(encoding)
    new, left = with_comments(old, wanted, reason)
    if new != old:
        real = file.resolve()
        temporary = real.with_name(f".{real.name}.{os.getpid()}")
        temporary.write_bytes(new.encode(encoding))
        shutil.copymode(real, temporary)
        temporary.replace(real)
    return left


def with_comments(text: str, wanted: Mapping[int, Sequence[str]], reason: str) -> tuple[str, set[tuple[int, str]]]:
    """The text with the comments, and what has no place for one. Raises SyntaxError or ValueError for a text that is no Python."""
    tree = ast.dump(ast.parse(_plain(text)))
    spans, _ = statements(_plain(text))
    left: set[tuple[int, str]] = set()
    for line, codes in wanted.items():
        places = [line, *sorted(lines_for(line, spans) - {line})]
        for code in codes:
            for place in places:
                changed = _with_comment(text, place, code, reason)
                if changed is not None and _is_same(changed, tree, place, code):
                    text = changed
                    break
            else:
                left.add((line, code))
    return text, left


def _plain(text: str) -> str:
    return re.sub(r"\r\n?", "\n", text)


def _with_comment(text: str, line: int, code: str, reason: str) -> str | None:
    lines = _LINE.findall(text)
    if line > len(lines):
        return None
    body = lines[line - 1].rstrip("\r\n")
    end = lines[line - 1][len(body) :]
    ours = next(
        (c for c in Commented("", _plain(text)).comments if c.line == line and not c.foreign and not c.whole_file and c.codes), None
    )
    if ours is not None:
        at = body.index("]", ours.column - 1)
        body = f"{body[:at].rstrip()}, {code}{body[at:]}"
    else:
        body = f"{body.rstrip()}  # vaelint: ignore[{code}]" + (f" {reason}" if reason else "")
    lines[line - 1] = body + end
    return "".join(lines)


def _is_same(text: str, tree: str, line: int, code: str) -> bool:
    """Whether the program is the same, and the comment is one."""
    plain = _plain(text)
    try:
        if ast.dump(ast.parse(plain)) != tree:
            return False
    except (SyntaxError, ValueError):
        return False
    return any(c.line == line and code in c.codes for c in Commented("", plain).comments)
