"""A check that was not done completely: the status `incomplete`, in every format, and never exit code 0."""

from __future__ import annotations

import json
from html import unescape
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from givenformats import GITLAB, JUNIT, OWN, RDJSON, SARIF, failed, pages
from results import result

from vaelint.cli.outcome import exit_code
from vaelint.core.finding import Severity
from vaelint.core.result import TargetResult
from vaelint.report import gitlab, junit, rdjson, sarif
from vaelint.report.formats import FORMATS
from vaelint.report.parts.view import View


def unfinished() -> TargetResult:
    """A target of which two rules could not be asked, for one reason, and which is silent otherwise."""
    told = TargetResult("model.py:VAE", quiet=["VAE201"])
    for code in ("VAE202", "VAE203"):
        told.leave_out("IndexError: 3", "please report it", code)
    return told


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_what_could_not_be_checked(form: str) -> None:
    told = unfinished()
    assert (told.status, told.whole) == ("incomplete", False)
    text = unescape(FORMATS[form].load()([told], View(width=200, pages=pages)))
    assert "IndexError: 3" in text.replace("&#58;", ":")
    assert "VAE202" in text
    assert "VAE203" in text


def test_what_could_not_be_checked_keeps_to_the_schemas() -> None:
    told, view = [unfinished(), failed(), result()], View(pages=pages)
    assert list(jsonschema.Draft202012Validator(OWN).iter_errors(json.loads(FORMATS["json"].load()(told, view)))) == []
    assert list(SARIF.iter_errors(json.loads(sarif.render(told, view)))) == []
    assert list(RDJSON.iter_errors(json.loads(rdjson.render(told, view)))) == []
    assert list(GITLAB.iter_errors(json.loads(gitlab.render(told, view)))) == []
    suites = junit.render(told, view)
    JUNIT.validate(suites)
    assert ET.fromstring(suites).get("errors") == "2"
    assert not json.loads(sarif.render([unfinished()], view))["runs"][0]["invocations"][0]["executionSuccessful"]


def test_findings_do_not_hide_that_something_could_not_be_checked() -> None:
    told = result()
    told.leave_out("no loss is known", "name it with --loss")
    assert told.status == "incomplete"
    assert TargetResult.from_json(told.to_json()).gaps() == [("no loss is known", "name it with --loss")]
    assert exit_code([told], Severity.ERROR, exit_zero=True) == 2
