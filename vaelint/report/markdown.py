"""`--output-format markdown`: for the summary of a job (`$GITHUB_STEP_SUMMARY`) or a comment on a change: tables of GitHub's Markdown.

Whatever comes from user code is written so that it is text: no HTML, no links, no mentions of people, no way out of a cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vaelint.core.result import TargetResult
from vaelint.core.visible import visible
from vaelint.report.parts.closing import total, verdict_words
from vaelint.report.parts.rows import Row, place, rows, sentences
from vaelint.report.parts.view import PLAIN, View

LIMIT = 1_000_000  # bytes; GitHub takes 1 MiB for the summary of a step
_SPECIAL = re.compile(r"[\\`*_{}\[\]()<>#+!|~&@$:-]|(?<=\d)[.](?=\s|$)|(?<=www)\.")


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """A heading, the targets, the findings; and what there is to say of each, folded away."""
    head = "".join(text for text, _ in total(results)[0]) if len(results) != 1 else verdict_words(results[0])
    parts = [f"## vaelint: {escape(head)}\n\n", _targets(results)]
    found = rows(results, view)
    if found:
        parts.append("\n| severity | rule | where | what | certainty |\n|---|---|---|---|---|\n")
    size = sum(len(p.encode()) for p in parts)
    for what in (_row, _details):
        for i, row in enumerate(found):
            text = what(row, view)
            size += len(text.encode("utf-8", "backslashreplace"))
            if size > LIMIT:
                parts.append(f"\n{len(found) - i} more findings do not fit here.\n")
                return "".join(parts)
            parts.append(text)
    return "".join(parts)


def _targets(results: Sequence[TargetResult]) -> str:
    lines = ["| target | result | effective beta | real pass |", "|---|---|---|---|"]
    for r in results:
        beta = (r.loss.get("beta") or {}).get("expression", "")
        done = " ".join(str(r.confirm[k]) for k in ("outcome", "device") if r.confirm.get(k))
        lines.append(f"| {code(r.target)} | {escape(verdict_words(r))} | {escape(str(beta))} | {escape(done or 'not run')} |")
    return "\n".join(lines) + "\n"


def _row(row: Row, view: View) -> str:
    f = row.finding
    where = f"{place(f.span.file, view.root)}:{f.span.line}"
    what = escape(f.message) + (f"<br>{escape(f.label)}" if f.label else "")
    return f"| {f.severity.value} | {_rule(row, view)} | {code(where)} | {what} | {f.certainty.value} |\n"


def _rule(row: Row, view: View) -> str:
    """Code and name, with a link to the page."""
    said, page = f"{row.finding.code} {escape(row.finding.name)}", view.more(row.finding)
    quoted = escape(page).replace('"', "&quot;")
    return f'<a href="{quoted}">{said}</a>' if page else said


def _details(row: Row, view: View) -> str:
    f = row.finding
    said = [s for s in sentences(f) if s != f.label]
    if not said:
        return ""
    where = escape(f"{place(f.span.file, view.root)}:{f.span.line}")
    body = "".join(f"- {escape(s)}\n" for s in said)
    return f"\n<details><summary>{f.code} {escape(f.name)}, {where}</summary>\n\n{body}\n</details>\n"


def escape(text: str) -> str:
    """Text on one line in which nothing is Markdown, HTML, a link or a mention."""
    return _SPECIAL.sub(lambda m: f"&#{ord(m[0])};", visible(" ".join(text.split())))


def code(text: str) -> str:
    """The same in the type of code."""
    return f"<code>{escape(text)}</code>"
