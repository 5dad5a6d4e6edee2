"""What is said of a finding, as a card: the faulty lines, the shape there against the wanted one, what was measured, the fix as a diff."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import groupby

from vaelint.core.finding import Finding, Span, Suggestion
from vaelint.report.parts.fold import shape_text
from vaelint.report.parts.markup import E, element, join
from vaelint.report.parts.places import place_of, shown_line
from vaelint.report.parts.view import View
from vaelint.report.parts.window import Sources

Shown = Sequence[tuple[int, Finding]]
"""The findings that are shown, with their numbers."""

_BESIDE = 2  # lines around the faulty ones
_LONGEST = 14  # lines of one excerpt


def cards(shown: Shown, here: str, sources: Sources, view: View) -> E:
    """The section with all findings; empty for none. `here` is what their identifiers begin with."""
    if not shown:
        return E("")
    return element("section", join(element("h2", "Findings"), *(_card(f, i, here, sources, view) for i, f in shown)), class_="findings")


def _card(f: Finding, number: int, here: str, sources: Sources, view: View) -> E:
    head = join(element("span", f.code, class_=f"code {f.severity.value}"), f" {f.name}: {f.message}")
    place = join(element("code", place_of(f.span, column=True)), f", {f.certainty.value}")
    parts = [element("h3", head), element("p", place, class_="soft"), _excerpt(f, sources)]
    parts += [element("p", f.label, class_="label")] if f.label else []
    parts += [_shapes(f)] if f.shapes else []
    parts += [_diff(f.fix, sources)] if f.fix is not None else []
    items = [("Fix", f.help)] if f.help else []
    items += [(t, x) for t, x in (("When", f.when), ("Why", f.why)) if x]
    if f.evidence is not None:
        e = f.evidence
        came = e.measured if e.decides else f"nothing ({e.outcome}: {e.detail})"
        items.append(
            (
                f.certainty.value.capitalize(),
                f"{f.how_measured} on {e.device}: {e.claim}; predicted {e.predicted or '-'}, measured {came or '-'}",
            )
        )
    items += [("Elsewhere", f"{place_of(x.span)}: {x.text}") for x in f.labels]
    items += [("Note", n) for n in f.notes]
    parts.append(element("dl", join(*(join(element("dt", k), element("dd", v)) for k, v in items))))
    page = view.more(f)
    link = join(", or ", element("a", "its page", href=page)) if page else E("")
    parts.append(element("p", join("More: ", element("code", f"vaelint explain {f.code}"), link), class_="soft"))
    return element("article", join(*parts), id=f"{here}-f{number}", class_=f"finding {f.severity.value}", aria_label=f"{f.code} {f.name}")


def _excerpt(f: Finding, sources: Sources) -> E:
    """The lines around the faulty expression, with it and what belongs to it marked."""
    lines, name = sources.lines(f.span.file), f.span.file
    if sources.line(name, f.span.line) is None:
        return E("")
    last = min(f.span.end_line or f.span.line, f.span.line + _LONGEST)
    near = [x.span for x in f.labels if x.span.file == name and abs(x.span.line - f.span.line) <= _LONGEST // 2]
    first = max(1, min([f.span.line - _BESIDE, *(s.line for s in near)]))
    last = min(len(lines), max([last + _BESIDE, *(s.end_line or s.line for s in near)]))
    marks = [(f.span, f"primary {f.severity.value}"), *((s, "secondary") for s in near)]
    rows = []
    for n in range(first, last + 1):
        here = [(s, kind) for s, kind in marks if s.line <= n <= (s.end_line or s.line)]
        code = element("code", marked(lines[n - 1], n, here))
        number = element("span", str(shown_line(name, n)), class_="no")
        rows.append(element("div", join(number, code), class_="line hit" if here else "line"))
    return element("div", join(*rows), class_="source", tabindex="0", role="region", aria_label=f"The place of {f.code}")


def _shapes(f: Finding) -> E:
    """What each value's shape is, and what it should be where that is known."""
    compared = any(r.wanted is not None for r in f.shapes)
    heads = ("value", "shape", "wanted", "") if compared else ("value", "shape", "")
    rows = []
    for r in f.shapes:
        wrong = r.wanted is not None
        cells = [element("th", r.name, scope="row"), element("td", shape_text(r.shape), class_="shape bad" if wrong else "shape")]
        if compared:
            cells.append(element("td", shape_text(r.wanted) if r.wanted is not None else "", class_="shape good" if wrong else "shape"))
        rows.append(element("tr", join(*cells, element("td", r.remark))))
    head = element("thead", element("tr", join(*(element("th", h, scope="col") if h else element("td", "") for h in heads))))
    return element("table", join(element("caption", "Shapes"), head, element("tbody", join(*rows))), class_="shapes")


def _diff(fix: Suggestion, sources: Sources) -> E:
    """The lines that the fix takes out and puts in."""
    old = [sources.line(fix.file, n) for n in range(fix.line, fix.end_line + 1)]
    before = [t for t in old if t is not None]
    new = fix.new.rstrip("\n").split("\n") if fix.new else []
    rows: list[E] = []
    for tag, a, b, c, d in SequenceMatcher(None, before, new, autojunk=False).get_opcodes():
        rows += [element("span", f"  {t}\n") for t in before[a:b]] if tag == "equal" else []
        rows += [element("del", f"- {t}\n") for t in before[a:b]] if tag != "equal" else []
        rows += [element("ins", f"+ {t}\n") for t in new[c:d]] if tag != "equal" else []
    return element("pre", join(*rows), class_="fix", tabindex="0", aria_label="The fix as a diff")


def marked(line: str, number: int, marks: Sequence[tuple[Span, str]]) -> E:
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
