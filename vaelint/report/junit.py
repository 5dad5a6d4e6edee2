"""`--output-format junit`: JUnit XML as Jenkins' xUnit plugin and GitLab read it: a suite a target, a test a rule.

A rule that found nothing has passed, one that did not apply is skipped, one with findings that make the exit code 1 has failed. What
stopped the analysis of a target is a failure of its suite whatever its severity, and a rule that raised an error: no test is green that
did not run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from vaelint.core.finding import Certainty, Finding
from vaelint.core.result import TargetResult
from vaelint.core.visible import visible_lines
from vaelint.report.parts.closing import SETUP
from vaelint.report.parts.rows import headline, place, sentences
from vaelint.report.parts.view import PLAIN, View

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """One document. Times are those of the analysis, in seconds."""
    names = {p.code: p.name for p in view.pages()}
    suites = ET.Element("testsuites", name="vaelint")
    for result in results:
        suites.append(_suite(result, view, names))
    for key in ("tests", "failures", "errors"):
        suites.set(key, str(sum(int(s.get(key, "0")) for s in suites)))
    ET.indent(suites)
    text = ET.tostring(suites, encoding="unicode")
    text = re.sub(r"(?m)^(\s*):", r"\1&#58;", text.replace("##[", "#&#35;["))  # on GitHub, `::` at the start of a line is a command
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(result: TargetResult, view: View, names: dict[str, str]) -> ET.Element:
    suite = ET.Element("testsuite", name=_safe(result.target))
    by_code: dict[str, list[Finding]] = {}
    for f in result.findings:
        if f.certainty is not Certainty.REFUTED or view.show_refuted:
            by_code.setdefault(f.code, []).append(f)
            names.setdefault(f.code, f.name)
    skipped = {n["code"]: n["reason"] for n in result.not_applicable}
    raised: dict[str, list[str]] = {}
    for row in result.incomplete:
        raised.setdefault(row["code"], []).append(row["reason"])
    for code in sorted({*by_code, *skipped, *result.quiet, *raised}):
        case = ET.SubElement(
            suite, "testcase", name=f"{code} {names.get(code, '')}".strip() or "the whole check", classname=_safe(result.target)
        )
        found = by_code.get(code, [])
        stopped = result.status == "failed" and code.startswith(SETUP)
        failed = [f for f in found if stopped or f.stands(view.bar)]
        if code in raised:
            ET.SubElement(case, "error", type="incomplete", message=_safe("; ".join(raised[code])))
        elif failed:
            failure = ET.SubElement(case, "failure", type=failed[0].severity.value, message=_safe(headline(failed[0])))
            failure.text = _safe("\n\n".join(_text(f, view) for f in failed))
        elif found:
            ET.SubElement(case, "system-out").text = _safe("\n\n".join(_text(f, view) for f in found))
        elif code in skipped:
            ET.SubElement(case, "skipped", message=_safe(skipped[code]))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("time", f"{sum(result.timing.values()):.3f}")
    return suite


def _text(f: Finding, view: View) -> str:
    return "\n".join(
        (f"{place(f.span.file, view.root)}:{f.span.line}:{f.span.column}: {headline(f)}", *sentences(f), *filter(None, [view.more(f)]))
    )


def _safe(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", visible_lines(text.replace("\r\n", "\n").replace("\r", "\n")))
