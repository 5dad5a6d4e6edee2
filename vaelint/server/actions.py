"""What can be done about a finding: the fix that a check of the edited source speaks for, or a comment that keeps the finding quiet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lsprotocol import types
from pygls.uris import from_fs_path

from vaelint.core.edits import without_mark
from vaelint.core.finding import Finding
from vaelint.core.paths import real
from vaelint.late import dataclass
from vaelint.policy.suppress import essential
from vaelint.policy.write_ignores import with_comments
from vaelint.process import verify
from vaelint.server.positions import Places, lines_of, moved
from vaelint.server.target_state import Outcome, VerifiedFix


@dataclass(frozen=True)
class Document:
    """An open file: its path, resolved, its address and version, and its text as it is in the editor."""

    path: str
    uri: str
    version: int | None
    text: str
    places: Places


def actions(
    outcomes: Iterable[Outcome], document: Document, asked: types.Range, diagnostics: list[types.Diagnostic]
) -> list[types.CodeAction]:
    """The actions for the findings at some lines of a file."""
    found: list[types.CodeAction] = []
    done: set[tuple[str, int]] = set()
    for outcome in outcomes:
        lines = _lines_now(outcome, document)
        for result in outcome.shown:
            for f in result.findings:
                line = lines.get(f.span.line)
                if str(real(f.span.file)) != document.path or line is None or not _touches(f, line, asked) or (f.code, line) in done:
                    continue
                done.add((f.code, line))
                own = [d for d in diagnostics if d.code == f.code and d.range.start.line == line - 1]
                if (fix := outcome.fixes.get(f.fingerprint)) is not None:
                    found += _fix(f, fix, document, own)
                if not essential(f, result):
                    found += _ignore(f, line, document, own)
    return found


def _lines_now(outcome: Outcome, document: Document) -> dict[int, int]:
    before = outcome.texts.get(document.path)
    return moved(tuple(lines_of(before)), tuple(lines_of(document.text))) if before is not None else {}


def _touches(f: Finding, line: int, asked: types.Range) -> bool:
    last = line + ((f.span.end_line or f.span.line) - f.span.line)
    return line - 1 <= asked.end.line and asked.start.line <= last - 1


def _fix(f: Finding, fix: VerifiedFix, document: Document, own: list[types.Diagnostic]) -> Iterator[types.CodeAction]:
    """The edit, where the files are as they were when the edit was verified."""
    changes: dict[str, list[types.TextEdit]] = {}
    for file in sorted(fix.proposal.files):
        here = str(real(file)) == document.path
        before = fix.before.get(file)
        now = document.text if here else verify.read(file)
        if before is None or now is None or without_mark(before) != without_mark(now):
            return
        places = Places(lines_of(fix.before[file]), document.places.codec)
        edits = [types.TextEdit(places.range(e.span), e.new) for e in fix.proposal.edits if e.span.file == file]
        changes[document.uri if here else from_fs_path(str(real(file))) or ""] = edits
    title = f"Fix {f.code}: this {fix.proposal.says} (a real pass of the edited code agrees)"
    yield types.CodeAction(title, types.CodeActionKind.QuickFix, own, is_preferred=True, edit=types.WorkspaceEdit(changes=changes))


def _ignore(f: Finding, line: int, document: Document, own: list[types.Diagnostic]) -> Iterator[types.CodeAction]:
    """`# vaelint: ignore[CODE]` where it speaks for the line."""
    try:
        text, left = with_comments(document.text, {line: [f.code]}, "")
    except (SyntaxError, ValueError):
        return
    if left:
        return
    before, after = lines_of(document.text), lines_of(text)
    edits = []
    for row, (old, new) in enumerate(zip(before, after, strict=True), 1):
        if old != new:
            end = document.places.position(row, len(old) + 1)
            edits.append(types.TextEdit(types.Range(types.Position(row - 1, 0), end), new))
    title = f"Ignore {f.code} {f.name} on this line"
    yield types.CodeAction(title, types.CodeActionKind.QuickFix, own, edit=types.WorkspaceEdit(changes={document.uri: edits}))
