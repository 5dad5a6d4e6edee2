"""SARIF, held against its schema and what code scanning reads of it; and fixes, applied as their formats say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from givenformats import DATA, sarif_run, shared
from results import crossed, refuted, result, shared_noise

from vaelint.core.finding import Label, Span, Suggestion
from vaelint.core.result import TargetResult
from vaelint.report import rdjson, sarif
from vaelint.report.parts.line_hash import line_hashes
from vaelint.report.parts.view import View


@pytest.fixture(autouse=True)
def in_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are relative to the working directory."""
    monkeypatch.chdir(DATA)


def applied_sarif(text: str, fix: Any) -> str:
    """A fix made as SARIF 2.1.0 says: the region (sections 3.30.5 to 3.30.8) is deleted, the text put there."""
    (change,) = fix["artifactChanges"]
    (replacement,) = change["replacements"]
    region, lines = replacement["deletedRegion"], text.split("\n")
    starts = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines) + 1)]
    end_line = region.get("endLine", region["startLine"])
    start = starts[region["startLine"] - 1] + region.get("startColumn", 1) - 1
    end = starts[end_line - 1] + (region["endColumn"] - 1 if "endColumn" in region else len(lines[end_line - 1].removesuffix("\r")))
    new: str = replacement["insertedContent"]["text"]
    return text[:start] + new + text[end:]


def applied_rdjson(text: str, suggestion: Any) -> str:
    """A suggestion without columns stands for whole lines."""
    lines, told = text.split("\n"), suggestion["range"]
    lines[told["start"]["line"] - 1 : told["end"]["line"]] = suggestion["text"].split("\n")
    return "\n".join(lines)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_fixes_applied_as_their_formats_say_give_the_same_program(tmp_path: Path, end: str, last: bool) -> None:
    old = ["import torch", "def f(std):", "    eps = torch.randn(3)  # noise", "    return eps"] + ([""] if last else [])
    source = tmp_path / "m.py"
    for line, end_line, new in (
        (3, 3, "    eps = torch.randn_like(std)"),
        (3, 4, f"    eps = 1{end}    return eps"),
        (4, 4, "    return 3"),
    ):
        text = end.join(old)
        source.write_bytes(text.encode())
        tail = "\r" if end == "\r\n" and (last or end_line < 4) else ""
        found = replace(shared_noise(), span=Span(str(source), 3), labels=(), fix=Suggestion(str(source), line, end_line, new + tail))
        results = [TargetResult("m.py:VAE", findings=[found])]
        wanted = end.join([*old[: line - 1], new, *old[end_line:]])
        (told,) = json.loads(sarif.render(results))["runs"][0]["results"][0]["fixes"]
        assert applied_sarif(text, told) == wanted
        (told,) = json.loads(rdjson.render(results))["diagnostics"][0]["suggestions"]
        assert applied_rdjson(text.replace("\r\n", "\n"), told).replace("\r", "") == wanted.replace("\r\n", "\n")
        exec(compile(wanted, "m.py", "exec"), {})


def test_a_line_that_a_fix_takes_out_goes_with_its_break(tmp_path: Path) -> None:
    text = "a = 1\ntorch.manual_seed(0)\nb = 2\n"
    (tmp_path / "m.py").write_text(text)
    found = replace(shared_noise(), span=Span(str(tmp_path / "m.py"), 2), labels=(), fix=Suggestion(str(tmp_path / "m.py"), 2, 2, ""))
    (told,) = json.loads(sarif.render([TargetResult("m.py:VAE", findings=[found])]))["runs"][0]["results"][0]["fixes"]
    assert applied_sarif(text, told) == "a = 1\nb = 2\n"


