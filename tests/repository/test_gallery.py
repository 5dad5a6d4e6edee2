"""The gallery of bugs: what the page shows is what vaelint prints, and the model without them is clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comparison_page import MEASURED, comparison_page
from gallery_page import gallery_page
from gallery_sources import FOLDER, INPUT, RIGHT, STEP, Bug, bugs
from shown import as_shown

from vaelint.core.finding import Severity
from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target
from vaelint.report import full


def checked(folder: Path, name: str, source: str) -> TargetResult:
    """The result of a check of this source, its whole training step observed."""
    (folder / name).write_text(source)
    return check_target(Request(f"{name}:VAE", (INPUT,), step=STEP, device="cpu"), lambda message: None)


@pytest.mark.parametrize("bug", bugs(), ids=lambda b: b.name)
def test_a_bug_of_the_gallery_is_found_as_shown(bug: Bug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = checked(tmp_path, bug.module, bug.source)
    assert [f.code for f in result.findings if f.severity is not Severity.INFO] == [bug.code]
    (finding,) = (f for f in result.findings if f.code == bug.code)
    right = RIGHT.splitlines()
    changed = [number for number, line in enumerate(bug.source.splitlines(), 1) if line not in right]
    places = [finding.span.line, *(label.span.line for label in finding.labels)]
    assert min(abs(place - number) for place in places for number in changed) <= 2, "at the line, or where its result is used at once"
    text = full.render([result]).partition("\n\n")[0] + "\n"
    as_shown(FOLDER / "shown" / f"{bug.name}.txt", text)


def test_the_model_without_them_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = checked(tmp_path, "vae.py", RIGHT)
    assert (result.findings, result.loss["beta"]["value"]) == ([], 1.0)


def test_each_bug_was_trained_and_is_on_the_page() -> None:
    curves = json.loads((FOLDER / "measured.json").read_text())["curves"]
    assert list(curves) == ["right", *(b.name for b in bugs())]
    page = gallery_page()
    assert page.count("<svg ") == len(bugs()) == 20
    worse = [b.name for b in bugs() if curves[b.name]["bound"][-1] > curves["right"]["bound"][-1]]
    assert len(worse) == 20, "each bug costs nats that its own loss does not show"


def test_each_peer_was_run_on_each_bug_and_is_on_the_page() -> None:
    measured = json.loads(MEASURED.read_text())
    names = [b.name for b in bugs()]
    assert [list(peer["bugs"]) for peer in measured.values()] == [names] * 8
    page = comparison_page()
    assert page.count("●") - 1 == sum(bug["line"] for peer in measured.values() for bug in peer["bugs"].values())
    assert all(f"| {peer} |" in page for peer in measured)
