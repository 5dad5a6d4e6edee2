"""`--output-format grouped`: the findings of each file together, by line; then one line a target."""

from __future__ import annotations

from collections.abc import Sequence

from vaelint.core.result import TargetResult
from vaelint.report.parts.closing import total, verdict_words
from vaelint.report.parts.places import place_of
from vaelint.report.parts.rows import headline, rows
from vaelint.report.parts.text import clean
from vaelint.report.parts.view import PLAIN, View


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """Files by name, findings by place."""
    by_file: dict[str, list[tuple[int, int, str, str]]] = {}
    for row in rows(results, view):
        f = row.finding
        where = place_of(f.span, column=True).removeprefix(f.span.file).lstrip(": ")
        by_file.setdefault(f.span.file, []).append((f.span.line, f.span.column, where, f"{f.severity.value} {headline(f)}"))
    lines = []
    for file in sorted(by_file):
        width = max(len(where) for _, _, where, _ in by_file[file])
        lines += [f"{file}:", *(f"  {where:>{width}}  {text}" for _, _, where, text in sorted(by_file[file])), ""]
    lines += [f"{result.target}: {verdict_words(result)}" for result in results]
    if len(results) > 1:
        lines += ["".join(text for text, _ in line) for line in total(results)]
    return "".join(clean(line) + "\n" for line in lines)
