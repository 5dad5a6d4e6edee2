"""`--output-format concise`: `path:line:col: CODE message`, one line a finding."""

from __future__ import annotations

from collections.abc import Sequence

from vaelint.core.finding import Certainty
from vaelint.core.result import TargetResult
from vaelint.report.parts.closing import total, verdict_words
from vaelint.report.parts.places import place_of
from vaelint.report.parts.rows import rows
from vaelint.report.parts.text import clean
from vaelint.report.parts.view import PLAIN, View


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """One line a finding, in the order of targets and findings; each once, though several targets run the same code. Where there is none,
    one line that says so."""
    lines = []
    for f in (row.finding for row in rows(results, view)):
        mark = " (refuted)" if f.certainty is Certainty.REFUTED else ""
        lines.append(f"{place_of(f.span, column=True)}: {f.code} {' '.join(f.message.split())}{mark}")
    if not lines and len(results) == 1:
        lines = [f"{results[0].target}: {verdict_words(results[0])}"]
    elif not lines and results:
        lines = ["".join(text for text, _ in line) for line in total(results)]
    return "".join(clean(line) + "\n" for line in lines)
