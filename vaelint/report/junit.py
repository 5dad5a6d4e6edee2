"""`--output-format junit`: JUnit XML as Jenkins' xUnit plugin and GitLab read it: a suite a target.

The first test of a suite is the target: it has passed where all of it was checked, and is an error where it could not be analysed or a part
of the check could not be done. Each finding is a test of its own, which has failed where it makes the exit code 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from vaelint.core.finding import Certainty, Finding
from vaelint.core.result import TargetResult
from vaelint.core.visible import visible_lines
from vaelint.report.parts.closing import SETUP, verdict_words
from vaelint.report.parts.rows import headline, place, sentences
from vaelint.report.parts.view import PLAIN, View

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def render(results: Sequence[TargetResult], view: View = PLAIN) -> str:
    """One document. Times are those of the analysis, in seconds."""
    suites = ET.Element("testsuites", name="vaelint")
    for result in results:
        suites.append(_suite(result, view))
    for key in ("tests", "failures", "errors"):
        suites.set(key, str(sum(int(s.get(key, "0")) for s in suites)))
    ET.indent(suites)
    text = ET.tostring(suites, encoding="unicode")
    text = re.sub(r"(?m)^(\s*):", r"\1&#58;", text.replace("##[", "#&#35;["))  # on GitHub, `::` at the start of a line is a command
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(result: TargetResult, view: View) -> ET.Element:
    suite = ET.Element("testsuite", name=_safe(result.target))
    case = ET.SubElement(suite, "testcase", name=_safe(result.target), classname=_safe(result.target))
    findings = [f for f in result.findings if f.certainty is not Certainty.REFUTED or view.show_refuted]
    stops = [f for f in findings if result.status == "failed" and f.code.startswith(SETUP)]
    gaps = [". ".join(filter(None, gap)) for gap in result.gaps()]
    if not result.whole:
        told = headline(stops[0]) if stops else gaps[0] if gaps else verdict_words(result)
        error = ET.SubElement(case, "error", type=result.status, message=_safe(told))
        error.text = _safe("\n\n".join([*(_text(f, view) for f in stops), *gaps, *result.notes]))
    for f in findings:
        if f not in stops:
            _add(suite, f, result.target, view)
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("skipped", "0")
    suite.set("time", f"{sum(result.timing.values()):.3f}")
    return suite


def _add(suite: ET.Element, f: Finding, target: str, view: View) -> None:
    """The test case of one finding: failed where it makes the exit code 1."""
    name = f"{f.code} {f.name} at {place(f.span.file, view.root)}:{f.span.line}:{f.span.column}"
    case = ET.SubElement(suite, "testcase", name=_safe(name), classname=_safe(target))
    if f.stands(view.bar):
        ET.SubElement(case, "failure", type=f.severity.value, message=_safe(headline(f))).text = _safe(_text(f, view))
    else:
        ET.SubElement(case, "system-out").text = _safe(_text(f, view))


def _text(f: Finding, view: View) -> str:
    return "\n".join(
        (f"{place(f.span.file, view.root)}:{f.span.line}:{f.span.column}: {headline(f)}", *sentences(f), *filter(None, [view.more(f)]))
    )


def _safe(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", visible_lines(text.replace("\r\n", "\n").replace("\r", "\n")))
