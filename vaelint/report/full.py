"""`--output-format full`: each finding with its source, shapes, reason, measurement and help; then loss and summary."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from vaelint.core.finding import Certainty, Finding, Suggestion
from vaelint.core.result import TargetResult
from vaelint.report.parts.closing import SETUP, loss_block, summary, total
from vaelint.report.parts.places import shown_line, with_cells
from vaelint.report.parts.text import Line, cells, clean, fill, hanging, pad, paint, shapes
from vaelint.report.parts.view import PLAIN, View
from vaelint.report.parts.window import Sources, window


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """The whole report. Reads the source files that the findings name; does without where they cannot be read."""
    sources = Sources()
    lines: list[Line] = []
    for result in results:
        for finding in result.findings:
            if finding.certainty is not Certainty.REFUTED or view.show_refuted:
                lines += [*_finding(finding, result, sources, view), []]
        block = loss_block(result, view.width)
        lines += [*block, []] if block else []
        lines += summary(result, view)
        if result is not results[-1]:
            lines.append([])
    if len(results) > 1:
        lines += [[], *total(results)]
    return paint(lines, view.color)


def _finding(f: Finding, result: TargetResult, sources: Sources, view: View) -> list[Line]:
    width = view.width
    head = f"{f.severity.value}[{f.code}]"
    lines = hanging([(head, f.severity.value), (f" {f.name}: ", "head")], f.message, width, "head")
    if len(lines) > 1:  # a long message: indent modestly, not by the length of the name
        first, *rest = fill(f"{f.name}: {f.message}", width - cells(head) - 1)
        lines = [[(head, f.severity.value), (" " + first, "head")], *([("    " + t, "head")] for x in rest for t in fill(x, width - 4))]
    shown, gutter = window(f.span, f.label, f.labels, sources, width)
    lines += shown
    lead = " " * (gutter + 2) + "= "
    if f.shapes:
        lines += _shapes(f, lead, width)
    for key, text in (("when", f.when), ("why", f.why)):
        if text:
            lines += hanging([(lead, "gutter"), (f"{key}: ", "key")], text, width)
    if not f.code.startswith(SETUP):  # a fact about the check itself needs no proof
        lines += _certainty(f, result, lead, width)
    if f.help or f.fix:
        lines += hanging([("help: ", "help")], f.help or "replace it", width)
    if f.fix:
        lines += _diff(f.fix, f, sources)
    for note in f.notes:
        lines += hanging([("note: ", "key")], with_cells(note), width)
    lines.append([("more: ", "key"), (f"vaelint explain {f.code}", "")])
    page = view.more(f)
    return [*lines, [("      ", ""), (page, "")]] if page else lines  # an address is never broken, however narrow the terminal


def _shapes(f: Finding, lead: str, width: int) -> list[Line]:
    names = [clean(row.name) for row in f.shapes]
    texts = shapes([tuple(clean(s) for s in row.shape) for row in f.shapes])
    widest = max(cells(n) for n in names)
    start = cells(lead) + len("shapes: ")
    lines: list[Line] = []
    for i, (name, text, row) in enumerate(zip(names, texts, f.shapes, strict=True)):
        before: Line = [(lead, "gutter"), ("shapes: ", "key")] if i == 0 else [(" " * start, "")]
        before = [*before, (f"{pad(name, widest)}  {text}", "")]
        lines += hanging([*before, ("   <- ", "dim")], row.remark, width) if row.remark else [before]
    return lines


def _certainty(f: Finding, result: TargetResult, lead: str, width: int) -> list[Line]:
    word = f.certainty.value
    style = word if word in ("confirmed", "refuted") else "key"
    start: Line = [(lead, "gutter"), (f"{word}: ", style)]
    e = f.evidence
    if e is None or not e.decides:
        return hanging(start, f"{_BASIS.get(f.certainty, '')}; {_unmeasured(f, result)}", width)
    how = f"{f.how_measured} on {e.device}"
    lines = hanging(start, f"{how}: {e.claim}" if e.claim else how, width)
    measured = f"{e.measured or '-'}; {e.detail}" if e.detail else e.measured
    if e.predicted or measured:
        for key, text in (("predicted", e.predicted), ("measured", measured)):
            lines += hanging([(" " * cells(lead), ""), (f"{key + ':':<10} ", style)], text or "-", width)
    return lines


_BASIS = {
    Certainty.PROVED: "it follows from the recorded shapes, types and connections",
    Certainty.MEASURED: "shown by running the recorded slice again in double precision",
    Certainty.SUSPECTED: "the code looks like it",
}


def _unmeasured(f: Finding, result: TargetResult) -> str:
    """Why no real run speaks of it."""
    if (e := f.evidence) is not None:
        how = "decides nothing" if e.outcome == "no power" else "could not be measured"
        return f"on {e.device}, {e.claim} {how} ({e.detail})" if e.detail else f"on {e.device}, {e.claim} {how}"
    if result.confirm.get("outcome") == "ran":
        return "no experiment of the real pass measures it"
    reason = result.confirm.get("reason")
    return "not measured on a real run" + (f" ({reason})" if reason else "")


def _diff(fix: Suggestion, f: Finding, sources: Sources) -> list[Line]:
    """The lines that change, old and new, with their numbers. Equal lines between them are shown as they are."""
    old = [sources.line(fix.file, n) for n in range(fix.line, fix.end_line + 1)]
    new = fix.new.rstrip("\n").split("\n") if fix.new else []
    width = len(str(fix.line + max(len(old), len(new))))
    lines: list[Line] = [[(f"in {fix.file}", "")]] if fix.file != f.span.file else []

    def row(number: int, sign: str, text: str, style: str) -> Line:
        return [(f" {shown_line(fix.file, number):>{width}} {sign} {clean(text)}", style)]

    if None in old:  # the source cannot be read
        return lines + [row(fix.line + i, "+", t, "plus") for i, t in enumerate(new)]
    before = [t for t in old if t is not None]
    for tag, a, b, c, d in SequenceMatcher(None, before, new, autojunk=False).get_opcodes():
        if tag == "equal":
            lines += [row(fix.line + a + i, " ", t, "") for i, t in enumerate(before[a:b])]
        else:
            lines += [row(fix.line + a + i, "-", t, "minus") for i, t in enumerate(before[a:b])]
            lines += [row(fix.line + c + i, "+", t, "plus") for i, t in enumerate(new[c:d])]
    return lines