def test_sarif_is_what_code_scanning_takes() -> None:
    run = sarif_run(shared())
    driver = run["tool"]["driver"]
    for rule in driver["rules"]:  # github/docs, sarif-support.md
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"] and rule["help"]["text"] and rule["help"]["markdown"]
        assert rule["properties"]["problem.severity"] in {"error", "warning", "recommendation"}
    assert run["automationDetails"]["id"].endswith("/")
    assert run["columnKind"] == "unicodeCodePoints"
    assert [driver["rules"][r["ruleIndex"]]["id"] for r in run["results"]] == [r["ruleId"] for r in run["results"]]
    for found in run["results"]:
        place = found["locations"][0]["physicalLocation"]
        assert place["artifactLocation"] == {"uri": "vae_three_bugs.py", "uriBaseId": "%SRCROOT%"}
        assert {"startLine", "startColumn", "endLine", "endColumn"} <= set(place["region"])
        assert found["level"] in {"error", "warning", "note"}
        assert re.fullmatch(r"[0-9a-f]+:\d+", found["partialFingerprints"]["primaryLocationLineHash"])
    assert run["results"][0]["properties"]["targets"] == ["vae_three_bugs.py:VAE", "vae_three_bugs.py:VAE(latent_dim=3)"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert "other.py:VAE: could not be analysed" in [n["message"]["text"] for n in invocation["toolExecutionNotifications"]]
    assert sarif_run([result()])["invocations"][0]["executionSuccessful"] is True


def test_sarif_takes_no_word_of_user_code_for_a_placeholder_or_a_link() -> None:
    spoken = replace(shared_noise(), label="heads[0](h) of {0}: {'a': 1}", help="use {}", labels=(Label(crossed().span, "{1}"),))
    run = sarif_run([TargetResult("m.py:VAE", findings=[spoken], notes=["{2}"])])
    (found,) = run["results"]
    assert "heads[0] (h) of {{0}}: {{'a': 1}}" in found["message"]["text"]
    texts = [found["message"], *(r["message"] for r in found["relatedLocations"]), found["fixes"][0]["description"]]
    texts += [n["message"] for n in run["invocations"][0]["toolExecutionNotifications"]]
    for text in texts:  # 3.11.5: a placeholder is a number in single braces
        assert not re.search(r"(?<!\{)(?:\{\{)*\{(?!\{)", text["text"]), text


def test_sarif_of_refuted_and_of_files_elsewhere(tmp_path: Path) -> None:
    run = sarif_run([TargetResult("m.py:VAE", findings=[refuted()])])
    assert run["results"] == []
    (shown,) = sarif_run([TargetResult("m.py:VAE", findings=[refuted()])], View(show_refuted=True))["results"]
    assert (shown["level"], shown["kind"]) == ("none", "pass")
    elsewhere = replace(crossed(), span=Span(str(tmp_path / "a b.py"), 3), labels=())
    (found,) = sarif_run([TargetResult("m.py:VAE", findings=[elsewhere])])["results"]
    assert found["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": f"file://{tmp_path.as_posix()}/a%20b.py"}
    assert "partialFingerprints" not in found, "a file that is not there has no hash"


HASHES = {  # github/codeql-action, src/fingerprints.test.ts
    "": ["c129715d7a2bc9a3:1"],
    " a\nb\n  \t\tc\n d": ["271789c17abda88f:1", "54703d4cd895b18:1", "180aee12dab6264:1", "a23a3dc5e078b07b:1"],
    " hello; \t\nworld!!!\r\n\n\r  \t\tGreetings\r End\r\n": [
        "e9496ae3ebfced30:1",
        "fb7c023a8b9ccb3f:1",
        "ce8ba1a563dcdaca:1",
        "e20e36e16fcb0cc8:1",
        "b3edc88f2938467e:1",
        "c8e28b0b4002a3a0:1",
        "c129715d7a2bc9a3:1",
    ],
    "Lorem ipsum dolor sit amet.\n" * 10: [
        *(f"a7f2ff13bc495cf2:{i}" for i in range(1, 7)),
        "a7f2ff1481e87703:1",
        "a9cf91f7bbf1862b:1",
        "55ec222b86bcae53:1",
        "cc97dc7b1d7d8f7b:1",
        "c129715d7a2bc9a3:1",
    ],
}


@pytest.mark.parametrize("text", HASHES, ids=["empty", "newlines", "mixed", "repeated"])
def test_the_line_hash_is_the_one_that_github_computes(text: str) -> None:
    assert line_hashes(text) == HASHES[text]


def test_a_file_whose_name_is_no_utf8_is_named_by_its_bytes() -> None:
    made = TargetResult("m.py:VAE", findings=[replace(shared_noise(), span=Span("caf\udce9.py", 1), labels=())])
    assert sarif_run([made])["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "caf%E9.py"
