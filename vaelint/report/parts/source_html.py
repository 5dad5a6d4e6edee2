"""The source with findings in place, and the shapes that leave each line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from vaelint.core.finding import Finding, Span
from vaelint.core.result import TargetResult
from vaelint.report.parts.fold import shape_text
from vaelint.report.parts.markup import E, element, join
from vaelint.report.parts.places import place_of, shown_line
from vaelint.report.parts.view import View
from vaelint.report.parts.window import Sources

_WHOLE = 400  # lines up to which a file is shown whole
_AROUND = 5  # of a longer one, lines around each place of note


def listings(result: TargetResult, shown: Sequence[tuple[int, Finding]], here: str, sources: Sources, view: View) -> E:
    """A section with each file that findings or steps name. Findings whose file cannot be read come first, without source."""
    steps: list[dict[str, Any]] = result.trail["steps"] if result.trail is not None else []
    places = [f.span.file for _, f in shown] + [s["span"]["file"] for s in steps if s["span"]]
    names = [n for n in dict.fromkeys(places) if sources.lines(n)]
    lost = [(i, f) for i, f in shown if sources.line(f.span.file, f.span.line) is None]
    if not names and not lost:
        return E("")
    cards = {i: finding_card(f, i, here, view) for i, f in shown}
    parts = [cards[i] for i, _ in lost]
    parts += [_listing(n, [(i, f) for i, f in shown if f.span.file == n and (i, f) not in lost], steps, cards, sources) for n in names]
    about = "On the right of a line: the shapes of the values it makes." if steps else ""
    return element("section", join(element("h2", "The source"), element("p", about, class_="about") if about else E(""), *parts))


def _listing(
    name: str, findings: Sequence[tuple[int, Finding]], steps: Sequence[dict[str, Any]], cards: Mapping[int, E], sources: Sources
) -> E:
    lines = sources.lines(name)
    if lines and not lines[-1]:
        lines = lines[:-1]
    marks: dict[int, list[tuple[Span, str]]] = {}
    for _, f in findings:
        for span, kind in ((f.span, f"primary {f.severity.value}"), *((x.span, "secondary") for x in f.labels if x.span.file == name)):
            for n in range(span.line, (span.end_line or span.line) + 1):
                marks.setdefault(n, []).append((span, kind))
    made = _made(name, steps)
    below: dict[int, list[E]] = {}
    for i, f in findings:
        below.setdefault(min(f.span.end_line or f.span.line, len(lines)), []).append(cards[i])
    wanted = _wanted(len(lines), [*marks, *(made if len(lines) > _WHOLE else ())])
    out: list[E] = []
    before = 0
    for n in wanted:
        if n > before + 1:
            out.append(element("div", f"... {n - before - 1} lines not shown ...", class_="gap"))
        before = n
        code = element("code", _marked(lines[n - 1], n, marks.get(n, ())))
        shapes = element("span", made[n], class_="made") if n in made else E("")
        cls = "line hit" if n in marks else "line"
        out.append(element("div", join(element("span", str(shown_line(name, n)), class_="no"), code, shapes), class_=cls))
        out += below.get(n, [])
    if before < len(lines):
        out.append(element("div", f"... {len(lines) - before} lines not shown ...", class_="gap"))
    block = element("div", join(*out), class_="source", tabindex="0", role="region", aria_label=f"Source of {name}")
    return join(element("h3", name), block)


def _wanted(count: int, places: Sequence[int]) -> list[int]:
    """The numbers of the lines that are shown."""
    if count <= _WHOLE:
        return list(range(1, count + 1))
    near = {n for p in places for n in range(p - _AROUND, p + _AROUND + 1) if 1 <= n <= count}
    return sorted(near)


def _made(name: str, steps: Sequence[dict[str, Any]]) -> dict[int, str]:
    """What each line makes: the last value of it, and before it those with a name or a role of their own."""
    found: dict[int, dict[str, str]] = {}
    for s in steps:
        if s["span"] and s["span"]["file"] == name:
            row = found.setdefault(s["span"]["line"], {})
            key = s["name"] or s["role"] or ""
            row.pop(key, None)
            row[key] = shape_text(s["shape"])
    texts = {}
    for n, row in found.items():
        named = {k: v for k, v in row.items() if k}
        texts[n] = ", ".join(f"{k} {v}" for k, v in named.items()) if named else row[""]
    return texts


def _marked(line: str, number: int, marks: Sequence[tuple[Span, str]]) -> E:
    """The line with its marked parts in `<mark>`; where marks overlap, the primary one wins."""
    kinds = [""] * len(line)
    for span, kind in sorted(marks, key=lambda m: m[1].startswith("primary")):
        first = span.column - 1 if number == span.line else len(line) - len(line.lstrip())
        last = span.end_column - 1 if number == (span.end_line or span.line) and span.end_column else len(line)
        for i in range(max(first, 0), min(max(last, first + 1), len(line))):
            kinds[i] = kind
    parts: list[E | str] = []
    for kind, group in groupby(zip(line, kinds, strict=True), lambda p: p[1]):
        piece = "".join(c for c, _ in group)
        parts.append(element("mark", piece, class_=kind) if kind else piece)
    return join(*parts) if parts else E("&#8203;")


def finding_card(f: Finding, number: int, here: str, view: View) -> E:
    """All that is said of a finding, to stand below its line."""
    head = join(element("span", f.code, class_=f"code {f.severity.value}"), f" {f.name}: {f.message}")
    parts: list[E] = [element("h4", head)]
    if f.label:
        parts.append(element("p", f.label, class_="label"))
    if f.shapes:
        rows = [
            element(
                "tr", join(element("th", r.name, scope="row"), element("td", shape_text(r.shape), class_="shape"), element("td", r.remark))
            )
            for r in f.shapes
        ]
        parts.append(element("table", join(element("caption", "Shapes"), element("tbody", join(*rows))), class_="shapes"))
    items = [(t, x) for t, x in (("When", f.when), ("Why", f.why)) if x]
    items += [("Elsewhere", f"{place_of(x.span)}: {x.text}") for x in f.labels]
    if f.evidence is not None:
        e = f.evidence
        came = e.measured if e.decides else f"nothing ({e.outcome}: {e.detail})"
        items.append(
            (f.certainty.value.capitalize(), f"ran on {e.device}: {e.claim}; predicted {e.predicted or '-'}, measured {came or '-'}")
        )
    items += [("Help", f.help)] if f.help else []
    items += [("Note", n) for n in f.notes]
    parts.append(element("dl", join(*(join(element("dt", k), element("dd", v)) for k, v in items))))
    if f.fix is not None:
        parts.append(element("pre", f.fix.new, class_="fix", aria_label="Suggested replacement"))
    page = view.more(f)
    link = join(", or ", element("a", "its page", href=page)) if page else E("")
    parts.append(element("p", join("More: ", element("code", f"vaelint explain {f.code}"), link), class_="soft"))
    return element("aside", join(*parts), id=f"{here}-f{number}", class_=f"finding {f.severity.value}", aria_label=f"{f.code} {f.name}")
