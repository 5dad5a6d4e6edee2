"""The source with findings in place, and the shapes that leave each line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vaelint.core.finding import Finding, Span
from vaelint.core.result import TargetResult
from vaelint.report.parts.cards import Shown, marked
from vaelint.report.parts.fold import shape_text
from vaelint.report.parts.markup import E, element, join
from vaelint.report.parts.places import shown_line
from vaelint.report.parts.window import Sources

_WHOLE = 400  # lines up to which a file is shown whole
_AROUND = 5  # of a longer one, lines around each place of note


def listings(result: TargetResult, shown: Shown, here: str, sources: Sources) -> E:
    """A section with each file that findings or steps name, with links to the findings below their lines."""
    steps: list[dict[str, Any]] = result.trail["steps"] if result.trail is not None else []
    places = [f.span.file for _, f in shown] + [s["span"]["file"] for s in steps if s["span"]]
    names = [n for n in dict.fromkeys(places) if sources.lines(n)]
    if not names:
        return E("")
    known = [(i, f) for i, f in shown if sources.line(f.span.file, f.span.line) is not None]
    parts = [_listing(n, [(i, f) for i, f in known if f.span.file == n], steps, here, sources) for n in names]
    about = "On the right of a line: the shapes of the values it makes." if steps else ""
    return element("section", join(element("h2", "The source"), element("p", about, class_="about") if about else E(""), *parts))


def _listing(name: str, findings: Shown, steps: Sequence[dict[str, Any]], here: str, sources: Sources) -> E:
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
        below.setdefault(min(f.span.end_line or f.span.line, len(lines)), []).append(_pointer(f, i, here))
    wanted = _wanted(len(lines), [*marks, *(made if len(lines) > _WHOLE else ())])
    out: list[E] = []
    before = 0
    for n in wanted:
        if n > before + 1:
            out.append(element("div", f"... {n - before - 1} lines not shown ...", class_="gap"))
        before = n
        code = element("code", marked(lines[n - 1], n, marks.get(n, ())))
        shapes = element("span", made[n], class_="made") if n in made else E("")
        cls = "line hit" if n in marks else "line"
        out.append(element("div", join(element("span", str(shown_line(name, n)), class_="no"), code, shapes), class_=cls))
        out += below.get(n, [])
    if before < len(lines):
        out.append(element("div", f"... {len(lines) - before} lines not shown ...", class_="gap"))
    block = element("div", join(*out), class_="source", tabindex="0", role="region", aria_label=f"Source of {name}")
    return join(element("h3", name), block)


def _pointer(f: Finding, number: int, here: str) -> E:
    """The way from a line to what is said of it."""
    link = element(
        "a", join(element("span", f.code, class_=f"code {f.severity.value}"), f" {f.label or f.message}"), href=f"#{here}-f{number}"
    )
    return element("div", link, class_="pointer")


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
